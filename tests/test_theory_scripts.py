"""The theory's scripts, figures and report, as a reviewer runs them."""

import importlib
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from aldsgd.theory_training_statements import step_limits
from aldsgd.theory_verdicts import few_enough, judge, number, spread
from experiments.common import command

import theory_report
from aldsgd import theory_records
from aldsgd.errors import ConfigError

SCRIPTS = ("theory_spectrum", "theory_leader_mixing", "theory_assumptions", "theory_rate", "theory_scaling")
FIGURES = ("theory_spectrum", "theory_leader_mixing", "theory_leader_map", "theory_assumptions", "theory_rate",
           "theory_scaling")  # fmt: skip


def call(monkeypatch, script, *arguments):
    module = importlib.import_module(f"experiments.{script}")
    monkeypatch.setattr(sys, "argv", [script, "--preset", "smoke", *map(str, arguments)])
    module.main()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Every table at preset smoke, with two seeds."""
    folder = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as monkeypatch:
        for script in SCRIPTS:
            seeds = [] if script == "theory_spectrum" else ["--seeds", 0, 1]
            call(monkeypatch, script, "--results", folder, *seeds)
    return folder


def test_every_table_is_described(results):
    for script in SCRIPTS:
        record, frames = theory_records.read(results, script)
        assert record["preset"] == "smoke" and record["environment"]["versions"]["numpy"] == np.__version__
        assert frames and all(len(frame) for frame in frames.values())
        assert not any("/" in str(value) for value in record["configuration"].values())


def test_levels_stay_names(results):
    _, frames = theory_records.read(results, "theory_leader_mixing")
    assert set(frames["leader_runs"]["level"]) == {"53.8"}


def test_the_report_is_a_function_of_the_tables(results, tmp_path, capsys):
    out = tmp_path / "THEORY.md"
    arguments = ["--results", str(results), "--out", str(out)]
    assert theory_report.main([*arguments, "--check"]) == 2 and "cannot be used" in capsys.readouterr().err
    assert theory_report.main(arguments) == 0
    assert theory_report.main([*arguments, "--check"]) == 0
    text = out.read_text()
    assert text.count("no conclusion may be drawn") == len(SCRIPTS)
    for script in SCRIPTS:
        assert f"`python -m experiments.{script}`" in text
    out.write_text(text.replace("holds", "fails", 1))
    assert theory_report.main([*arguments, "--check"]) == 1
    assert "run python theory_report.py" in capsys.readouterr().err


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
        theory_records.read(tmp_path, "theory_rate")
    (tmp_path / "theory" / "theory_rate.json").write_text("{")
    with pytest.raises(ConfigError, match="damaged"):
        theory_records.read(tmp_path, "theory_rate")


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_drawn_and_repeat(results, tmp_path, name):
    draw = importlib.import_module(f"figures.{name}").draw
    written = draw(results, tmp_path)
    assert [path.name for path in written] == [f"{name}.pdf", f"{name}.png"]
    picture = written[1].read_bytes()
    assert draw(results, tmp_path)[1].read_bytes() == picture


def test_reporting_and_drawing_never_load_torch():
    names = ", ".join(f"figures.{name}" for name in FIGURES)
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
    _, frames = theory_records.read(tmp_path, "theory_spectrum")
    rows = frames["spectrum_schedules"]
    own = rows[rows["graph"].str.startswith("file") & (rows["graphs"] == 1)]
    assert set(own["cut_off"]) == {"0 1 | 2 3"} and (own["rho"] > 1 - 1e-9).all()


@pytest.mark.parametrize("script, arguments, message", [
    ("theory_rate", ["--seeds", "-1"], "must not be negative"),
    ("theory_rate", ["--seeds", "3", "3"], "names a seed twice"),
    ("theory_spectrum", ["--graph", "erdos_renyi:0.4"], "no worker count"),
    ("theory_spectrum", ["--graph", "file:missing.txt"], "cannot read the edge list"),
    ("theory_spectrum", ["--results", "/proc/nowhere"], "cannot be written"),
])  # fmt: skip
def test_bad_input_is_one_line(monkeypatch, capsys, tmp_path, script, arguments, message):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(f"experiments.{script}")
    monkeypatch.setattr(sys, "argv", [script, "--preset", "smoke", *arguments])
    with pytest.raises(SystemExit) as stop:
        command(module.main)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_smoke_run_does_not_replace_real_tables(monkeypatch, tmp_path):
    theory_records.write(tmp_path, "theory_rate", {"rate": pd.DataFrame({"x": [1]})}, "cpu", {})
    with pytest.raises(ConfigError, match="another --results"):
        call(monkeypatch, "theory_rate", "--results", tmp_path)
    assert theory_records.preset_of(tmp_path, "theory_rate") == "cpu"


def test_missing_data_is_said_where_data_is_asked_for(monkeypatch, tmp_path):
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
                           "floor": 2.0})  # fmt: skip
    assert step_limits(floors)["ratio"].tolist() == pytest.approx([0.5])
    assert math.isnan(step_limits(floors[:1])["ratio"][0])


def test_json_and_tables_are_written_together(tmp_path):
    frame = pd.DataFrame({"x": [1 / 3], "level": ["100"]})
    theory_records.write(tmp_path, "theory_rate", {"some": frame}, "cpu", {"seeds": [1]})
    record, frames = theory_records.read(tmp_path, "theory_rate")
    assert frames["some"]["x"][0] == pytest.approx(1 / 3, abs=1e-10) and frames["some"]["level"][0] == "100"
    assert json.loads((tmp_path / "theory" / "theory_rate.json").read_text()) == record
