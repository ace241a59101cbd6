"""Models that break shortcuts: each is a builder by name, with the name of the data it is trained on.

Whatever runs them must give the numbers of one worker after another, or refuse in one sentence.
"""

import types
import warnings

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from aldsgd.datasets import Data
from aldsgd.graphs import ring
from aldsgd.leaders import ALDSGD
from aldsgd.settings import Settings
from aldsgd.training import Trainer
from baselines.dpsgd import DPSGD
from tests.zoo_norms import (
    CLASSES,
    WIDTH,
    RunningScale,
    frozen_norm,
    group_norm,
    instance_norm,
    layer_norm,
    mlp,
    norm_without_momentum,
    norm_without_statistics,
    norm_without_weights,
    old_spectral_norm,
    old_weight_norm,
    orthogonal,
    spectral_norm,
    weight_norm,
)


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(4, 4, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, CLASSES),
    )  # fmt: skip


def frozen_first_layer() -> nn.Module:
    model = mlp()
    model[1].requires_grad_(False)
    return model


def frozen_bias() -> nn.Module:
    model = mlp()
    model[3].bias.requires_grad_(False)
    return model


def frozen_convolutions() -> nn.Module:
    """Fine-tuning: a head is trained on a body in evaluation mode, with the statistics that it came with."""
    model = convolutions()
    body = model[:6].requires_grad_(False).eval()
    body[1].running_mean.normal_()
    body[1].running_var.uniform_(0.5, 2)
    return model


def shared_backbone() -> nn.Module:
    """All workers have one and the same frozen layer."""
    return nn.Sequential(BACKBONE, nn.ReLU(), nn.Linear(8, CLASSES))


with torch.random.fork_rng(devices=[]):
    torch.manual_seed(0)
    BACKBONE = nn.Linear(WIDTH, 8).requires_grad_(False)


def tied_weights() -> nn.Module:
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES))
    model[2].weight = model[0].weight
    return model


def one_layer_twice() -> nn.Module:
    layer = nn.Linear(WIDTH, WIDTH)
    return nn.Sequential(layer, nn.Tanh(), layer, nn.Linear(WIDTH, CLASSES))


def one_norm_twice() -> nn.Module:
    norm = nn.BatchNorm1d(WIDTH)
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), norm, nn.Linear(WIDTH, WIDTH), norm, nn.Linear(WIDTH, CLASSES))


def dropout() -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, CLASSES))


class Drawing(nn.Module):
    """Draws at random also when it is tested, a common slip."""

    def __init__(self):
        super().__init__()
        self.layers = mlp()

    def forward(self, x):
        return self.layers(F.dropout(x, 0.3))


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = mlp()

    def forward(self, x):
        return self.layers(x + 0.1 * torch.randn_like(x) if self.training else x)


class RandomFeatures(nn.Module):
    """A random buffer that is never trained, and one that a checkpoint of torch would leave out."""

    def __init__(self):
        super().__init__()
        self.register_buffer("directions", torch.randn(WIDTH, 16))
        self.register_buffer("phases", torch.rand(16), persistent=False)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x):
        return self.head(torch.cos(x @ self.directions + self.phases))


class CountsPasses(nn.Module):
    """An attribute that is no buffer: each pass weighs less than the one before."""

    def __init__(self):
        super().__init__()
        self.layers, self.passes = mlp(), 0

    def forward(self, x):
        self.passes += 1
        return self.layers(x) / self.passes


class CausalMask(nn.Module):
    """A buffer of booleans and one of infinities."""

    def __init__(self):
        super().__init__()
        self.register_buffer("kept", torch.arange(WIDTH) % 3 > 0)
        self.register_buffer("mask", torch.where(self.kept, 0.0, -torch.inf))
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x):
        return self.head(torch.softmax(x + self.mask, dim=-1))


class Residual(nn.Sequential):
    def forward(self, x):
        return super().forward(x) + x


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def own_sequential() -> nn.Module:
    return nn.Sequential(Residual(nn.Linear(WIDTH, WIDTH), nn.Tanh()), nn.Linear(WIDTH, CLASSES))


def own_linear() -> nn.Module:
    return nn.Sequential(Doubled(WIDTH, 8), nn.ReLU(), nn.Linear(8, CLASSES))


def forward_hook() -> nn.Module:
    model = mlp()
    model[1].register_forward_hook(lambda module, inputs, output: output * 2)
    return model


def forward_pre_hook() -> nn.Module:
    model = mlp()
    model[3].register_forward_pre_hook(lambda module, inputs: (inputs[0] + 1,))
    return model


def backward_hook() -> nn.Module:
    model = mlp()
    model[1].register_full_backward_hook(lambda module, given, taken: tuple(g if g is None else 2 * g for g in given))
    return model


def gradient_hook() -> nn.Module:
    """Half of a layer stays: its gradient is masked."""
    model = mlp()
    mask = (torch.arange(8) % 2)[:, None]
    model[1].weight.register_hook(lambda gradient: gradient * mask)
    return model


def gradient_clipped_when_there() -> nn.Module:
    model = mlp()
    model[3].weight.register_post_accumulate_grad_hook(lambda p: nn.utils.clip_grad_value_(p, 0.01))
    return model


def own_forward_of_an_instance() -> nn.Module:
    model = mlp()
    model[2].forward = types.MethodType(lambda self, x: torch.sin(x), model[2])
    return model


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.recurrent, self.head = nn.GRU(3, 5, batch_first=True), nn.Linear(5, CLASSES)

    def forward(self, x):
        return self.head(self.recurrent(x.view(len(x), 4, 3))[0][:, -1])


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, dropout=0.1, batch_first=True)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x):
        x = x.view(len(x), 3, 4)
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(dim=1))


def transformer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(WIDTH, 2, 8, dropout=0.0, batch_first=True)
    return nn.Sequential(nn.Unflatten(1, (1, WIDTH)), layer, nn.Flatten(), nn.Linear(WIDTH, CLASSES))


def embedding() -> nn.Module:
    return nn.Sequential(nn.Embedding(7, 3), nn.Flatten(), nn.Linear(15, CLASSES))


def sparse_embedding() -> nn.Module:
    return nn.Sequential(nn.Embedding(7, 3, sparse=True), nn.Flatten(), nn.Linear(15, CLASSES))


def embedding_of_bounded_rows() -> nn.Module:
    """The pass itself changes parameters: rows that are too long are cut."""
    return nn.Sequential(nn.Embedding(7, 3, max_norm=0.5), nn.Flatten(), nn.Linear(15, CLASSES))


def circular_padding() -> nn.Module:
    convolution = nn.Conv2d(3, 2, 3, padding=1, padding_mode="circular")
    return nn.Sequential(convolution, nn.Flatten(), nn.Linear(72, CLASSES))


def reflected_padding() -> nn.Module:
    convolution = nn.Conv2d(3, 2, 3, padding=1, padding_mode="reflect")
    return nn.Sequential(convolution, nn.Flatten(), nn.Linear(72, CLASSES))


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers, self.never = mlp(), nn.Linear(3, 3)
        self.extra = nn.Parameter(torch.ones(2))

    def forward(self, x):
        return self.layers(x)


def unused_in_a_sequence() -> nn.Module:
    model = mlp()
    model.register_parameter("extra", nn.Parameter(torch.randn(3)))
    return model


class Stochastic(nn.Module):
    """Passes a block by at random."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, x):
        if not self.training or torch.rand(()) < 0.5:
            x = x + torch.tanh(self.first(x))
        return self.second(x)


class InPlace(nn.Module):
    """Changes its inputs."""

    def __init__(self):
        super().__init__()
        self.layers = mlp()

    def forward(self, x):
        x -= 1
        return self.layers(x.mul_(2))


def in_place_first() -> nn.Module:
    return nn.Sequential(nn.LeakyReLU(0.5, inplace=True), nn.Linear(WIDTH, CLASSES))


def rectified_in_place_first() -> nn.Module:
    return nn.Sequential(nn.ReLU(inplace=True), nn.Linear(WIDTH, CLASSES))


def double_precision() -> nn.Module:
    return mlp().double()


def in_evaluation_mode() -> nn.Module:
    return dropout().eval()


def grouped() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 6, 3, groups=3, dilation=2), nn.ELU(), nn.Flatten(), nn.Linear(24, CLASSES))


def bilinear() -> nn.Module:
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.product, self.scale = nn.Bilinear(WIDTH, WIDTH, CLASSES), nn.Parameter(torch.tensor(1.0))

        def forward(self, x):
            return self.scale * self.product(x, x)

    return Net()


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(norm_without_weights())


FEATURES = (
    mlp, frozen_first_layer, frozen_bias, shared_backbone, tied_weights, one_layer_twice, one_norm_twice, dropout,
    Drawing, Noisy, RandomFeatures, RunningScale, CountsPasses, CausalMask, scripted, norm_without_momentum,
    norm_without_statistics, norm_without_weights, frozen_norm, old_weight_norm, weight_norm, spectral_norm,
    old_spectral_norm, orthogonal, own_sequential, own_linear, forward_hook, forward_pre_hook, backward_hook,
    gradient_hook, gradient_clipped_when_there, own_forward_of_an_instance, Recurrent, Attention, transformer,
    layer_norm, Unused, unused_in_a_sequence, Stochastic, InPlace, in_place_first, rectified_in_place_first,
    double_precision, in_evaluation_mode, bilinear,
)  # fmt: skip
IMAGES = (
    convolutions, frozen_convolutions, instance_norm, group_norm, circular_padding, reflected_padding, grouped,
)  # fmt: skip
TOKENS = (embedding, sparse_embedding, embedding_of_bounded_rows)
#: name -> (builder, name of its data)
MODELS = {
    build.__name__: (build, kind)
    for kind, builders in (("features", FEATURES), ("images", IMAGES), ("tokens", TOKENS))
    for build in builders
}


def data(kind: str) -> Data:
    """A small data set: "features" (12 numbers), "images" (3, 6, 6) or "tokens" (5 of 7)."""
    rng = np.random.default_rng(0)
    inputs = {
        "features": lambda n: rng.normal(size=(n, WIDTH)).astype(np.float32),
        "images": lambda n: rng.integers(0, 256, (n, 3, 6, 6), dtype=np.uint8),
        "tokens": lambda n: rng.integers(0, 7, (n, 5)),
    }[kind]
    train, test = 48, 20
    return Data.from_arrays(inputs(train), np.arange(train) % CLASSES, inputs(test), np.arange(test) % CLASSES)


WORKERS = 4
COMMON = dict(epochs=1, batch=4, lr=0.1, precision="float64", seed=3)  # three steps


def trained(name: str, engine: str = "auto", hosting=None, **settings) -> tuple[Trainer, list[dict]]:
    """(trainer, records) of a run of one model, AL-DSGD on a ring."""
    build, kind = MODELS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's older normalisations, and of its backward hooks
        algorithm, chosen = ALDSGD(DPSGD(ring(WORKERS))), Settings(**(COMMON | settings), engine=engine)
        trainer = Trainer(algorithm, build, data(kind), chosen, hosting=hosting)
        return trainer, trainer.run().rows


def numbers(rows: list[dict]) -> np.ndarray:
    """All that is recorded but real times, one row after another."""
    return np.array(
        [v for row in rows for k, v in row.items() if v is not None and not k.startswith(("seconds", "model"))]
    )
