"""Links between workers, as values: who hears whom in one exchange, and what it costs. torch is never imported.

Logical bytes are those that n separate workers would send in all, from the schedule alone, so they do not depend on how
workers are hosted. Time is modelled as latency + bytes / bandwidth for each round; messages of one round run side by
side, rounds one after another (MATCHA, arXiv 1905.09435).
"""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass

from aldsgd.errors import ConfigError
from aldsgd.matchings import Matching

#: One direction of a link: (who sends, who hears).
Arc = tuple[int, int]


@dataclass(frozen=True)
class Link:
    """A link between two workers. latency: seconds per message. bandwidth: bytes per second, each direction.

    Raises ConfigError unless the latency is zero or more and the bandwidth above zero, both finite.
    """

    latency: float = 50e-6
    bandwidth: float = 1.25e9

    def __post_init__(self):
        if not (math.isfinite(self.latency) and self.latency >= 0):
            raise ConfigError(f"latency = {self.latency:g} must be a finite number of seconds, zero or more")
        if not (math.isfinite(self.bandwidth) and self.bandwidth > 0):
            raise ConfigError(f"bandwidth = {self.bandwidth:g} must be a finite number of bytes per second above zero")

    def seconds(self, message: float) -> float:
        """Modelled seconds of one message of so many bytes."""
        return self.latency + message / self.bandwidth


#: Links by name: nominal bandwidth each way, and a latency that is usual for a message over TCP (10 GbE), RDMA
#: (100 GbE), or between two GPUs of one machine (NVLink of the third generation).
LINKS = {
    "10gbe": Link(50e-6, 1.25e9),
    "100gbe": Link(10e-6, 12.5e9),
    "nvlink": Link(5e-6, 300e9),
}
#: A link of which any other's time follows exactly: of the seconds that a run takes on it the whole part counts its
#: messages, one after another, and the rest times the bandwidth are the bytes of these.
COUNTED = Link(1.0, 1e13)


def frozen_edges(groups, what: str) -> tuple[tuple[tuple[int, int], ...], ...]:
    """Groups of pairs of workers as tuples. Raises ConfigError where they are something else."""
    try:
        return tuple(tuple((operator.index(a), operator.index(b)) for a, b in group) for group in groups)
    except (TypeError, ValueError):
        raise ConfigError(f"{groups!r:.80} are not {what}: give a sequence of {what}, each of pairs (i, j)") from None


@dataclass(frozen=True)
class Arcs:
    """Directed links: ``rounds`` of (sender, hearer), in each of which a worker sends once and hears once at most."""

    rounds: tuple[tuple[Arc, ...], ...]

    def __post_init__(self):
        object.__setattr__(self, "rounds", frozen_edges(self.rounds, "rounds"))

    def check(self, n: int) -> None:
        """Raise ConfigError for a worker outside 0..n-1, or one that stands twice at the same end in a round."""
        for arcs in self.rounds:
            for ends in zip(*arcs, strict=True):
                if len(set(ends)) < len(ends) or not 0 <= min(ends) <= max(ends) < n:
                    raise ConfigError(f"{arcs} is not a round of {n} workers; each sends once and hears once at most")

    def cost(self, message: int, link: Link) -> tuple[int, float]:
        """(bytes sent by all workers, modelled seconds) of messages of so many bytes."""
        active = sum(1 for arcs in self.rounds if arcs)
        return sum(map(len, self.rounds)) * message, active * link.seconds(message)


@dataclass(frozen=True)
class Pairs:
    """Undirected links: matchings, whose edges share no worker; both ends of an edge send."""

    matchings: tuple[Matching, ...]

    def __post_init__(self):
        object.__setattr__(self, "matchings", frozen_edges(self.matchings, "matchings"))

    @property
    def rounds(self) -> tuple[tuple[Arc, ...], ...]:
        """The arcs of each matching, both directions of an edge next to each other."""
        return tuple(tuple(arc for a, b in matching for arc in ((a, b), (b, a))) for matching in self.matchings)

    def check(self, n: int) -> None:
        """Raise ConfigError unless every matching is one of workers 0..n-1."""
        for matching in self.matchings:
            ends = [end for edge in matching for end in edge]
            if len(set(ends)) < len(ends) or ends and not 0 <= min(ends) <= max(ends) < n:
                raise ConfigError(
                    f"{matching} is not a matching of workers 0..{n - 1}; "
                    "each worker may stand in at most one edge of a matching"
                )

    def cost(self, message: int, link: Link) -> tuple[int, float]:
        """(bytes sent by all workers, modelled seconds) of messages of so many bytes."""
        edges = sum(len(matching) for matching in self.matchings)
        active = sum(1 for matching in self.matchings if matching)
        return 2 * edges * message, active * link.seconds(message)


@dataclass(frozen=True)
class Broadcast:
    """One worker to all others of its group, down a binomial tree; several groups side by side.

    roots: the sender of each group, or None: whoever has the smallest loss in it (ties: the first), which needs the
    losses of all.
    """

    groups: tuple[tuple[int, ...], ...]
    roots: tuple[int, ...] | None = None

    def led_by(self, losses: Sequence[float]) -> "Broadcast":
        """The same with the worker of the smallest of all ``losses`` (n,) as the root of each group; NaN never
        leads."""
        score = [math.inf if math.isnan(loss) else loss for loss in losses]
        return type(self)(self.groups, tuple(min(group, key=score.__getitem__) for group in self.groups))

    @property
    def rounds(self) -> tuple[tuple[Arc, ...], ...]:
        """Who hears whom, as arcs from each root."""
        ends = zip(self.groups, self.roots, strict=True)
        return (tuple((root, worker) for group, root in ends for worker in group if worker != root),)

    def check(self, n: int) -> None:
        """Raise ConfigError unless the groups are disjoint, of workers 0..n-1, and each holds its root."""
        every = [worker for group in self.groups for worker in group]
        if len(set(every)) < len(every) or every and not 0 <= min(every) <= max(every) < n:
            raise ConfigError(f"{self.groups} are not groups of workers 0..{n - 1}; each worker may stand in one group")
        if any(root not in group for group, root in zip(self.groups, self.roots or (), strict=False)):
            raise ConfigError(f"the roots {self.roots} do not stand in their groups {self.groups}")

    def cost(self, message: int, link: Link) -> tuple[int, float]:
        """(bytes sent by all workers, modelled seconds): m - 1 messages in ceil(log2 m) rounds for a group of m."""
        deepest = max((math.ceil(math.log2(len(group))) for group in self.groups), default=0)
        return sum(len(group) - 1 for group in self.groups) * message, deepest * link.seconds(message)


@dataclass(frozen=True)
class Reduce(Broadcast):
    """The way back of a broadcast: a weighted sum of the group's rows at its root, up a binomial tree."""

    @property
    def rounds(self) -> tuple[tuple[Arc, ...], ...]:
        """Who hears whom, as arcs to each root."""
        return (tuple((worker, root) for root, worker in Broadcast(self.groups, self.roots).rounds[0]),)


@dataclass(frozen=True)
class AllReduce:
    """Every worker gets the mean of all n, by a ring: 2 (n - 1) rounds of 1/n of a message each."""

    n: int

    def check(self, n: int) -> None:
        """Raise ConfigError unless it is of all workers."""
        if self.n != n:
            raise ConfigError(f"an all-reduce of {self.n} workers among {n}; it takes all workers that have data")

    def cost(self, message: int, link: Link) -> tuple[int, float]:
        """(bytes sent by all workers, modelled seconds)."""
        rounds = 2 * (self.n - 1)
        return rounds * message, rounds * link.seconds(message / self.n)

    def messages(self) -> list[list[tuple[int, int, int]]]:
        """The ring itself: rounds of (sender, hearer, block), of n blocks of a row.

        In the first n - 1 rounds the hearer adds the block to its own, in the others it takes it over; every block then
        holds the sum everywhere.
        """
        n = self.n
        return [[(i, (i + 1) % n, (i - k) % n) for i in range(n)] for k in range(2 * (n - 1))]


@dataclass(frozen=True)
class ServerReduce(AllReduce):
    """The same mean by a parameter server beside the n workers, over the one link that it has."""

    def cost(self, message: int, link: Link) -> tuple[int, float]:
        """(bytes sent by the workers and the server, modelled seconds): all n models in, then n out."""
        return 2 * self.n * message, 2 * link.seconds(self.n * message)


@dataclass(frozen=True)
class NaiveReduce(AllReduce):
    """The same mean where each worker sends its model to every other."""

    def cost(self, message: int, link: Link) -> tuple[int, float]:
        """(bytes sent by all workers, modelled seconds): n - 1 rounds."""
        return self.n * (self.n - 1) * message, (self.n - 1) * link.seconds(message)


Links = Pairs | Arcs | Broadcast | Reduce | AllReduce
