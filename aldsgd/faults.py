"""Faulty workers: what is wrong with a model, or with what others hear of it, for every method and any R.

A faulty worker does its part for itself: it moves, hears the others and mixes. What the others hear of it is another
row, as the fault says; in the coordinates of the exchange it is a Byzantine worker (Lamport et al. 1982; for learning
Blanchard et al. 2017, arXiv 1703.02757). Two faults are of the model itself: parameters that turn NaN, and labels that
are wrong. A faulty worker may also lie: of every loss that it reports it says 0, the least that a cross-entropy can be.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from aldsgd.data import shards_of
from aldsgd.datasets import Data
from aldsgd.errors import ConfigError, brief, checked_numbers, whole
from aldsgd.streams import torch_seed

#: Kind -> what it does, and its strength where none is given.
FAULTS = {
    "honest": ("sends the model that it has, which is for finding out what a lie alone does", None),
    "random": ("sends Gaussian numbers of its model's root mean square times the strength, always the same", 1.0),
    "scaled": ("sends its model times the strength", 10.0),
    "flipped": ("trains on wrong labels, class c as the last class less c", None),
    "nan": ("has parameters that are no numbers", None),
    "growing": ("sends its model times the strength to the power of the steps since the fault began", 1.1),
    "noise": ("sends its model plus fresh Gaussian noise, of the model's root mean square times the strength", 1.0),
    "sign": ("steps against its direction", None),
    "stopped": ("sends what it had when the fault began", None),
    "old": ("sends what it had at the last multiple of so many steps as the strength says", 100.0),
}
#: Kinds that send what they remember.
REMEMBERING = ("stopped", "old")


@dataclass(frozen=True)
class Fault:
    """What is wrong, with whom, from which step on.

    kind: of ``FAULTS``. workers: numbers of the faulty ones. lies: whether they report losses of 0. strength: None for
    the kind's own. start: first step, counted from 0; labels are wrong from the first.

    Raises ConfigError for a kind that is none, workers that are none, or a strength without effect.
    """

    kind: str
    workers: tuple[int, ...]
    lies: bool = False
    strength: float | None = None
    start: int = 0

    def __post_init__(self):
        if self.kind not in FAULTS:
            raise ConfigError(f"unknown fault {brief(self.kind)}; choose one of: {', '.join(FAULTS)}")
        workers = tuple(whole(worker, "a faulty worker") for worker in self.workers)
        if not workers or len(set(workers)) < len(workers) or min(workers) < 0:
            raise ConfigError(f"faulty = {brief(self.workers)} must be different numbers of workers, from 0 on")
        own = FAULTS[self.kind][1]
        if self.strength is not None:
            if own is None:
                raise ConfigError(f"fault_strength has no effect on the fault '{self.kind}'; leave it out")
            checked_numbers(dict(fault_strength=self.strength))
        if self.kind == "old" and self.of < 1:
            raise ConfigError(f"fault_strength = {self.of:g} of an old model is a number of steps; give 1 or more")
        if whole(self.start, "fault_from") < 0:
            raise ConfigError(f"fault_from = {self.start} must be a step, 0 or more")

    @property
    def of(self) -> float | None:
        """The strength."""
        return FAULTS[self.kind][1] if self.strength is None else self.strength

    def check(self, n: int) -> None:
        """Raise ConfigError unless its workers are among n, of which one is left that is not faulty."""
        if max(self.workers) >= n or len(self.workers) >= n:
            raise ConfigError(f"faulty = {self.workers} of {n} workers; name some of 0 to {n - 1}, not all of them")

    def disturb(self, models: Tensor, gradients: Tensor, positions: Sequence[int], step: int) -> None:
        """What happens to the hosted faulty workers themselves, at ``positions``, before they move; (w, P) each."""
        if step >= self.start and positions:
            if self.kind == "nan":
                models[list(positions)] = torch.nan
            elif self.kind == "sign":
                gradients[list(positions)] *= -1

    def message(self, row: Tensor, kept: Tensor | None, worker: int, step: int, seed: int) -> Tensor:
        """What others hear instead of a row (P,); ``kept``: what the worker remembers of it."""
        if step < self.start:
            return row
        if self.kind == "scaled":
            return self.of * row
        if self.kind == "growing":
            return row * self.of ** (step - self.start)
        if self.kind in ("random", "noise"):
            size = row.square().mean().sqrt() * self.of
            draw = torch.Generator().manual_seed(torch_seed("fault", seed, worker, step * (self.kind == "noise")))
            gaussian = torch.randn(len(row), generator=draw).to(row)
            return size * gaussian + (row if self.kind == "noise" else 0)
        return kept if self.kind in REMEMBERING else row

    def period(self, step: int) -> int:
        """How often a worker has remembered anew before ``step``; below 0 before the fault."""
        return -1 if step < self.start else int((step - self.start) // self.of) if self.kind == "old" else 0


def fault_of(settings) -> Fault | None:
    """The fault that an ``aldsgd.Settings`` names. Raises ConfigError where its parts do not fit each other."""
    if settings.fault is None:
        for name, unset in (("faulty", ()), ("lies", False), ("fault_strength", None), ("fault_from", 0)):
            if getattr(settings, name) != unset:
                raise ConfigError(f"{name} has no effect without fault; give fault='honest', say")
        return None
    return Fault(settings.fault, tuple(settings.faulty), settings.lies, settings.fault_strength, settings.fault_from)


def taught(data: Data, n: int, settings) -> Data:
    """``data`` as n workers learn from it: under the fault "flipped" of an ``aldsgd.Settings`` every training label c
    of the faulty ones is the last class less c. Shards by labels are cut by the right ones; the test set stays clean.

    Raises ConfigError for a faulty worker that is none of n, and where there are no classes.
    """
    fault = fault_of(settings)
    if fault is None or fault.kind != "flipped":
        return data
    fault.check(n)
    if data.task != "classification":
        raise ConfigError(f"flipped labels need classes, not {data.task}; choose another fault")
    labels, shards = data.train_targets.clone(), shards_of(data.train_targets, n, settings)
    for worker in fault.workers:
        own = torch.from_numpy(shards[worker]).to(labels.device)
        labels[own] = data.outputs - 1 - labels[own]
    return replace(data, train_targets=labels)
