"""Virtual workers: n models hosted as the rows of one flat tensor, with their gradients.

Every module's parameters are views into its row of ``parameters`` (w, P), and their ``.grad`` views into
``gradients`` (w, P): mixing is a product with one tensor, and a plain SGD step is one fused operation. A worker's
initial model and random stream depend on its number and the seed alone, never on who hosts it.
"""

import random
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aldsgd.engines import BY_NAME, Loss, choose
from aldsgd.errors import ConfigError, one_line
from aldsgd.precision import Arithmetic
from aldsgd.rows import attach, checked_model, fingerprint, flat, lent, structure, trainable, untrained
from aldsgd.streams import torch_seed

STARTS = ("different", "same", "mean")


class Workers:
    """The models of some of n workers, side by side in this process.

    What is not trained (frozen parameters, and buffers as they are at first) is one for all: that of worker 0's initial
    model. BatchNorm's running statistics then become each worker's own. A checkpoint keeps parameters and buffers: what
    a module counts in other attributes is lost when a run goes on from one.

    Args:
        build: makes one ``nn.Module``; called with torch's random stream fixed by (seed, worker).
        hosted: numbers of the workers hosted here. n: number of workers in all.
        start: "different" random models (released code), "same" (that of worker 0 for all), or "mean" of the n random
            models (MATCHA's code). seed: of the initial models and of dropout.
        loss: (outputs, targets) -> scalar mean loss. device: of parameters and inputs. precision: a name of
            ``aldsgd.precision``. engine: a name of ``aldsgd.engines``, or "auto". centres: rows without data to host,
            which start as worker 0's initial model.

    Attributes:
        rows: (w + centres, P). parameters: (w, P), those with data. gradients: (w, P). modules: one per hosted worker.
        fingerprint: of worker 0's initial model, 0 where all workers live here. dtype: of parameters and inputs.
        engine, engine_reason: path taken, and why. path: the engine itself.

    Raises:
        ConfigError: what ``build`` gives is no model that can be trained, or not one of its own for each worker; an
            unknown option; a model that the engine cannot run.
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
        centres: int = 0,
    ):
        if start not in STARTS:
            raise ConfigError(f"unknown start '{start}'; choose one of: {', '.join(STARTS)}")
        self.hosted, self.n, self.seed, self.loss = tuple(hosted), n, seed, loss
        self.device, self.arithmetic = torch.device(device), Arithmetic(precision, device)
        self.dtype = self.arithmetic.dtype
        self.modules = [initial_model(build, seed, 0 if start == "same" else worker) for worker in self.hosted]
        first = self.modules[0] if self.hosted[0] == 0 else initial_model(build, seed, 0)
        self._check(first)
        with torch.no_grad():
            for module in self.modules:
                for own, shared in zip(untrained(module), untrained(first), strict=True):
                    own.copy_(shared)
        # Of worker 0's initial model, which every process makes for itself.
        self.fingerprint = fingerprint(first) if len(self.hosted) < n else 0
        start_of_centres = flat(first) if centres else None
        self.modules = [module.to(device=self.device, dtype=self.dtype) for module in self.modules]
        size = sum(p.numel() for p in trainable(self.modules[0]))
        self.engine, self.engine_reason = choose(engine, self.modules[0], self.device, loss)
        self.rows = torch.empty(len(self.hosted) + centres, size, dtype=self.dtype, device=self.device)
        if centres:
            self.rows[len(self.hosted) :] = start_of_centres.to(self.rows)
        self.parameters = self.rows[: len(self.hosted)]
        self.gradients = torch.zeros_like(self.parameters)
        for module, row, gradient in zip(self.modules, self.parameters, self.gradients, strict=True):
            attach(module, row, gradient)
        if start == "mean":
            mean = torch.zeros(size, dtype=torch.float64)
            for worker in range(n):
                mean += flat(initial_model(build, seed, worker)).double()
            self.parameters.copy_((mean / n).to(self.parameters)[None].expand_as(self.parameters))
        self.path = BY_NAME[self.engine](self)

    def _check(self, first: nn.Module) -> None:
        """Raise ConfigError unless the models are like ``first``, that of worker 0, and each has tensors of its own."""
        modules = self.modules if first is self.modules[0] else [first, *self.modules]
        known, seen = structure(first), set()
        for module in modules:
            if structure(module) != known:
                raise ConfigError(
                    "build gives workers different models, or models of different sizes; build equal ones"
                )
            moving = {t.untyped_storage().data_ptr() for t in (*trainable(module), *module.buffers()) if t.numel()}
            if seen & moving:
                raise ConfigError(
                    "build gives workers the same parameters or buffers; make new ones at each call, as a class does"
                )
            seen |= moving

    def compute_gradients(
        self, inputs: Tensor, targets: Tensor, step: int, which: Sequence[int] | None = None
    ) -> Tensor:
        """Mini-batch losses (w,), and their gradients into ``gradients``.

        Args:
            inputs: (w, b, ...), targets: (w, b, ...); row i belongs to ``hosted[i]``.
            step: global step; with the seed and the worker it fixes what dropout draws.
            which: positions of some hosted workers; then inputs, targets and losses are theirs, and nothing of any
                other worker changes.
        """
        with self.arithmetic.flags():
            if which is None:
                return self.path.gradients(inputs, targets, step)
            return self.path.some(inputs, targets, step, which)

    def compute_together(self, inputs: Tensor, targets: Tensor, steps: Sequence[int], which: Sequence[int]) -> Tensor:
        """The same of the hosted workers at the positions ``which``, in ascending order, each at a step of its own."""
        with self.arithmetic.flags():
            return self.path.together(inputs, targets, steps, which)

    def probe(self, inputs: Tensor, targets: Tensor, check: Callable[[Tensor, Tensor], None]) -> None:
        """Try the first model and the loss on the batch (b, ...) of one worker, and leave no trace.

        Raises ConfigError where the model cannot take it, ``check`` refuses its outputs, or the loss is no scalar that
        the parameters move.
        """
        with (
            torch.random.fork_rng(devices=[]),
            self.arithmetic.flags(),
            lent(self.modules[0], self.parameters[0].clone()) as model,
        ):
            try:
                with self.arithmetic.forward():
                    outputs = model(inputs)
                if not isinstance(outputs, Tensor):
                    raise ConfigError(f"the model returns a {type(outputs).__name__}; return one tensor, the outputs")
                check(outputs, targets)
                loss = self.loss(outputs.to(self.dtype), targets)
                if not (isinstance(loss, Tensor) and loss.ndim == 0 and loss.is_floating_point()):
                    raise ConfigError("the loss is no scalar tensor of real numbers; return the mean over the batch")
                own = trainable(model)
                moved = torch.autograd.grad(loss, own, allow_unused=True) if loss.requires_grad else (None,)
            except ConfigError:
                raise
            except Exception as error:
                raise ConfigError(
                    f"the model or the loss fails on a batch of inputs {tuple(inputs.shape)} and targets "
                    f"{tuple(targets.shape)} ({type(error).__name__}: {one_line(error)})"
                ) from error
            if all(gradient is None for gradient in moved):
                raise ConfigError("the loss does not depend on the model's parameters; do not detach it")

    def reseed(self, purpose: str, *numbers: int) -> None:
        """Begin one of the streams that torch draws from on this device; ``torch.manual_seed`` asks every kind of
        device, which takes as long as a small layer."""
        torch.default_generator.manual_seed(torch_seed(purpose, self.seed, *numbers))
        if self.device.type == "cuda":
            torch.cuda.manual_seed(torch_seed(purpose, self.seed, *numbers))

    @torch.no_grad()
    def outputs(self, inputs: Tensor) -> Tensor:
        """Outputs (w, b, ...) of every hosted model on the same inputs (b, ...)."""
        with self.arithmetic.flags(), self.arithmetic.forward():
            return self.path.outputs(inputs).to(self.dtype)


def initial_model(build: Callable[[], nn.Module], seed: int, worker: int) -> nn.Module:
    """The random model of one worker, a function of (seed, worker); torch's own stream is left as it was.

    Raises ConfigError where ``build`` is no builder, or gives no model that can be trained.
    """
    if isinstance(build, nn.Module) or not callable(build):
        raise ConfigError(f"build is a {type(build).__name__}, not a function that makes a model; pass lambda: Net()")
    kept = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed("initial model", seed, worker))
        # A builder may draw from these as well; its model is then the same wherever the worker lives.
        random.seed(torch_seed("builder", seed, worker))
        np.random.seed(torch_seed("builder", seed, worker) % 2**32)
        try:
            model = build()
        except (ConfigError, MemoryError):
            raise
        except Exception as error:
            raise ConfigError(
                f"build fails ({type(error).__name__}: {one_line(error)}); it takes no arguments"
            ) from error
        finally:
            random.setstate(kept[0])
            np.random.set_state(kept[1])
    return checked_model(model)
