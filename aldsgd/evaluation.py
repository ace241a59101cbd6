"""Test accuracy of every worker and of the averaged model, under a named BatchNorm policy.

Running statistics never influence training and are never exchanged; they matter only here.

- "own": each worker is tested with its own running statistics (released code). The averaged model, which has none, is
  tested with the mean of theirs.
- "averaged": every model is tested with the mean of the workers' running statistics.
- "reestimated": workers as in "own"; the averaged model's statistics are estimated anew, as the cumulative average
  over ``bn_images`` training images without augmentation (LSGD's released code does this before each test).
"""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from aldsgd.data import Data, normalise
from aldsgd.errors import ConfigError
from aldsgd.network import LocalNetwork
from aldsgd.rows import running_statistics, trainable
from aldsgd.workers import Workers

POLICIES = ("own", "averaged", "reestimated")
# Small enough that activations are not handed back to the system after each batch: on a CPU that costs more than the
# forward pass itself.
TEST_BATCH = 100
# On a GPU a test batch is larger, so that this many images (those of all workers) keep it busy.
GPU_IMAGES = 8000
STATISTICS_BATCH = 256


@dataclass
class Evaluator:
    """Evaluates models on ``data``'s test set.

    Args:
        data: data set, on the device of the models. policy: one of ``POLICIES``. bn_images: for "reestimated".
    """

    data: Data
    policy: str = "reestimated"
    bn_images: int = 2048

    def __post_init__(self):
        if self.policy not in POLICIES:
            raise ConfigError(f"unknown batchnorm '{self.policy}'; choose one of: {', '.join(POLICIES)}")

    def workers(self, workers: Workers, mean_statistics: list[Tensor]) -> tuple[Tensor, Tensor]:
        """(test loss (w,), test accuracy (w,)) of the hosted workers, float64 on the CPU."""
        own = [[buffer.clone() for buffer in running_statistics(module)] for module in workers.modules]
        if self.policy == "averaged":
            for module in workers.modules:
                set_statistics(module, mean_statistics)
        workers.train(False)
        result = self._test(workers.outputs, len(workers.modules), workers)
        workers.train(True)
        if self.policy == "averaged":
            for module, kept in zip(workers.modules, own, strict=True):
                set_statistics(module, kept)
        return result

    def averaged(self, workers: Workers, mean: Tensor, mean_statistics: list[Tensor]) -> tuple[float, float]:
        """(test loss, test accuracy) of the model with parameters ``mean`` (P,)."""
        model = detached_copy(workers.modules[0], mean.to(workers.parameters))
        set_statistics(model, mean_statistics)
        with workers.arithmetic.flags():
            if self.policy == "reestimated":
                self._reestimate(model, workers)
            model.eval()
            with torch.no_grad():
                loss, accuracy = self._test(lambda inputs: scores(model, inputs, workers)[None], 1, workers)
        return loss.item(), accuracy.item()

    def _test(self, outputs, count: int, workers: Workers) -> tuple[Tensor, Tensor]:
        loss = torch.zeros(count, dtype=torch.float64, device=workers.device)
        correct = torch.zeros(count, dtype=torch.float64, device=workers.device)
        images, labels = self.data.test_images, self.data.test_labels
        size = max(1, GPU_IMAGES // count) if workers.device.type == "cuda" else TEST_BATCH
        for batch, target in zip(images.split(size), labels.split(size), strict=True):
            found = outputs(normalise(batch, self.data.mean, self.data.std, workers.dtype))
            loss += torch.stack([workers.loss(s, target) for s in found]).double() * len(target)
            correct += (found.argmax(dim=2) == target).sum(dim=1)
        return (loss / len(labels)).cpu(), (correct / len(labels)).cpu()

    @torch.no_grad()
    def _reestimate(self, model: nn.Module, workers: Workers) -> None:
        layers = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        if not layers:
            return
        model.eval()
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None
            layer.train()
        # A fixed random choice: the images of a folder stand in order of their classes.
        chosen = np.random.default_rng(1234).permutation(len(self.data.train_images))[: self.bn_images]
        chosen = torch.as_tensor(chosen, device=self.data.train_images.device)
        for part in chosen.split(STATISTICS_BATCH):
            batch = self.data.train_images[part]
            scores(model, normalise(batch, self.data.mean, self.data.std, workers.dtype), workers)


def scores(model: nn.Module, inputs: Tensor, workers: Workers) -> Tensor:
    """Outputs (b, ...) of one model in the arithmetic of ``workers``."""
    with workers.arithmetic.forward():
        return model(inputs).to(workers.dtype)


def set_statistics(module: nn.Module, values: list[Tensor]) -> None:
    """Copy ``values`` into the module's floating-point buffers."""
    for buffer, value in zip(running_statistics(module), values, strict=True):
        buffer.copy_(value)


def mean_statistics(modules: list[nn.Module], network=None) -> list[Tensor]:
    """Mean over all workers of each floating-point buffer; ``network`` has those that ``modules`` leaves out."""
    groups = list(zip(*map(running_statistics, modules), strict=True))
    return (network or LocalNetwork(len(modules))).mean_of(groups)


def detached_copy(module: nn.Module, row: Tensor) -> nn.Module:
    """A copy of ``module`` that shares nothing with it, with parameters ``row`` (P,)."""
    # Without this memo deepcopy would clone the storage of all workers, of which each parameter is a view.
    memo = {id(p): nn.Parameter(p.detach().clone(), p.requires_grad) for p in module.parameters()}
    model = copy.deepcopy(module, memo)
    nn.utils.vector_to_parameters(row, trainable(model))
    return model
