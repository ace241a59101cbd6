"""How a run trains, checked before anything is built."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from aldsgd.clocks import Clock
from aldsgd.defences import Defence
from aldsgd.engines import ENGINES
from aldsgd.errors import ConfigError, whole
from aldsgd.evaluation import POLICIES
from aldsgd.faults import fault_of
from aldsgd.links import Link
from aldsgd.local import check_local
from aldsgd.precision import PRECISIONS
from aldsgd.workers import STARTS

LARGEST = 10**9
CHOICES = {"precision": tuple(PRECISIONS), "start": STARTS, "batchnorm": POLICIES, "engine": ENGINES}


@dataclass(frozen=True)
class Settings:
    """How a run trains. Defaults are the paper's, except for the number of epochs.

    epochs; batch: samples per worker and step; lr: one learning rate or one per worker; weight_decay: on every
    parameter; optimizer: "sgd", "adam", "adamw", or what makes a ``torch.optim`` optimizer from parameters and
    ``lr``; momentum, nesterov: of sgd; betas: of adam and adamw; schedule: "steps", "cosine", "constant"
    (``aldsgd.local.factor``), or what makes a scheduler from the optimizer, stepped once per ``schedule_per``
    ("step" or "epoch"); lr_drops: (epoch, factor) pairs of "steps", applied from that epoch on; warmup: epochs;
    seed: of models, shards, batches; start: initial models (``aldsgd.workers``); split: a name or a list of index
    arrays, dirichlet_alpha, min_shard (``aldsgd.data``), split_seed: of the shards, None for ``seed``; augment:
    crop and flip; batchnorm, bn_images: policy (``aldsgd.evaluation``); also: further policies of the last test,
    whose columns begin with their name; personalised: test each worker also on the labels of its own shard
    (``aldsgd.tasks.personalised``); eval_every: epochs between tests, the last is always tested;
    interim_images: test samples of the tests before the last, spread over the classes, None for all; precision: a
    name of ``aldsgd.precision``; link, compute_seconds: the modelled clock, with compute_seconds per step stated by
    the user; clock: train in virtual time (``aldsgd.virtual``), as asynchronous methods do; real: or else in real
    time, between processes (``aldsgd.peers``); device; engine (``aldsgd.engines``). fault, faulty, lies,
    fault_strength, fault_from: what is wrong with which workers from which step on (``aldsgd.faults.Fault``); defence,
    radius, trim, lead_cap: what the workers do about it (``aldsgd.defences.Defence``).

    Raises ConfigError for a value that makes no sense.
    """

    epochs: int = 10
    batch: int = 16
    lr: float | Sequence[float] = 0.4
    weight_decay: float = 5e-4
    optimizer: str | Callable = "sgd"
    momentum: float = 0.0
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: str | Callable = "steps"
    schedule_per: str = "epoch"
    lr_drops: Sequence[tuple[int, float]] = ()
    warmup: float = 0.0
    seed: int = 0
    start: str = "different"
    split: str | Sequence = "iid"
    split_seed: int | None = None
    dirichlet_alpha: float | None = None
    min_shard: int = 1
    augment: bool = False
    batchnorm: str = "augmented"
    also: Sequence[str] = ()
    personalised: bool = False
    bn_images: int = 2048
    eval_every: int = 1
    interim_images: int | None = None
    precision: str = "float32"
    link: Link = field(default_factory=Link)
    compute_seconds: float = 0.01
    clock: Clock | None = None
    real: bool = False
    fault: str | None = None
    faulty: Sequence[int] = ()
    lies: bool = False
    fault_strength: float | None = None
    fault_from: int = 0
    defence: str = "none"
    radius: float = 1.0
    trim: int = 1
    lead_cap: int | None = None
    device: str = "cpu"
    engine: str = "auto"

    def __post_init__(self):
        for name in ("epochs", "batch", "eval_every", "bn_images", "min_shard"):
            value = getattr(self, name)
            least = 2 if name == "bn_images" else 1  # of a single one there is no variance
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value < LARGEST:
                raise ConfigError(f"{name} = {value} must be a whole number, {least} or more and below {LARGEST:,}")
        if self.interim_images is not None and not 1 <= whole(self.interim_images, "interim_images") < LARGEST:
            raise ConfigError(f"interim_images = {self.interim_images} must be 1 or more, below {LARGEST:,}, or none")
        object.__setattr__(self, "also", tuple(self.also))
        for name in self.also:
            if name not in POLICIES or self.also.count(name) > 1 or name == self.batchnorm:
                others = ", ".join(policy for policy in POLICIES if policy != self.batchnorm)
                raise ConfigError(f"also = {', '.join(map(str, self.also))} must be different ones of: {others}")
        for name in ("seed", "split_seed"):
            value = getattr(self, name)
            if name == "split_seed" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**32:
                raise ConfigError(f"{name} = {value} must be a whole number, not negative and below 2^32")
        object.__setattr__(self, "lr", tuple(self.lr) if several(self.lr) else self.lr)
        for rate in self.lr if several(self.lr) else (self.lr,):
            if isinstance(rate, bool) or not isinstance(rate, int | float) or not (math.isfinite(rate) and rate >= 0):
                raise ConfigError(f"lr = {self.lr} must be finite and not negative: one number, or one per worker")
        for name in ("weight_decay", "compute_seconds", "momentum", "warmup"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"{name} = {value} must be a finite number, zero or more")
        for drop in self.lr_drops:
            epoch, share = drop if several(drop) and len(drop) == 2 else (-1, math.nan)
            if not (isinstance(epoch, int) and epoch >= 0 and math.isfinite(share) and share >= 0):
                raise ConfigError(f"lr_drops = {self.lr_drops} must be pairs (epoch, factor), neither of them negative")
        for name, known in CHOICES.items():
            value = getattr(self, name)
            if isinstance(value, str) and value not in known:
                raise ConfigError(f"unknown {name} '{value}'; choose one of: {', '.join(known)}")
        if self.clock is not None and not self.compute_seconds > 0:
            raise ConfigError("virtual time needs compute_seconds above 0, the mean seconds of a gradient")
        check_local(self)
        object.__setattr__(self, "faulty", tuple(self.faulty))
        fault_of(self)
        Defence(self.defence, self.radius, self.trim, self.lead_cap)


def several(value) -> bool:
    """Whether a value is a sequence of numbers rather than one."""
    return isinstance(value, Sequence) and not isinstance(value, str)
