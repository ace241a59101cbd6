"""The theory's scripts, figures and report, as a reviewer runs them."""

import argparse
import errno
import importlib
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import theory_report
from aldsgd.errors import ConfigError
from aldsgd.theory import records
from experiments import theory_common, theory_gossip
from experiments.command import command
from tables.theory_training import no_more, rate_statements, scaling_statements, step_limits
from tables.theory_verdicts import few_enough, judge, number, spread

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = tuple(theory_report.SCRIPTS)
FIGURES = ("theory_spectrum", "theory_leader_mixing", "theory_leader_map", "theory_assumptions", "theory_rate",
           "theory_scaling", "theory_selection")  # fmt: skip


def call(monkeypatch, script, *arguments, preset="smoke"):
    module = importlib.import_module(f"experiments.{script}")
    monkeypatch.setattr(sys, "argv", [script, "--preset", preset, *map(str, arguments)])
    module.main(None)


def no_work(monkeypatch, script):
    """The script, with a table of one cell in place of its work; each call is counted in the list returned."""
    module, calls = importlib.import_module(f"experiments.{script}"), []
    monkeypatch.setattr(module, "tables", lambda options: calls.append(options) or {"one": pd.DataFrame({"x": [1]})})
    return calls


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Every table at preset smoke, with two seeds; where methods rest is looked for long enough elsewhere."""
    folder = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setitem(theory_gossip.MOST, "smoke", 100)
        for script in SCRIPTS:
            seeds = [] if script == "theory_spectrum" else ["--seeds", 0, 1]
            call(monkeypatch, script, "--results", folder, *seeds)
    return folder


def test_every_table_is_described(results):
    for script in SCRIPTS:
        record, frames = records.read(results, script)
        assert record["preset"] == "smoke" and record["environment"]["versions"]["numpy"] == np.__version__
        assert frames and all(len(frame) for frame in frames.values())
        assert not any("/" in str(value) for value in record["configuration"].values())


def test_every_column_of_every_table_is_explained():
    """In its row of the README, in the row that this one names, or among the names that all tables share."""
    folder = ROOT / "results" / "theory"
    text = (folder / "README.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)\.csv` \|(.*)$", text, re.M))
    tables = {path.stem: path.read_text().partition("\n")[0].split(",") for path in folder.glob("*.csv")}
    assert set(rows) == set(tables)
    shared = re.findall("`([^`]+)`", text.partition("\n| file")[0])
    for name, columns in tables.items():
        like = re.search(r"as `(\w+)\.csv`", rows[name])
        named = {*shared, *re.findall("`([^`]+)`", rows[name] + (rows[like[1]] if like else ""))}
        assert set(columns) <= named, (name, set(columns) - named)


def test_levels_stay_names(results):
    _, frames = records.read(results, "theory_leader_mixing")
    assert set(frames["leader_runs"]["level"]) == {"53.8"}


def test_the_report_is_a_function_of_the_tables(results, tmp_path, capsys):
    out = tmp_path / "THEORY.md"
    arguments = ["--results", str(results), "--out", str(out)]
    assert theory_report.main([*arguments, "--check"]) == 2 and "cannot be used" in capsys.readouterr().err
    assert theory_report.main(arguments) == 0
    assert theory_report.main([*arguments, "--check"]) == 0
    text = out.read_text()
    assert text.count("no conclusion may be drawn") == len(SCRIPTS)
    assert text.index("## Checks of the code") > text.index("## Many workers")
    for script in SCRIPTS:
        assert f"`python -m experiments.{script}`" in text
    for other in (text.replace("holds", "fails", 1).encode(), b"\xff" + text.encode()):
        out.write_bytes(other)
        assert theory_report.main([*arguments, "--check"]) == 1
        assert "run python theory_report.py" in capsys.readouterr().err
    assert theory_report.main([*arguments[:3], str(tmp_path)]) == 2 and "cannot be used" in capsys.readouterr().err


def test_a_table_that_was_altered_is_refused(results, tmp_path, capsys):
    for path in (results / "theory").iterdir():
        (tmp_path / "theory").mkdir(exist_ok=True)
        (tmp_path / "theory" / path.name).write_bytes(path.read_bytes())
    table = tmp_path / "theory" / "rate.csv"
    table.write_text(table.read_text().replace("1", "2", 1))
    assert theory_report.main(["--results", str(tmp_path), "--out", str(tmp_path / "T.md")]) == 2
    assert "python -m experiments.theory_rate" in capsys.readouterr().err
    table.unlink()
    with pytest.raises(ConfigError, match=r"rate\.csv is not there"):
        records.read(tmp_path, "theory_rate")
    (tmp_path / "theory" / "theory_rate.json").write_text("{")
    with pytest.raises(ConfigError, match="damaged"):
        records.read(tmp_path, "theory_rate")


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_drawn_and_repeat(results, tmp_path, name):
    draw = importlib.import_module(f"figures.{name}").draw
    written = draw(results, tmp_path)
    assert [path.name for path in written] == [f"{name}.pdf", f"{name}.png"]
    picture = written[1].read_bytes()
    assert draw(results, tmp_path)[1].read_bytes() == picture


def test_reporting_and_drawing_never_load_torch():
    names = ", ".join(["experiments.theory_common", *(f"figures.{name}" for name in FIGURES)])
    code = f"import sys, theory_report, {names}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(theory_report.__file__).parent)


def test_the_committed_report_is_what_the_committed_tables_say():
    root = Path(theory_report.__file__).parent
    arguments = ["--results", str(root / "results"), "--out", str(root / "THEORY.md"), "--check"]
    assert theory_report.main(arguments) == 0
    for name in FIGURES:
        assert (root / "figures" / f"{name}.png").exists()


def test_a_graph_of_ones_own(monkeypatch, tmp_path):
    edges = tmp_path / "edges.txt"
    edges.write_text("0 1\n2 3\n")
    call(monkeypatch, "theory_spectrum", "--results", tmp_path, "--graph", f"file:{edges}")
    _, frames = records.read(tmp_path, "theory_spectrum")
    rows = frames["spectrum_schedules"]
    own = rows[rows["graph"].str.startswith("file") & (rows["graphs"] == 1)]
    assert set(own["cut_off"]) == {"0 1 | 2 3"} and (own["rho"] > 1 - 1e-9).all()


@pytest.mark.parametrize("script, arguments, message", [
    ("theory_rate", ["--seeds", "-1"], "must not be negative"),
    ("theory_rate", ["--seeds", "3", "3"], "names a seed twice"),
    ("theory_scaling", ["--seeds", str(2**70)], "below 2^32"),
    ("theory_scaling", ["--seeds", "many"], "invalid int value"),
    ("theory_rate", ["--preset", "paper"], "invalid choice"),
    ("theory_spectrum", ["--graph", "erdos_renyi:0.4"], "no worker count"),
    ("theory_spectrum", ["--graph", "file:missing.txt"], "cannot read the edge list"),
    ("theory_spectrum", ["--graph", "file:alone.txt"], "must have an edge"),
    ("theory_spectrum", ["--graph", "file:many.txt"], "at most 64 workers"),
    ("theory_spectrum", ["--results", "/proc/nowhere"], "cannot be written"),
    ("theory_spectrum", ["--results", "alone.txt"], "cannot be written"),
    ("theory_spectrum", ["--results", "taken"], "rate.csv is a folder"),
    ("theory_spectrum", ["--results", "damaged"], "theory_spectrum.json is damaged"),
])  # fmt: skip
def test_bad_input_is_one_line(monkeypatch, capsys, tmp_path, script, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("alone.txt").write_text("n 3\n")
    Path("many.txt").write_text("n 65\n0 1\n")
    Path("taken/theory/rate.csv").mkdir(parents=True)
    Path("damaged/theory").mkdir(parents=True)
    Path("damaged/theory/theory_spectrum.json").write_text('{"preset": "cpu", "configuration": [], "csv_sha256": {}}')
    module = importlib.import_module(f"experiments.{script}")
    monkeypatch.setattr(sys, "argv", [script, "--preset", "smoke", *arguments])
    with pytest.raises(SystemExit) as stop:
        command(module.main)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize("script, preset, arguments, option", [
    ("theory_rate", "smoke", [], "--preset"),
    ("theory_rate", "cpu", ["--seeds", "1"], "--seeds"),
    ("theory_spectrum", "cpu", ["--graph", "torus:3x3"], "--graph"),
])  # fmt: skip
def test_recorded_tables_are_only_replaced_by_those_of_the_same_options(monkeypatch, tmp_path, script, preset,
                                                                        arguments, option):  # fmt: skip
    calls = no_work(monkeypatch, script)
    call(monkeypatch, script, "--results", tmp_path, preset="cpu")
    call(monkeypatch, script, "--results", tmp_path, preset="cpu")
    recorded = (tmp_path / "theory" / f"{script}.json").read_bytes()
    with pytest.raises(ConfigError, match=f"other {option}: choose another --results"):
        call(monkeypatch, script, "--results", tmp_path, *arguments, preset=preset)
    assert len(calls) == 2 and (tmp_path / "theory" / f"{script}.json").read_bytes() == recorded
    # What shows nothing may be replaced by anything.
    call(monkeypatch, script, "--results", tmp_path / "tried", *arguments)
    call(monkeypatch, script, "--results", tmp_path / "tried", preset="cpu")


@pytest.mark.parametrize("script, preset, arguments, folder", [
    ("theory_rate", "smoke", [], "cache/smoke"),
    ("theory_rate", "smoke", ["--seeds", "1"], "cache/smoke"),
    ("theory_rate", "cpu", [], "results"),
    ("theory_rate", "cpu", ["--seeds", "1"], "my_results"),
    ("theory_spectrum", "cpu", [], "results"),
    ("theory_spectrum", "cpu", ["--graph", "file:edges.txt"], "my_results"),
])  # fmt: skip
def test_only_what_is_committed_goes_to_results_unasked(monkeypatch, tmp_path, script, preset, arguments, folder):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALDSGD_CACHE", str(tmp_path / "cache"))
    no_work(monkeypatch, script)
    call(monkeypatch, script, *arguments, preset=preset)
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("one.csv")] == [f"{folder}/theory/one.csv"]


@pytest.mark.parametrize("room", [0, 1, 2])
def test_a_full_disk_is_one_line(monkeypatch, capsys, tmp_path, room):
    calls, write = no_work(monkeypatch, "theory_rate"), Path.write_bytes

    def full(path, content):
        if len(written) == room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(path)
        return write(path, content)

    written = []
    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr(sys, "argv", ["theory_rate", "--results", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        command(importlib.import_module("experiments.theory_rate").main)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and "No space left on device" in error and error.count("\n") == 1
    assert len(calls) == (room > 0)  # without room for the tables nothing is computed
    assert sorted(path.name for path in (tmp_path / "theory").iterdir()) == ["one.csv"] * (room == 2)


def test_runs_on_images_are_not_replaced_by_runs_without(monkeypatch, tmp_path):
    module = importlib.import_module("experiments.theory_assumptions")
    frames = {"assumptions": pd.DataFrame({"dataset": ["digits", "fashionmnist"]})}
    records.write(tmp_path, "theory_assumptions", frames, "cpu", {"seeds": [0]})
    monkeypatch.setenv("ALDSGD_DATA", str(tmp_path))
    options = type("Options", (), {"preset": "cpu", "data": None, "results": tmp_path})
    with pytest.raises(ConfigError, match="on digits, fashionmnist, and now it finds digits: give --data"):
        module.tables(options)


def test_a_stopped_script_goes_on_with_what_the_same_code_made(monkeypatch, tmp_path):
    monkeypatch.setenv("ALDSGD_CACHE", str(tmp_path))
    options, calls = argparse.Namespace(), []

    def work(value=1.5):
        calls.append(value)
        return [[{"x": value, "y": math.nan}]]

    first = theory_common.kept(options, {"seed": 0}, work)
    again = theory_common.kept(options, {"seed": 0}, work)
    assert len(calls) == 1 and again[0][0]["x"] == first[0][0]["x"] and options.spent >= 0
    theory_common.kept(options, {"seed": 1}, work)
    monkeypatch.setattr(theory_common, "code", lambda: "other code")
    theory_common.kept(options, {"seed": 0}, work)
    assert len(calls) == 3


def test_missing_data_is_said_where_data_is_asked_for(tmp_path):
    module = importlib.import_module("experiments.theory_assumptions")
    options = type("Options", (), {"preset": "cpu", "data": str(tmp_path)})
    with pytest.raises(ConfigError, match="no fashionmnist or cifar10"):
        module.image_setting(options)


def test_verdicts():
    assert judge([("a", True), ("b", True)]) == "holds"
    assert judge([("a", False)]) == "fails"
    assert judge([]) == "not measured"
    assert judge([("a", True), ("b", False), ("c", False)]) == "holds under: a. Fails elsewhere"
    assert judge([("a", True), ("b", False), ("c", True)]) == "holds except under: b"
    # A name with both outcomes counts as failing.
    assert judge([("a", True), ("a", False), ("b", True)]) == "holds under: b. Fails elsewhere"
    assert number(1e-15) == "0" and number(12345.6) == "12346" and number(0.01234) == "0.0123"
    assert spread([0.1, math.nan, 2]) == "0.1 to 2" and spread([]) == "none"
    assert few_enough(3, 20) and not few_enough(6, 20) and not few_enough(0, 0)


def test_limits_of_small_steps():
    floors = pd.DataFrame({"n": 4, "second_draw": [False] * 3, "eta": [0.1, 0.01, 0.03], "mean": [9.0, 1.2, 1.6],
                           "high": [9.5, 1.4, 1.8], "floor": 2.0})  # fmt: skip
    found = step_limits(floors)
    assert found["ratio"].tolist() == pytest.approx([0.5])
    # Weights 3/2 and -1/2 of half widths 0.1.
    assert (found["high"] - found["ratio"]).tolist() == pytest.approx([0.1 * math.sqrt(2.5)])
    assert math.isnan(step_limits(floors[:1])["ratio"][0])


def test_json_and_tables_are_written_together(tmp_path):
    frame = pd.DataFrame({"x": [1 / 3], "level": ["100"]})
    records.write(tmp_path, "theory_rate", {"some": frame}, "cpu", {"seeds": [1]})
    record, frames = records.read(tmp_path, "theory_rate")
    assert frames["some"]["x"][0] == pytest.approx(1 / 3, abs=1e-10) and frames["some"]["level"][0] == "100"
    assert json.loads((tmp_path / "theory" / "theory_rate.json").read_text()) == record


def verdict_of(statements, start):
    (found,) = [statement.verdict for statement in statements if statement.text.startswith(start)]
    return found


def test_no_more_needs_an_interval_that_reaches_no_further_than_zero():
    few, more, noisy = pd.Series([3.0, 3.0, 4.0]), pd.Series([5.0, 6.0, 6.0]), pd.Series([1.0, 3.0, 4.0])
    assert no_more(few, more) and no_more(few, few) and not no_more(more, few)
    assert noisy.mean() < few.mean() and not no_more(noisy, few)
    censored = pd.Series([3.0, np.inf, 4.0])
    assert no_more(few, censored) and not no_more(censored, few)


def test_smaller_gradients_are_said_where_intervals_are_apart_at_every_number_of_steps():
    frames = records.read(ROOT / "results", "theory_rate")[1]
    start = "AL-DSGD's average squared gradient is smaller"
    assert (
        verdict_of(rate_statements(frames), start) == "holds under: logistic, n = 2; logistic, n = 4. Fails elsewhere"
    )
    rows = frames["rate"].copy()
    led = (rows["method"] == "AL-DSGD on D-PSGD") & (rows["graph"] == "exponential") & (rows["problem"] == "logistic")
    last = led & (rows["n"] == 4) & (rows["K"] == rows.loc[led, "K"].max())
    rows.loc[last, "high"] = rows["high"].max()
    spoilt = verdict_of(rate_statements(frames | {"rate": rows}), start)
    assert spoilt == "holds under: logistic, n = 2. Fails elsewhere"


def test_a_consensus_distance_that_grows_in_one_seed_is_not_said_to_stay():
    frames = records.read(ROOT / "results", "theory_scaling")[1]
    start = "Consensus distance does not grow"
    assert "exponential, D-PSGD" in verdict_of(scaling_statements(frames), start)
    rows = frames["scaling"].copy()
    one = (rows["graph"] == "exponential") & (rows["method"] == "D-PSGD") & (rows["problem"] == "quadratics")
    rows.loc[one & (rows["n"] == rows["n"].max()) & (rows["seed"] == 0), "consensus"] *= 1.5
    assert "exponential, D-PSGD" not in verdict_of(scaling_statements(frames | {"scaling": rows}), start)
