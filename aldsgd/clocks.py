"""Virtual time: how long a gradient takes at each worker, what links lose, and the clocks of synchronous workers.

The unit is the mean time of a gradient at a worker that nothing slows (``compute_seconds``). All that is drawn is a
pure function of (seed, worker, place in its stream), so that a checkpoint holds counters and no generators. torch is
never imported.
"""

import csv
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from aldsgd.errors import ConfigError, brief, checked_counts, checked_numbers
from aldsgd.links import AllReduce, Broadcast, Link, ServerReduce
from aldsgd.step import FORWARD, Step, costs
from aldsgd.streams import rng

TIMES = ("constant", "exponential", "lognormal", "pareto")
#: Shape of a distribution where none is given: sigma of the logarithm, and the exponent of the tail.
SHAPES = {"lognormal": 0.5, "pareto": 2.5}
FAULTS = {"pause": 4, "leave": 3, "return": 4}
BLOCK = 256


@dataclass(frozen=True)
class Fault:
    """What befalls a worker. kind: "pause" (it stands still), "leave" (for good), or "return" (it loses its model, and
    takes that of a neighbour when it is back). worker: None, one that the seed chooses. start, stop: epochs."""

    kind: str
    worker: int | None
    start: float
    stop: float = math.inf


@dataclass(frozen=True)
class Clock:
    """What virtual time consists of.

    times: one of ``TIMES``, of mean 1, or "trace:PATH", a CSV of seconds with a row for each gradient, repeated from
    its start, and a column for each worker or one for all. time_shape: of "lognormal" and "pareto" (``SHAPES``).
    stragglers: number of workers, chosen by the seed, that are ``slowdown`` times slower. message_loss: probability
    that a message is lost; synchronous methods send it again until it arrives. faults: "pause:WORKER:FROM:TO",
    "leave:WORKER:FROM", "return:WORKER:FROM:TO", in epochs; WORKER ? is one that the seed chooses.

    Raises ConfigError for a value that makes no sense.
    """

    times: str = "constant"
    time_shape: float | None = None
    stragglers: int = 0
    slowdown: float = 2.0
    message_loss: float = 0.0
    faults: tuple[str, ...] = ()

    def __post_init__(self):
        if self.times not in TIMES and not self.times.startswith("trace:"):
            raise ConfigError(f"unknown times '{self.times}'; choose one of: {', '.join(TIMES)}, or trace:PATH")
        if self.time_shape is not None:
            checked_numbers(dict(time_shape=self.time_shape))
            least = {"lognormal": 0.0, "pareto": 1.0}.get(self.times, math.inf)
            if not self.time_shape > least:
                raise ConfigError(
                    f"time_shape = {self.time_shape:g} does not fit times '{self.times}'; it is the sigma of "
                    "lognormal, above 0, or the exponent of pareto, above 1"
                )
        if self.stragglers:
            checked_counts(dict(stragglers=self.stragglers))
        checked_numbers(dict(slowdown=self.slowdown))
        if not self.slowdown >= 1:
            raise ConfigError(f"slowdown = {self.slowdown:g} must be 1 or more")
        checked_numbers(dict(message_loss=self.message_loss), most=1)
        if self.message_loss == 1:
            raise ConfigError("message_loss = 1 loses every message; give less")
        object.__setattr__(self, "faults", tuple(self.faults))
        self.parsed  # noqa: B018 - refuses what cannot be read

    @property
    def parsed(self) -> tuple[Fault, ...]:
        """The faults. Raises ConfigError for one that cannot be read."""
        found = []
        for text in self.faults:
            kind, *numbers = str(text).split(":")
            try:
                if len(numbers) + 1 != FAULTS[kind]:
                    raise ValueError
                worker, times = None if numbers[0] == "?" else int(numbers[0]), tuple(map(float, numbers[1:]))
                if not all(0 <= time < math.inf for time in times) or sorted(set(times)) != list(times):
                    raise ValueError
                found.append(Fault(kind, worker, *times))
            except (KeyError, ValueError):
                raise ConfigError(
                    f"the fault {brief(text)} cannot be read; give pause:WORKER:FROM:TO, leave:WORKER:FROM or "
                    "return:WORKER:FROM:TO, in epochs"
                ) from None
        return tuple(found)


class Draws:
    """Numbers of a random stream for each worker, drawn in blocks; each is a function of (worker, place) alone."""

    def __init__(self, purpose: str, seed: int, draw: Callable[[np.random.Generator, int], np.ndarray]):
        self.purpose, self.seed, self.draw = purpose, seed, draw
        self._known: dict[int, tuple[int, list[float]]] = {}

    def __call__(self, worker: int, place: int) -> float:
        block, within = divmod(place, BLOCK)
        known = self._known.get(worker)
        if known is None or known[0] != block:
            drawn = self.draw(rng(self.purpose, self.seed, worker, block), BLOCK)
            known = self._known[worker] = block, drawn.tolist()
        return known[1][within]


def uniform(purpose: str, seed: int) -> Draws:
    """Numbers from [0, 1)."""
    return Draws(purpose, seed, lambda draws, size: draws.random(size))


class ComputeTimes:
    """When gradients end.

    Args:
        clock: what they are drawn from. n: workers. seed: of everything. steps: units in an epoch. compute_seconds:
            seconds in a unit, which traces need.

    Attributes:
        factors: (n,), how many times slower a worker is. faults: of each worker, in units.

    Raises:
        ConfigError: more stragglers than workers, a fault of none of them, or a trace that cannot be used.
    """

    def __init__(self, clock: Clock, n: int, seed: int, steps: int, compute_seconds: float):
        if clock.stragglers > n:
            raise ConfigError(f"{clock.stragglers} stragglers among {n} workers; give at most as many")
        chosen = rng("stragglers", seed).permutation(n)
        self.factors = [1.0] * n
        for worker in chosen[: clock.stragglers].tolist():
            self.factors[worker] = float(clock.slowdown)
        self.faults: list[list[Fault]] = [[] for _ in range(n)]
        for place, fault in enumerate(clock.parsed):
            worker = int(rng("faults", seed, place).integers(n)) if fault.worker is None else fault.worker
            if not 0 <= worker < n:
                raise ConfigError(f"a fault of worker {worker} among workers 0..{n - 1}; name one of them")
            moved = replace(fault, worker=worker, start=fault.start * steps, stop=fault.stop * steps)
            self.faults[worker].append(moved)
        self.draw = self._drawn(clock, n, seed, compute_seconds)

    @staticmethod
    def _drawn(clock: Clock, n: int, seed: int, compute_seconds: float) -> Callable[[int, int], float]:
        if clock.times.startswith("trace:"):
            rows = trace(clock.times.removeprefix("trace:"), n)
            return lambda worker, k: rows[k % len(rows)][worker] / compute_seconds
        if clock.times == "constant":
            return lambda worker, k: 1.0
        shape = SHAPES.get(clock.times) if clock.time_shape is None else clock.time_shape
        made = {
            "exponential": lambda draws, size: draws.exponential(1.0, size),
            "lognormal": lambda draws, size: draws.lognormal(-(shape**2) / 2, shape, size),
            "pareto": lambda draws, size: (1 + draws.pareto(shape, size)) * (shape - 1) / shape,
        }
        return Draws("compute times", seed, made[clock.times])

    def __call__(self, worker: int, k: int) -> float:
        """How long the k-th gradient of a worker takes where nothing befalls it."""
        return self.factors[worker] * self.draw(worker, k)

    def end(self, worker: int, k: int, start: float, only: str | None = None) -> float:
        """When a gradient that begins at ``start`` ends; infinity where the worker leaves before.

        only: the kind of fault that counts, None for all, of which "return" then is a pause.
        """
        end = start + self(worker, k)
        for fault in self.faults[worker]:
            if only in (None, fault.kind) and fault.start < end and start < fault.stop:
                # What it had of the gradient when it stood still is not lost.
                end += fault.stop - max(fault.start, start)
        return end


def trace(path: str, n: int) -> list[list[float]]:
    """Seconds of each gradient, (rows, n). Raises ConfigError where the file does not hold such."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = [[float(cell) for cell in row] for row in csv.reader(file) if row]
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise ConfigError(f"the trace {path} cannot be read ({error}); give a CSV of seconds without a head") from None
    rows = [row * n if len(row) == 1 else row for row in rows]
    if not rows or any(len(row) != n or not all(0 < cell < math.inf for cell in row) for row in rows):
        raise ConfigError(f"the trace {path} needs rows of 1 or {n} numbers of seconds, all above 0")
    return rows


@dataclass
class Moment:
    """Where synchronous workers are: when each is ready, gradients taken, time spent on them, messages sent by each
    worker, and how many of all were lost."""

    ready: list[float]
    taken: list[int]
    computing: float
    sent: list[int]
    lost: int


class SynchronousClock:
    """The clocks of workers that wait for those they hear, and for nobody else.

    A gossip step is ready at a worker when those that it hears are: a delay passes on by one neighbour a step. A
    collective (broadcast, reduction, all-reduce) waits for all that take part. What a step sends before the gradient
    goes on at the same time as the gradient. A lost message is sent again.

    Args:
        n: workers. centres: rows without data. times: when gradients end. meter: knows what travels, and what judging
            takes. link: between workers. compute_seconds: in a unit. loss: probability that
            a message is lost. seed: of the losses.
    """

    def __init__(self, n, centres, times: ComputeTimes, meter, link: Link, compute_seconds: float, loss: float, seed):
        self.n, self.times, self.meter, self.link = n, times, meter, link
        self.unit, self.loss, self.coin = compute_seconds, loss, uniform("lost messages", seed)
        self.now = Moment([0.0] * (n + centres), [0] * n, 0.0, [0] * (n + centres), 0)
        self._costs: dict[Step, list[tuple[int, int, float]]] = {}

    def after(self, step: Step) -> Moment:
        """Where the workers are after a step."""
        found = replace(self.now, ready=list(self.now.ready), taken=list(self.now.taken), sent=list(self.now.sent))
        if step not in self._costs:
            if len(self._costs) > 4096:  # a schedule that never repeats
                self._costs.clear()
            self._costs[step] = costs(step, self.meter.row, self.n, self.link)
        bill, begun = list(self._costs[step]), list(found.ready)
        told = bill.pop(0)[2] / self.unit if len(bill) > len(step.exchanges) else None
        exchanges = list(zip(step.exchanges, (seconds / self.unit for *_, seconds in bill), strict=True))
        if step.ahead is not None:
            self._exchange(found, *exchanges.pop(0))
        judging = FORWARD * step.passes(self.meter.shared)
        for worker in range(self.n) if step.acting is None else step.acting:
            end = self.times.end(worker, found.taken[worker], begun[worker])
            found.computing += self.times(worker, found.taken[worker])
            found.ready[worker] = max(found.ready[worker], end) + judging * self.times.factors[worker]
            found.taken[worker] += 1
        if told is not None:
            self._together(found, range(self.n), told, self.n - 1)
        for exchange, units in exchanges:
            self._exchange(found, exchange, units)
        return found

    def _exchange(self, found: Moment, exchange, units: float) -> None:
        links = exchange.links
        if isinstance(links, AllReduce):
            hops = 2 if isinstance(links, ServerReduce) else 2 * (links.n - 1)
            self._together(found, range(links.n), units, hops)
            return
        if isinstance(links, Broadcast):
            deepest = max((math.ceil(math.log2(len(group))) for group in links.groups), default=0)
            for group in links.groups:
                self._together(found, group, units, deepest)
            return
        active = [arcs for arcs in links.rounds if arcs]
        for arcs in active:
            before = list(found.ready)
            for a, b in arcs:
                arrived = before[a] + self._tries(found, a) * units / len(active)
                found.ready[b] = max(found.ready[b], arrived)
                found.ready[a] = max(found.ready[a], arrived)

    def _together(self, found: Moment, group, units: float, hops: int) -> None:
        """A collective: everyone of the group waits for the last, and for each of the hops."""
        if len(group) < 2 or not hops:
            return
        rounds = sum(max(self._tries(found, worker) for worker in group) for _ in range(hops)) if self.loss else hops
        last = max(found.ready[worker] for worker in group) + units * rounds / hops
        for worker in group:
            found.ready[worker] = last

    def _tries(self, found: Moment, sender: int) -> int:
        """How often a message is sent until it arrives."""
        tries = 1
        while self.loss and self.coin(sender, found.sent[sender] + tries - 1) < self.loss:
            tries += 1
        found.sent[sender] += tries
        found.lost += tries - 1
        return tries
