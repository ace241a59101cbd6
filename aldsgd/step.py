"""A step as a value: what the workers exchange before and after they move, with which coefficients.

Equal values are equal steps: a GPU records one graph for each, and one meter reads bytes, rounds and modelled time from
them. torch is never imported.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from aldsgd.errors import ConfigError
from aldsgd.links import AllReduce, Arcs, Link, Links, Pairs

if TYPE_CHECKING:
    from torch import Tensor

    from aldsgd.neighbourhood import Neighbourhood

LOSS_BYTES = 4
#: Losses by which a step can judge without a state of its own: of the mini-batch, of a second one, of a small set that
#: all workers share, or of what a worker hears on its own next mini-batch.
DRAWS = ("batch", "second", "shared", "receiver")
#: A forward pass as a share of a step's computation: the backward pass takes about as long as two of them.
FORWARD = 1 / 3


class Rule(Protocol):
    """Which coefficients the rows of an exchange get. A rule is a frozen dataclass, so that steps can be compared."""

    def rows(self, hood: "Neighbourhood", losses: "Tensor | None", lr: "float | Tensor") -> "Tensor":
        """Row coefficients (E,) over the entries of the neighbourhood.

        losses: (E,) mini-batch losses of the entries' workers, None where the step does not send them. lr: the rate of
        the hosted workers, a scalar or (w,).
        """


class Codec(Protocol):
    """How a row travels: packed to a fixed size, and exactly restored where the method sends what the codec can
    hold."""

    def size(self, length: int, itemsize: int) -> int:
        """Bytes of a packed row of so many numbers of so many bytes."""

    def pack(self, row: "Tensor") -> "Tensor":
        """A row (P,) as bytes, uint8 (size,)."""

    def unpack(self, packed: "Tensor", like: "Tensor") -> "Tensor":
        """The row (P,) again, with the length, type and device of ``like``."""


@dataclass(frozen=True)
class Gossip:
    """W of one weight: ``weight`` on each neighbour, the rest of one on the worker itself."""

    weight: float

    def rows(self, hood, losses, lr):
        return hood.gossip(self.weight)


@dataclass(frozen=True)
class Metropolis:
    """W_ij = 1 / (1 + max(d_i, d_j)) by the instantaneous degrees."""

    def rows(self, hood, losses, lr):
        return hood.gossip(1 / (1 + hood.degree.maximum(hood.own_degree)))


@dataclass(frozen=True)
class Uniform:
    """The mean of the worker itself and of all that it hears."""

    def rows(self, hood, losses, lr):
        return hood.gossip(1 / (1 + hood.own_degree))


@dataclass(frozen=True)
class Given:
    """W as the user gives it: one tuple per worker, non-zero only for the worker itself and its neighbours."""

    matrix: tuple[tuple[float, ...], ...]

    def rows(self, hood, losses, lr):
        return hood.kept(self, lambda hood: hood.entries_of(self.matrix).tolist())


@dataclass(frozen=True)
class EdgeWeights:
    """W with a weight of its own for each edge, the rest of one on the worker itself.

    weights: as the matchings of the links, which are ``Pairs``.
    """

    weights: tuple[tuple[float, ...], ...]

    def rows(self, hood, losses, lr):
        return hood.gossip(hood.kept(self, self.entries))

    def entries(self, hood) -> list[float]:
        """(E,): the weight of each entry's edge, 0 for the workers themselves."""
        edges = [edge for matching in hood.links.matchings for edge in matching]
        known = dict(zip(edges, (w for weights in self.weights for w in weights), strict=True))
        known |= {(b, a): w for (a, b), w in known.items()}
        ends = zip(hood.row.tolist(), hood.col.tolist(), strict=True)
        return [known.get((hood.workers[i], j), 0.0) for i, j in ends]


@dataclass(frozen=True)
class Exchange:
    """Rows that meet: over which links, with which coefficients, and of which of a method's tensors.

    rule: None for an all-reduce, whose coefficients are those of the mean. payload: names of the tensors, each of which
    is exchanged with the same coefficients; "x" are the models. codec: how a row travels, None: as it is. stochastic:
    whether rows sum to one, which is checked when an exchange is first taken.
    """

    links: Links
    rule: Rule | None = None
    payload: tuple[str, ...] = ("x",)
    codec: Codec | None = None
    stochastic: bool = True

    def __post_init__(self):
        if (self.rule is None) != isinstance(self.links, AllReduce):
            raise ConfigError("an exchange needs a rule for its coefficients; only an all-reduce has none")

    @property
    def fixed(self) -> bool:
        """Whether the links are known without the losses."""
        return getattr(self.links, "roots", ()) is not None


def in_order(exchanges: Exchange | tuple[Exchange, ...]) -> tuple[Exchange, ...]:
    """One exchange, or several, as a tuple."""
    return (exchanges,) if isinstance(exchanges, Exchange) else tuple(exchanges)


@dataclass(frozen=True)
class Step:
    """What happens in one step besides the local move.

    before, after: exchanges before and after the move, in order; one alone need not be a tuple. losses: the mini-batch
    losses that are sent ahead: "links" over the links of the first exchange (4 bytes in each message), "all" to
    everyone, or None. judge: what those are: "batch", losses of the mini-batches; "second", of the models before the
    move on a second mini-batch of each worker's shard, drawn for this alone; "shared", of the same on the samples that
    all workers share; the name of a number of the method's state, as it is at the first exchange that needs it; one
    number for each worker, which follows from the schedule and need not be sent; or "receiver", losses of the rows
    that are exchanged first, each on the next mini-batch of the worker that hears it, which nobody sends. acting: the
    workers that compute a gradient and move, None for all.
    """

    before: tuple[Exchange, ...] = ()
    after: tuple[Exchange, ...] = ()
    losses: str | None = None
    # Not in the text of a step, by which checkpoints made before there was a choice know their run.
    judge: str | tuple[float, ...] = field(default="batch", repr=False)
    acting: tuple[int, ...] | None = None

    def __post_init__(self):
        object.__setattr__(self, "before", in_order(self.before))
        object.__setattr__(self, "after", in_order(self.after))
        if self.losses not in (None, "links", "all"):
            raise ConfigError(f"losses = {self.losses!r} of a step must be None, 'links' or 'all'")
        if self.judge != "batch" and self.losses is None:
            raise ConfigError("what a step judges by has to travel as losses do; give losses='links' or 'all' with it")
        if self.judge == "receiver" and not self.judged_where_heard:
            raise ConfigError(
                "a receiver judges whole models that come over its links: losses='links', and first an exchange of x "
                "between neighbours, without a codec"
            )
        if self.losses != "all" and not self.fixed:
            raise ConfigError("a broadcast from whoever has the smallest loss needs the losses of all: losses='all'")

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        """All exchanges, in order."""
        return self.before + self.after

    @property
    def fixed(self) -> bool:
        """Whether all links are known without the losses."""
        return all(exchange.fixed for exchange in self.exchanges)

    @property
    def judged_where_heard(self) -> bool:
        """Whether models come over links to those who hear them, so that they can judge them."""
        first = self.exchanges[0] if self.losses == "links" and self.exchanges else None
        return (
            first is not None
            and isinstance(first.links, Arcs | Pairs)
            and first.payload == ("x",)
            and first.codec is None
        )

    def passes(self, shared: float) -> float:
        """Forward passes of a mini-batch that the busiest worker takes to judge; ``shared``: those of the shared
        set."""
        if self.judge == "receiver":
            heard = Counter(target for hop in self.links.rounds for _, target in hop)
            return 1 + max(heard.values(), default=0)
        return {"second": 1.0, "shared": shared}.get(self.judge, 0.0) if isinstance(self.judge, str) else 0.0

    @property
    def links(self) -> Links | None:
        """Links of the first exchange, None where there is none."""
        return self.exchanges[0].links if self.exchanges else None

    @property
    def ahead(self) -> Exchange | None:
        """The exchange that can be under way while the gradient is computed: the first before it, if no loss goes
        ahead."""
        return self.before[0] if self.before and self.losses is None else None


#: Nothing is exchanged.
ALONE = Step()


def costs(step: Step, row: dict[str, tuple[int, int]], n: int, link: Link) -> list[tuple[int, int, float]]:
    """(rounds, bytes sent by all workers, modelled seconds) of all that a step sends, in order; see ``aldsgd.links``.

    row: for each tensor that may travel, (numbers in a row, bytes of each). n: number of workers with data.
    """
    told = not isinstance(step.judge, tuple) and step.judge != "receiver"
    found, ahead = [], LOSS_BYTES if step.losses == "links" and told else 0
    if step.losses == "all" and told:  # an all-gather around a ring, no round of models
        found.append((0, n * (n - 1) * LOSS_BYTES, (n - 1) * link.seconds(LOSS_BYTES)))
    for exchange in step.exchanges:
        message = ahead  # losses travel once, also where models travel twice
        for name in exchange.payload:
            length, size = row[name]
            message += exchange.codec.size(length, size) if exchange.codec else length * size
        sent, seconds = exchange.links.cost(message, link)
        found.append((int(sent > 0), sent, seconds))
        ahead = 0
    return found


class Meter:
    """Rounds, logical bytes and modelled seconds of the steps taken so far, and the forward passes spent on judging.

    Args:
        row: for each tensor that may travel, (numbers in a row, bytes of each). n: workers with data. link: the model.
        shared: size of the shared samples in mini-batches.
    """

    def __init__(self, row: dict[str, tuple[int, int]], n: int, link: Link, shared: float = 0.0):
        self.row, self.n, self.link, self.shared = row, n, link, shared
        self.rounds = self.bytes = 0
        self.modelled = self.passes = 0.0
        self._known: dict[Step, list[tuple[int, int, float]]] = {}

    def count(self, step: Step) -> None:
        """Count one more step of this value."""
        if step not in self._known:
            if len(self._known) > 4096:  # a schedule that never repeats
                self._known.clear()
            self._known[step] = costs(step, self.row, self.n, self.link)
        for rounds, sent, seconds in self._known[step]:
            self.rounds += rounds
            self.bytes += sent
            self.modelled += seconds
        self.passes += step.passes(self.shared)

    def state(self) -> dict:
        """What a checkpoint keeps."""
        kept = {"rounds": self.rounds, "bytes": self.bytes, "modelled": self.modelled}
        return kept | ({"passes": self.passes} if self.passes else {})  # older checkpoints know of none

    def restore(self, state: dict) -> None:
        """Go on from what a checkpoint kept."""
        self.rounds, self.bytes, self.modelled = int(state["rounds"]), int(state["bytes"]), float(state["modelled"])
        self.passes = float(state.get("passes", 0.0))
