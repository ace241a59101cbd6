"""The networks of the paper and small ones for CPUs, all by name: ``build(name, classes, shape)``.

Every weight is drawn from PyTorch's global generator with PyTorch's default initialisation, so
``torch.manual_seed(s)`` before ``build`` fixes the initial model. All work in float32 and float64.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from aldsgd.errors import ConfigError


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=bias)


def _pool_and_classify(width: int, classes: int) -> list[nn.Module]:
    # An 8x8 average pooling at 32x32 inputs; global pooling is the same there and takes any other size.
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)]


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions and a shortcut: (B, inputs, H, W) -> (B, 4 width, H/stride, W/stride)."""

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        outputs = 4 * width
        self.body = nn.Sequential(
            _conv(inputs, width, 1), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            _conv(width, width, 3, stride), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            _conv(width, outputs, 1), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(_conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def resnet50_narrow(classes: int, shape: tuple[int, int, int] = (3, 32, 32)) -> nn.Module:
    """The paper's "ResNet-50": a narrow bottleneck network, 545,930 parameters at 10 classes and 3 channels.

    A 3x3 convolution to 16 channels; bottleneck stages of base widths 16, 32, 64 (expansion 4) with 3, 4 and
    6 blocks, stride 2 at stages two and three; average pooling; linear. Every convolution has a bias, and the
    shortcut of each stage's first block is a 1x1 convolution with BatchNorm: without that BatchNorm the count
    would be 545,034. Source: released code, as described in section 2.4 of the project's page of the paper.

    Not known, because no count tells it: which convolution of a block carries the stride (here the 3x3, the
    usual "v1.5" choice) and the initialisation (here PyTorch's).
    """
    layers: list[nn.Module] = [_conv(shape[0], 16, 3), nn.BatchNorm2d(16), nn.ReLU(inplace=True)]
    inputs = 16
    for width, blocks, stride in ((16, 3, 1), (32, 4, 2), (64, 6, 2)):
        for block in range(blocks):
            layers.append(Bottleneck(inputs, width, stride if block == 0 else 1))
            inputs = 4 * width
    return nn.Sequential(*layers, *_pool_and_classify(inputs, classes))


class WideBlock(nn.Module):
    """Pre-activation, two 3x3 convolutions: (B, inputs, H, W) -> (B, width, H/stride, W/stride)."""

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(inputs), nn.ReLU(inplace=True), _conv(inputs, width, 3, stride),
            nn.BatchNorm2d(width), nn.ReLU(inplace=True), _conv(width, width, 3),
        )  # fmt: skip
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != width:
            self.shortcut = _conv(inputs, width, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.shortcut(x)


def wrn28_10(classes: int, shape: tuple[int, int, int] = (3, 32, 32)) -> nn.Module:
    """Wide ResNet 28-10 (Zagoruyko and Komodakis 2016), dropout 0: 36,546,980 parameters at 100 classes.

    Every convolution has a bias, those of the shortcuts too: the usual network without biases has 36,536,884.
    Shortcuts have no BatchNorm and take the block's raw input. Not known: which convolution of a block has
    the stride (here the first, as in the publication) and the initialisation (here PyTorch's).
    """
    layers: list[nn.Module] = [_conv(shape[0], 16, 3)]
    inputs = 16
    for width, stride in ((160, 1), (320, 2), (640, 2)):
        for block in range(4):
            layers.append(WideBlock(inputs, width, stride if block == 0 else 1))
            inputs = width
    layers += [nn.BatchNorm2d(inputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, *_pool_and_classify(inputs, classes))


def vgg16_bn(classes: int, shape: tuple[int, int, int] = (3, 32, 32)) -> nn.Module:
    """VGG-16 with BatchNorm for small images: 13 3x3 convolutions and one linear layer, 14,728,266 parameters
    at 10 classes.

    The usual CIFAR form of Simonyan and Zisserman 2015 (configuration D) without the two 4096-wide layers.
    The poolings round up, which changes nothing at 32x32 and lets smaller images through.
    """
    layers: list[nn.Module] = []
    inputs = shape[0]
    for widths in ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3):
        for width in widths:
            layers += [_conv(inputs, width, 3), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            inputs = width
        layers.append(nn.MaxPool2d(2, ceil_mode=True))
    return nn.Sequential(*layers, *_pool_and_classify(inputs, classes))


def _groups(channels: int) -> nn.Module:
    """GroupNorm with four channels a group."""
    return nn.GroupNorm(channels // 4, channels)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: (B, inputs, H, W) -> (B, width, H/stride, W/stride)."""

    def __init__(self, inputs: int, width: int, stride: int, norm: Callable[[int], nn.Module] = nn.BatchNorm2d):
        super().__init__()
        self.body = nn.Sequential(
            _conv(inputs, width, 3, stride, bias=False), norm(width), nn.ReLU(inplace=True),
            _conv(width, width, 3, bias=False), norm(width),
        )  # fmt: skip
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != width:
            self.shortcut = nn.Sequential(_conv(inputs, width, 1, stride, bias=False), norm(width))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def resnet_small(
    classes: int, shape: tuple[int, int, int] = (3, 32, 32), norm: Callable[[int], nn.Module] = nn.BatchNorm2d
) -> nn.Module:
    """An eight-layer ResNet for CPUs: 78,042 parameters at 10 classes and 3 channels. Not in the paper.

    Widths 16, 32, 64 with one block each. The stem already halves the image, since most of the cost of a
    small ResNet is in its full-size feature maps.
    """
    return nn.Sequential(
        _conv(shape[0], 16, 3, stride=2, bias=False), norm(16), nn.ReLU(inplace=True),
        BasicBlock(16, 16, 1, norm), BasicBlock(16, 32, 2, norm), BasicBlock(32, 64, 2, norm),
        *_pool_and_classify(64, classes),
    )  # fmt: skip


def resnet_small_gn(classes: int, shape: tuple[int, int, int] = (3, 32, 32)) -> nn.Module:
    """``resnet_small`` with GroupNorm (Wu and He 2018), four channels a group, in place of BatchNorm: as many
    parameters, and no statistics that a tested model would have to be given."""
    return resnet_small(classes, shape, _groups)


def cnn(classes: int, shape: tuple[int, int, int] = (3, 32, 32)) -> nn.Module:
    """Three 3x3 convolutions of stride 2 with BatchNorm: 24,346 parameters at 10 classes and 3 channels. Not in the
    paper.

    Widths 16, 32, 64. Fewer layers than ``resnet_small`` and so fewer calls, which cost much of a step at batch 16 on a
    CPU: for experiments of many runs.
    """
    layers: list[nn.Module] = []
    inputs = shape[0]
    for width in (16, 32, 64):
        layers += [_conv(inputs, width, 3, stride=2, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        inputs = width
    return nn.Sequential(*layers, *_pool_and_classify(inputs, classes))


def mlp(classes: int, shape: tuple[int, ...] = (1, 8, 8)) -> nn.Module:
    """One hidden layer of 128 ReLU units: 64-128-10 on the digits. Takes any shape, flattened."""
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 128), nn.ReLU(), nn.Linear(128, classes))


def mlp_narrow(classes: int, shape: tuple[int, ...] = (1, 8, 8)) -> nn.Module:
    """The same with 16 units: the whole network of workers stays in a core's cache."""
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 16), nn.ReLU(), nn.Linear(16, classes))


def logistic(classes: int, shape: tuple[int, ...] = (1, 8, 8)) -> nn.Module:
    """Multinomial logistic regression: one linear layer on the flattened input. Takes any shape."""
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), classes))


class GRU(nn.Module):
    """Small, for characters or words: an embedding, one GRU, and scores at every place, (B, T) -> (B, T, outputs).

    ``pooled``: scores of the whole sequence instead, (B, outputs), from the mean over places.
    """

    def __init__(self, outputs: int, vocabulary: int, pooled: bool, width: int = 64):
        super().__init__()
        self.embedding, self.pooled = nn.Embedding(vocabulary, width), pooled
        self.recurrent, self.scores = nn.GRU(width, width, batch_first=True), nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        states = self.recurrent(self.embedding(x))[0]
        return self.scores(states.mean(dim=1) if self.pooled else states)


_IMAGE_MODELS: dict[str, Callable[..., nn.Module]] = {
    "resnet50_narrow": resnet50_narrow, "wrn28_10": wrn28_10,
    "vgg16_bn": vgg16_bn, "resnet_small": resnet_small, "resnet_small_gn": resnet_small_gn, "cnn": cnn,
}  # fmt: skip
_FLAT_MODELS: dict[str, Callable[..., nn.Module]] = {"mlp": mlp, "mlp_narrow": mlp_narrow, "logistic": logistic}
NAMES = (*_IMAGE_MODELS, *_FLAT_MODELS, "gru")


def build(name: str, outputs: int, shape: tuple[int, ...], task="classification", vocabulary=None) -> nn.Module:
    """The model ``name`` (one of ``NAMES``), in training mode: inputs (B, *shape), outputs (B, outputs).

    ``shape`` is (channels, height, width) for the convolutional models, any for ``mlp`` and ``logistic``; ``gru`` takes
    tokens (B, T) below ``vocabulary`` and, for the task "tokens", gives (B, T, outputs). Raises ConfigError for an
    unknown name, a classifier of fewer than two classes, or a shape the model cannot take.
    """
    if name not in NAMES:
        raise ConfigError(f"unknown model {name!r}: choose one of {', '.join(NAMES)}, or your own as module:function")
    if outputs < 2 and task != "regression":
        raise ConfigError(f"a classifier needs at least 2 classes, not {outputs}: check the labels")
    shape = tuple(shape)
    if not shape or any(size < 1 for size in shape):
        raise ConfigError(f"input shape {shape} is empty: give the shape of one sample, such as (3, 32, 32)")
    if (name == "gru") != (vocabulary is not None):
        raise ConfigError(f"model {name} does not fit these inputs: use gru for tokens, and only for them")
    if name == "gru":
        return GRU(outputs, vocabulary, pooled=task != "tokens")
    if name in _FLAT_MODELS:
        return _FLAT_MODELS[name](outputs, shape)
    if len(shape) != 3:
        raise ConfigError(
            f"model {name} needs images of shape (channels, height, width), not {shape}: "
            f"use {' or '.join(_FLAT_MODELS)} for feature vectors"
        )
    return _IMAGE_MODELS[name](outputs, shape)
