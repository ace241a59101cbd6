"""Methods by name: each is described once, and a user's own are found, described and refused like the others."""

import sys

import pytest

from aldsgd.algorithm import Algorithm, checked
from aldsgd.errors import ConfigError
from aldsgd.methods import Look, Method, Options, from_class
from baselines import registry
from experiments.configuration import ALWAYS, NAMES, RunConfig, from_record, option_names
from experiments.options import configuration, run_parser
from experiments.scales import EVERY


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Writes a module of that text into the working directory, under a name of its own; gives the name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    made = []

    def write(text: str) -> str:
        name = f"mine_{tmp_path.name}_{len(made)}"
        (tmp_path / f"{name}.py").write_text(text)
        made.append(name)
        return name

    yield write
    registry._own.cache_clear()
    registry.VARIANTS.pop("Slow", None)
    for name in made:
        sys.modules.pop(name, None)


def test_every_method_is_found_with_a_label_a_look_and_options():
    assert list(registry.METHODS) == sorted(registry.METHODS, key=lambda name: registry.METHODS[name].place)
    assert registry.CORES == ("dpsgd_released", "dpsgd", "matcha", "qg", "decentlam", "dsgd_ac")
    looks = [variant.look for variant in registry.VARIANTS.values() if variant.look]
    assert len({(look.color, look.marker, look.linestyle) for look in looks}) == len(looks)
    for name, entry in registry.METHODS.items():
        assert name == entry.name and registry.method(name) is entry
        assert checked(RunConfig(method=name).algorithm(5)).n == 8
        for option in entry.defaults:
            assert option not in NAMES and option in option_names("dpsgd")
    assert set(EVERY) <= set(registry.VARIANTS)


def test_the_order_of_methods_is_that_of_every_comparison():
    assert EVERY == (
        "no exchange", "D-PSGD (released schedule)", "D-PSGD", "MATCHA", "all-reduce", "AL-DSGD on released schedule",
        "AL-DSGD on D-PSGD", "AL-DSGD on MATCHA", "AL-DSGD, three graphs", "AL-DSGD on MATCHA, three graphs",
    )  # fmt: skip


def test_a_variant_is_found_by_its_fields_whatever_its_label():
    for label, variant in registry.VARIANTS.items():
        record = RunConfig().but(**variant.changes).record()
        assert registry.variant_of(record) == label
        assert registry.variant_of({**record, "lr": 7.0, "graph": "ring"}) == label


def test_records_come_back_as_configurations():
    for variant in registry.VARIANTS.values():
        config = RunConfig(lr=(0.1,) * 8, lr_drops=((1, 0.5),), optimizer="adam", betas=(0.5, 0.9)).but(
            **variant.changes
        )
        record = config.record()
        assert from_record(record).record() == record and set(ALWAYS) <= set(record)


def slow(arguments: str, workers: str = "n") -> str:
    """A module with a method that never exchanges."""
    return f"""
from aldsgd.algorithm import Algorithm
from aldsgd.step import Step

class Slow(Algorithm):
    def __init__(self, {arguments}):
        self.n = {workers}
    def step(self, t):
        return Step()
"""


def test_a_class_is_a_method_with_its_arguments_as_options(mine):
    name = mine(slow("n, rate=0.5, kind='plain', slow=False, seed=0")) + ":Slow"
    entry = registry.method(name)
    assert (entry.label, entry.graph, entry.defaults) == ("Slow", False, {"rate": 0.5, "kind": "plain", "slow": False})
    words = ["--method", name, "--rate", "0.25", "--kind", "other", "--slow"]
    config = configuration(run_parser("", words).parse_args(words))
    record = config.record()
    assert (record["rate"], record["kind"], record["slow"], record["graph"]) == (0.25, "other", True, None)
    assert record["method_source"] == registry.source_hash(name) and len(record["method_source"]) == 16
    assert config.algorithm(1).n == 8 and from_record(record).record() == record
    assert registry.variant_of(record) == "Slow" and {"rate", "kind"} <= registry.method_fields(record)
    assert registry.look("Slow").color in registry.SPARE
    with pytest.raises(ConfigError, match="'nothing' is no field of a run and no option"):
        config.but(nothing=1)
    with pytest.raises(ConfigError, match="--rate fast cannot be read; it is: rate of Slow"):
        words = ["--method", name, "--rate", "fast"]
        configuration(run_parser("", words).parse_args(words))


def test_a_label_without_a_look_has_the_same_one_in_every_process():
    """Written down: within one process a hash of text that each process salts anew would agree with itself as well."""
    assert registry.look("Slow") == Look("#E7298A", "v", "-.", 5)
    assert registry.look("elastic") == Look("#7570B3", "h", "-.", 5)


def test_an_option_may_have_the_name_of_one_of_another_method(mine):
    words = ["--method", mine(slow("n, order=3, weights=True")) + ":Slow", "--order", "4", "--no-weights"]
    record = configuration(run_parser("", words).parse_args(words)).record()
    assert (record["order"], record["weights"]) == (4, False)


def test_a_true_option_can_be_switched_off(mine):
    words = ["--method", mine(slow("n, fast=True")) + ":Slow", "--no-fast"]
    assert configuration(run_parser("", words).parse_args(words)).record()["fast"] is False


def test_graphs_are_given_where_the_first_argument_is_not_n(mine):
    config = RunConfig(method=mine(slow("graphs", "graphs[0].n")) + ":Slow", graph="ring", workers=5)
    assert config.algorithm(1).n == 5 and config.record()["graph"] == "ring"


@pytest.mark.parametrize(
    "text, said",
    [
        (slow("n, rate"), "its argument rate has no default"),
        (slow("n, **rest"), "its argument rest has no default"),
        (slow("", "8"), "no class of a method"),
        ("Slow = 3", "no class of a method"),
        ("def Slow(n): ...", "no class of a method"),
        ("import nothing_of_this_name", "cannot be loaded (ModuleNotFoundError: No module named 'nothing_of"),
        ("Slow", "cannot be loaded (NameError: name 'Slow' is not defined; "),
        ("def", "cannot be loaded (SyntaxError: "),
        ("", "cannot be loaded (AttributeError: module"),
    ],
)
def test_what_is_no_method_is_one_sentence(mine, text, said):
    with pytest.raises(ConfigError) as caught:
        registry.method(mine(text) + ":Slow")
    assert said in str(caught.value)


@pytest.mark.parametrize("argument", ["lr", "seeds", "results", "help", "more=1, jobs"])
def test_an_option_by_the_name_of_another_is_refused(mine, argument):
    words = ["--method", mine(slow(f"n, {argument}=1")) + ":Slow"]
    with pytest.raises(ConfigError, match="has an option by the name of another"):
        run_parser("", words)


def test_a_source_that_changes_is_another_key(mine, tmp_path):
    name, keys = mine(slow("n")), set()
    for more in ("", "# changed"):
        (tmp_path / f"{name}.py").write_text(slow("n") + more)
        keys.add(RunConfig(method=f"{name}:Slow").key)
    assert len(keys) == 2


def test_an_entry_of_ones_own_comes_with_its_class():
    class Own(Algorithm):
        METHOD = Method("own", "Own method", lambda o, s: None, Options, Look("#000000", "o", "-"))

    assert from_class("module:Own", Own) is Own.METHOD
