"""The engine never changes the result: every model of the zoo by every engine; what ``build`` and ``loss`` may be."""

import functools
import json
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from aldsgd.data import normalise
from aldsgd.engines import BY_NAME, known
from aldsgd.errors import ConfigError
from aldsgd.evaluation import POLICIES
from aldsgd.graphs import ring
from aldsgd.leaders import ALDSGD
from aldsgd.rows import untrained
from aldsgd.settings import Settings
from aldsgd.trainers import train
from aldsgd.training import Trainer
from aldsgd.workers import Workers, initial_model
from baselines.dpsgd import DPSGD
from baselines.single import Single
from tests import zoo
from tests.processes import launch

ENGINES = [name for name in BY_NAME if name != "loop"]


def finished(name, engine, **settings):
    """(all tensors of all workers, all numbers of the records, trainer) of a run of three steps."""
    trainer, rows = zoo.trained(name, engine, **settings)
    assert trainer.steps == 3
    tensors = [trainer.workers.parameters, *(t for module in trainer.workers.modules for t in untrained(module))]
    return tensors, torch.from_numpy(zoo.numbers(rows)), trainer


@functools.cache
def by_loop(name, **settings):
    return finished(name, "loop", **settings)


def assert_same(found, expected):
    for one, two in zip(found[0], expected[0], strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-9, equal_nan=True)
    torch.testing.assert_close(found[1], expected[1], rtol=0, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", zoo.MODELS)
def test_an_engine_gives_the_numbers_of_the_loop_or_refuses(name, engine):
    try:
        found = finished(name, engine)
    except ConfigError as refusal:
        assert f"the {engine} engine cannot stack a" in str(refusal) and "\n" not in str(refusal)
        return
    assert found[2].workers.engine == engine
    assert_same(found, by_loop(name))


@pytest.mark.parametrize("name", zoo.MODELS)
def test_auto_always_runs_and_gives_the_numbers_of_the_loop(name):
    expected = by_loop(name)
    assert_same(finished(name, "auto"), expected)
    assert expected[0][0].isfinite().all() and expected[1].isfinite().all()
    start = Workers(*zoo_start(name)).parameters
    assert (start - expected[0][0]).abs().max() > 1e-4, "it has learnt something"


def zoo_start(name):
    return (
        zoo.MODELS[name][0],
        range(zoo.WORKERS),
        zoo.WORKERS,
        zoo.COMMON["seed"],
        "different",
        F.cross_entropy,
        "cpu",
        "float64",
    )


def test_each_engine_runs_several_models_of_the_zoo():
    for engine in ENGINES:
        ran = [name for name, (build, _) in zoo.MODELS.items() if BY_NAME[engine].obstacle(build()) is None]
        assert "mlp" in ran and len(ran) >= 5


@pytest.mark.parametrize("engine", BY_NAME)
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", ["convolutions", "one_norm_twice"])
def test_policies_give_the_same_on_every_engine(name, policy, engine):
    settings = dict(batchnorm=policy, bn_images=40)
    try:
        found = finished(name, engine, **settings)
    except ConfigError:
        assert engine == "vmap"
        return
    assert_same(found, by_loop(name, **settings))


@pytest.mark.parametrize("name", [n for n in zoo.MODELS if n != "shared_backbone"])
def test_what_is_not_trained_is_that_of_worker_0_for_all(name):
    first = initial_model(zoo.MODELS[name][0], 3, 0)
    for hosted in (range(3), (2, 1)):
        workers = Workers(zoo.MODELS[name][0], hosted, 3, 3)
        for module in workers.modules:
            for own, expected in zip(untrained(module), untrained(first), strict=True):
                torch.testing.assert_close(own, expected.to(own.dtype), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", zoo.MODELS)
def test_a_worker_is_the_same_whoever_else_is_hosted(name):
    """As on one process, on three and on two: what a worker computes, keeps, and answers when it is tested."""
    build, kind = zoo.MODELS[name]
    data = zoo.data(kind)
    inputs = normalise(data.train_inputs, data.mean, data.std, torch.float64)[:24].view(2, 3, 4, *data.shape)
    tests = normalise(data.test_inputs, data.mean, data.std, torch.float64)
    targets, found = data.train_targets[:24].view(2, 3, 4), {}
    for processes in (((0, 1, 2),), ((0,), (1,), (2,)), ((0, 1), (2,))):
        hosted = [Workers(build, part, 3, 3, precision="float64") for part in processes]
        for part, workers in zip(processes, hosted, strict=True):
            rows = list(part)
            for t in range(2):
                workers.compute_gradients(inputs[t, rows].clone(), targets[t, rows], t)
                workers.parameters.sub_(workers.gradients, alpha=0.1)
            for module in workers.modules:
                module.eval()
            answers = workers.outputs(tests)
            for k, worker in enumerate(part):
                own = [workers.parameters[k], answers[k], *untrained(workers.modules[k])]
                for one, two in zip(own, found.setdefault(worker, own), strict=True):
                    torch.testing.assert_close(one, two, rtol=0, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("processes", [2, 4])
def test_any_number_of_processes_gives_the_same_models(processes, tmp_path):
    done = launch("zoo", processes, tmp_path, limit=300)
    assert json.loads((tmp_path / "codes.json").read_text()) == [0] * processes, done.stderr
    for name in zoo.MODELS:
        (parameters, *_), expected, _ = by_loop(name)
        found = np.load(tmp_path / f"{name}.npz")
        np.testing.assert_allclose(found["parameters"], parameters, rtol=0, atol=1e-9, err_msg=name)
        np.testing.assert_allclose(found["numbers"], expected, rtol=0, atol=1e-9, err_msg=name)


def test_a_builder_that_gives_other_models_in_other_processes_is_refused(tmp_path):
    done = launch("unlike", 2, tmp_path)
    assert 2 in json.loads((tmp_path / "codes.json").read_text()), done.stderr
    assert "build gives another model in this process than in the first" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("engine", BY_NAME)
@pytest.mark.parametrize("name", ["mlp", "convolutions", "dropout", "Stochastic", "tied_weights"])
def test_gradients_of_some_workers_are_those_of_the_full_call(name, engine):
    build, kind = zoo.MODELS[name]
    data = zoo.data(kind)
    inputs, targets = data.train_inputs.double().view(4, 12, *data.shape), data.train_targets.view(4, 12)
    make = lambda: Workers(build, range(4), 4, 1, engine=engine, precision="float64")  # noqa: E731
    try:
        full, some = make(), make()
    except ConfigError:
        assert BY_NAME[engine].obstacle(build())
        return
    for workers in (full, some):
        workers.gradients.fill_(7.0)
    which = [3, 1]
    before = [[buffer.clone() for buffer in some.modules[i].buffers()] for i in (0, 2)]
    losses = full.compute_gradients(inputs, targets, 5)
    found = some.compute_gradients(inputs[which], targets[which], 5, which)
    torch.testing.assert_close(found, losses[which], rtol=0, atol=1e-12)
    torch.testing.assert_close(some.gradients[which], full.gradients[which], rtol=0, atol=1e-12)
    assert bool((some.gradients[[0, 2]] == 7).all()), "nothing of another worker changes"
    for kept, i in zip(before, (0, 2), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(kept, some.modules[i].buffers(), strict=True))
    for i in which:
        for a, b in zip(some.modules[i].buffers(), full.modules[i].buffers(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", zoo.MODELS)
def test_the_probe_leaves_no_trace(name):
    build, kind = zoo.MODELS[name]
    data = zoo.data(kind)
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    trainer = Trainer(Single(3), build, data, Settings(batch=4, seed=3))
    assert torch.equal(torch.rand(4), expected)
    fresh = Workers(build, range(3), 3, 3)
    assert torch.equal(trainer.workers.parameters, fresh.parameters)
    assert bool((trainer.workers.gradients == 0).all())
    for one, two in zip(trainer.workers.modules, fresh.modules, strict=True):
        assert [m.training for m in one.modules()] == [m.training for m in two.modules()]
        for a, b in zip(one.buffers(), two.buffers(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
        own = [p for p in one.parameters() if p.requires_grad]
        assert all(p.untyped_storage().data_ptr() == trainer.workers.rows.untyped_storage().data_ptr() for p in own)


@pytest.mark.parametrize("name", zoo.MODELS)
def test_tests_change_nothing_but_the_records(name):
    """How often a run is tested does not show in the models."""
    for one, two in zip(trained(name, 1), trained(name, 2), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0, equal_nan=True)


def trained(name, every):
    build, kind = zoo.MODELS[name]
    data = zoo.data(kind)
    before = data.train_inputs.clone(), data.test_inputs.clone()
    trainer = Trainer(Single(3), build, data, Settings(batch=8, epochs=2, eval_every=every, lr=0.1))
    trainer.run()
    assert torch.equal(data.train_inputs, before[0]) and torch.equal(data.test_inputs, before[1])
    return [trainer.workers.parameters, *(t for module in trainer.workers.modules for t in untrained(module))]


# ---- losses ----


@pytest.mark.parametrize("engine", ["auto", *BY_NAME])
@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(weight=torch.arange(1.0, 5).double()),
        functools.partial(F.cross_entropy, label_smoothing=0.1),
        F.multi_margin_loss,
        nn.MultiMarginLoss(p=2),
        lambda s, y: F.cross_entropy(s, y) * torch.rand((), dtype=s.dtype),
        lambda s, y: F.cross_entropy(s, y) if s.sum() > 0 else 2 * F.cross_entropy(s, y),
    ],
)
def test_losses_give_the_same_on_every_engine(loss, engine):
    def run(chosen):
        settings = Settings(**zoo.COMMON, engine=chosen)
        trainer = Trainer(ALDSGD(DPSGD(ring(4))), zoo.mlp, zoo.data("features"), settings, loss=loss)
        trainer.run()
        return trainer.workers.parameters

    if engine not in ("auto", "loop") and not known(loss):
        with pytest.raises(ConfigError, match="one's own; use engine='loop'"):
            run(engine)
        return
    torch.testing.assert_close(run(engine), run("loop"), rtol=0, atol=1e-9)


def twice(value):
    return lambda: value


class Pair(nn.Linear):
    def forward(self, x):
        return super().forward(x), x


class Sizes:
    """Models of different sizes, one after another."""

    def __init__(self):
        self.size = 3

    def __call__(self):
        self.size += 1
        return nn.Sequential(nn.Linear(12, self.size), nn.Linear(self.size, 4))


def alternating():
    return nn.Sequential(nn.Linear(12, 4), nn.Tanh() if torch.rand(()) < 0.5 else nn.ReLU())


def of_two_types():
    return nn.Sequential(nn.Linear(12, 12), nn.Linear(12, 4).double())


def not_finite():
    model = nn.Linear(12, 4)
    model.bias.data[1] = torch.nan
    return model


def complex_buffer():
    model = nn.Linear(12, 4)
    model.register_buffer("turns", torch.ones(3, dtype=torch.complex64))
    return model


SHARED_NORM = nn.BatchNorm1d(12)


def shared_norm():
    return nn.Sequential(SHARED_NORM.requires_grad_(False), nn.Linear(12, 4))


def failing():
    raise RuntimeError("no weights\nhere")


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (twice(nn.Linear(12, 4)), "the same parameters"),
        (shared_norm, "the same parameters or buffers"),
        (Sizes(), "different sizes"),
        (alternating, "different models"),
        (lambda: Pair(12, 4), "returns a tuple"),
        (lambda: nn.LazyLinear(4), "lazy"),
        (lambda: nn.Linear(12, 4, dtype=torch.complex64), "complex"),
        (complex_buffer, "complex"),
        (lambda: nn.Linear(12, 4).half(), "half precision"),
        (lambda: nn.Linear(12, 4).bfloat16(), "half precision"),
        (of_two_types, "several dtypes"),
        (lambda: nn.Flatten(), "no trainable parameters"),
        (lambda: nn.Linear(12, 4).requires_grad_(False), "no trainable parameters"),
        (nn.Linear(12, 4), "not a function that makes a model"),
        (lambda: "model", "build gives a str"),
        (lambda: nn.Linear, "build gives a type"),
        ("mlp", "build is a str"),
        (None, "build is a NoneType"),
        (not_finite, "not finite"),
        (lambda: nn.Linear(11, 4), "fails on a batch"),
        (lambda: nn.Linear(12, 3), "change its last layer"),
        (lambda: nn.Sequential(nn.Unflatten(1, (12, 1)), nn.Linear(1, 4)), "change its last layer"),
        (lambda n: nn.Linear(n, 4), "build fails"),
        (failing, "build fails"),
    ],
)
@pytest.mark.parametrize("engine", ["auto", "loop"])
def test_models_that_cannot_be_trained_are_refused_before_the_first_step(build, words, engine):
    steps = []
    with pytest.raises(ConfigError, match=words) as caught:
        Trainer(ALDSGD(DPSGD(ring(4))), build, zoo.data("features"), Settings(engine=engine)).run(
            on_record=steps.append
        )
    assert "\n" not in str(caught.value) and not steps


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda s, y: F.cross_entropy(s, y).detach(), "do not detach"),
        (lambda s, y: torch.tensor(1.0, requires_grad=True) * 2, "do not detach"),
        (lambda s, y: F.cross_entropy(s, y).item(), "no scalar"),
        (lambda s, y: F.cross_entropy(s, y, reduction="none"), "no scalar"),
        (lambda s, y: F.cross_entropy(s, y)[None], "no scalar"),
        (lambda s, y: (s.argmax(1) == y).sum(), "no scalar"),
        (lambda s, y: None, "no scalar"),
        (lambda s: s.sum(), "fails on a batch"),
        (F.mse_loss, "fails on a batch"),
        (nn.CrossEntropyLoss, "the loss is a CrossEntropyLoss"),
        ("cross_entropy", "the loss is a str"),
    ],
)
def test_losses_that_cannot_train_are_refused(loss, words):
    with pytest.raises(ConfigError, match=words) as caught:
        train(Single(2), zoo.mlp, zoo.data("features"), loss=loss)
    assert "\n" not in str(caught.value)


def test_a_loss_with_parameters_is_refused():
    class Weighted(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, outputs, targets):
            return self.weight * F.cross_entropy(outputs, targets)

    with pytest.raises(ConfigError, match="part of the model"):
        train(Single(2), zoo.mlp, zoo.data("features"), loss=Weighted())


@pytest.mark.parametrize("seed", [0, 1])
def test_models_drawn_from_numpy_and_python_follow_from_the_seed(seed):
    def build():
        model = zoo.mlp()
        with torch.no_grad():
            model[1].bias.copy_(torch.from_numpy(np.random.rand(8)))
            model[3].bias.fill_(random.random())
        return model

    np.random.seed(1)
    random.seed(1)
    expected = np.random.rand(), random.random()
    np.random.seed(1)
    random.seed(1)
    one = Workers(build, range(3), 3, seed).parameters
    assert (np.random.rand(), random.random()) == expected
    assert torch.equal(Workers(build, (2, 0), 3, seed).parameters, one[[2, 0]])
    assert not torch.equal(one[0], one[1])
