"""On what leaders are judged, besides the mini-batches whose gradients are taken: a plan for each epoch, no state.

- "second": a second walk of each worker over its own shard, independent of the first.
- "shared": a small set, the same at every step, that all workers share and none trains on: equal parts of all shards,
  with the labels that these have.
- "receiver": the next mini-batch of whoever hears a model, on which it then takes its own gradient.
"""

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import torch

from aldsgd.data import Batches, EpochPlan
from aldsgd.errors import ConfigError


class Judging:
    """What judges in each step. draw: a name of ``aldsgd.step.DRAWS``. batches, second: two walks over the shards of
    all workers. shared: the samples (M,) that they share."""

    def __init__(self, draw: str, batches: Batches, second: Batches, shared: np.ndarray):
        self.draw, self.batches, self.second = draw, batches, second
        self.shared = torch.from_numpy(shared)

    def epoch(self, epoch: int, workers: Sequence[int], plan: EpochPlan) -> EpochPlan | None:
        """Of ``workers``, whose own mini-batches are ``plan``; None where these judge, or nothing of this."""
        if self.draw == "second":
            return self.second.epoch(epoch, workers)
        if self.draw == "receiver":
            return next_of(plan, self.batches.epoch(epoch + 1, workers))
        if self.draw == "shared":
            return EpochPlan(self.shared.expand(len(workers), self.batches.steps_per_epoch, -1))
        return None


def next_of(now: EpochPlan, after: EpochPlan) -> EpochPlan:
    """For each step of an epoch the mini-batch of the step that follows, the last of which is in the epoch after."""
    pairs = ((getattr(now, f.name), getattr(after, f.name)) for f in fields(EpochPlan))
    return EpochPlan(*(None if a is None else torch.cat([a[:, 1:], b[:, :1]], dim=1) for a, b in pairs))


def set_apart(shards: Sequence[np.ndarray], count: int) -> tuple[list[np.ndarray], np.ndarray]:
    """(shards without them, ``count`` samples (M,) of all shards in equal parts, evenly spread over each).

    Raises ConfigError where a shard would have nothing left.
    """
    left, taken = [], []
    for i, shard in enumerate(shards):
        share = count // len(shards) + (i < count % len(shards))
        if share >= len(shard):
            raise ConfigError(f"worker {i} has {len(shard)} samples, of which {share} would be shared; share fewer")
        places = np.arange(share) * len(shard) // max(share, 1)
        taken.append(np.asarray(shard)[places])
        left.append(np.delete(shard, places))
    return left, np.concatenate(taken).astype(np.int64)
