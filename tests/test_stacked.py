"""Stacked, streamed and plain workers give the same numbers, and a step is fit to be recorded and replayed.

What only a GPU can show is marked so and skipped elsewhere; everything but the recording itself runs here.

The narrow ResNet-50 amplifies a rounding error by a factor of 5 to 100 at each of its first steps at lr 0.05 (a test
below measures it with the plain path against itself). No two implementations that round differently can then stay
within 1e-4 in float32 for ten steps, or 1e-9 in float64 for twenty. So its free run in float64 has lr 2e-4, at lr 0.05
each of twenty steps starts from the plain path's state, and in float32 the gradients of both paths are compared with
float64. WRN-28-10 and VGG-16 take one or two steps on small images, for time; twenty are
recorded by experiments/bench/agreement.py.
"""

import statistics

import pytest
import torch
from torch import nn

from aldsgd import models
from aldsgd.checkpoint import Checkpoints
from aldsgd.datasets import load
from aldsgd.engines import choose
from aldsgd.errors import ConfigError
from aldsgd.evaluation import POLICIES, Evaluator, mean_statistics
from aldsgd.graphs import line
from aldsgd.leaders import ALDSGD
from aldsgd.network import LocalNetwork
from aldsgd.precision import Arithmetic
from aldsgd.settings import Settings
from aldsgd.stacked import obstacle
from aldsgd.tasks import CLASSIFICATION
from aldsgd.trainers import train
from aldsgd.training import Trainer
from aldsgd.workers import Workers
from baselines.dpsgd import DPSGD
from baselines.single import Single
from experiments.bench.agreement import difference, equalise, random_batch, side_by_side, take_step
from experiments.bench.common import Steps
from tests.stepping import take

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def run_both(name, n, b, shape, steps, lr, precision="float64", synced=False, allowed=1e-9):
    """Plain and stacked workers after ``steps`` steps, never further apart than ``allowed``; with ``synced`` each
    step starts from the plain workers' state."""
    compared = list(side_by_side(name, n, b, shape, steps, lr, precision, synced))
    for t, (apart, same_leaders, _) in enumerate(compared):
        assert same_leaders, f"other leaders at step {t}"
        assert apart < allowed, f"too far apart after step {t}"
    assert len(compared) == steps and compared[-1][2] > 1e-3


CASES = {
    "mlp": ("mlp", 4, 8, (1, 8, 8), 20, 0.05),
    "logistic": ("logistic", 4, 8, (1, 8, 8), 20, 0.05),
    "resnet_small": ("resnet_small", 4, 8, (3, 16, 16), 20, 0.05),
    "resnet_small_gn": ("resnet_small_gn", 4, 8, (3, 16, 16), 20, 0.05),
    "cnn": ("cnn", 4, 8, (3, 16, 16), 20, 0.05),
    "resnet50_narrow": ("resnet50_narrow", 2, 8, (3, 8, 8), 20, 2e-4),
    "vgg16_bn": ("vgg16_bn", 2, 4, (3, 8, 8), 2, 0.05),
    "wrn28_10": ("wrn28_10", 2, 2, (3, 8, 8), 1, 0.05),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_stacked_equals_plain_in_float64(case):
    run_both(*case)


def test_stacked_steps_of_the_narrow_resnet_equal_plain_ones_from_every_state_of_a_run():
    run_both("resnet50_narrow", 2, 8, (3, 8, 8), 20, 0.05, synced=True)


@pytest.mark.parametrize("name", ["mlp", "logistic", "resnet_small"])
def test_stacked_equals_plain_in_float32(name):
    shape = (3, 16, 16) if name == "resnet_small" else (1, 8, 8)
    run_both(name, 4, 16, shape, 5, 0.05, "float32", allowed=1e-4)  # rounding grows from step to step


def wide_blocks() -> nn.Module:
    """The layers of WRN-28-10 at widths of 16 and 32."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        models.WideBlock(8, 16, 1), models.WideBlock(16, 32, 2), models.WideBlock(32, 32, 1),
        nn.BatchNorm2d(32), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "n", "b", "shape", "steps"),
    [("resnet50_narrow", 2, 8, (3, 8, 8), 10), ("wide blocks", 2, 8, (3, 8, 8), 10), ("vgg16_bn", 2, 4, (3, 8, 8), 1)],
)
def test_float32_steps_of_deep_networks_round_no_more_than_the_plain_path(name, n, b, shape, steps):
    build = wide_blocks if name == "wide blocks" else lambda: models.build(name, 10, shape)
    plain, stacked = (Workers(build, range(n), n, engine=engine) for engine in ("loop", "stacked"))
    exact = Workers(build, range(n), n, engine="loop", precision="float64")
    algorithm, network, errors = ALDSGD(DPSGD(line(n))), LocalNetwork(n), []
    for t in range(steps):
        images, labels = random_batch(n, b, shape, t)
        for other in (stacked, exact):
            equalise(other, plain)
        losses = plain.compute_gradients(images.float(), labels, t)
        torch.testing.assert_close(stacked.compute_gradients(images.float(), labels, t), losses, rtol=1e-4, atol=1e-4)
        exact.compute_gradients(images, labels, t)
        error, own = (
            ((w.gradients - exact.gradients).norm() / exact.gradients.norm()).item() for w in (stacked, plain)
        )
        errors.append((error, own))
        assert error < 1e-2
        buffers = [[buffer for module in w.modules for buffer in module.buffers()] for w in (stacked, plain)]
        assert all(torch.allclose(one, two, rtol=1e-4, atol=1e-4) for one, two in zip(*buffers, strict=True))
        take(algorithm, t, network, plain.parameters, plain.gradients, 0.05, losses)
    # Medians, because a single activation that rounds to the other side of a ReLU shows in either path.
    error, own = map(statistics.median, zip(*errors, strict=True))
    assert error < 4 * own + 1e-7


def test_the_plain_path_itself_does_not_stay_within_the_criterion_of_a_rounding_error():
    shape, algorithm = (3, 16, 16), ALDSGD(DPSGD(line(3)))
    build, settings = lambda: models.build("resnet50_narrow", 10, shape), Settings(lr=0.05)
    pair = [Steps(build, algorithm, None, None, settings, engine="loop") for _ in range(2)]
    signs = torch.randint(2, pair[1].state.x.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    pair[1].state.x.mul_(1 + signs * 2.0**-23)
    for t in range(3):
        images, labels = random_batch(3, 8, shape, t, dtype=torch.float32)
        for steps in pair:
            take_step(steps, images, labels)
    assert difference(*(steps.workers for steps in pair)) > 1e-3


class Residual(nn.Module):
    elementwise = True

    def __init__(self):
        super().__init__()
        self.inner = nn.Conv2d(2, 2, 3, padding=1, groups=2)

    def forward(self, x):
        return x * torch.sigmoid(self.inner(x))


def ending(size):
    return nn.Flatten(), nn.Linear(size, 10)


LAYERS = {
    "strided": lambda: [nn.Conv2d(2, 6, 3, stride=2, padding=1, bias=False), *ending(96)],
    "dilated": lambda: [nn.Conv2d(2, 3, (3, 1), dilation=(2, 1), padding="same"), *ending(192)],
    "grouped": lambda: [nn.Conv2d(2, 4, 3, groups=2), *ending(144)],
    "pointwise": lambda: [nn.Conv2d(2, 5, 1, stride=(2, 1)), nn.GELU(), *ending(160)],
    "pointwise grouped": lambda: [nn.Conv2d(2, 4, 1, groups=2, bias=False), *ending(256)],
    "bare norm": lambda: [nn.BatchNorm2d(2, affine=False), nn.Conv2d(2, 2, 1, bias=False), *ending(128)],
    "norm without statistics": lambda: [nn.BatchNorm2d(2, track_running_stats=False), *ending(128)],
    "norm with momentum": lambda: [nn.BatchNorm2d(2, momentum=0.3, eps=1e-2), *ending(128)],
    "norm of features": lambda: [nn.Flatten(), nn.Linear(128, 7, bias=False), nn.BatchNorm1d(7), nn.Linear(7, 10)],
    "max pool": lambda: [nn.MaxPool2d(3, 2, 1), nn.Tanh(), *ending(32)],
    "average pool": lambda: [nn.AvgPool2d(2), *ending(32)],
    "adaptive pool": lambda: [nn.AdaptiveAvgPool2d((3, 2)), *ending(12)],
    "linear on the last dimension": lambda: [nn.Linear(8, 3), nn.ReLU(inplace=True), *ending(48)],
    "own container": lambda: [Residual(), nn.Sequential(nn.Identity(), nn.ELU()), *ending(128)],
}


@pytest.mark.parametrize("engine", ["stacked", "streams"])
@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
def test_every_layer(layers, engine):
    pair = [
        Workers(lambda: nn.Sequential(*layers()), range(3), 3, engine=e, precision="float64") for e in ("loop", engine)
    ]
    for step in range(2):
        images, labels = random_batch(3, 5, (2, 8, 8), step)
        losses = [workers.compute_gradients(images, labels, step) for workers in pair]
        torch.testing.assert_close(*losses, rtol=0, atol=1e-12)
        torch.testing.assert_close(pair[0].gradients, pair[1].gradients, rtol=0, atol=1e-12)
        for workers in pair:
            workers.parameters.sub_(workers.gradients)
    assert difference(*pair) < 1e-11
    for workers in pair:
        for module in workers.modules:
            module.eval()
    images = random_batch(1, 4, (2, 8, 8), 9)[0][0]
    torch.testing.assert_close(*(workers.outputs(images) for workers in pair), rtol=0, atol=1e-12)
    assert difference(*pair) < 1e-11


def test_tied_layers_and_another_loss():
    def build():
        layer, norm = nn.Linear(8, 8), nn.BatchNorm1d(8)
        other = nn.Linear(8, 8)
        other.weight = layer.weight
        return nn.Sequential(nn.Flatten(), layer, norm, other, norm)

    pair = [
        Workers(build, range(3), 3, loss=nn.functional.mse_loss, engine=e, precision="float64")
        for e in ("loop", "stacked")
    ]
    images, targets = random_batch(3, 5, (8,), 0)[0], random_batch(3, 5, (8,), 1)[0]
    losses = [workers.compute_gradients(images, targets, 0) for workers in pair]
    torch.testing.assert_close(*losses, rtol=0, atol=1e-12)
    torch.testing.assert_close(pair[0].gradients, pair[1].gradients, rtol=0, atol=1e-12)
    assert difference(*pair) < 1e-12 and pair[1].modules[2][2].num_batches_tracked == 2


def hooked():
    model = nn.Sequential(nn.Linear(4, 4))
    model[0].register_forward_hook(lambda *_: None)
    return model


def frozen():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[0].bias.requires_grad_(False)
    return model


class Own(nn.Sequential):
    """Its ``forward`` could be anything."""


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)), "Dropout"),
        (lambda: nn.Sequential(nn.Conv2d(1, 1, 3, padding_mode="circular")), "padding mode circular"),
        (lambda: nn.Sequential(nn.BatchNorm1d(4, momentum=None)), "BatchNorm1d without momentum"),
        (lambda: nn.Sequential(nn.Flatten(2), nn.Linear(4, 4)), "Flatten"),
        (lambda: Own(nn.Linear(4, 4)), "Own"),
        (hooked, "hooks"),
        (frozen, "not trained"),
    ],
)
def test_what_cannot_be_stacked_says_why_and_takes_the_plain_path(build, words):
    assert choose("auto", build(), torch.device("cuda"))[0] in ("loop", "vmap")
    for engine in ("stacked", "streams"):
        with pytest.raises(ConfigError, match=words):
            Workers(build, range(2), 2, engine=engine)
    assert words in obstacle(build())
    workers = Workers(build, range(2), 2, engine="loop")
    assert workers.engine_reason == "asked for"


def test_every_model_of_images_is_stacked_on_a_gpu_and_stays_on_its_path_on_a_cpu():
    for name in set(models.NAMES) - {"gru"}:
        with torch.device("meta"):
            model = models.build(name, 10, (3, 32, 32))
        assert choose("auto", model, torch.device("cuda"))[0] == "stacked"
        assert choose("auto", model, torch.device("cpu"))[0] == (
            "vmap" if name in ("mlp", "mlp_narrow", "logistic") else "loop"
        )


def test_evaluation_is_the_same_on_every_path():
    data = load("digits").subset(160, 100)
    build = lambda: models.build("resnet_small", 10, (1, 8, 8))  # noqa: E731
    found = []
    for engine in ("loop", "stacked", "streams"):
        workers = Workers(build, range(3), 3, engine=engine, precision="float64")
        for step in range(2):
            workers.compute_gradients(*random_batch(3, 8, (1, 8, 8), step), step)
        mean, statistics = workers.parameters.mean(dim=0), mean_statistics(workers.modules)
        for policy in POLICIES:
            evaluator = Evaluator(data, CLASSIFICATION, policy, bn_images=64, augmented=True)
            tested = evaluator.workers(workers, statistics)
            averaged = evaluator.averaged(workers, mean, statistics)
            found.append([*tested["loss"].tolist(), *tested["accuracy"].tolist(), *averaged.values()])
    k = len(POLICIES)
    for other in (found[k : 2 * k], found[2 * k :]):
        torch.testing.assert_close(torch.tensor(other), torch.tensor(found[:k]), rtol=0, atol=1e-11)
    assert found[0] != found[1]


def test_a_stacked_run_goes_on_from_a_checkpoint_bit_for_bit(tmp_path):
    data = load("digits").subset(160, 50)

    def trainer(epochs):
        build = lambda: models.build("resnet_small", 10, (1, 8, 8))  # noqa: E731
        return Trainer(ALDSGD(DPSGD(line(3))), build, data, Settings(epochs=epochs, lr=0.1, engine="stacked"))

    whole, first = trainer(2), trainer(2)
    whole.run()
    first.save(Checkpoints(tmp_path, first.identity()), 1, first.record(1, first.train_epoch(0)))
    second = trainer(2)
    rows = second.run(checkpoints=tmp_path).rows
    assert [row["epoch"] for row in rows if row["worker"] is None] == [1, 2]
    assert difference(whole.workers, second.workers) == 0
    assert torch.equal(whole.workers.parameters, second.workers.parameters)


def test_bf16_runs_on_a_cpu_with_float32_parameters_and_tf32_does_not():
    images, labels = random_batch(2, 16, (1, 8, 8), 0, dtype=torch.float32)
    for name, engines in (("mlp", ("loop", "vmap", "stacked")), ("resnet_small", ("loop", "stacked", "streams"))):
        build = lambda name=name: models.build(name, 10, (1, 8, 8))  # noqa: E731
        exact = Workers(build, range(2), 2, engine="loop")
        exact.compute_gradients(images, labels, 0)
        for engine in engines:
            workers = Workers(build, range(2), 2, engine=engine, precision="bf16")
            losses = workers.compute_gradients(images, labels, 0)
            error = (workers.gradients - exact.gradients).norm() / exact.gradients.norm()
            assert 1e-4 < error < 0.4
            assert losses.dtype == workers.outputs(images[0]).dtype == workers.parameters.dtype == torch.float32
    data = load("digits").subset(160, 50)
    result = train(Single(2), lambda: models.mlp(10), data, epochs=1, lr=0.1, precision="bf16")
    assert 0 < result.final["train_loss"] < 3
    with pytest.raises(ConfigError, match="tf32.*cuda"):
        train(Single(2), lambda: models.mlp(10), data, precision="tf32")
    with pytest.raises(ConfigError, match="float32, float64, tf32, bf16"):
        Arithmetic("fp8", "cpu")


@GPU
@pytest.mark.parametrize("name", ["mlp", "resnet_small", "resnet50_narrow", "vgg16_bn"])
@pytest.mark.parametrize("engine", ["stacked", "streams"])
def test_gpu_paths_agree_with_the_loop(name, engine):
    shape = (3, 32, 32)
    build = lambda: models.build(name, 10, shape)  # noqa: E731
    loop, other = (Workers(build, range(3), 3, engine=e, precision="float64", device="cuda") for e in ("loop", engine))
    algorithm, network = ALDSGD(DPSGD(line(3))), LocalNetwork(3, "cuda")
    for t in range(5):
        images, labels = (x.cuda() for x in random_batch(3, 8, shape, t))
        for workers in (loop, other):
            losses = workers.compute_gradients(images, labels, t)
            take(algorithm, t, network, workers.parameters, workers.gradients, 0.005, losses)
    assert difference(loop, other) < 1e-9


@GPU
def test_gpu_precisions_are_what_they_say():
    flags = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    x, exact = torch.randn(512, 512, device="cuda"), {}
    for precision in ("float32", "tf32"):
        with Arithmetic(precision, "cuda").flags():
            exact[precision] = ((x @ x).double() - x.double() @ x.double()).abs().max().item()
    assert exact["float32"] < 1e-3 < exact["tf32"]
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == flags
