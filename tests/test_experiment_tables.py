"""Every experiment's smoke runs have a table and a figure, of all runs or of some, whatever their labels say."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

import paper_tables
from aldsgd.listings import load_experiment, write_experiment
from aldsgd.records import RunStore
from baselines.registry import VARIANTS
from experiments import communication as traffic_of
from experiments import equal_time, half_rates, runner
from experiments.all import EXPERIMENTS, missing, plan
from experiments.configuration import RunConfig
from experiments.leader_rates import at
from experiments.options import Execution
from experiments.own_rates import FINALISTS
from experiments.proposal import PROPOSED
from experiments.rates import LEADERS, LONGER, OWN
from experiments.runner import prepare, train_run
from experiments.scales import (
    CIFAR10,
    CIFAR100,
    MID,
    MID_FASHION,
    MID_SEEDS,
    SMALL,
    TUNING_SEED,
    TWICE,
    conditions_of,
    twice,
)
from figures import all as figures
from figures import baseline_audit as audit
from figures import communication as traffic
from figures import style
from tables.compared import mean_gain, times
from tables.experiments import islands, target_of
from tables.links import modelled_seconds
from tables.promises import less_best
from tables.query import Entry, Experiment, Runs
from tables.rates import chosen, rate_of
from tests.calling import surroundings

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """Every run of every smoke preset with seed 0, trained in this process, and its lists."""
    root = tmp_path_factory.mktemp("smoke")
    execution = Execution(results=str(root), threads=1, checkpoint_every=0, quiet=True)
    entries = plan(EXPERIMENTS, SimpleNamespace(preset="smoke", seeds=[0], link=None))
    store = RunStore(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "environment", surroundings)
        for _, _, config in missing(entries, store):
            train_run(store, config, execution)
    for name, runs in entries.items():
        conditions = conditions_of(importlib.import_module(f"experiments.{name}").configurations, "smoke")
        listed = [(label, seed, config.record()) for label, seed, config in runs]
        write_experiment(root, name, "smoke", listed, conditions)
    return root


def test_every_experiment_has_a_table_and_a_figure(smoke, tmp_path):
    written = {path.name for path in figures.draw(smoke, tmp_path)}
    for name in EXPERIMENTS:
        table = paper_tables.table(name, smoke)
        labels = {label for label, _, _ in load_experiment(smoke, name)}
        assert "preset smoke" in table.caption and "no conclusion" in table.caption
        if name not in ("sparsity", "sensitivity"):
            assert table.rows.iloc[:, 0].tolist() == list(
                dict.fromkeys(t for t in table.rows.iloc[:, 0] if t in labels)
            )
            assert len(table.rows) == len(labels)
        assert {f"{name}.pdf", f"{name}.png"} <= written


def test_heads_count_the_runs_of_their_presets():
    """ "; 40 runs" of the smaller preset first, and "mid: 15 runs" of the larger."""
    counts: dict[str, list[int]] = {}
    for preset in ("cpu", "mid"):
        for name, runs in plan(EXPERIMENTS, SimpleNamespace(preset=preset, seeds=None, link=None)).items():
            counts.setdefault(name, []).append(len({json.dumps(config.record()) for _, _, config in runs}))
    assert counts
    for name, expected in counts.items():
        head = " ".join(importlib.import_module(f"experiments.{name}").__doc__.split())
        assert [int(n) for n in re.findall(r"(?:;|mid:) (\d+) runs", head)] == expected, name


def test_heads_on_all_of_cifar10_say_what_one_worker_alone_reaches():
    """For each network of theirs that was trained so, the mean over the seeds, as in the table."""
    table = paper_tables.table("alone", ROOT / "results").rows
    reached = {row["alone"].split(",")[0]: f"{row['mean worker'].value.mean:.1f} %" for row in table.to_dict("records")}
    assert set(reached) == {"resnet_small", "cnn"}
    found = set()
    for name, runs in plan(EXPERIMENTS, SimpleNamespace(preset="mid", seeds=[0], link=None)).items():
        models = {c.model for _, _, c in runs if c.dataset == "cifar10" and not c.train_images} & set(reached)
        head = " ".join(importlib.import_module(f"experiments.{name}").__doc__.split())
        assert all(reached[model] in head for model in models), name
        found |= {name} if models else set()
    assert found >= {"final_accuracy", "convergence", "communication", "baseline_audit", "sparsity", "momentum"}


def test_smoke_presets_are_small(smoke):
    configs = [run.config for run in RunStore(smoke).runs()]
    assert 100 < len(configs) < 400
    small = ("mlp", "mlp_narrow", "logistic", "resnet_small_gn")
    assert {config["model"] for config in configs} <= set(small)
    assert max(config["epochs"] * (config["train_images"] + config["test_images"]) for config in configs) <= 1280


def test_figures_and_tables_come_back_byte_for_byte(smoke, tmp_path):
    for folder in ("first", "second"):
        for name in ("convergence", "sensitivity", "baseline_audit"):
            importlib.import_module(f"figures.{name}").draw(smoke, tmp_path / folder)
        (tmp_path / folder / "tables.md").write_text(paper_tables.render("all", smoke), encoding="utf-8")
    assert len(list((tmp_path / "first").iterdir())) == 7
    for path in sorted((tmp_path / "first").iterdir()):
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes(), path.name


def test_labels_are_display(smoke, tmp_path):
    """No table depends on what the labels of a list say."""
    (tmp_path / "experiments").mkdir()
    (tmp_path / "runs").symlink_to(smoke / "runs")
    for name in EXPERIMENTS:
        listing = json.loads((smoke / "experiments" / f"{name}.json").read_text())
        places = {label: f"row {i}" for i, label in enumerate(dict.fromkeys(run["label"] for run in listing["runs"]))}
        listing["runs"] = [run | {"label": places[run["label"]]} for run in listing["runs"]]
        (tmp_path / "experiments" / f"{name}.json").write_text(json.dumps(listing))
        before, after = (paper_tables.table(name, root).rows.map(str) for root in (smoke, tmp_path))
        assert after.equals(before.replace(places)), name


def test_tables_and_figures_of_some_of_the_runs_say_so(smoke, tmp_path):
    for name in ("convergence", "sparsity", "sensitivity", "communication", "baseline_audit", "degree_effect"):
        entries = load_experiment(smoke, name)
        root = tmp_path / name
        (root / "runs").mkdir(parents=True)
        for _, _, run in entries[2:4]:
            for path in (run.csv, run.csv.with_suffix(".json")):
                (root / "runs" / path.name).write_bytes(path.read_bytes())
        write_experiment(root, name, "smoke", [(label, seed, run.config) for label, seed, run in entries])
        assert (
            f"2 of {len(entries)} runs are complete; the rest is not measured" in paper_tables.table(name, root).caption
        )
        assert importlib.import_module(f"figures.{name}").draw(root, tmp_path, style.COLUMN_WIDTH)


def test_tables_and_figures_never_import_torch():
    code = "import sys, paper_tables, figures.all, importlib\n" + "".join(
        f"importlib.import_module('figures.{path.stem}')\n" for path in (ROOT / "figures").glob("[a-z]*.py")
    )
    subprocess.run([sys.executable, "-c", f"{code}assert 'torch' not in sys.modules"], cwd=ROOT, check=True)


def test_methods_are_held_to_one_target_and_one_reference_whatever_graphs_and_epochs_they_use():
    runs = Experiment(ROOT / "results", "communication")
    assert {"D-PSGD", "D-PSGD, three graphs", "AL-DSGD, three graphs", "MATCHA, twice the epochs"} <= set(runs.labels)
    (target,) = {target_of(runs, label) for label in runs.labels}
    # The tests before the last one are on other images.
    curves = [entry.run.network["mean_accuracy"] for entry in runs.of("D-PSGD")]
    assert target == pytest.approx(0.95 * sum(curve.iloc[-2] for curve in curves) / len(curves))
    sooner = Experiment(ROOT / "results", "convergence")
    expected = sooner.of("AL-DSGD, three graphs").less(sooner.of("D-PSGD"), "area")
    rows = paper_tables.table("convergence", ROOT / "results").rows.set_index("convergence")
    assert rows.loc["AL-DSGD, three graphs", "less D-PSGD's"].value.mean == pytest.approx(100 * expected.mean)


def test_what_has_twice_the_epochs_is_drawn_beside_itself_alone(tmp_path, monkeypatch):
    """Where its own run, or all that it is compared with, is not complete yet, the rest is drawn."""
    entries, recorded, notes = traffic_of.configurations("mid", 0), RunStore(ROOT / "results"), []
    listed = [(label, 0, config.record()) for label, config, _ in entries]
    monkeypatch.setattr(traffic, "finish", lambda fig, runs, labels, out, note: notes.append(note) or [])
    for methods in (("D-PSGD", "MATCHA"), ("D-PSGD",), ()):
        root = tmp_path / str(len(methods))
        (root / "runs").mkdir(parents=True)
        for label, _, config in listed:
            if label in (*methods, f"MATCHA, {TWICE}"):
                csv = recorded.load(config).csv
                for path in (csv, csv.with_suffix(".json")):
                    (root / "runs" / path.name).symlink_to(path)
        write_experiment(root, "communication", "mid", listed, {label: named for label, _, named in entries})
        traffic.draw(root, tmp_path)
    assert [note.startswith("(a) dotted: twice the epochs") for note in notes] == [True, False, False]


def test_the_audit_draws_methods_of_one_number_of_graphs_by_their_names(tmp_path, monkeypatch):
    (tmp_path / "runs").symlink_to(ROOT / "results" / "runs")
    # The methods of its preset mid, of runs that are recorded.
    methods = ("D-PSGD (released schedule)", "D-PSGD", "AL-DSGD, three graphs")
    known = [(label, 0, c.record()) for label, c, _ in half_rates.configurations("mid", 0) if label in methods]
    write_experiment(tmp_path, "baseline_audit", "mid", known)
    drawn = []
    monkeypatch.setattr(audit, "finish", lambda fig, runs, methods, out, note: drawn.append((methods, note)) or [])
    audit.draw(tmp_path, tmp_path)
    ((methods, note),) = drawn
    assert {"D-PSGD", "AL-DSGD, three graphs"} <= set(methods) and "AL-DSGD on D-PSGD" not in methods
    assert "53.8 %, different start" in note and "2,000 images" in note


def test_the_audit_marks_the_workers_that_never_exchange():
    config = {"graph": "paper:53.8", "graphs": 1, "workers": 8, "method": "dpsgd_released", "core": None}
    assert islands(config) == [[0, 4], [1], [2, 3, 6], [5], [7]]
    assert islands({**config, "graph": "paper:100"}) == [[0, 4], [1, 2, 3, 5, 6, 7]]
    assert islands({**config, "graph": "paper:100", "graphs": 2}) == [list(range(8))]
    assert islands({**config, "method": "aldsgd", "core": "dpsgd_released"})[1] == [1]
    assert islands({**config, "method": "dpsgd"}) == [list(range(8))]


@pytest.mark.parametrize("label", ["D-PSGD", "MATCHA", "all-reduce", "AL-DSGD on MATCHA", "no exchange"])
def test_a_repriced_link_is_what_training_with_it_would_record(label):
    base = RunConfig(train_images=128, test_images=32, epochs=2, lr=0.1, graph="paper:100")
    rows = {}
    for latency, bandwidth in ((50e-6, 1.25e9), (5e-6, 1.25e8)):
        config = base.but(**VARIANTS[label].changes, latency=latency, bandwidth=bandwidth)
        trainer = prepare(config, Execution())
        rows[latency] = trainer.run().final
    recorded = config.but(latency=50e-6, bandwidth=1.25e9).record()
    extra = {"parameters": trainer.workers.parameters.shape[1]}
    run = SimpleNamespace(config=recorded, meta={"extra": extra}, network=pd.DataFrame([rows[50e-6]]))
    expected = rows[5e-6]["modelled_compute_s"] + rows[5e-6]["modelled_communication_s"]
    assert modelled_seconds(run, 1, 5e-6).iloc[-1] == pytest.approx(expected, rel=1e-12)


def test_the_learning_rates_are_those_that_tuning_chose():
    table = paper_tables.table("tuning", ROOT / "results")
    chosen = set(table.rows.loc[table.rows["chosen"] == "chosen", "tuning"])
    used = [setting["cpu"] for setting in (CIFAR10, CIFAR100, SMALL)]
    assert chosen == {f"{config.dataset}, lr {config.lr:g}" for config in used}


#: Setting -> method -> the rate of the runs that were made at the best of half the epochs, when 0.1 was the lowest.
HALF = {"resnet_small": half_rates.MAIN} | {f"cnn, {level} %": rates for level, rates in half_rates.LEVELS.items()}


#: (setting, method) -> rates that were near the best before the grid was extended, and so were tried at all epochs too.
TRIED = {("resnet_small", "MATCHA"): {0.1, 0.8}}


def best_rates(runs):
    """Condition or data set -> method -> the rate with the best mean worker."""
    found = {}
    for (place, variant), label in chosen(runs).items():
        found.setdefault(place.removesuffix(LONGER), {})[variant] = rate_of(runs.of(label)[0].run)
    return found


def test_own_rates_are_the_best_of_their_grids_and_lie_inside_them():
    runs = Experiment(ROOT / "results", "own_rates")
    best = best_rates(runs)
    for setting, rates in OWN.items():
        grids = {}
        for label, rate in rates.items():
            ends = {rate_of(entry.run): entry.run.final["mean_accuracy"]
                    for entry in runs.under(setting).select(variant=label)}  # fmt: skip
            grids[label] = tuple(sorted(ends))
            assert len(ends) >= 4 and min(ends) < rate < max(ends), (setting, label)
            assert rate == best[setting][label], (setting, label)
            first, then = HALF.get(setting, {}).get(label), [tried for tried in ends if tried >= 0.1]
            assert first is None or first == max(then, key=ends.get), (setting, label)
            again = {rate_of(entry.run) for entry in runs.under(setting + LONGER).select(variant=label)}
            near = {tried for tried, end in ends.items() if end >= max(ends.values()) - FINALISTS}
            whole = runs.under(setting).field("train_images") == [None]
            wanted = near | TRIED.get((setting, label), set()) if len(near) > 1 and whole else set()
            assert again == wanted, (setting, label)
        assert len(set(grids.values())) == 1, setting
    assert runs.field("seed") == [TUNING_SEED] and set(runs.field("validation")) == {5000}
    assert all(TUNING_SEED not in seeds for seeds in MID_SEEDS.values())
    assert MID.lr == OWN["resnet_small"]["D-PSGD"] and MID_FASHION.lr == best["fashionmnist, identical"]["D-PSGD"]


def test_rates_of_leaders_are_the_best_of_their_grids_and_lie_inside_them():
    runs = Experiment(ROOT / "results", "leader_rates")
    best = best_rates(runs)
    for condition, rates in LEADERS.items():
        for label, rate in rates.items():
            grid = {rate_of(entry.run) for entry in runs.under(condition).select(variant=label)}
            assert best[condition][label] == rate and len(grid) >= 4, (condition, label)
            assert min(grid) < rate < max(grid), (condition, label)
    assert runs.field("seed") == [TUNING_SEED] and set(runs.field("validation")) == {5000}


def test_the_rule_at_equal_time_meets_others_with_twice_the_epochs():
    """No longer than the rule and not much shorter, at their own rates and drops at the same shares of the run."""
    entries = equal_time.configurations("cpu", 20)
    epochs = {label: (config.epochs, config.lr_drops) for label, config, _ in entries}
    assert epochs.pop(f"{PROPOSED}, skew 0.1") == (8, ((4, 0.1), (6, 0.1)))
    assert {value for label, value in epochs.items() if PROPOSED not in label} == {(16, ((8, 0.1), (12, 0.1)))}
    rates = {(label, name): config.lr for label, config, name in entries}
    assert rates["all-reduce, skew 0.1", "skew 0.1"] == LEADERS["skew 0.1, twice the epochs"]["all-reduce"]
    assert at("skew 0.1, twice the epochs", 0.1) == twice(at("skew 0.1", 0.1))
    runs = Experiment(ROOT / "results", "equal_time")
    for condition in runs.conditions:
        cells = {variant: runs.select(variant=variant, condition=condition) for variant in runs.variants}
        shares = {name: times(own, cells[PROPOSED]) for name, own in cells.items()}
        assert all(0.85 < share <= 1 for share in shares.values()) and len(shares) == 4, shares
    assert times(cells[PROPOSED], Runs(())) is None


def test_gains_pair_seeds_weigh_conditions_alike_and_meet_the_best():
    def entry(variant, condition, seed, worst):
        run = SimpleNamespace(final={"worst_accuracy": worst}, metrics=("accuracy",), config={})
        return Entry(f"{variant}, {condition}", seed, run, variant, variant, condition, f"place {condition}")

    values = {(0, 0): (0.5, 0.4), (0, 1): (0.6, 0.4), (1, 0): (0.3, 0.4), (1, 1): (0.5, 0.4), (1, 2): (0.9, 0.1)}
    runs = Runs(
        entry(name, condition, seed, worst)
        for place, name in enumerate((PROPOSED, "all-reduce"))
        for (condition, seed), pair in values.items()
        for worst in pair[place : place + 1]
    )
    gain = mean_gain(runs, PROPOSED, "all-reduce")  # seed 0: 0.1, -0.1; seed 1: 0.2, 0.1; seed 2 lacks a condition
    assert gain.n == 2 and gain.mean == pytest.approx(0.075)
    assert mean_gain(runs, PROPOSED, "nobody") is None and mean_gain(runs, PROPOSED, PROPOSED) is None
    plain = [entry("D-PSGD", 0, seed, worst) for seed, worst in ((0, 0.3), (1, 0.49))]
    best, gap = less_best(Runs([*runs, *plain]), "place 0")  # 0.395 in the mean, less than all-reduce's 0.4
    assert best == "all-reduce" and gap.mean == pytest.approx(0.15)
    assert less_best(runs, "nowhere") == ("none", None)


def test_promises_of_smoke_runs_are_no_conclusion(smoke):
    found = paper_tables.table("promises", smoke).rows
    assert set(found["verdict"]) <= {"smoke: no conclusion", "not measured"}
    assert found["verdict"].tolist()[:2] == ["smoke: no conclusion"] * 2
