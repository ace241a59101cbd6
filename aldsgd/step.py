"""One training step of the hosted workers with all that it reads and writes at fixed places.

On a CUDA device with an engine that can be replayed, the step is recorded as CUDA graphs and replayed: batch gather,
augmentation, forward, backward and weight decay in one; the update (leader choice, SGD, mixing) in one for each kind of
step that the algorithm knows (``Algorithm.kind``) and each learning rate. The host waits for the device only where an
epoch ends. Anything else runs the same functions plainly.
"""

from collections.abc import Callable
from dataclasses import fields

import torch
from torch import Tensor

from aldsgd.algorithm import Algorithm, iterate, kind_of
from aldsgd.data import Data, EpochPlan, augment, normalise
from aldsgd.workers import Workers

#: Plain runs before a capture: libraries choose their kernels and allocate their workspaces in them.
WARM_UP = 3
#: Recorded updates that are kept; further kinds of step run plainly.
MOST_UPDATES = 256
COUNTS = ("rounds", "bytes", "modelled")


class Step:
    """The step of ``algorithm`` for ``workers`` on ``data``.

    Args:
        network: meters, neighbourhoods and mixing (``aldsgd.training.MeteredNetwork``). weight_decay: on all.
        capture: whether to record CUDA graphs; None: where the device and the engine allow it.
        capture_update: the same for the update, which must not be recorded between processes.

    Attributes:
        losses: (w,) mini-batch losses of the step just taken. captured: whether steps are replayed.
    """

    def __init__(
        self,
        workers: Workers,
        algorithm: Algorithm,
        network,
        data: Data,
        weight_decay: float,
        capture: bool | None = None,
        capture_update: bool = True,
    ):
        self.workers, self.algorithm, self.network, self.data = workers, algorithm, network, data
        self.weight_decay, device = weight_decay, workers.device
        possible = device.type == "cuda" and workers.path.replayable
        self.captured = possible if capture is None else capture and possible
        self.capture_update = self.captured and capture_update
        self.plan: EpochPlan | None = None
        self.position = torch.zeros(1, dtype=torch.int64, device=device)
        self.losses = torch.zeros(len(workers.hosted), dtype=workers.dtype, device=device)
        self.total = torch.zeros(len(workers.hosted), dtype=torch.float64, device=device)
        self.steps, self.lr, self.rate_key = 0, 0.0, None
        self.pool = torch.cuda.graph_pool_handle() if self.captured else None
        self.replayed_pass = Replay(self.gradient_pass, device, self.pool) if self.captured else None
        self.updates: dict = {}
        self.clock = EventClock() if device.type == "cuda" else None

    def begin(self, plan: EpochPlan, lr: float | Tensor) -> None:
        """Start an epoch of ``plan`` at learning rate ``lr``, a scalar or (w,)."""
        if self.plan is None:
            device = self.workers.device
            self.plan = EpochPlan(*(part if part is None else part.to(device) for part in parts(plan)))
        else:
            for place, part in zip(parts(self.plan), parts(plan), strict=True):
                if place is not None:
                    place.copy_(part)
        self.lr, self.rate_key = lr, tuple(lr.tolist()) if isinstance(lr, Tensor) else lr
        self.steps = 0
        self.position.zero_()
        self.total.zero_()
        if self.clock is not None:
            self.clock.start(self.network.seconds)

    def run(self, t: int) -> None:
        """Take the next step of the epoch, which is step ``t`` of the run."""
        if self.replayed_pass is None:
            self.gradient_pass(t)
        else:
            self.replayed_pass(t)
        if self.clock is not None:
            self.clock.mark()
        kind = kind_of(self.algorithm, t) if self.capture_update else None
        if kind is None or len(self.updates) >= MOST_UPDATES and (kind, self.rate_key) not in self.updates:
            self.update(t, self.lr)
        else:
            self.replay_update(t, (kind, self.rate_key))
        if self.clock is not None:
            self.clock.mark()
        self.steps += 1

    def finish(self) -> Tensor:
        """End the epoch: each worker's mean training loss (w,), float64 on the CPU. Here the host waits."""
        mean = (self.total / self.steps).cpu()
        if self.clock is not None:
            self.network.seconds = self.clock.stop()
        return mean

    def gradient_pass(self, t: int) -> None:
        """Losses and gradients, with weight decay, of the batch at ``position``, which then moves on."""
        workers = self.workers
        images, labels = self.fetch()
        losses = workers.compute_gradients(images, labels, t)
        workers.gradients.add_(workers.parameters, alpha=self.weight_decay)
        self.losses.copy_(losses)
        self.total.add_(losses)
        self.position.add_(1)

    def fetch(self) -> tuple[Tensor, Tensor]:
        """Inputs (w, b, ...) and targets (w, b, ...) at ``position`` of the epoch's plan."""
        index, dy, dx, flip = (
            part if part is None else part.index_select(1, self.position).squeeze(1) for part in parts(self.plan)
        )
        images = self.data.train_images[index.reshape(-1)]
        if flip is not None:
            images = augment(images, dy.reshape(-1), dx.reshape(-1), flip.reshape(-1))
        images = normalise(images, self.data.mean, self.data.std, self.workers.dtype)
        return images.view(*index.shape, *images.shape[1:]), self.data.train_labels[index]

    def update(self, t: int, lr: float | Tensor) -> None:
        """Choose leaders, step and mix."""
        workers = self.workers
        iterate(self.algorithm, t, self.network, workers.parameters, workers.gradients, lr, self.losses)

    def replay_update(self, t: int, key) -> None:
        """``update`` as the graph recorded under ``key``; what the host counts is counted as in its first run."""
        before = [getattr(self.network, name) for name in COUNTS]
        if key not in self.updates:
            # Held here, since the graph reads these tensors where they are.
            held = self.lr, self.network.neighbourhood(self.algorithm.matchings(t))
            replay = Replay(lambda t, lr=self.lr: self.update(t, lr), self.workers.device, self.pool, warm_up=1)
            replay(t)
            counts = [getattr(self.network, name) - b for name, b in zip(COUNTS, before, strict=True)]
            self.updates[key] = replay, counts, held
            return
        replay, counts, _ = self.updates[key]
        replay(t)
        for name, start, count in zip(COUNTS, before, counts, strict=True):
            setattr(self.network, name, start + count)


def parts(plan: EpochPlan) -> list[Tensor | None]:
    """The tensors of a plan themselves; ``dataclasses.astuple`` would copy them."""
    return [getattr(plan, field.name) for field in fields(plan)]


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
