"""Every listing of the README is executed, and the method's is compared with the real thing."""

import io
import re
import runpy
import sys
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import nn

import paper_tables
from aldsgd.data import Batches, normalise, split, steps_per_epoch
from aldsgd.datasets import load
from aldsgd.errors import ConfigError
from aldsgd.graphs import paper_set
from aldsgd.leaders import ALDSGD
from aldsgd.paper_graphs import PAPER
from aldsgd.settings import Settings
from aldsgd.trainers import train
from aldsgd.training import Trainer
from aldsgd.workers import initial_model
from baselines.dpsgd import DPSGD
from experiments.leaders import FAMILIES
from experiments.options import TIMEOUT
from experiments.proposal import PROPOSED
from tables import faults
from tables.prose import NUMBER, Numbers
from tables.query import Experiment

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {path: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}


def listing(name: str) -> str:
    """A listing of the README or of a page of docs/."""
    found = [re.search(rf"<!-- listing: {name} -->\n```python\n(.*?)```", page, re.DOTALL) for page in PAGES.values()]
    (match,) = filter(None, found)
    return match.group(1)


def run(name: str, scope: dict | None = None) -> dict:
    scope = {} if scope is None else scope
    exec(compile(listing(name), f"README listing {name}", "exec"), scope)
    return scope


def model() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


def test_the_method_in_forty_lines_is_the_method():
    assert len(listing("method").splitlines()) <= 42
    data, graphs = load("digits").subset(320, 50), paper_set(69.2, 3)
    trainer = Trainer(
        ALDSGD(DPSGD(graphs)), model, data, Settings(epochs=2, batch=8, lr=0.2, seed=4, precision="float64")
    )
    trainer.run()

    steps = steps_per_epoch(320, 8, 8)
    walk = Batches(split(data.train_targets, 8, "iid", 4), 8, steps, 4)

    def batches():
        for epoch in range(2):
            index = walk.epoch(epoch, range(8)).index
            for k in range(steps):
                images = [normalise(data.train_inputs[i], data.mean, data.std, torch.float64) for i in index[:, k]]
                yield [(x, data.train_targets[i]) for x, i in zip(images, index[:, k], strict=True)]

    models = [initial_model(model, 4, i).double() for i in range(8)]
    run("method")["al_dsgd"](models, batches(), [g.matchings for g in graphs], trainer.algorithm.core.alphas, lr=0.2)
    plain = torch.stack([nn.utils.parameters_to_vector(m.parameters()) for m in models])
    torch.testing.assert_close(trainer.workers.parameters, plain.detach(), rtol=0, atol=1e-11)


def test_the_library_listing_trains(capsys):
    assert len(listing("library").splitlines()) <= 25
    final = run("library")["result"].final
    assert final["averaged_accuracy"] > 0.6
    assert "worst worker" in capsys.readouterr().out


def test_the_listings_for_other_data_and_matrices_train(capsys):
    for name in ("matrix", "regression", "characters", "compare"):
        assert len(listing(name).splitlines()) <= 25, name
    found = run("matrix")
    (exchange,) = found["gossip"].step(0).after
    assert np.array_equal(exchange.rule.matrix, found["W"])
    assert found["result"].final["worst_accuracy"] > 0.8
    final = run("regression")["result"].final
    assert final["worst_r2"] > 0.7 and final["worst_rmse"] < 0.6
    found = run("characters")
    data = found["data"]
    shares = torch.bincount(data.train_targets.flatten()) / data.train_targets.numel()
    unigram = (-shares * shares.clamp(min=1e-9).log()).sum().exp()
    assert found["result"].final["averaged_perplexity"] < unigram, "more is known than how frequent each character is"
    gap = run("compare")["gap"]
    assert gap.n == 5 and abs(gap.mean) < 0.05
    assert "(95 %, 5 seeds)" in capsys.readouterr().out


def test_a_new_method_in_twenty_lines():
    assert len(listing("pairwise").splitlines()) <= 20
    algorithm = run("pairwise")["PairwiseGossip"](8)
    data = load("digits").subset(320, 100)
    together = train(algorithm, model, data, epochs=3, lr=0.1).final
    assert together["logical_bytes"] == together["rounds"] * 2 * 4 * 1210
    assert together["consensus_distance"] > 0


def test_models_are_saved_loaded_and_fine_tuned(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert len(listing("saving").splitlines()) <= 25 and len(listing("finetune").splitlines()) <= 25
    scope = run("saving")
    assert scope["right"].double().mean().item() == scope["result"].final["averaged_accuracy"] > 0.8
    run("finetune", scope)
    still = scope["body"]["1.weight"]
    assert all(torch.equal(module[1].weight, still) for module in scope["result"].workers.modules)
    assert scope["result"].final["averaged_accuracy"] > 0.5
    assert "accuracy of the averaged model" in capsys.readouterr().out


def test_the_tables_are_those_of_the_committed_runs():
    for path, page in PAGES.items():
        if "<!-- table: " in page or "<!-- = " in page:
            assert paper_tables.renew(page, ROOT / "results") == page, path


def test_every_number_in_a_sentence_comes_from_a_record():
    """In what the README found, and wherever a unit follows: marked (``tables.prose``), a setting, or code."""
    settings = {f"{level} %" for level in PAPER} | {f"{TIMEOUT:g} s"}
    unit = r"[-+±]?\d[\d.,]*(?: to \d[\d.]*)?\s?(?:%|points?|ms|s|min|minutes?|hours?|h|[kMGT]?B|times)(?![\w])"
    for path, page in PAGES.items():
        assert not re.search(r"^\s*<!-- = ", page, re.MULTILINE), (
            f"{path}: a mark that begins a line ends the paragraph"
        )
        prose = re.sub(r"```.*?```|<!-- table: .*?<!-- end -->", "", page, flags=re.DOTALL)
        prose = re.sub(r"`[^`]*`|\]\([^)]*\)", "", NUMBER.sub("", prose))
        found = re.findall(unit, prose)
        if path.name == "README.md":
            found += re.findall(r"\d+\.\d+(?: %)?", prose.partition("## What was found")[2].partition("\n## ")[0])
        if path.name == "found.md":
            found += re.findall(r"\d+\.\d+(?: %)?", prose)
        assert set(found) <= settings, f"{path}: mark these, or leave them out: {sorted(set(found) - settings)}"


def test_numbers_of_tables_and_claims_have_names(tmp_path):
    numbers = Numbers(ROOT / "results")
    table = paper_tables.table("quickstart", ROOT / "results").rows.set_index("method")
    cell = table.at["D-PSGD", "worst worker (%)"]
    text = "a <!-- = quickstart | D-PSGD | worst worker (%) -->?<!-- / --> b <!-- = C1 -->?<!-- / -->"
    renewed = paper_tables.renew(text, ROOT / "results")
    assert f"-->{cell}<!-- / --> b" in renewed and numbers.text("C1") in renewed and "?" not in renewed
    assert "C2, perfect mixing" in numbers.claimed
    for wrong, words in (
        ("nothing", "unknown number 'nothing'; choose TABLE | ROW | COLUMN or one of: "),
        ("quickstart | nobody | seeds", "the table quickstart has 0 rows 'nobody', and columns: method, "),
    ):
        with pytest.raises(ConfigError, match=re.escape(words)):
            numbers.text(wrong)
    with pytest.raises(ConfigError, match="theory_rate.json is not there"):
        Numbers(tmp_path).processor(["rate"])


def test_every_file_and_module_that_a_page_names_exists():
    for path, page in PAGES.items():
        for module in re.findall(r"python -m ((?:experiments|figures)[.\w]+)", page):
            place = ROOT / module.replace(".", "/")
            assert place.with_name(f"{place.name}.py").is_file() or (place / "__main__.py").is_file(), module
        for target in re.findall(r"\]\(([\w/.]+)\)", page):
            assert (path.parent / target).exists(), (path, target)


def commands(page: str) -> set[tuple[str, str]]:
    """(script, the words behind it) of every command of a page, also of those that a line of text breaks."""
    prose = re.sub("```.*?```", "", page, flags=re.DOTALL)
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]
    lines = [*page.replace("\\\n", " ").splitlines(), *spans]
    named = r"(?:-m|\.sbatch|python) ((?:experiments|figures)(?:\.\w+)+|\w+\.py)\b([^`|#]*)"
    return {(script, words) for line in lines for script, words in re.findall(named, line)}


@cache
def options_of(script: str) -> set[str]:
    """The options that a script explains."""
    place = ROOT / (script if script.endswith(".py") else script.replace(".", "/"))
    file = place / "__main__.py" if place.is_dir() else place.with_suffix(".py")
    out = io.StringIO()
    with patch.object(sys, "argv", [script, "--help"]), redirect_stdout(out), pytest.raises(SystemExit):
        runpy.run_path(str(file), run_name="__main__")
    return set(re.findall(r"^ +(?:-h, )?(--[\w-]+)", out.getvalue(), re.MULTILINE))


def test_every_option_that_a_page_names_exists():
    """Of the commands that a reader would copy: what they call understands their options."""
    called, asked = set(), 0
    for path, page in PAGES.items():
        for script, words in commands(page):
            if (ROOT / script).exists() or "." in script.removesuffix(".py"):
                named = {word.partition("=")[0] for word in words.split() if word.startswith("--")}
                assert named <= options_of(script), (path, script, named - options_of(script))
                called, asked = called | {script}, asked + len(named)
    assert called >= {"experiments.bench", "experiments.paper_grid", "figures.all", "paper_tables.py"} and asked > 100


def test_what_the_pages_say_in_words_is_what_the_records_say():
    """Leaders of all, and the rule at equal time; a leader that lies; old leaders."""
    results, gain = ROOT / "results", "worst, less D-PSGD's, mean over conditions"
    rows = paper_tables.table("leaders", results).rows.set_index("leaders")
    for family in FAMILIES:
        assert str(rows.at[f"{family}, identical", gain]).endswith("worse"), family
    cells = {name: cell.value.mean for name, cell in rows["worst, less D-PSGD's"].items() if cell.value is not None}
    own = sorted((name for name in cells if name.startswith("LSGD, ") and "groups" not in name), key=cells.get)
    assert set(own[-2:]) == {"LSGD, noise at 6", "LSGD, lr rises with degree"} and len(own) == 7
    assert own[0] == "LSGD, skew 0.1" and cells[own[0]] < sum(map(cells.get, own)) / 2  # most of the mean loss
    rows = paper_tables.table("equal_time", results).rows.set_index("equal_time")
    assert str(rows.at[f"{PROPOSED}, identical", gain]).endswith("worse")
    known = faults.cells(Experiment(results, "faults"))
    found = {lie: faults.extra(known, lie) for lie in faults.LIES}
    assert {lie: faults.verdict_of(interval) for lie, interval in found.items()} == {
        "random": "refuted", "scaled": "open", "flipped": "confirmed",
    }  # fmt: skip
    assert faults.verdict(found) == "open" and found["random"].high < 0
    for name in ("stragglers", "staleness"):
        rows = paper_tables.table(name, results).rows
        any_age = rows[rows[name].str.startswith("asynchronous AL-DSGD, any age")]
        assert len(any_age) >= 3 and not any("better" in str(cell) for cell in any_age["mean, less ADSGD's"])
    bounded = {e.label: e.run.config for e in Experiment(results, "staleness")}
    for delay in (4, 8, 16):
        config = bounded[f"asynchronous AL-DSGD, delay {delay}"]
        assert config["latency"] / config["compute_seconds"] == pytest.approx(delay) and config["age_limit"] < delay
