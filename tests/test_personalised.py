"""Each worker on test samples mixed as the labels of its own shard, beside the test set that all share."""

import numpy as np
import pytest
import torch

import paper_tables
from aldsgd.data import normalise
from aldsgd.datasets import load
from aldsgd.errors import ConfigError
from aldsgd.graphs import ring
from aldsgd.listings import write_experiment
from aldsgd.records import RunStore
from aldsgd.settings import Settings
from aldsgd.tasks import PERSONALISED
from aldsgd.trainers import train
from aldsgd.training import Trainer
from baselines.dpsgd import DPSGD
from baselines.single import Single
from experiments import compare, run
from experiments.configuration import RunConfig
from tests.calling import SHORT, call
from tests.test_tasks import regression, sequences, small_model
from tests.test_training import digits_mlp

SKEWED = dict(epochs=2, lr=0.1, split="dirichlet", dirichlet_alpha=0.3, precision="float64")


def expected(model, shard, data):
    """For every training sample of a worker a test sample with the same label: the mean accuracy there, one by one."""
    model.eval()
    scores = model(normalise(data.test_inputs, data.mean, data.std, torch.float64))
    right = scores.argmax(dim=1) == data.test_targets
    found = [right[data.test_targets == label] for label in data.train_targets[shard].tolist()]
    return float(np.mean([each.double().mean().item() for each in found if len(each)]))


@pytest.mark.parametrize("images", [100, 7], ids=["all labels", "three labels are not tested"])
def test_each_worker_is_tested_on_the_labels_of_its_shard(images):
    data = load("digits").subset(320, images)
    trainer = Trainer(DPSGD(ring(4)), digits_mlp, data, Settings(**SKEWED, personalised=True))
    result, shards = trainer.run(), trainer.batches.shards
    values = [expected(model, shard, data) for model, shard in zip(trainer.workers.modules, shards, strict=True)]
    assert len(set(values)) > 1
    rows = result.rows[-5:]
    assert [row[f"test_{PERSONALISED}"] for row in rows[:-1]] == pytest.approx(values, abs=1e-12)
    assert rows[-1][f"worst_{PERSONALISED}"] == pytest.approx(min(values), abs=1e-12)
    assert rows[-1][f"mean_{PERSONALISED}"] == pytest.approx(np.mean(values), abs=1e-12)
    averaged = result.averaged_model()
    every = [expected(averaged, shard, data) for shard in shards]
    assert rows[-1][f"averaged_{PERSONALISED}"] == pytest.approx(np.mean(every), abs=1e-12)
    plain = train(DPSGD(ring(4)), digits_mlp, data, **SKEWED)
    for row, before in zip(result.rows, plain.rows, strict=True):
        assert all(row[name] == value for name, value in before.items() if not name.startswith("seconds"))


def test_runs_that_ask_for_it_record_it_and_tables_show_it(tmp_path):
    short = [*SHORT, "--method", "dpsgd", "--results", tmp_path, "--train-images", "128"]
    done = call(run, *short, "--split", "label", "--personalised", "--test-images", "60", "--also", "own")
    assert done.code == 0 and f"worst_{PERSONALISED}" in done.out, done.err
    (mine,) = RunStore(tmp_path).runs()
    assert mine.metrics == ("accuracy", PERSONALISED) and f"own_test_{PERSONALISED}" in mine.workers
    worst = mine.workers[f"test_{PERSONALISED}"].min()
    assert mine.final[f"worst_{PERSONALISED}"] == worst != mine.final["worst_accuracy"]
    write_experiment(tmp_path, "mine", "mid", [("D-PSGD", 0, mine.config)])
    head, row = paper_tables.table("mine", tmp_path).text
    assert row[head.index("worst worker, personalised")] == f"{100 * worst:.2f}"
    done = call(compare, f"{tmp_path}:method=dpsgd", f"{tmp_path}:seed=0", "--metric", PERSONALISED)
    assert done.code == 0 and f"{100 * worst:.2f}" in done.out, done.err
    assert call(run, *short).code == 0
    other = next(each for each in RunStore(tmp_path).runs() if each.key != mine.key)
    assert "personalised" not in other.config and not any(PERSONALISED in name for name in other.rows)
    assert "personalised" not in RunConfig().record() and RunConfig(personalised=True).record()["personalised"] is True


def test_where_labels_make_no_sense_it_is_refused(tmp_path):
    for data in (regression(), sequences(True)):
        with pytest.raises(ConfigError, match="personalised accuracy needs one label a sample, and custom is"):
            train(Single(2), lambda data=data: small_model(data), data, epochs=1, personalised=True)
    short = [*SHORT, "--personalised", "--results", tmp_path]
    (tmp_path / "text.txt").write_text("abc " * 500)
    for more, words in (
        (("--data", f"text:{tmp_path / 'text.txt'}", "--model", "gru"), "is tokens: leave it out"),
        (("--split", "label", "--test-images", "1"), "labels is in the test set: take more test samples"),
    ):
        done = call(run, *short, *more)
        assert done.refused and words in done.err
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())
