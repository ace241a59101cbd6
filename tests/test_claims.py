"""CLAIMS.md: what each verdict needs, intervals by hand, what is not measured, and that the file is current."""

import json
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

import paper_tables
from aldsgd.errors import ConfigError
from aldsgd.listings import write_experiment
from aldsgd.records import RunStore
from aldsgd.statistics import Interval
from baselines.registry import VARIANTS
from tables.claims import CLAIMS, covers, judge, on, only_released, render
from tables.cost import cost
from tables.measures import Measure
from tables.query import experiment

ROOT = Path(__file__).parents[1]
UP, DOWN, OPEN = Interval(0.03, 0.01, 5), Interval(-0.03, 0.01, 5), Interval(0.01, 0.02, 5)
FEW = Interval(0.03, 0.001, 4)


def store(root, name, preset, values, seeds=5, dataset="cifar10", suffix=""):
    """Made-up runs: ``values`` is label -> (worst, averaged, mean at two epochs) for seed 0; +0.01 a seed."""
    entries = []
    for label, (worst, averaged, first, last) in values.items():
        for seed in range(seeds):
            config = {"dataset": dataset, "model": "mlp", "workers": 8, "graph": "paper:53.8", "epochs": 2,
                      "graphs": 1, **VARIANTS[label].changes, "seed": seed, "made": name}  # fmt: skip
            noise = 0.01 * seed + (0.001 * (seed - 2) if "three graphs" in label else 0)
            with RunStore(root).writer(config, {}) as writer:
                for epoch, mean in ((1, first), (2, last)):
                    writer.append([{
                        "epoch": epoch, "step": 9 * epoch, "worst_accuracy": worst + noise,
                        "mean_accuracy": mean + noise, "best_accuracy": 0.99,
                        "averaged_accuracy": averaged + noise, "consensus_distance": 1.0,
                        "logical_bytes": 10**6, "rounds": 1, "modelled_compute_s": 1.0,
                        "modelled_communication_s": 1.0,
                    }])  # fmt: skip
                writer.finish()
            entries.append((label + suffix, seed, config))
    write_experiment(root, name, preset, entries)


def made_up(root, preset="cpu", seeds=5):
    values = {label: (0.50, 0.60, 0.30, 0.60) for label in VARIANTS}
    values["AL-DSGD, three graphs"] = (0.556, 0.621, 0.35, 0.62)
    values["D-PSGD (released schedule)"] = (0.40, 0.55, 0.30, 0.50)
    store(root, "final_accuracy", preset, values, seeds, suffix=", CIFAR-10")
    store(root, "convergence", preset, values, seeds)


@pytest.mark.parametrize(
    ("interval", "preset", "word"),
    [
        (UP, "paper", "holds"), (DOWN, "paper", "does not hold"), (OPEN, "paper", "does not hold"),
        (UP, "cpu", "at cpu scale: better"), (DOWN, "cpu", "at cpu scale: worse"),
        (OPEN, "cpu", "at cpu scale: no difference shown"), (FEW, "paper", "open: 4 of 5 seeds"),
        (UP, "smoke", "smoke: no conclusion"), (UP, None, "not measured"), (None, "paper", "not measured"),
    ],
)  # fmt: skip
def test_what_a_verdict_needs(interval, preset, word):
    assert judge(Measure("", interval, None), interval, preset) == word


def test_a_claim_above_what_perfect_mixing_gains_could_not_have_been_seen():
    low, high, few = Interval(0.034, 0.005, 5), Interval(0.05, 0.01, 5), Interval(0.034, 0.005, 4)
    for ceiling, unseen in ((low, True), (high, False), (few, False), (None, False)):
        measure = Measure("", OPEN, None, claimed=(5.5, 5.8), ceiling=ceiling)
        said = "at mid scale: no difference shown" + "; the claim could not have been seen" * unseen
        assert judge(measure, OPEN, "mid") == said
    assert judge(Measure("", UP, None, claimed=(5.5, 5.8), ceiling=low), UP, "mid") == "at mid scale: better"


def test_fewer_bytes_are_better():
    less = Measure("", DOWN, None, higher_is_better=False)
    assert judge(less, DOWN, "paper") == "holds" and judge(less, UP, "cpu") == "at cpu scale: worse"


@pytest.mark.parametrize(
    ("real", "released", "word"),
    [(OPEN, UP, "yes"), (UP, UP, "no"), (OPEN, OPEN, "no, against neither"), (UP, None, "-"), (FEW, UP, "open")],
)
def test_whether_only_the_released_schedule_is_beaten(real, released, word):
    assert only_released(Measure("", real, released), "cpu") == word


def test_the_interval_reaches_the_claimed_points_or_not():
    assert covers(Measure("", Interval(0.05, 0.006, 5), None, claimed=(5.5, 5.8))) == "yes"
    assert covers(Measure("", Interval(0.03, 0.01, 5), None, claimed=(5.5, 5.8))) == "no"
    assert covers(Measure("", FEW, None, claimed=(2.1, 2.1))) == covers(Measure("", UP, None)) == "-"


def test_numbers_by_hand(tmp_path):
    made_up(tmp_path)
    text = render(tmp_path)
    sections = dict(zip(("head", *(claim.name for claim in CLAIMS)), text.split("\n## "), strict=True))
    row = next(line for line in sections["C1"].splitlines() if line.startswith("| AL-DSGD, three graphs, CIFAR-10"))
    assert (
        "+2.10 ± 0.20 points (n = 5) | +0.00 ± 0.00 points (n = 5) | yes | at cpu scale: better | "
        "+7.10 ± 0.20 points (n = 5) | no |" in row
    )
    row = next(line for line in sections["C2"].splitlines() if line.startswith("| AL-DSGD, three graphs, CIFAR-10"))
    assert "+5.60 ± 0.20 points (n = 5) | +0.00 ± 0.00 points (n = 5) | yes | at cpu scale: better" in row
    # Deviations of -0.002 to 0.002 have the standard deviation sqrt(2.5) 0.001; 2.776 of it over sqrt(5) is 0.00196.
    # (0.35 + 0.62) / 2 - (0.30 + 0.60) / 2 = 0.035
    assert "| AL-DSGD, three graphs, less D-PSGD | +3.50 ± 0.20 points (n = 5) |" in sections["C7"]
    assert "| C8 |" in sections["head"] and "no difference shown" in sections["C8"]
    for name in ("C3", "C4", "C5", "C6"):
        assert f"{name} | {next(c.text for c in CLAIMS if c.name == name)} | not measured | - |" in sections["head"]
    assert "holds" not in sections["C1"] + sections["C2"]


def test_the_table_has_a_row_and_a_command_for_each_claim(tmp_path):
    made_up(tmp_path)
    rows = [line.split("|")[1:-1] for line in paper_tables.render("claims", tmp_path).splitlines() if "| C" in line]
    assert [row[0].split(":")[0].strip() for row in rows] == [claim.name for claim in CLAIMS]
    assert [cell.strip() for cell in rows[0][1:]] == [
        "AL-DSGD, three graphs, CIFAR-10", "+2.10 ± 0.20 points (n = 5)", "+7.10 ± 0.20 points (n = 5)",
        "at cpu scale: better", "`python -m experiments.final_accuracy --preset cpu --data DIR`",
    ]  # fmt: skip
    made = "`python -m experiments.theory_rate --preset cpu --data DIR`"
    assert [cell.strip() for cell in rows[3][1:]] == ["", "-", "-", "not measured", made]


def test_rates_come_from_the_theory_with_their_problem(tmp_path):
    made_up(tmp_path)
    (tmp_path / "theory").symlink_to(ROOT / "results" / "theory")
    text = render(tmp_path)
    section = text.split("\n## C4")[1].split("\n## C5")[0]
    slopes = pd.read_csv(ROOT / "results" / "theory" / "rate_slopes.csv").query("along == 'K' and at == 8")
    row = slopes.query("problem == 'quadratics' and method == 'AL-DSGD on D-PSGD'").iloc[0]
    shown = f"slope {row.slope:.2f} ({row.low:.2f} to {row.high:.2f}) | - | - | {'yes' if row.high < -0.25 else 'no'} |"
    assert f"AL-DSGD on D-PSGD, quadratics with additive noise | {shown}" in section
    assert "`python -m experiments.theory_rate`" in section and section.count("slope ") == 6


def test_the_word_holds_needs_the_paper_preset_and_five_seeds(tmp_path):
    made_up(tmp_path / "paper", "paper")
    made_up(tmp_path / "few", "paper", seeds=4)
    assert "| holds (AL-DSGD, three graphs, CIFAR-10) | no |" in render(tmp_path / "paper")
    few = render(tmp_path / "few")
    assert "open: 4 of 5 seeds" in few and "| holds" not in few and "does not hold (" not in few


def test_an_empty_store_measures_nothing(tmp_path, capsys):
    text = render(tmp_path)
    assert text.count("not measured") >= len(CLAIMS) and "at cpu scale" not in text
    assert on(experiment(tmp_path, "sparsity")) == "nothing yet"
    # A mistyped folder must not become a list of claims of which nothing is measured.
    for root in (tmp_path, tmp_path / "typo"):
        assert paper_tables.main(["--results", str(root), "--claims", "--out", str(tmp_path / "CLAIMS.md")]) == 2
        assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path / "CLAIMS.md").exists()


def test_a_damaged_list_is_not_called_unmeasured(tmp_path, capsys):
    made_up(tmp_path)
    (tmp_path / "experiments" / "convergence.json").write_text("half of a li")
    assert paper_tables.main(["--results", str(tmp_path), "--claims", "--out", str(tmp_path / "CLAIMS.md")]) == 2
    error = capsys.readouterr().err
    assert "convergence.json is damaged" in error and error.count("\n") == 1


def test_a_damaged_table_of_the_theory_is_not_called_unmeasured(tmp_path, capsys):
    made_up(tmp_path)
    shutil.copytree(ROOT / "results" / "theory", tmp_path / "theory")
    (tmp_path / "theory" / "rate_slopes.csv").write_text("half of a ta")
    assert paper_tables.main(["--results", str(tmp_path), "--claims", "--out", str(tmp_path / "CLAIMS.md")]) == 2
    error = capsys.readouterr().err
    assert "rate_slopes.csv is not the file" in error and error.count("\n") == 1


def test_a_damaged_list_is_no_experiment_that_took_nothing(tmp_path):
    made_up(tmp_path)
    (tmp_path / "experiments" / "convergence.json").write_text("half of a li")
    with pytest.raises(ConfigError, match="convergence.json is damaged"):
        cost(tmp_path)


def test_some_of_the_runs_are_called_some(tmp_path):
    made_up(tmp_path)
    experiment(tmp_path, "convergence").select(variant="AL-DSGD, three graphs")[0].run.csv.unlink()
    listed = 5 * len(VARIANTS)
    assert f"{listed - 1} of {listed} runs are complete" in render(tmp_path)


def test_a_run_is_found_by_its_fields_whatever_its_label(tmp_path):
    """Labels of a list are display: every other spelling gives the same numbers."""
    made_up(tmp_path)
    before = render(tmp_path)
    for path in (tmp_path / "experiments").iterdir():
        path.write_text(path.read_text().replace('"label": "', '"label": "my '))
    assert render(tmp_path) == before


def test_the_committed_list_is_what_the_runs_say():
    assert (ROOT / "CLAIMS.md").read_text(encoding="utf-8") == render(ROOT / "results")


@pytest.fixture(scope="module")
def environments():
    """File name of each committed run -> where it was made."""
    paths = sorted((ROOT / "results" / "runs").glob("*.json"))
    return {path.name: json.loads(path.read_text(encoding="utf-8"))["environment"] for path in paths}


def test_committed_runs_were_made_from_a_clean_tree(environments):
    assert environments and [name for name, made in environments.items() if made["clean"] is not True] == []


def test_committed_runs_name_a_commit_of_this_repository(environments):
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    shallow = subprocess.run(["git", "rev-parse", "--is-shallow-repository"], cwd=ROOT, capture_output=True, text=True)
    if shallow.stdout.strip() == "true":
        pytest.skip("a shallow clone does not have the commits")
    for commit in {made["commit"] for made in environments.values()}:
        subprocess.run(["git", "cat-file", "-e", f"{commit}^{{commit}}"], cwd=ROOT, check=True)
