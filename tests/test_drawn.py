"""Figures: what they show, the same bytes from the same runs, and errors that take one line."""

import os
import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest

import paper_tables
from aldsgd.errors import ConfigError
from aldsgd.listings import load_experiment, write_experiment
from aldsgd.records import RunStore
from baselines import registry
from baselines.registry import VARIANTS
from figures import ablation, common, quickstart, style
from figures import all as all_figures
from tables.query import Experiment
from tests.test_tables import METHODS, ROOT, learning_curves, network_row, record


def run_python(*arguments, hash_seed):
    environment = os.environ | {"PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    learning_curves(root)
    return root


@pytest.fixture(scope="module")
def drawn(store, tmp_path_factory):
    """The folder that the two commands, run as a user runs them, have filled from the made-up runs."""
    out, results = tmp_path_factory.mktemp("drawn"), ["--results", str(store)]
    output = run_python("-m", "figures.quickstart", *results, "--out", str(out), hash_seed="1")
    assert output.split() == [str(out / "quickstart.pdf"), str(out / "quickstart.png")]
    run_python("paper_tables.py", *results, "--out", str(out / "table.md"), hash_seed="1")
    return out


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_same_runs_same_bytes_and_no_torch(store, drawn, tmp_path):
    results, table = ["--results", str(store)], str(tmp_path / "table.md")
    code = (
        "import sys, paper_tables, figures.quickstart\n"
        f"assert paper_tables.main([*{results}, '--out', {table!r}]) == 0\n"
        f"assert figures.quickstart.main([*{results}, '--out', {str(tmp_path)!r}]) == 0\n"
        "assert 'torch' not in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    )
    run_python("-c", code, hash_seed="2")
    assert contents(tmp_path) == contents(drawn) and len(contents(drawn)) == 3


def test_figure_files(store, drawn, tmp_path, monkeypatch):
    # the user's own settings must not leak in
    monkeypatch.setitem(matplotlib.rcParams, "lines.linewidth", 9)
    monkeypatch.setitem(matplotlib.rcParams, "savefig.dpi", 50)
    pdf, png = quickstart.draw(store, tmp_path)
    assert pdf.read_bytes() == (drawn / "quickstart.pdf").read_bytes()
    assert png.read_bytes() == (drawn / "quickstart.png").read_bytes()
    assert b"CreationDate" not in pdf.read_bytes() and b"Software" not in png.read_bytes()
    assert matplotlib.image.imread(png).shape[1] == round(style.PAGE_WIDTH * 300)
    # the other width goes elsewhere than the committed figures
    monkeypatch.chdir(tmp_path)
    assert quickstart.main(["--results", str(store), "--width", "3.5"]) == 0
    assert matplotlib.image.imread("figures/column/quickstart.png").shape[1] == round(style.COLUMN_WIDTH * 300)


def test_figure_shows_the_means(store):
    methods = {}
    for label, _, run in load_experiment(store, "quickstart"):
        methods.setdefault(label, []).append(run)
    with style.sheet():
        _, ((worst, price, apart),) = style.grid(1, 3, 2.5)
        quickstart.worst_against_epoch(worst, methods)
        quickstart.mean_against_bytes(price, methods)
        quickstart.consensus_against_epoch(apart, methods)
    line = worst.get_lines()[2]
    by_hand = np.mean([100 * run.network["worst_accuracy"] for run in methods["D-PSGD"]], axis=0)
    np.testing.assert_allclose(line.get_ydata(), by_hand)
    assert line.get_color() == style.look("D-PSGD").color and list(line.get_xdata()) == list(range(1, 31))
    np.testing.assert_allclose(price.get_lines()[2].get_xdata(), 6.4 * np.arange(1, 31))
    assert price.get_xscale() == apart.get_yscale() == "log"
    # all-reduce agrees exactly, which a logarithmic axis cannot show: said in words
    assert len(worst.get_lines()) == 8 and len(apart.get_lines()) == 7
    assert apart.get_title(loc="left") == "(c) disagreement (all-reduce: 0)"
    assert price.texts[0].get_text() == "dotted: where\nno exchange\n(0 MB) ended"


def test_epochs_without_evaluation_are_left_out(tmp_path):
    """Epochs that one of the runs did not test; those not tested have no row."""
    rows = [network_row(0.1 * e, 0.2, 0.3, 1.0, e) | {"epoch": e} for e in range(1, 7)]
    record(tmp_path, "D-PSGD", 0, rows)
    record(tmp_path, "D-PSGD", 1, rows[1::2])
    values = common.curves(RunStore(tmp_path).runs(), "worst_accuracy")
    assert values.index.tolist() == [2, 4, 6]
    mean, low, high = common.band(values)
    assert mean == pytest.approx([0.2, 0.4, 0.6]) and (low == mean).all() and (high == mean).all()


def test_looks_are_distinct_and_complete():
    """An asynchronous method may look like its synchronous form, but for the line."""
    looks = {label: style.look(label) for label, variant in VARIANTS.items() if variant.look}
    assert set(METHODS) < set(looks)
    assert len({(entry.color, entry.marker, entry.linestyle) for entry in looks.values()}) == len(looks)
    waiting = [
        look for label, look in looks.items() if not registry.METHODS[VARIANTS[label].changes["method"]].asynchronous
    ]
    assert len({entry.color for entry in waiting}) == len({entry.marker for entry in waiting}) == len(waiting)


def test_all_figures(tmp_path, capsys):
    """Each listing is drawn by the module of its name, others as an overview; what is missing is said."""
    entry = record(tmp_path, "D-PSGD", 0, [network_row(0.5, 0.6, 0.7, 1.0, 1)])
    for name in ("ablation", "all", "style", "my grid"):
        write_experiment(tmp_path, name, "cpu", [entry, ("$odd_{label", *entry[1:])])
    write_experiment(tmp_path, "starts", "cpu", [("never run", 0, entry[2] | {"lr": 7})])
    assert all_figures.figure_of("ablation") is ablation.draw
    written = {path.stem for path in all_figures.draw(tmp_path, tmp_path / "out")}
    assert written == {"ablation", "all", "style", "my grid"}
    assert "left out: 1 of 1 runs of starts are missing" in capsys.readouterr().err
    for name in ("ablation", "all", "style", "my grid"):
        (tmp_path / "experiments" / f"{name}.json").unlink()
    with pytest.raises(ConfigError, match="runs of starts are missing"):
        all_figures.draw(tmp_path, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    for folder, words in (("empty", "no experiment has been run"), ("typo", "no folder of results")):
        with pytest.raises(ConfigError, match=words):
            all_figures.draw(tmp_path / folder, tmp_path / "out")


def test_figure_errors_take_one_line(store, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for arguments, words in (
        (["--results", str(tmp_path)], "python -m experiments.quickstart"),
        (["--results", str(store), "--out", str(tmp_path / "file")], "cannot be written"),
    ):
        assert quickstart.main(arguments) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and words in error


def test_a_method_that_nobody_knows_is_in_tables_and_figures(tmp_path):
    entries = []
    for seed in range(5):
        entries.append(record(tmp_path, "D-PSGD", seed, [network_row(0.5, 0.6, 0.7, 1.0, 1)], dirichlet_alpha=0.5))
        row = network_row(0.6, 0.6, 0.8, 1.0, 1)
        entry = record(tmp_path, "MATCHA", seed, [row], method="elastic", c1=3.5, dirichlet_alpha=0.5)
        entries.append(("my method", *entry[1:]))
    for name in ("non_iid", "mine"):
        write_experiment(tmp_path, name, "cpu", entries)
        rows = paper_tables.table(name, tmp_path).rows.map(str)
        assert rows.iloc[:, 0].tolist() == ["D-PSGD", "my method"]
        assert rows["worst, less D-PSGD's"].tolist() == ["", "+10.00 ± 0.00 better"]
    assert Experiment(tmp_path, "mine").variants == ["D-PSGD", "elastic"]
    assert style.look("elastic") != style.look("another")
    written = {path.name for path in all_figures.draw(tmp_path, tmp_path / "out")}
    assert written == {"mine.pdf", "mine.png", "non_iid.pdf", "non_iid.png"}


def test_a_users_own_method_brings_its_label_and_look_and_may_be_gone(tmp_path, monkeypatch, request):
    request.addfinalizer(lambda: VARIANTS.pop("Elastic", None))
    for name, text in (("mine_a", OWN), ("mine_b", "raise RuntimeError('half written')"), ("mine_c", "METHOD = 3")):
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    row, entries = network_row(0.6, 0.6, 0.8, 1.0, 1), []
    entries.append(record(tmp_path, "D-PSGD", 0, [row]))
    for name in ("mine_a", "mine_b", "mine_c", "absent"):
        changes = {"method": f"{name}:METHOD", "force": 0.5} if name == "mine_a" else {"method": f"{name}:METHOD"}
        entries.append((name, *record(tmp_path, "MATCHA", 0, [row], **changes)[1:]))
    write_experiment(tmp_path, "mine", "cpu", entries)
    runs = Experiment(tmp_path, "mine")
    assert runs.variants == ["D-PSGD", "Elastic", "mine_b:METHOD", "mine_c:METHOD", "absent:METHOD"]
    assert style.look("Elastic").color == "#123456"
    assert all(runs.counterpart(label, "D-PSGD").labels == ["D-PSGD"] for label in runs.labels)
    assert paper_tables.render("mine", tmp_path).count("+0.00") == 8


OWN = """
from dataclasses import dataclass
from aldsgd.methods import Look, Method, Options, option

@dataclass(frozen=True)
class Own(Options):
    force: float = option(0.1, "a force")

METHOD = Method("mine_a:METHOD", "Elastic", None, Own, look=Look("#123456", "o", "-"))
"""
