"""The engine of asynchronous methods in virtual time: events in the order of their times, every gradient computed.

What goes into a gradient is fixed when it begins, and it is needed when it ends: all that are under way are computed in
one call the first time that one of them is needed. Of events at the same time gradients come first, then messages in
the order in which they were sent: what is sent at a time is read after it.

The events are a heap of plain numbers, because a checkpoint has to hold what is under way, which an engine of
coroutines (simpy) cannot write down.
"""

import heapq
import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import torch
from torch import Tensor

from aldsgd.asynchronous import Asynchronous
from aldsgd.clocks import ComputeTimes, uniform
from aldsgd.links import Link
from aldsgd.local import LocalRule
from aldsgd.mailbox import Message, Versions
from aldsgd.workers import Workers

FINISH, LEAVE, BACK, ARRIVE, HELP = range(5)
#: Staleness from which on a histogram does not tell apart.
OLDEST = 4096


class Events:
    """The workers and centres of one run, as an asynchronous method sees them.

    Args:
        method: what they do. state: ``x`` (n + c, P), their models, and the method's own tensors. rules: local rule of
            each row, None where it has none. times: when gradients end. link, unit: between workers, and the seconds in
            a unit of time. chance, seed: that a message is lost. gradients: computes what the workers named have begun
            into ``workers.gradients``, and gives their losses. workers: their ``parameters`` are what the gradients are
            taken at.

    Attributes:
        now: units. loss, count, begun: of each worker: its last mini-batch's loss, gradients finished, and when the one
        under way began. version: how often each row has changed; a method may set it. read: version of the row that the
        gradient under way is taken at. box: of each row, source -> the last message that was kept. here: whether each
        worker takes part. ages: number of uses by staleness. aged: of each row, [uses, sum of staleness].
    """

    def __init__(
        self,
        method: Asynchronous,
        state: SimpleNamespace,
        rules: Sequence[LocalRule | None],
        times: ComputeTimes,
        link: Link,
        unit: float,
        chance: float,
        seed: int,
        gradients: Callable[[list[int]], list[float]],
        workers: Workers,
    ):
        self.method, self.state, self.x, self.rules, self.times = method, state, state.x, rules, times
        self.link, self.unit, self.chance, self.coin = link, unit, chance, uniform("lost messages", seed)
        self.gradients, self.workers = gradients, workers
        n, rows = method.n, len(self.x)
        self.n, self.versions = n, Versions(self.x, 2 * n)
        self.now, self.computing, self.order = 0.0, 0.0, 0
        self.heap: list[tuple] = []
        self.loss, self.count, self.begun, self.last = [math.inf] * n, [0] * n, [0.0] * n, [-1.0] * n
        self.life, self.here, self.under_way = [0] * n, [True] * n, [False] * n
        self.version, self.read, self.busy, self.sent = [0] * rows, [0] * n, [0.0] * rows, [0] * rows
        self.lost = self.bytes = self.messages = self.oldest = 0
        self.ages, self.aged = [0], [[0, 0] for _ in range(rows)]
        self.box: list[dict[int, Message]] = [{} for _ in range(rows)]
        self.pending: list[int] = []
        # Views that are asked for at every event: making one takes as long as copying the row of a small model.
        self.models, self.places, self.directions = list(self.x), list(workers.parameters), list(workers.gradients)
        self.first = torch.zeros(1, dtype=torch.int64, device=self.x.device)
        self.size = self.x.shape[1] * self.x.element_size()

    def start(self) -> None:
        """Begin the run."""
        for i, faults in enumerate(self.times.faults):
            for fault in faults:
                if fault.kind != "pause":
                    self._at(fault.start, LEAVE, i)
                    if fault.stop < math.inf:
                        self._at(fault.stop, BACK, i)
        for i in range(self.n):
            self.method.start(i, self)

    def run(self, until: float) -> None:
        """All that happens up to a time, inclusive."""
        while self.heap and self.heap[0][0] <= until:
            self.now, kind, _, target, body = heapq.heappop(self.heap)
            if kind == FINISH:
                self._finish(target, body)
            elif kind == ARRIVE:
                self._arrive(target, Message(*body))
            elif kind == LEAVE:
                self.here[target] = self.under_way[target] = False
                self.life[target] += 1
                self.pending = [i for i in self.pending if i != target]
            elif kind == BACK:
                self._back(target)
            else:
                self._help(target, Message(*body))
        self.now = until

    def settle(self) -> None:
        """Compute every gradient that is under way."""
        if self.pending:
            which = sorted(self.pending)
            for i, loss in zip(which, self.gradients(which), strict=True):
                self.loss[i] = loss
            self.pending.clear()

    def compute(self, i: int) -> None:
        """Worker i begins a gradient at its model as it is now."""
        if self.under_way[i]:  # it begins anew, and drops what it had begun
            self.life[i] += 1
            self.pending = [j for j in self.pending if j != i]
        self.under_way[i] = True
        self.places[i].copy_(self.models[i])
        self.pending.append(i)
        self.begun[i], self.read[i] = self.now, self.version[i]
        self._at(self.times.end(i, self.count[i], self.now, only="pause"), FINISH, i, self.life[i])

    def move(self, row: int, direction: Tensor, since: float | None = None) -> None:
        """The local rule of a row along a direction (P,), at the rate of the time at which its gradient began."""
        rule = self.rules[row]
        while rule.taken < int(self.begun[row] if since is None else since):
            rule.next()
        rule(direction[None])
        self.version[row] += 1

    def post(
        self,
        source: int,
        row: Tensor | None,
        targets: Sequence[int],
        stamp: float | None = None,
        models: int = 1,
        again: bool = False,
        keep: bool = False,
        **told,
    ) -> None:
        """Send ``row`` (P,), or nothing, from ``source`` to each target: bytes one after another over the link that it
        has, each message a latency later at its target.

        stamp: when it was made, None: now. models: how many rows travel, 0 for a request. again: whether a lost message
        is sent again. keep: whether the source has its own copy in its mailbox. told: further fields of the message.
        """
        place = None if row is None else self.versions.new(row)
        message = Message(place, source, self.now if stamp is None else stamp, **told)
        size = models * self.size + (4 if "loss" in told else 0)
        free, latency = max(self.now, self.busy[source]), self.link.latency / self.unit
        units = size / self.link.bandwidth / self.unit
        for target in targets:
            lost = True
            while lost:
                free += units
                lost = self.chance > 0 and self.coin(source, self.sent[source]) < self.chance
                self.sent[source] += 1
                self.lost += lost
                self.bytes += size
                self.messages += 1
                if not again:
                    break
            if not lost:
                self.versions.hold(place)
                self._at(free + latency, ARRIVE, target, message)
        self.busy[source] = free
        if keep:
            self.keep(source, message)
        self.versions.drop(place)

    def keep(self, i: int, message: Message) -> None:
        """Put a message into the mailbox of i, in the place of the one that its source sent before."""
        self.versions.hold(message.row)
        if (old := self.box[i].get(message.source)) is not None:
            self.versions.drop(old.row)
        self.box[i][message.source] = message

    def carried(self, message: Message) -> Tensor:
        """The row (P,) that a message carries."""
        return self.versions.table[message.row]

    def mix(self, i: int, sources: Sequence[int], weights: Sequence[float]) -> None:
        """x_i <- sum of weights times the models last received from the sources, i among them first; the weight of
        whoever has sent nothing yet stays with i."""
        box, places, kept = self.box[i], [], []
        for j, weight in zip(sources, weights, strict=True):
            if j in box:
                places.append(box[j].row)
                kept.append(weight)
                if j != i:
                    self.note(i, self.finished_before(j) - box[j].count)
            else:
                kept[0] += weight
        weights = torch.tensor(kept, dtype=self.x.dtype, device=self.x.device)
        places = torch.tensor(places, device=self.x.device)
        # As F.embedding_bag with mode "sum" and one bag, without what that checks.
        bag, *_ = torch.embedding_bag(self.versions.table, places, self.first, False, 0, False, weights)
        self.models[i].copy_(bag.view(-1))
        self.version[i] += 1

    def finished_before(self, j: int) -> int:
        """Gradients that worker j finished before now: what happens at one time does not see itself."""
        return self.count[j] - (self.last[j] == self.now)

    def note(self, i: int, staleness: int) -> None:
        """Count one use by i of something so old."""
        at = min(staleness, OLDEST)
        if at >= len(self.ages):
            self.ages.extend([0] * (at + 1 - len(self.ages)))
        self.ages[at] += 1
        if staleness > self.oldest:
            self.oldest = staleness
        aged = self.aged[i]
        aged[0] += 1
        aged[1] += staleness

    def _at(self, time: float, kind: int, target: int, body=None) -> None:
        if time < math.inf:
            self.order += 1
            heapq.heappush(self.heap, (time, kind, self.order, target, body))

    def _finish(self, i: int, life: int) -> None:
        if life != self.life[i]:  # it left while it computed
            return
        if i in self.pending:
            self.settle()
        self.under_way[i] = False
        self.computing += self.times(i, self.count[i])
        self.count[i] += 1
        self.last[i] = self.now
        self.method.finished(i, self.directions[i], self)

    def _arrive(self, i: int, message: Message) -> None:
        if i < self.n and not self.here[i]:
            self.lost += 1
        else:
            self.method.received(i, message, self)
        self.versions.drop(message.row)

    def _back(self, i: int) -> None:
        """A worker is back, and asks for a model; it begins when it has one."""
        self.here[i] = True
        helper = next((j for j in self.method.helpers(i) if j >= self.n or self.here[j]), i)
        message = Message(self.versions.new(self.x[helper]), helper, self.now)
        self.bytes += self.size
        self.messages += 1
        self._at(self.now + self.link.seconds(self.size) / self.unit, HELP, i, message)

    def _help(self, i: int, message: Message) -> None:
        if self.here[i]:
            self.x[i].copy_(self.carried(message))
            self.version[i] += 1
            self.method.start(i, self)
        self.versions.drop(message.row)

    #: What a checkpoint keeps of it beside the models, as JSON holds it.
    KEPT = (
        "now", "order", "loss", "count", "begun", "last", "life", "here", "under_way", "version", "read", "busy",
        "sent", "lost", "bytes", "messages", "computing", "oldest", "ages", "aged",
    )  # fmt: skip

    def kept(self) -> dict:
        """All that is under way (JSON-able), every gradient computed; its rows lie in ``versions``."""
        return {
            **{name: getattr(self, name) for name in self.KEPT},
            "heap": self.heap,
            "box": [list(box.values()) for box in self.box],
            "rates": [rule and rule.taken for rule in self.rules],
            "versions": self.versions.state(),
        }

    def restore(self, kept: dict) -> None:
        """Go back to what was ``kept``, but for rates and rows."""
        for name in self.KEPT:
            setattr(self, name, kept[name])
        self.heap = [(*event, Message(*body) if isinstance(body, list) else body) for *event, body in kept["heap"]]
        self.box = [{message[1]: Message(*message) for message in box} for box in kept["box"]]
        self.versions.restore(kept["versions"])
