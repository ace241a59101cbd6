"""Gossip as it is done today: equal bytes, time on other links, rates that were chosen, and what is said of it all."""

import re
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_rel

import paper_tables
from aldsgd import schedules as known
from aldsgd.errors import ConfigError
from aldsgd.links import COUNTED, Link
from baselines.d2 import matrix_of
from experiments import compression, field, field_rates, local_steps, schedules, skew
from experiments.configuration import RunConfig
from experiments.options import Execution
from experiments.runner import prepare
from experiments.scales import TUNING_SEED, method
from experiments.today import BASES, CPU_TODAY, chosen
from experiments.today_rates import CHOSEN
from tables.field import LINKS, seconds_on
from tables.links import mean_at
from tables.prose import NUMBER
from tables.query import Experiment
from tables.rates import chosen as best_of
from tables.today import comparisons

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"


def test_schedules_of_equal_bytes_send_as_much_in_whole_epochs():
    for base in (CPU_TODAY, BASES["paper"]):
        sent = defaultdict(dict)
        for row in schedules.rows(base):
            config = row.config
            steps = config.epochs * -(-(config.train_images or 50000) // (config.workers * config.batch))
            assert config.eval_every == config.epochs
            sent[config.workers][config.graph] = steps * schedules.models_a_step(config.graph, config.workers)
        for n, by_graph in sent.items():
            static = by_graph[schedules.STATIC[n]]
            assert all(abs(own / static - 1) < 0.03 for own in by_graph.values()), (n, by_graph)
    for n in (8, 16):  # why base:2 has no row
        cube, base_ = known.hypercube(n), known.base(n)
        for t in range(cube.period):
            np.testing.assert_array_equal(*(matrix_of(schedule.at(t), n) for schedule in (cube, base_)))


@pytest.mark.parametrize(
    "label", ["all-reduce", "AL-DSGD on D-PSGD", "momentum tracking", "LSGD", "DiLoCo", "CHOCO-SGD"]
)
def test_time_on_any_link_follows_from_the_counted_one(label):
    base = method(RunConfig(train_images=128, test_images=32, lr=0.01, epochs=2, model="mlp_narrow"), label)
    base = base.but(tau=1) if label in ("LSGD", "DiLoCo") else base
    rows = {}
    for link in (COUNTED, LINKS["0.1 Gb/s"], Link(5e-3, 1e6)):
        rows[link] = prepare(base.but(**asdict(link)), Execution()).run().final
    run = SimpleNamespace(network=pd.DataFrame([rows[COUNTED]]))
    for link, row in list(rows.items())[1:]:
        expected = row["modelled_compute_s"] + row["modelled_communication_s"]
        assert seconds_on(run, link)[-1] == pytest.approx(expected, rel=1e-6)


def test_what_is_reached_at_a_budget():
    network = pd.DataFrame({"mean_accuracy": [0.2, 0.4, 0.8]})
    run, spent = SimpleNamespace(metrics=["accuracy"], curve=network), np.array([10.0, 20.0, 40.0])
    assert [mean_at(run, spent, at) for at in (10, 15, 30, 40, 1000)] == pytest.approx([0.2, 0.3, 0.6, 0.8, 0.8])
    assert np.isnan(mean_at(run, spent, 9.9))
    assert mean_at(run, np.zeros(3), 5.0) == 0.8  # who never sends


def test_every_method_of_the_repository_is_in_the_field():
    from baselines.registry import METHODS

    rows = list(field.rows(CPU_TODAY))
    waiting = {name for name, entry in METHODS.items() if not entry.asynchronous}  # others: experiments.stragglers
    assert {row.config.method for row in rows} == waiting and len(rows) >= 22
    for module in (schedules, skew, compression, local_steps, field):
        labels = [row.label for row in module.rows(CPU_TODAY)]
        assert len(set(labels)) == len(labels)
        assert {row.search for row in module.rows(CPU_TODAY)} <= set(CHOSEN)


def test_rates_are_the_best_of_their_grids_and_lie_inside_them():
    runs = Experiment(RESULTS, "field_rates")
    best = {runs.of(label)[0].named: runs.of(label)[0].run.config for label in best_of(runs).values()}
    assert set(best) == set(CHOSEN) == set(field_rates.searches())
    for search, values in CHOSEN.items():
        assert {name: best[search][name] for name in values} == values, search
        for name, value in values.items():
            tried = {entry.run.config[name] for entry in runs.under(search)}
            assert len(tried) >= (4 if name == "lr" else 3) and min(tried) < value < max(tried), (search, tried)
    assert runs.field("seed") == [TUNING_SEED] and runs.field("validation") == [1000]
    with pytest.raises(
        ConfigError, match=r"no rate has been chosen for nobody; run python -m experiments\.field_rates"
    ):
        chosen("nobody")


def test_the_sentences_on_links_say_what_the_runs_say():
    """Every number anew, from the CSVs and scipy."""
    runs = Experiment(RESULTS, "field")
    caption = paper_tables.table("field", RESULTS).caption
    for shown, link in LINKS.items():
        plain = next(row.label for row in field.rows(CPU_TODAY) if row.label == "D-PSGD")
        budget = 0.5 * np.mean([seconds_on(entry.run, link)[-1] for entry in runs.of(plain)])
        values = {}
        for label in runs.labels:
            own = sorted(runs.of(label), key=lambda entry: entry.seed)
            values[label] = np.array([mean_at(entry.run, seconds_on(entry.run, link), budget) for entry in own])
        best = max(values, key=lambda label: np.nan_to_num(values[label].mean()))
        alike = [
            label for label, own in values.items()
            if label != best and not ttest_rel(own, values[best]).pvalue < 0.05 and np.isfinite(own).all()
        ]  # fmt: skip
        sentence = re.search(rf"At {re.escape(shown)} (.+?) reaches most, ([\d.]+) ± [\d.]+ %; (\d+) of (\d+)", caption)
        assert sentence[1] == best and float(sentence[2]) == pytest.approx(100 * values[best].mean(), abs=0.051)
        assert (int(sentence[3]), int(sentence[4])) == (len(alike), len(values) - 1)


def test_the_four_questions_compare_what_sends_as_much():
    found = list(comparisons(RESULTS))
    assert [sum(c.question.startswith(f"({letter})") for c in found) for letter in "abcd"] == [2, 4, 8, 8]
    for c in found:
        sent = [runs.interval("megabytes").mean for runs in (c.ours, c.theirs)]
        assert sent[0] == pytest.approx(sent[1], rel=0.03) and len(c.ours) == len(c.theirs) == 5
        assert c.ours[0].run.config["method"] == "aldsgd" != c.theirs[0].run.config["method"]


def test_the_numbers_of_the_paragraph_stand_in_its_tables():
    text = (ROOT / "docs" / "found.md").read_text(encoding="utf-8")
    paragraph = text.partition("<!-- today -->")[2].partition("<!-- end of today -->")[0]
    paragraph = NUMBER.sub(r"\2", paragraph)
    assert paragraph and len(paragraph.split()) <= 110
    tables = [paper_tables.table(name, RESULTS) for name in ("leaders_today", "field", "compression", "local_steps")]
    known_ = " ".join([table.caption for table in tables] + [c for table in tables for row in table.text for c in row])
    numbers = re.findall(r"[+-]?\d+\.\d+ ± \d+\.\d+", paragraph)
    assert len(numbers) >= 4 and all(number in known_ for number in numbers), numbers
    asked = tables[0].rows.iloc[:, 0].str[:3]
    answers, plain = tables[0].rows["answer"], asked != "(d)"
    said = re.search(r"of (\d+) comparisons on .* (\d+) speaks for them and (\d+) against", " ".join(paragraph.split()))
    counted = [plain.sum(), (answers[plain] == "yes").sum(), (answers[plain] == "no, it costs").sum()]
    assert list(map(int, said.groups())) == counted
    lost = re.search(r"(\d+) of (\d+) comparisons with the best drift corrector", " ".join(paragraph.split()))
    assert list(map(int, lost.groups())) == [(answers[~plain] == "no, it costs").sum(), (~plain).sum()]
    clear = tables[0].rows["p of the mean, Holm"].map(lambda cell: cell.value < 0.05)
    left = [(clear & plain & (answers == "yes")).sum()]
    left += [(clear & part & (answers == "no, it costs")).sum() for part in (plain, ~plain)]
    said = re.findall(r"corrected: (?:(\d+) and )?(\d+)", paragraph)
    assert [int(count) for pair in said for count in pair if count] == left
    bests = re.findall(r"Gb/s (.+?) reaches most", tables[1].caption)
    assert bests == ["all-reduce, momentum"] * 3
