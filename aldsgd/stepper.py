"""One training step of the hosted workers with all that it reads and writes at fixed places.

On a CUDA device with an engine that can be replayed, the step is recorded as CUDA graphs and replayed: batch gather,
augmentation, forward, backward and weight decay in one; the update (leader choice, local rule, mixing) in one for each
value of a ``Step`` and each learning rate. The host waits for the device only where an epoch ends. Anything else runs
the same functions plainly.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import fields
from types import SimpleNamespace

import torch
from torch import Tensor

from aldsgd.algorithm import Algorithm, advance
from aldsgd.data import EpochPlan, augment, normalise, real
from aldsgd.datasets import Data
from aldsgd.distrust import Distrust
from aldsgd.evaluation import outputs
from aldsgd.local import LocalRule
from aldsgd.rows import lent, untouched
from aldsgd.step import Step
from aldsgd.workers import Workers

#: Plain runs before a capture: libraries choose their kernels and allocate their workspaces in them.
WARM_UP = 3
#: Recorded updates that are kept; further kinds of step run plainly.
MOST_UPDATES = 256


class Stepper:
    """The steps of ``algorithm`` for ``workers`` on ``data``.

    Args:
        network: neighbourhoods and mixing. state: ``x`` and the method's own tensors. local: the local rule.
        capture: whether to record CUDA graphs; None: where the device and the engine allow it.
        capture_update: the same for the update, which must not be recorded between processes.

    Attributes:
        losses: (w,) mini-batch losses of the step just taken. lived: steps of this epoch before any loss was
            ``bound`` or more, or no number.
        captured: whether steps are replayed.
    """

    def __init__(
        self,
        workers: Workers,
        algorithm: Algorithm,
        network,
        data: Data,
        state: SimpleNamespace,
        local: LocalRule,
        capture: bool | None = None,
        capture_update: bool = True,
    ):
        self.workers, self.algorithm, self.network, self.data = workers, algorithm, network, data
        self.state, self.local, device = state, local, workers.device
        possible = device.type == "cuda" and workers.path.replayable
        self.captured = possible if capture is None else capture and possible
        self.capture_update = self.captured and capture_update
        self.plan: EpochPlan | None = None
        self.second: EpochPlan | None = None
        self.position = torch.zeros(1, dtype=torch.int64, device=device)
        self.losses = torch.zeros(len(workers.hosted), dtype=workers.dtype, device=device)
        self.scores = torch.zeros_like(self.losses)
        self.total = torch.zeros(len(workers.hosted), dtype=torch.float64, device=device)
        self.taken = torch.zeros(len(workers.hosted), dtype=torch.float64, device=device)
        self.alive = torch.ones((), dtype=torch.bool, device=device)
        self.lived = torch.zeros((), dtype=torch.int64, device=device)
        self.bound = math.inf
        self.pool = torch.cuda.graph_pool_handle() if self.captured else None
        self.replayed_pass = Replay(self.gradient_pass, device, self.pool) if self.captured else None
        self.updates: dict = {}
        self.clock = EventClock() if device.type == "cuda" else None
        # Whether the rate goes on by one at each step; in virtual time it is the clock that says how far it goes.
        self.paced = True

    def begin(self, plan: EpochPlan, second: EpochPlan | None = None) -> None:
        """Start an epoch of ``plan``; ``second``: on what leaders are judged in each step, if on anything else."""
        self.load(plan, second)
        self.position.zero_()
        self.reset()

    def load(self, plan: EpochPlan, second: EpochPlan | None = None) -> None:
        """Take these mini-batches in place of those before."""
        device = self.workers.device
        if second is not None:
            self.second = EpochPlan(*(part if part is None else part.to(device) for part in parts(second)))
        if self.plan is None:
            self.plan = EpochPlan(*(part if part is None else part.to(device) for part in parts(plan)))
        else:
            for place, part in zip(parts(self.plan), parts(plan), strict=True):
                if place is not None:
                    place.copy_(part)

    def reset(self) -> None:
        """Begin to count losses and seconds anew."""
        self.total.zero_()
        self.taken.zero_()
        self.lived.zero_()
        if self.clock is not None:
            self.clock.start(self.network.seconds)

    def run(self, step: Step, t: int) -> None:
        """Take the next step of the epoch, which is step ``t`` of the run."""
        ahead = step.ahead
        if ahead is not None and ahead.codec is None and len(ahead.payload) == 1:
            self.network.post(getattr(self.state, ahead.payload[0]), self.network.neighbourhood(ahead.links))
        acting = self.positions(step)
        if self.replayed_pass is None or acting is not None:
            self.gradient_pass(t, acting)
        else:
            self.replayed_pass(t)
        if self.clock is not None:
            self.clock.mark()
        if step.judge in ("second", "shared"):
            self.judge()
        replay = None
        alone = step.fixed and step.judge != "receiver"  # else the host takes part
        if self.capture_update and self.local.constant and alone and acting is None:
            replay = self.replayed_update(step)
        if replay is None:
            self.update(step, acting)
        else:
            replay(t)
        if self.clock is not None:
            self.clock.mark()
        if self.paced:
            self.local.next()

    def replayed_update(self, step: Step) -> "Replay | None":
        """The recorded update of this step at the rate of now, None where too many are kept."""
        rate = self.local.lr
        key = step, tuple(rate.tolist()) if isinstance(rate, Tensor) else rate
        if key not in self.updates and len(self.updates) < MOST_UPDATES:
            # Held here, since the graph reads these tables where they are.
            held = [self.network.neighbourhood(e.links) for e in step.exchanges if e.rule is not None]
            self.updates[key] = Replay(lambda _t: self.update(step), self.workers.device, self.pool, warm_up=1), held
        return self.updates[key][0] if key in self.updates else None

    def positions(self, step: Step) -> list[int] | None:
        """Which hosted workers act, by position; None for all."""
        if step.acting is None:
            return None
        return [i for i, worker in enumerate(self.workers.hosted) if worker in step.acting]

    def finish(self) -> Tensor:
        """End the epoch: each worker's mean training loss (w,) over its own steps, float64 on the CPU. The host
        waits."""
        mean = (self.total / self.taken).cpu()
        if self.clock is not None:
            self.network.seconds = self.clock.stop()
        return mean

    def gradient_pass(self, t: int, acting: list[int] | None = None) -> None:
        """Losses and gradients, with weight decay, of the batch at ``position``, which then moves on.

        The loss of a worker that does not act stays that of its last step, and its gradient is of no meaning.
        """
        workers = self.workers
        inputs, targets = self.fetch(self.plan, self.position)
        if acting is None:
            self.losses.copy_(workers.compute_gradients(inputs, targets, t))
            self.total.add_(self.losses)
            self.taken.add_(1)
        elif acting:
            self.losses[acting] = workers.compute_gradients(inputs[acting], targets[acting], t, acting)
            self.total[acting] += self.losses[acting].double()
            self.taken[acting] += 1
        workers.gradients.add_(workers.parameters, alpha=self.local.decay)
        self.alive.logical_and_((self.losses < self.bound).all())
        self.lived.add_(self.alive)
        self.position.add_(1)

    @torch.no_grad()
    def judge(self) -> None:
        """Losses of the models as they are on what judges the step just begun; only numbers remain."""
        inputs, targets = self.fetch(self.second, self.position - 1)
        for i, module in enumerate(self.workers.modules):
            with untouched(module), self.workers.arithmetic.flags():
                self.scores[i] = self.workers.loss(outputs(module, inputs[i], self.workers), targets[i])

    @torch.no_grad()
    def on_next(self, workers: Sequence[int], models: Sequence[Tensor]) -> Tensor:
        """Losses (E,) of models (P,), each on the next mini-batch of a hosted worker; nothing but numbers remains."""
        inputs, targets = self.fetch(self.second, self.position - 1)
        found = torch.empty(len(workers), dtype=self.workers.dtype, device=self.workers.device)
        for e, (i, model) in enumerate(zip(workers, models, strict=True)):
            with lent(self.workers.modules[i], model) as module, self.workers.arithmetic.flags():
                found[e] = self.workers.loss(outputs(module, inputs[i], self.workers), targets[i])
        return found

    def fetch(self, plan: EpochPlan, position: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs (w, b, ...) and targets (w, b, ...) at a ``position`` (1,) of a plan of the epoch."""
        return batch_of(
            self.data,
            self.workers.dtype,
            *(part if part is None else part.index_select(1, position).squeeze(1) for part in parts(plan)),
        )

    def update(self, step: Step, acting: list[int] | None = None) -> None:
        """Choose leaders, move and mix."""
        local = self.local if acting is None else Acting(self.local, acting)
        gradients = self.workers.gradients
        if isinstance(self.network, Distrust):
            self.network.disturb(self.workers.parameters, gradients)
        told = self.losses, self.scores, self.on_next
        advance(self.algorithm, step, self.network, self.state, gradients, local, *told)


class Acting:
    """The local rule of a step in which only some workers act, by position."""

    def __init__(self, local: LocalRule, acting: list[int]):
        self.local, self.acting, self.lr, self.decay = local, acting, local.lr, local.decay
        self.workers = local.workers

    def __call__(self, direction: Tensor) -> None:
        """Move along ``direction`` (w, P) the workers that act."""
        self.local(direction, self.acting)


def parts(plan: EpochPlan) -> list[Tensor | None]:
    """The tensors of a plan themselves; ``dataclasses.astuple`` would copy them."""
    return [getattr(plan, field.name) for field in fields(plan)]


def batch_of(data: Data, dtype: torch.dtype, index: Tensor, dy=None, dx=None, flip=None) -> tuple[Tensor, Tensor]:
    """Inputs (w, b, ...) and targets (w, b, ...) at these places (w, b) of the training set, as the draws (w, b) of an
    ``EpochPlan`` augment them."""
    images = data.train_inputs[index.reshape(-1)]
    if flip is not None:
        images = augment(images, dy.reshape(-1), dx.reshape(-1), flip.reshape(-1))
    images = normalise(images, data.mean, data.std, dtype)
    targets = real(data.train_targets[index], dtype)
    return images.view(*index.shape, *images.shape[1:]), targets


class Replay:
    """A function on tensors at fixed places: run plainly ``warm_up`` times, then recorded as a CUDA graph and replayed.

    Recording executes nothing on the device, so every call is one execution. The argument reaches only plain runs
    and the recording.
    """

    def __init__(self, function: Callable[[int], None], device, pool, warm_up: int = WARM_UP):
        self.function, self.pool, self.left, self.graph = function, pool, warm_up, None
        self.stream = torch.cuda.Stream(device)

    def __call__(self, t: int) -> None:
        if self.left:
            self.left -= 1
            current = torch.cuda.current_stream(self.stream.device)
            self.stream.wait_stream(current)
            with torch.cuda.stream(self.stream):
                self.function(t)
            current.wait_stream(self.stream)
            return
        if self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, pool=self.pool, stream=self.stream):
                self.function(t)
        self.graph.replay()


class EventClock:
    """Seconds between pairs of marks on the device, read once an epoch, so that no step waits."""

    def __init__(self):
        self.events, self.used, self.before = [], 0, 0.0

    def start(self, before: float) -> None:
        """Begin an epoch at ``before`` seconds."""
        self.used, self.before = 0, before

    def mark(self) -> None:
        if self.used == len(self.events):
            self.events.append(torch.cuda.Event(enable_timing=True))
        self.events[self.used].record()
        self.used += 1

    def stop(self) -> float:
        """``before`` and the seconds between the first and second mark, the third and fourth, and so on."""
        events = self.events[: self.used]
        if events:
            events[-1].synchronize()
        pairs = zip(events[::2], events[1::2], strict=True)
        return self.before + sum(start.elapsed_time(end) for start, end in pairs) / 1000
