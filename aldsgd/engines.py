"""Ways to run the forward and backward pass of several workers in one process; all give the same numbers.

- "loop": worker after worker, any module.
- "vmap": plain feed-forward networks, stacked by ``torch.func``.
- "stacked": one network of worker-stacked layers (``aldsgd.stacked``).
- "streams": worker after worker, each on a CUDA stream of its own, so that small kernels of different workers run side
  by side once the step is captured.
"""

import contextlib
from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from aldsgd.errors import ConfigError
from aldsgd.rows import trainable
from aldsgd.stacked import Stack, hooked, obstacle
from aldsgd.tasks import Loss

# Layers whose stacked form under vmap measures faster than a loop over workers on CPUs, and which draw nothing at
# random and keep no statistics. Convolutions are slower there.
STACKABLE = (nn.Flatten, nn.Linear, nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.Identity, nn.LayerNorm)


# Workers from which on one call under vmap measures faster than as many in a loop, on a CPU: it costs 1 ms by itself.
MANY = 8


class Loop:
    """Worker after worker. ``workers``: the ``Workers`` whose modules, parameters and gradients it works on."""

    #: Whether every step launches the same kernels and draws nothing at random, so that a CUDA graph can replay it.
    replayable = False

    def __init__(self, workers):
        self.workers = workers

    @staticmethod
    def obstacle(model: nn.Module) -> str | None:
        """What in ``model`` this engine cannot run, or None."""
        return None

    def gradients(self, inputs: Tensor, targets: Tensor, step: int) -> Tensor:
        """Mini-batch losses (w,), and their gradients into the workers' rows; see ``Workers.compute_gradients``."""
        return self.some(inputs, targets, step, range(len(self.workers.modules)))

    def some(self, inputs: Tensor, targets: Tensor, step: int | Sequence[int], which: Sequence[int]) -> Tensor:
        """The same of the workers at the positions ``which`` alone, worker after worker whatever the engine; ``step``:
        one for all, or one for each."""
        workers = self.workers
        losses = torch.empty(len(which), dtype=workers.dtype, device=workers.device)
        for k, i in enumerate(which):
            workers.gradients[i].zero_()
            workers.reseed("torch", workers.hosted[i], step if isinstance(step, int) else step[k])
            with workers.arithmetic.forward():
                scores = workers.modules[i](inputs[k])
            loss = workers.loss(scores.to(workers.dtype), targets[k])
            loss.backward()
            losses[k] = loss.detach()
        return losses

    def together(self, inputs: Tensor, targets: Tensor, steps: Sequence[int], which: Sequence[int]) -> Tensor:
        """As ``some``, each worker at a step of its own, in one call where the engine has one."""
        return self.some(inputs, targets, steps, which)

    def outputs(self, inputs: Tensor) -> Tensor:
        """Outputs (w, b, ...) of every model on the same inputs (b, ...)."""
        found = []
        for worker, module in zip(self.workers.hosted, self.workers.modules, strict=True):
            # A model may change its inputs in place, and draw at random also when it is tested.
            self.workers.reseed("test", worker)
            found.append(module(inputs.clone()))
        return torch.stack(found)


class Vmap(Loop):
    """The workers of a plain feed-forward network, batched by ``torch.func.vmap``.

    Not replayable: under vmap torch takes the cross entropy apart into steps that bring constants from the host.
    """

    def __init__(self, workers):
        super().__init__(workers)
        template = workers.modules[0]
        own = trainable(template)
        sizes = [p.numel() for p in own]
        # Where each parameter stands: at several places if it is tied, at one if a whole layer is used twice. By itself
        # ``functional_call`` ties both alike, and leaves its own tensors in such a layer.
        at = {id(p): k for k, p in enumerate(own)}
        places = {
            f"{prefix}.{name}" if prefix else name: at[id(p)]
            for prefix, module in template.named_modules()
            for name, p in module._parameters.items()
            if id(p) in at
        }

        def columns(matrix):
            parts = matrix.split(sizes, dim=1)
            return [part.view(len(matrix), *p.shape) for part, p in zip(parts, own, strict=True)]

        def run(p, x):
            tied = {name: p[k] for name, k in places.items()}
            return functional_call(template, tied, (x,), tie_weights=False)

        def loss(p, x, y):
            with workers.arithmetic.forward():
                scores = run(p, x)
            return workers.loss(scores.to(workers.dtype), y)

        self.parameters, self.places = columns(workers.parameters), columns(workers.gradients)
        self.run = vmap(run, in_dims=(0, None))
        self.step = vmap(grad_and_value(loss))

    @staticmethod
    def obstacle(model):
        # By the exact class: one derived from it can do anything in its ``forward``.
        for module in model.modules():
            if type(module) not in (*STACKABLE, nn.Sequential):
                return f"a {type(module).__name__}"
            if hooked(module):
                return f"a {type(module).__name__} with hooks"
        return None

    def gradients(self, inputs, targets, step):
        gradients, losses = self.step(self.parameters, inputs, targets)
        for place, gradient in zip(self.places, gradients, strict=True):
            place.copy_(gradient)
        return losses

    def together(self, inputs, targets, steps, which):
        if len(which) == len(self.workers.modules):
            return self.gradients(inputs, targets, steps[0])
        if len(which) < MANY:
            return self.some(inputs, targets, steps, which)
        some = torch.tensor(which, device=self.workers.device)
        # Each parameter for itself: a product of matrices likes weights that lie together.
        gradients, losses = self.step([part.index_select(0, some) for part in self.parameters], inputs, targets)
        for place, gradient in zip(self.places, gradients, strict=True):
            place.index_copy_(0, some, gradient)
        return losses

    def outputs(self, inputs):
        return self.run(self.parameters, inputs.clone())


class Stacked(Loop):
    """All workers as one network of worker-stacked layers."""

    replayable = True
    obstacle = staticmethod(obstacle)

    def __init__(self, workers):
        super().__init__(workers)
        self.stack = Stack(workers.modules)
        self.leaf = workers.parameters.detach().requires_grad_()

    def gradients(self, inputs, targets, step):
        workers = self.workers
        with workers.arithmetic.forward():
            scores = self.stack(self.leaf, inputs)
        losses = worker_losses(workers.loss, scores.to(workers.dtype), targets)
        (gradient,) = torch.autograd.grad(losses.sum(), self.leaf)
        workers.gradients.copy_(gradient)
        return losses.detach()

    def outputs(self, inputs):
        return self.stack(self.workers.parameters, inputs.expand(len(self.workers.modules), *inputs.shape).clone())


class Streams(Loop):
    """Worker after worker, each on a CUDA stream of its own; on a CPU one after another."""

    replayable = True
    obstacle = staticmethod(obstacle)

    def __init__(self, workers):
        super().__init__(workers)
        self.parameters = [trainable(module) for module in workers.modules]
        self.losses = torch.zeros(len(workers.modules), dtype=workers.dtype, device=workers.device)
        on_gpu = workers.device.type == "cuda"
        self.streams = [torch.cuda.Stream(workers.device) if on_gpu else None for _ in workers.modules]

    @contextlib.contextmanager
    def side(self, stream):
        """What happens inside runs on ``stream``, after all that the current one was given before."""
        if stream is None:
            yield
            return
        stream.wait_stream(torch.cuda.current_stream(stream.device))
        with torch.cuda.stream(stream):
            yield

    def join(self) -> None:
        """The current stream waits for all of them."""
        for stream in filter(None, self.streams):
            torch.cuda.current_stream(stream.device).wait_stream(stream)

    def gradients(self, inputs, targets, step):
        workers = self.workers
        for i, module in enumerate(workers.modules):
            with self.side(self.streams[i]):
                with workers.arithmetic.forward():
                    scores = module(inputs[i])
                loss = workers.loss(scores.to(workers.dtype), targets[i])
                gradients = torch.autograd.grad(loss, self.parameters[i], allow_unused=True, materialize_grads=True)
                torch.cat([g.reshape(-1) for g in gradients], out=workers.gradients[i])
                self.losses[i] = loss.detach()
        self.join()
        return self.losses.clone()


def worker_losses(loss: Loss, scores: Tensor, targets: Tensor) -> Tensor:
    """Mean loss (w,) of each worker's scores (w, b, ...)."""
    if loss is F.cross_entropy and scores.ndim == 3 and targets.ndim == 2:
        each = F.cross_entropy(scores.flatten(0, 1), targets.flatten(), reduction="none")
        return each.view(targets.shape).mean(dim=1)
    return torch.stack([loss(s, t) for s, t in zip(scores, targets, strict=True)])


BY_NAME = {"loop": Loop, "vmap": Vmap, "stacked": Stacked, "streams": Streams}
ENGINES = ("auto", *BY_NAME)


def known(loss: Loss) -> bool:
    """Whether a loss is torch's or of a task; another may draw at random or look at values, as only a loop can."""
    while isinstance(loss, partial):
        loss = loss.func
    home = type(loss).__module__ if isinstance(loss, nn.Module) else getattr(loss, "__module__", "")
    return home in ("torch.nn.functional", "torch.nn.modules.loss", "aldsgd.tasks")


def choose(engine: str, model: nn.Module, device: torch.device, loss: Loss = F.cross_entropy) -> tuple[str, str]:
    """(name, why) of the engine that runs ``model`` with ``loss``.

    "auto" on a CPU is vmap where it can be, else loop: stacked convolutions measure no faster there (8 workers, batch
    16, one core: the small ResNet the same, the narrow ResNet-50 1.4 times slower). Stacked MLPs measure 1.1 to 2 times
    faster than under vmap, but round differently, and have to be asked for. On a GPU it is stacked where every module
    is known, then vmap, then loop.

    Raises:
        ConfigError: an unknown name, or a model or a loss that the named engine cannot run.
    """
    if engine not in ENGINES:
        raise ConfigError(f"unknown engine '{engine}'; choose one of: {', '.join(ENGINES)}")
    if engine != "loop" and not known(loss):
        if engine != "auto":
            raise ConfigError(f"the {engine} engine takes losses of torch.nn, not one's own; use engine='loop'")
        return "loop", "the loss is one's own"
    if engine != "auto":
        found = BY_NAME[engine].obstacle(model)
        if found is not None:
            raise ConfigError(f"the {engine} engine cannot stack {found}; use engine='loop'")
        return engine, "asked for"
    found = None
    for name in ("stacked", "vmap") if device.type == "cuda" else ("vmap",):
        found_here = BY_NAME[name].obstacle(model)
        if found_here is None:
            return name, "every layer can be stacked"
        found = found or found_here
    return "loop", f"the model holds {found}"
