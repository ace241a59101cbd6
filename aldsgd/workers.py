"""Virtual workers: n models hosted as the rows of one flat tensor, with their gradients.

Every module's parameters are views into its row of ``parameters`` (w, P), and their ``.grad`` views into
``gradients`` (w, P): mixing is a product with one tensor, and a plain SGD step is one fused operation. A worker's
initial model and random stream depend on its number and the seed alone, never on who hosts it.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aldsgd.engines import BY_NAME, ENGINES, Loss, choose
from aldsgd.errors import ConfigError
from aldsgd.precision import Arithmetic
from aldsgd.rows import attach, flat, running_statistics, trainable

__all__ = [
    "ENGINES", "STARTS", "Loss", "Workers", "attach", "flat", "initial_model", "running_statistics", "trainable",
]  # fmt: skip

STARTS = ("different", "same", "mean")


class Workers:
    """The models of some of n workers, side by side in this process.

    Args:
        build: makes one ``nn.Module``; called with torch's random stream fixed by (seed, worker).
        hosted: numbers of the workers hosted here. n: number of workers in all.
        start: "different" random models (released code), "same" (that of worker 0 for all), or "mean" of the n random
            models (MATCHA's code). seed: of the initial models and of dropout.
        loss: (outputs, targets) -> scalar mean loss. device: of parameters and inputs. precision: a name of
            ``aldsgd.precision``. engine: a name of ``aldsgd.engines``, or "auto".

    Attributes:
        parameters, gradients: (w, P). modules: one per hosted worker. dtype: of parameters and inputs.
        engine, engine_reason: path taken, and why. path: the engine itself.

    Raises:
        ConfigError: no trainable parameters, several dtypes, an unknown option, or a model that the engine cannot run.
    """

    def __init__(
        self,
        build: Callable[[], nn.Module],
        hosted: Sequence[int],
        n: int,
        seed: int = 0,
        start: str = "different",
        loss: Loss = F.cross_entropy,
        device="cpu",
        precision: str = "float32",
        engine: str = "auto",
    ):
        if start not in STARTS:
            raise ConfigError(f"unknown start '{start}'; choose one of: {', '.join(STARTS)}")
        self.hosted, self.n, self.seed, self.loss = tuple(hosted), n, seed, loss
        self.device, self.arithmetic = torch.device(device), Arithmetic(precision, device)
        self.dtype = self.arithmetic.dtype
        self.modules = []
        for worker in self.hosted:
            module = initial_model(build, seed, 0 if start == "same" else worker)
            self.modules.append(module.to(device=self.device, dtype=self.dtype))
        size = sum(p.numel() for p in trainable(self.modules[0]))
        if size == 0:
            raise ConfigError("the model has no trainable parameters; there is nothing to exchange")
        self.engine, self.engine_reason = choose(engine, self.modules[0], self.device)
        self.parameters = torch.empty(len(self.hosted), size, dtype=self.dtype, device=self.device)
        self.gradients = torch.zeros_like(self.parameters)
        for module, row, gradient in zip(self.modules, self.parameters, self.gradients, strict=True):
            attach(module, row, gradient)
        if start == "mean":
            mean = torch.zeros(size, dtype=torch.float64)
            for worker in range(n):
                mean += flat(initial_model(build, seed, worker)).double()
            self.parameters.copy_((mean / n).to(self.parameters)[None].expand_as(self.parameters))
        self.path = BY_NAME[self.engine](self)

    def compute_gradients(self, inputs: Tensor, targets: Tensor, step: int) -> Tensor:
        """Mini-batch losses (w,), and their gradients into ``gradients``.

        Args:
            inputs: (w, b, ...), targets: (w, b, ...); row i belongs to ``hosted[i]``.
            step: global step; with the seed and the worker it fixes what dropout draws.
        """
        with self.arithmetic.flags():
            return self.path.gradients(inputs, targets, step)

    def train(self, mode: bool = True) -> None:
        """Switch every hosted module to training or evaluation mode."""
        for module in self.modules:
            module.train(mode)

    @torch.no_grad()
    def outputs(self, inputs: Tensor) -> Tensor:
        """Outputs (w, b, ...) of every hosted model on the same inputs (b, ...)."""
        with self.arithmetic.flags(), self.arithmetic.forward():
            return self.path.outputs(inputs).to(self.dtype)


def initial_model(build: Callable[[], nn.Module], seed: int, worker: int) -> nn.Module:
    """The random model of one worker, a function of (seed, worker); torch's own stream is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(np.random.SeedSequence([seed, worker]).generate_state(1, np.uint64)[0] >> 1))
        return build()
