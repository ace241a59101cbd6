"""Workers that are not alike: initial models of different size, and wrong labels at some of them."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from aldsgd.datasets import Data
from aldsgd.errors import ConfigError, whole
from aldsgd.streams import rng


def scaled(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """``build``, then each parameter tensor times its own number from U(0, 2).

    As in the released code's three-graph script, which takes these numbers unseeded; here they come from torch's
    stream right after the model's, so that (seed, worker) fixes them.
    """

    def build_scaled() -> nn.Module:
        model = build()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(2 * torch.rand(()))
        return model

    return build_scaled


def label_noise(data: Data, shards: Sequence[np.ndarray], noisy: int, share: float, seed: int) -> Data:
    """``data`` in which ``noisy`` of the workers have this share of wrong training labels; the test set stays clean.

    shards: index array of each worker. Which workers are noisy follows from the seed, and 2 noisy ones are among 4.
    Of a noisy worker's labels round(share * size) are replaced by another class, drawn uniformly. Raises ConfigError
    for a share outside 0..1, more noisy workers than workers, or a single class.
    """
    if not (isinstance(share, int | float) and 0 <= share <= 1):
        raise ConfigError(f"label_noise = {share} is not a share; give 0 to 1")
    if not 0 <= whole(noisy, "noisy_workers") <= len(shards):
        raise ConfigError(f"noisy_workers = {noisy} of {len(shards)} workers; give 0 to {len(shards)}")
    if data.task != "classification":
        raise ConfigError(f"label noise needs classes, not {data.task}; leave it out")
    if data.outputs < 2:
        raise ConfigError("labels of a single class cannot be wrong; use data with two classes or more")
    labels = data.train_targets.cpu().numpy().copy()
    for worker in rng("noisy workers", seed).permutation(len(shards))[:noisy]:
        draws = rng("wrong labels", seed, worker)
        wrong = draws.permutation(shards[worker])[: round(share * len(shards[worker]))]
        labels[wrong] = (labels[wrong] + draws.integers(1, data.outputs, len(wrong))) % data.outputs
    return replace(data, train_targets=torch.from_numpy(labels).to(data.train_targets.device))
