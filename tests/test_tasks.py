"""Tasks end to end: regression, classes of sequences or tokens, text; losses, metrics, shards and W of one's own."""

import functools

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, mean_squared_error, r2_score
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from aldsgd import models, tasks
from aldsgd.datasets import Data, load
from aldsgd.differences import label_noise
from aldsgd.engines import BY_NAME
from aldsgd.errors import ConfigError
from aldsgd.graphs import ring
from aldsgd.leaders import ALDSGD
from aldsgd.records import columns
from aldsgd.rows import lent
from aldsgd.settings import Settings
from aldsgd.trainers import train
from aldsgd.training import Trainer
from baselines.dpsgd import DPSGD
from baselines.single import Single

N = 4


def regression(outputs: int = 1, shift: float = 0.0) -> Data:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(250, 5))
    y = np.tanh(x @ rng.normal(size=(5, outputs))) + 0.05 * rng.normal(size=(250, outputs)) + shift
    return Data.from_arrays(x[:160], y[:160], x[160:], y[160:])


def rmse_of(y, outputs) -> float:
    """The mean over outputs of each one's root mean square error."""
    return np.sqrt(mean_squared_error(y, outputs, multioutput="raw_values")).mean()


def sequences(per_token: bool) -> Data:
    rng = np.random.default_rng(1)
    x = rng.integers(0, 6, (250, 9))
    y = (np.cumsum(x, axis=1) % 3) if per_token else (x == 2).sum(axis=1).clip(0, 2)
    return Data.from_arrays(x[:160], y[:160], x[160:], y[160:])


def writing(folder) -> str:
    """A text whose next letter can be learnt: words of a few kinds in any order."""
    rng = np.random.default_rng(2)
    (folder / "text.txt").write_text(" ".join(rng.choice(["abc", "bca", "dad", "éa\n"], 2500)), encoding="utf-8")
    return f"text:{folder / 'text.txt'}"


def small_model(data: Data) -> nn.Module:
    name = "mlp" if data.vocabulary is None else "gru"
    return models.build(name, data.outputs, data.shape, data.task, data.vocabulary)


def every_model(result):
    """(worker or None, model in evaluation mode) of the workers and of the averaged model."""
    modules = result.workers.modules
    for i, module in enumerate(modules):
        yield i, module.eval()
    with lent(modules[0], result.workers.parameters.mean(dim=0)) as averaged:
        yield None, averaged.eval()


def recorded(result, worker, metric):
    last = [row for row in result.rows if row["epoch"] == result.rows[-1]["epoch"]]
    row = next(row for row in last if row["worker"] == worker)
    return row[f"averaged_{metric}" if worker is None else f"test_{metric}"]


def check_worst_and_best(result, metric, more_is_better):
    values = [recorded(result, i, metric) for i in range(N)]
    low, high = min(values), max(values)
    final = result.final
    assert (final[f"worst_{metric}"], final[f"best_{metric}"]) == ((low, high) if more_is_better else (high, low))
    assert final[f"mean_{metric}"] == pytest.approx(np.mean(values)) and low < high


@pytest.mark.parametrize("loss", [None, F.l1_loss, F.huber_loss, nn.SmoothL1Loss(beta=0.5), F.mse_loss])
@pytest.mark.parametrize("data", [regression(), regression(3, shift=5.0)], ids=["one output", "three"])
def test_regression_is_measured_as_by_scikit_learn(data, loss):
    build = lambda: small_model(data)  # noqa: E731
    result = train(ALDSGD(DPSGD(ring(N))), build, data, loss=loss, epochs=3, batch=8, lr=0.02, precision="float64")
    x, y = data.test_inputs.double(), data.test_targets.double()
    for worker, model in every_model(result):
        outputs = model(x).detach()
        assert recorded(result, worker, "r2") == pytest.approx(r2_score(y, outputs), rel=1e-9)
        assert recorded(result, worker, "rmse") == pytest.approx(rmse_of(y, outputs), rel=1e-9)
        assert recorded(result, worker, "loss") == pytest.approx((loss or F.mse_loss)(outputs, y).item(), rel=1e-9)
    check_worst_and_best(result, "r2", True)
    check_worst_and_best(result, "rmse", False)
    first = [row["train_loss"] for row in result.rows if row["worker"] is None][0]
    assert result.final["train_loss"] < first


def test_metrics_of_targets_far_from_zero_lose_no_digits():
    y = 1.6e9 + torch.arange(50.0, dtype=torch.float64)[:, None].sin()
    outputs = y + 0.3 * torch.arange(50.0, dtype=torch.float64)[:, None].cos()
    r2, rmse = tasks.REGRESSION.measure(tasks.REGRESSION.sums(outputs, y), y)
    assert r2.item() == pytest.approx(r2_score(y, outputs), rel=1e-6) and 0.5 < r2 < 1
    assert rmse.item() == pytest.approx(rmse_of(y, outputs), rel=1e-6)


def test_metrics_of_constant_targets_are_scikit_learns():
    y = torch.full((6, 1), 3.0)
    for outputs in (y.clone(), y + torch.arange(6.0)[:, None]):
        sums = sum(tasks.REGRESSION.sums(o, t) for o, t in zip(outputs.split(4), y.split(4), strict=True))
        r2, rmse = tasks.REGRESSION.measure(sums, y)
        assert r2.item() == r2_score(y, outputs)
        assert rmse.item() == pytest.approx(rmse_of(y, outputs))


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_targets_have_the_type_of_the_outputs(precision, dtype):
    data = regression()
    data = Data.from_arrays(
        *(p.numpy().astype(dtype) for p in (data.train_inputs, data.train_targets, data.test_inputs, data.test_targets))
    )
    final = train(DPSGD(ring(N)), lambda: small_model(data), data, epochs=1, lr=0.02, precision=precision).final
    assert final["averaged_r2"] > 0


@pytest.mark.parametrize("engine", BY_NAME)
def test_regression_is_the_same_on_every_engine(engine):
    data = regression(2)
    found = [
        train(DPSGD(ring(N)), lambda: small_model(data), data, epochs=1, lr=0.02, precision="float64", engine=e).final
        for e in ("loop", engine)
    ]
    for metric in ("worst_r2", "worst_rmse", "averaged_loss", "train_loss"):
        assert found[0][metric] == pytest.approx(found[1][metric], abs=1e-9)


def test_sequences_are_classified():
    data = sequences(per_token=False)
    build = lambda: small_model(data)  # noqa: E731
    result = train(DPSGD(ring(N)), build, data, epochs=4, batch=8, lr=0.5, precision="float64")
    for worker, model in every_model(result):
        predicted = model(data.test_inputs).argmax(dim=1)
        assert recorded(result, worker, "accuracy") == accuracy_score(data.test_targets, predicted)
    assert set(result.final) & set(columns()) == set(result.final), "records of classes have their columns"
    shares = np.bincount(data.test_targets) / len(data.test_targets)
    assert result.final["averaged_accuracy"] > shares.max()


def slow_tokens(model, inputs, targets):
    """(accuracy, perplexity), one token after another."""
    right, surprise, count = 0, 0.0, 0
    for sample, wanted in zip(inputs, targets, strict=True):
        shares = torch.log_softmax(model(sample[None])[0], dim=-1)
        for place, target in enumerate(wanted.tolist()):
            right += int(shares[place].argmax()) == target
            surprise -= shares[place, target].item()
            count += 1
    return right / count, np.exp(surprise / count)


@pytest.mark.parametrize("smoothed", [False, True])
def test_tokens_are_classified_one_by_one(smoothed):
    data = sequences(per_token=True)

    def smooth(outputs, targets):
        return F.cross_entropy(outputs.transpose(1, 2), targets, label_smoothing=0.2)

    loss = smooth if smoothed else None
    build = lambda: small_model(data)  # noqa: E731
    result = train(DPSGD(ring(N)), build, data, loss=loss, epochs=2, batch=8, lr=0.5, precision="float64")
    for worker, model in every_model(result):
        accuracy, perplexity = slow_tokens(model, data.test_inputs, data.test_targets)
        assert recorded(result, worker, "accuracy") == pytest.approx(accuracy, abs=1e-12)
        assert recorded(result, worker, "perplexity") == pytest.approx(perplexity, rel=1e-9)
        own = smooth if smoothed else tasks.token_loss
        expected = own(model(data.test_inputs), data.test_targets).item()
        assert recorded(result, worker, "loss") == pytest.approx(expected, rel=1e-9)
    check_worst_and_best(result, "perplexity", False)


def test_a_text_is_learnt(tmp_path):
    data = load(writing(tmp_path))
    build = lambda: models.build("gru", data.outputs, data.shape, data.task, data.vocabulary)  # noqa: E731
    result = train(ALDSGD(DPSGD(ring(N))), build, data.subset(None, 12), epochs=3, batch=2, lr=1.0, precision="float64")
    part = data.subset(None, 12)
    for worker, model in every_model(result):
        accuracy, perplexity = slow_tokens(model, part.test_inputs, part.test_targets)
        assert recorded(result, worker, "accuracy") == pytest.approx(accuracy, abs=1e-12)
        assert recorded(result, worker, "perplexity") == pytest.approx(perplexity, rel=1e-9)
        assert recorded(result, worker, "perplexity") == pytest.approx(
            np.exp(recorded(result, worker, "loss")), rel=1e-9
        )
    counts = np.bincount(data.train_targets.flatten()) / data.train_targets.numel()
    unigram = np.exp(-(counts * np.log(counts)).sum())
    assert result.final["averaged_perplexity"] < unigram


def test_metrics_do_not_depend_on_how_the_test_set_is_cut():
    generator = torch.Generator().manual_seed(0)
    cases = [
        (tasks.CLASSIFICATION, torch.randn(30, 4, generator=generator), torch.randint(4, (30,), generator=generator)),
        (tasks.TOKENS, torch.randn(30, 5, 4, generator=generator), torch.randint(4, (30, 5), generator=generator)),
        (tasks.REGRESSION, *torch.randn(2, 30, 3, generator=generator)),
    ]
    for task, outputs, targets in cases:
        whole = task.measure(task.sums(outputs, targets), targets)
        for size in (1, 7, 29):
            parts = zip(outputs.split(size), targets.split(size), strict=True)
            cut = task.measure(sum(task.sums(o, t) for o, t in parts), targets)
            torch.testing.assert_close(torch.stack(cut), torch.stack(whole), rtol=1e-6, atol=0)


def test_records_of_image_classification_have_the_frozen_columns():
    data = load("digits").subset(64, 30)
    result = train(DPSGD(ring(N)), lambda: models.mlp(10), data, epochs=1)
    per_worker = {"epoch", "step", "worker", "train_loss", "test_loss", "test_accuracy"}
    assert all(set(row) == per_worker for row in result.rows[:-1])
    assert set(result.final) == set(columns()) - {"test_loss", "test_accuracy"}


def test_own_shards_and_an_own_matrix():
    data, W = (
        regression(),
        np.array([[0.5, 0.25, 0, 0.25], [0.25, 0.5, 0.25, 0], [0, 0.25, 0.5, 0.25], [0.25, 0, 0.25, 0.5]]),
    )
    shards = [list(range(0, 5)), np.arange(40, 80), torch.arange(90, 100), np.arange(100, 120, dtype=np.int32)]
    settings = Settings(epochs=2, batch=4, lr=0.0, weight_decay=0.0, split=shards, precision="float64")
    trainer = Trainer(DPSGD(ring(N), matrix=W), lambda: small_model(data), data, settings)
    start = trainer.workers.parameters.clone()
    assert trainer.steps == 5, "in an epoch all workers together see as many samples as the shards have"
    for worker, shard in enumerate(shards):
        seen = set(trainer.batches.epoch(0, [worker]).index.flatten().tolist())
        assert seen <= set(np.asarray(shard).tolist())
    trainer.run()
    expected = np.linalg.matrix_power(W, 10) @ start.numpy()
    np.testing.assert_allclose(trainer.workers.parameters.numpy(), expected, rtol=0, atol=1e-12)


def test_datasets_of_torch_train():
    x, y = torch.randn(120, 4, generator=torch.Generator().manual_seed(0)), torch.arange(120) % 3
    x[:, 0] += y
    data = Data.from_dataset(TensorDataset(x[:90], y[:90]), TensorDataset(x[90:], y[90:]), name="mine")
    result = train(DPSGD(ring(N)), lambda: small_model(data), data, epochs=8, batch=4, lr=0.2)
    assert result.final["averaged_accuracy"] > 0.5
    by_arrays = Data.from_arrays(x[:90], y[:90], x[90:], y[90:])
    again = train(DPSGD(ring(N)), lambda: small_model(data), by_arrays, epochs=8, batch=4, lr=0.2)
    assert torch.equal(again.workers.parameters, result.workers.parameters)


@pytest.mark.parametrize("data", [regression(), sequences(False), sequences(True)], ids=["values", "classes", "tokens"])
def test_what_has_no_meaning_for_a_task_is_refused(data):
    build = lambda: small_model(data)  # noqa: E731
    with pytest.raises(ConfigError, match="augment needs images"):
        train(Single(N), build, data, augment=True)
    if data.task != "classification":
        for kind in (dict(split="label"), dict(split="dirichlet", dirichlet_alpha=1.0)):
            with pytest.raises(ConfigError, match="use iid or unequal"):
                train(Single(N), build, data, **kind)
        with pytest.raises(ConfigError, match=f"label noise needs classes, not {data.task}"):
            label_noise(data, [[0], [1]], 1, 0.5, 0)
    train(Single(N), build, data.subset(40, 10), epochs=1, split="unequal")


def squeezed(data):
    return nn.Sequential(small_model(data), nn.Flatten(0))


@pytest.mark.parametrize(
    ("data", "build", "words"),
    [
        (regression(), squeezed, "outputs .16,. for regression targets .16, 1.: give both the same shape"),
        (regression(2), lambda data: nn.Linear(5, 1), "outputs .16, 1. for regression targets .16, 2."),
        (regression(), lambda data: nn.Linear(5, 10), "integer targets if they are classes"),
        (sequences(False), lambda data: models.build("gru", 2, (9,), "classification", 6), "needs .16, 3."),
        (sequences(True), lambda data: models.build("gru", 3, (9,), "classification", 6), "needs .16, 9, 3."),
        (sequences(False), lambda data: models.build("gru", 3, (9,), "classification", 2), "IndexError"),
        (sequences(False), lambda data: nn.Linear(9, 3), "fails on a batch"),
    ],
)
def test_models_of_another_task_are_refused(data, build, words):
    with pytest.raises(ConfigError, match=words):
        train(Single(N), functools.partial(build, data), data)


def test_more_scores_than_classes_are_allowed():
    data = sequences(False)
    wide = lambda: models.build("gru", 7, (9,), "classification", 6)  # noqa: E731
    assert 0 <= train(Single(2), wide, data, epochs=1).final["worst_accuracy"] <= 1
