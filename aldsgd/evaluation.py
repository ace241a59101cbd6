"""The metrics of every worker and of the averaged model on the test set, under a named BatchNorm policy.

Running statistics never influence training and are never exchanged; they matter only here.

- "own": each worker is tested with its own running statistics (released code). The averaged model, which has none, is
  tested with the mean of theirs.
- "averaged": every model is tested with the mean of the workers' running statistics.
- "augmented": workers as in "own"; the averaged model's statistics are estimated anew, as the mean over ``bn_images``
  training samples, augmented where training augments: what the model would have tracked itself.
- "reestimated": the same from samples without augmentation (LSGD's released code does this before each test). The
  averaged model of augmented runs then comes out a point or two too low.
- "fresh": the workers' statistics too are estimated anew, each worker's as in "augmented".
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from aldsgd.data import augment, augmentation, normalise, real
from aldsgd.datasets import FIXED_SEED, Data
from aldsgd.errors import ConfigError
from aldsgd.network import LocalNetwork
from aldsgd.rows import lent, running_statistics, set_statistics, untouched
from aldsgd.streams import rng
from aldsgd.tasks import Task
from aldsgd.workers import Workers

POLICIES = ("own", "averaged", "augmented", "reestimated", "fresh")
# Small enough that activations are not handed back to the system after each batch: on a CPU that costs more than the
# forward pass itself.
TEST_BATCH = 100
# On a GPU a test batch is larger, so that this many samples (those of all workers) keep it busy.
GPU_IMAGES = 8000
STATISTICS_BATCH = 256


@dataclass
class Evaluator:
    """Evaluates models on ``data``'s test set.

    Args:
        data: data set, on the device of the models. task: its metrics. policy: one of ``POLICIES``. bn_images: samples
            for statistics estimated anew. augmented: whether training augments.
    """

    data: Data
    task: Task
    policy: str = "augmented"
    bn_images: int = 2048
    augmented: bool = False

    def __post_init__(self):
        if self.policy not in POLICIES:
            raise ConfigError(f"unknown batchnorm '{self.policy}'; choose one of: {', '.join(POLICIES)}")

    @torch.no_grad()
    def workers(self, workers: Workers, mean_statistics: list[Tensor]) -> dict[str, Tensor]:
        """The loss and each metric of the hosted workers by name, (w,) float64 on the CPU; of a metric with a test set
        for each worker, each on its own."""
        with contextlib.ExitStack() as kept:
            for module in workers.modules:
                kept.enter_context(untouched(module))
                if self.policy == "averaged":
                    set_statistics(module, mean_statistics)
                elif self.policy == "fresh":
                    self._reestimate(module, workers)
                module.eval()
            found = self._test(workers.outputs, len(workers.modules), workers)
        own = torch.arange(len(workers.modules)), torch.tensor(workers.hosted)
        return {name: values[own] if values.ndim > 1 else values for name, values in found.items()}

    @torch.no_grad()
    def averaged_state(self, workers: Workers, row: Tensor, mean_statistics: list[Tensor]) -> dict[str, Tensor]:
        """``state_dict``, on the CPU, of the model that ``averaged`` tests."""
        with self._model(workers, row, mean_statistics) as model:
            return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def averaged(self, workers: Workers, row: Tensor, mean_statistics: list[Tensor]) -> dict[str, float]:
        """The loss and each metric of the model with parameters ``row`` (P,): the workers' mean, or a centre; the mean
        over test sets where each worker has one."""
        with self._model(workers, row, mean_statistics) as model:
            model.eval()
            found = self._test(lambda inputs: outputs(model, inputs, workers)[None], 1, workers)
        return {name: value.mean().item() for name, value in found.items()}

    @contextlib.contextmanager
    def _model(self, workers: Workers, row: Tensor, mean_statistics: list[Tensor]) -> Iterator[nn.Module]:
        """A model with parameters ``row`` (P,) and the statistics of the policy, in the run's arithmetic."""
        with lent(workers.modules[0], row.to(workers.parameters)) as model, workers.arithmetic.flags():
            set_statistics(model, mean_statistics)
            if self.policy not in ("own", "averaged"):
                self._reestimate(model, workers)
            yield model

    def _test(self, tested, count: int, workers: Workers) -> dict[str, Tensor]:
        loss = torch.zeros(count, dtype=torch.float64, device=workers.device)
        sums: list[Tensor | float] = [0.0] * count
        data = self.data
        size = max(1, GPU_IMAGES // count) if workers.device.type == "cuda" else TEST_BATCH
        for batch, target in zip(data.test_inputs.split(size), data.test_targets.split(size), strict=True):
            target = real(target, workers.dtype)
            found = tested(normalise(batch, data.mean, data.std, workers.dtype))
            loss += torch.stack([workers.loss(s, target) for s in found]).double() * len(target)
            sums = [total + self.task.sums(s, target) for total, s in zip(sums, found, strict=True)]
        values = [self.task.measure(s, data.test_targets) for s in sums]
        named = zip(self.task.metrics, zip(*values, strict=True), strict=True)
        return {"loss": (loss / len(data.test_targets)).cpu()} | {name: torch.stack(each).cpu() for name, each in named}

    def _reestimate(self, model: nn.Module, workers: Workers) -> None:
        layers = [m for m in model.modules() if isinstance(m, _NormBase) and m.track_running_stats and m.training]
        if not layers or len(self.data.train_inputs) < 2:  # of a single sample there is no variance
            return
        model.eval()
        for layer in layers:
            layer.reset_running_stats()
            layer.train()
        # A fixed random choice: the images of a folder stand in order of their classes.
        data, device = self.data, self.data.train_inputs.device
        chosen = torch.as_tensor(rng("fixed choice", FIXED_SEED).permutation(len(data.train_inputs))[: self.bn_images])
        draws, seen = rng("statistics", FIXED_SEED), dict.fromkeys(layers, 0)

        def weigh(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            # The mean over samples, however they are cut into batches, and over uses of the layer.
            seen[layer] += len(inputs[0])
            layer.momentum = len(inputs[0]) / seen[layer]

        with contextlib.ExitStack() as hooks:
            for layer in layers:
                hooks.enter_context(layer.register_forward_pre_hook(weigh))
            for part in chosen.tensor_split(-(-len(chosen) // STATISTICS_BATCH)):
                batch = data.train_inputs[part.to(device)]
                if self.policy != "reestimated" and self.augmented:
                    batch = augment(batch, *(draw.to(device) for draw in augmentation(draws, (len(part),))))
                outputs(model, normalise(batch, data.mean, data.std, workers.dtype), workers)


def outputs(model: nn.Module, inputs: Tensor, workers: Workers) -> Tensor:
    """Outputs (b, ...) of one model in the arithmetic of ``workers``."""
    # As between workers: a model may change its inputs in place, and draw at random also when it is tested.
    workers.reseed("test", workers.n)
    with workers.arithmetic.forward():
        return model(inputs.clone()).to(workers.dtype)


def mean_statistics(modules: list[nn.Module], network=None) -> list[Tensor]:
    """Mean over all workers of each floating-point buffer; ``network`` has those that ``modules`` leaves out."""
    groups = list(zip(*map(running_statistics, modules), strict=True))
    return (network or LocalNetwork(len(modules))).mean_of(groups)
