"""Shards, batches and augmentation: which samples a worker sees, and when. (Loading is in datasets.py.)"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from aldsgd.errors import ConfigError, whole
from aldsgd.streams import rng

SPLITS = ("iid", "dirichlet", "label", "unequal")
PAD = 4
_DIRICHLET_TRIES = 1000


def split(
    labels,
    n: int,
    kind: str = "iid",
    seed: int = 1234,
    alpha: float | None = None,
    min_size: int = 1,
) -> list[np.ndarray]:
    """The training samples of each of ``n`` workers: disjoint int64 index arrays that together cover all.

    labels: (N,) integers, tensor or array. Every shard has at least ``min_size`` samples. Kinds:
        iid: one shuffle, cut evenly; sizes differ by at most one (released code; its seed is 1234 too).
        dirichlet: each class is dealt to the workers in proportions drawn from a symmetric Dirichlet(alpha);
            small alpha means few classes per worker. Dirichlet label skew is from Hsu et al. 2019 (arXiv
            1909.06335); per class rather than per worker, and redrawn until every shard has ``min_size``
            samples, as in Yurochkin et al. 2019 (arXiv 1905.12022).
        label: samples sorted by label, cut into n contiguous shards of nearly equal size; the split of
            McMahan et al. 2017 (arXiv 1602.05629) with one piece per worker. The seed orders samples within
            a label.
        unequal: one shuffle, cut into sizes in proportion to 1, 2, ..., n: worker n - 1 has n times the samples of
            worker 0, of the same distribution.

    Raises ConfigError for an unknown kind, more workers than samples, a minimum that cannot be met, an ``alpha`` that
    is missing, not positive and finite, or given for another kind, and a kind by labels for targets that are none.
    """
    labels = np.asarray(labels.cpu() if isinstance(labels, Tensor) else labels)
    if kind not in SPLITS:
        raise ConfigError(f"unknown split {kind!r}: choose one of {', '.join(SPLITS)}")
    if whole(n, "the number of workers") < 1:
        raise ConfigError(f"the number of workers must be at least 1, not {n}")
    if n > len(labels):
        raise ConfigError(f"{n} workers but only {len(labels)} training samples: use fewer workers")
    if whole(min_size, "the minimum shard size") < 1 or min_size * n > len(labels):
        raise ConfigError(
            f"{n} shards of at least {min_size} samples cannot be cut from {len(labels)}: "
            f"choose a minimum shard size from 1 to {len(labels) // n}"
        )
    if kind != "dirichlet" and alpha is not None:
        raise ConfigError(f"the Dirichlet alpha {alpha} has no meaning for the {kind} split: leave it out")
    if kind in ("dirichlet", "label") and (labels.ndim > 1 or labels.dtype.kind == "f"):
        raise ConfigError(f"the {kind} split deals classes, and these targets are none: use iid or unequal")
    draws = rng("split", seed)
    if kind == "dirichlet":
        return _dirichlet(labels, n, alpha, min_size, draws)
    order = draws.permutation(len(labels))
    if kind == "label":
        order = order[np.argsort(labels[order], kind="stable")]
    if kind == "unequal":
        shards = np.split(order, np.cumsum(np.arange(1, n)) * len(labels) // (n * (n + 1) // 2))
        if len(shards[0]) < min_size:
            raise ConfigError(
                f"the smallest of {n} unequal shards has {len(shards[0])} of {len(labels)} samples, below the minimum "
                f"of {min_size}: lower it, or use fewer workers"
            )
    else:
        shards = np.array_split(order, n)
    return [shard.astype(np.int64) for shard in shards]


def _dirichlet(labels: np.ndarray, n: int, alpha, min_size: int, draws) -> list[np.ndarray]:
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not (math.isfinite(alpha) and alpha > 0):
        raise ConfigError(f"the Dirichlet split needs a positive, finite alpha, not {alpha}: try 0.1 to 10")
    classes, counts = np.unique(labels, return_counts=True)
    for _ in range(_DIRICHLET_TRIES):
        proportions = draws.dirichlet(np.full(n, float(alpha)), size=len(classes))
        cuts = (np.cumsum(proportions[:, :-1], axis=1) * counts[:, None]).round().astype(np.int64)
        cuts = np.minimum(cuts, counts[:, None])
        sizes = np.diff(cuts, axis=1, prepend=0, append=counts[:, None]).sum(axis=0)
        if sizes.min() >= min_size:
            break
    else:
        raise ConfigError(
            f"no Dirichlet({alpha}) split into {n} shards of at least {min_size} samples came up in "
            f"{_DIRICHLET_TRIES} draws: use a larger alpha, a smaller minimum shard size or fewer workers"
        )
    members = [draws.permutation(np.flatnonzero(labels == c)) for c in classes]
    pieces = [np.split(own, at) for own, at in zip(members, cuts, strict=True)]
    return [np.concatenate(parts).astype(np.int64) for parts in zip(*pieces, strict=True)]


def shards_of(labels: Tensor, n: int, settings) -> list[np.ndarray]:
    """The shards that an ``aldsgd.Settings`` says: a split by name, or the user's own."""
    if not isinstance(settings.split, str):
        return checked_shards(settings.split, len(labels), n)
    seed = settings.seed if settings.split_seed is None else settings.split_seed
    return split(labels, n, settings.split, seed, settings.dirichlet_alpha, settings.min_shard)


def checked_shards(shards, samples: int, n: int) -> list[np.ndarray]:
    """A user's own shards, one index array per worker, as int64. Raises ConfigError for what cannot be one."""
    if not isinstance(shards, Sequence | np.ndarray | Tensor):
        raise ConfigError(
            f"the split is a {type(shards).__name__}: give a name or a list of one index array per worker"
        )
    if len(shards) != n:
        raise ConfigError(f"{len(shards)} shards for {n} workers: give one index array per worker")
    found = []
    for worker, shard in enumerate(shards):
        try:
            shard = np.asarray(shard.cpu() if isinstance(shard, Tensor) else shard)
        except (TypeError, ValueError):
            shard = np.empty(0)
        if shard.ndim != 1 or shard.dtype.kind not in "iu" or not len(shard):
            raise ConfigError(f"the shard of worker {worker} is no list of positions: give integers, one or more")
        if shard.min() < 0 or shard.max() >= samples:
            raise ConfigError(f"the shard of worker {worker} names samples outside 0..{samples - 1}: correct it")
        found.append(shard.astype(np.int64))
    every = np.concatenate(found)
    if len(np.unique(every)) < len(every):
        raise ConfigError("a sample stands twice in the shards: give each to one worker, once")
    return found


def steps_per_epoch(samples: int, workers: int, batch: int) -> int:
    """K = ceil(N / (n b)): in K steps all workers together see as many samples as there are.

    Raises ConfigError unless n and b are whole numbers, 1 or more.
    """
    for name, value in (("workers", workers), ("batch", batch)):
        if whole(value, name) < 1:
            raise ConfigError(f"{name} = {value} must be 1 or more")
    return math.ceil(samples / (workers * batch))


FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def normalise(images: Tensor, mean: Tensor | None, std: Tensor | None, dtype: torch.dtype = torch.float32) -> Tensor:
    """uint8 (..., C, H, W) to ``dtype``: (x / 255 - mean) / std per channel; mean, std (C,) in 0..1 units.

    Without mean and std, uint8 is only scaled to 0..1. Float inputs are features and keep their own units:
    (x - mean) / std where both are given, otherwise as they are. The input itself is never changed.
    On a CPU, normalised colour images lie in memory channels last: convolutions run faster so. Other integers are
    tokens and stay what they are.
    """
    if images.dtype not in (torch.uint8, *FLOATS):
        return images
    pixels = not images.is_floating_point()
    unit = 255.0 if pixels else 1.0
    if mean is None or std is None:
        return images.to(dtype).div_(unit) if pixels else images.to(dtype)
    # The conversion already makes a new tensor; in place on it is several times faster than a fused
    # ``addcmul`` with broadcast constants on a CPU.
    colour = images.ndim == 4 and images.shape[1] > 1 and images.device.type == "cpu"
    layout = torch.channels_last if colour else torch.preserve_format
    fresh = images.to(dtype, copy=True, memory_format=layout)
    return fresh.sub_((mean.to(dtype) * unit)[:, None, None]).div_((std.to(dtype) * unit)[:, None, None])


def real(targets: Tensor, dtype: torch.dtype) -> Tensor:
    """Targets to regress on in the ``dtype`` of the outputs; classes as they are."""
    return targets.to(dtype) if targets.is_floating_point() else targets


def augment(images: Tensor, dy: Tensor, dx: Tensor, flip: Tensor, pad: int = PAD) -> Tensor:
    """Random crop after zero padding, then horizontal flip, of a whole batch: (B, C, H, W) -> same shape.

    dy, dx: (B,) integers in 0..2 pad, row and column of the padded image where the crop starts; flip:
    (B,) bool. The same as torchvision's RandomCrop(size, padding=pad) and RandomHorizontalFlip with these
    draws, on pixels before normalisation, so that the border is black (released code). Any dtype, any device.
    """
    b, c, height, width = images.shape
    padded = F.pad(images, (pad, pad, pad, pad)).flatten(2)
    rows = dy[:, None] + torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device).expand(b, width)
    columns = dx[:, None] + torch.where(flip[:, None], width - 1 - columns, columns)
    place = (rows[:, :, None] * (width + 2 * pad) + columns[:, None, :]).flatten(1)
    return padded.gather(2, place[:, None].expand(b, c, height * width)).view(b, c, height, width)


def augmentation(draws: np.random.Generator, shape: tuple[int, ...], pad: int = PAD) -> tuple[Tensor, Tensor, Tensor]:
    """Draws for ``augment``: dy, dx, flip, each of this shape."""
    dy, dx = (draws.integers(0, 2 * pad + 1, shape) for _ in range(2))
    return torch.from_numpy(dy), torch.from_numpy(dx), torch.from_numpy(draws.random(shape) < 0.5)


@dataclass(frozen=True)
class EpochPlan:
    """What w workers see in the K steps of an epoch, b samples each.

    index: (w, K, b) int64 positions in the training set. dy, dx (int64, 0..2 pad) and flip (bool): (w, K, b)
    draws for ``augment``, or None without augmentation.
    """

    index: Tensor
    dy: Tensor | None = None
    dx: Tensor | None = None
    flip: Tensor | None = None


class Batches:
    """Every worker's endless walk over its own shard, cut into epochs of K steps of b samples.

    Worker i walks through one random permutation of its shard after another, so that a pass shows each
    sample once and a batch may span two passes; epoch e is positions e K b to (e + 1) K b of that walk. A
    plan is a pure function of (seed, worker, epoch): there is no state, and it does not matter which workers
    are asked for, or in which order the epochs are.

    shards: one int64 index array per worker, as from ``split``; batch: b; steps_per_epoch: K; pad: padding of
    the crops; second: another walk over the same shards, independent of the first. Raises ConfigError for an empty
    shard, a seed below zero, or b or K below one.
    """

    def __init__(
        self,
        shards: Sequence[np.ndarray],
        batch: int,
        steps_per_epoch: int,
        seed: int,
        augment: bool = False,
        pad: int = PAD,
        second: bool = False,
    ):
        self.shards = [np.asarray(shard, dtype=np.int64) for shard in shards]
        for worker, shard in enumerate(self.shards):
            if len(shard) == 0:
                raise ConfigError(f"worker {worker} has no training samples: give every worker at least one")
        if batch < 1 or steps_per_epoch < 1:
            raise ConfigError(f"batch {batch} and steps per epoch {steps_per_epoch} must both be at least 1")
        if seed < 0:
            raise ConfigError(f"the seed must be zero or more, not {seed}")
        self.batch, self.steps_per_epoch, self.seed = batch, steps_per_epoch, seed
        self.augment, self.pad = augment, pad
        self.streams = ("second order", "second augmentation") if second else ("order", "augmentation")

    def epoch(self, epoch: int, workers: Sequence[int]) -> EpochPlan:
        """The plan of ``workers`` (numbers in 0..n-1, any subset, any order) for epoch 0, 1, ..."""
        shape = (len(workers), self.steps_per_epoch, self.batch)
        index = torch.from_numpy(np.stack([self._walk(epoch, i) for i in workers])).view(shape)
        if not self.augment:
            return EpochPlan(index)
        drawn = [augmentation(rng(self.streams[1], self.seed, w, epoch), shape[1:], self.pad) for w in workers]
        return EpochPlan(index, *map(torch.stack, zip(*drawn, strict=True)))

    def _walk(self, epoch: int, worker: int) -> np.ndarray:
        shard, length = self.shards[worker], self.steps_per_epoch * self.batch
        first, skipped = divmod(epoch * length, len(shard))
        last = (skipped + length - 1) // len(shard)
        passes = [rng(self.streams[0], self.seed, worker, first + q).permutation(shard) for q in range(last + 1)]
        return np.concatenate(passes)[skipped : skipped + length]
