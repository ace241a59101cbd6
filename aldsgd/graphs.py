"""Communication graphs by name: those of the papers, families, sets of graphs in turn, and edge lists.

Everything here is a pure function of its arguments.
"""

import numbers
from collections.abc import Iterable
from dataclasses import dataclass

import networkx as nx
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from aldsgd import streams
from aldsgd.errors import ConfigError, brief, plain, whole
from aldsgd.matchings import Edge, Matching, edge_count, is_number, matchings_of, worker_count
from aldsgd.paper_graphs import MATCHA, MATCHA_WORKERS, PAPER, PAPER_WORKERS, matchings_from_text
from aldsgd.schedules import KNOWN as SCHEDULES
from aldsgd.topology import Topology

__all__ = [
    "KNOWN", "Matching", "Rotation", "Topology", "complete", "dynamic_set", "erdos_renyi", "exponential", "geometric",
    "line", "matcha_graph", "matchings_of", "paper_graph", "paper_set", "parse", "parse_set", "ring", "star", "torus",
]  # fmt: skip

KNOWN = (
    "paper:LEVEL[:A|B|C] (LEVEL 100, 84.6, 69.2, 53.8, 38.5), matcha:1..4, ring, line, star, complete, "
    "exponential, torus:ROWSxCOLS, erdos_renyi:P[:SEED], geometric:RADIUS[:SEED], file:PATH"
)
MOST_GRAPHS = 64  # of a set in turn; each is the best of 64 trials


def paper_graph(level: float | str, which: str = "A") -> Topology:
    """Graph A, B or C of the AL-DSGD paper's 8 workers at a level in percent (released code)."""
    try:
        key = f"{float(str(level).removesuffix('%')):g}"
    except ValueError:
        key = str(level)
    if key not in PAPER:
        raise ConfigError(f"unknown level {brief(level)} of the paper's graphs: use one of {', '.join(PAPER)}")
    if which not in tuple(PAPER[key]):
        raise ConfigError(f"unknown graph {brief(which)} of the paper's sets: use A, B or C")
    return Topology(PAPER_WORKERS, matchings_from_text(PAPER[key][which]), f"paper:{key}:{which}")


def paper_set(level: float | str, count: int = 3) -> tuple[Topology, ...]:
    """The first ``count`` of the paper's graphs A, B, C at this level, the ones used in turn."""
    if count not in (1, 2, 3):
        raise ConfigError(f"the paper's sets have graphs A, B and C: ask for 1 to 3 graphs, not {brief(count)}")
    return tuple(paper_graph(level, which) for which in "ABC"[:count])


def matcha_graph(k: int) -> Topology:
    """Graph k = 1..4 of MATCHA's 16 workers (released code)."""
    if k not in tuple(MATCHA):
        raise ConfigError(f"unknown MATCHA graph {brief(k)}: use 1, 2, 3 or 4")
    return Topology(MATCHA_WORKERS, matchings_from_text(MATCHA[k]), f"matcha:{k}")


def ring(n: int) -> Topology:
    """A cycle; at n = 8 with the matchings of the released code. An odd ring needs a third matching."""
    if worker_count(n) < 3:
        raise ConfigError(f"a ring needs at least 3 workers, not {n}: use line")
    steps = [(i, (i + 1) % n) for i in range(n)]
    even = steps[: n - n % 2]
    return Topology(n, (tuple(even[0::2]), tuple(even[1::2]), tuple(steps[len(even) :]))[: 2 + n % 2], "ring")


def line(n: int) -> Topology:
    steps = [(i, i + 1) for i in range(worker_count(n) - 1)]
    return Topology(n, tuple(tuple(part) for part in (steps[0::2], steps[1::2]) if part), "line")


def star(n: int) -> Topology:
    """Worker 0 in the middle: n - 1 matchings of one edge, which no schedule can run in parallel."""
    return Topology(n, tuple(((0, i),) for i in range(1, worker_count(n))), "star")


def complete(n: int) -> Topology:
    """All pairs, by the round-robin tournament: n - 1 matchings for even n, n for odd n."""
    n = worker_count(n)
    edge_count(n * (n - 1) // 2)
    seats = n + n % 2
    rounds = []
    for turn in range(seats - 1):
        order = [seats - 1] + [(turn + k) % (seats - 1) for k in range(seats - 1)]
        pairs = [(order[0], order[1])] + [(order[1 + k], order[seats - k]) for k in range(1, seats // 2)]
        rounds.append(tuple(pair for pair in pairs if max(pair) < n))
    return Topology(n, tuple(pairs for pairs in rounds if pairs), "complete")


def torus(rows: int, cols: int) -> Topology:
    """A rows x cols grid that wraps around; worker r * cols + c. Sides of 1 or 2 give no double edges."""
    rows, cols = (whole(side, "a side of a torus") for side in (rows, cols))
    if rows < 1 or cols < 1:
        raise ConfigError(f"a torus needs at least one row and one column, not {brief(rows)}x{brief(cols)}")
    worker_count(rows * cols)
    return Topology.from_networkx(nx.grid_2d_graph(rows, cols, periodic=True), f"torus:{rows}x{cols}")


def erdos_renyi(n: int, p: float, seed: int = 0) -> Topology:
    """Each pair is an edge with probability p; may come out disconnected."""
    n, rng = worker_count(n), _graph_stream(seed)
    if not (isinstance(p, numbers.Real) and 0 <= p <= 1):
        raise ConfigError(f"the edge probability of erdos_renyi must be between 0 and 1, not {brief(p)}")
    rows = (i + 1 + np.flatnonzero(rng.random(n - 1 - i) < p) for i in range(n))
    return Topology.from_edges(n, _pairs(rows), f"erdos_renyi:{p:g}{_suffix(seed)}")


def geometric(n: int, radius: float, seed: int = 0) -> Topology:
    """Uniform points in the unit square, joined up to a distance of ``radius``; may come out disconnected."""
    n, rng = worker_count(n), _graph_stream(seed)
    if not (isinstance(radius, numbers.Real) and 0 < radius < np.inf):
        raise ConfigError(f"the radius of a geometric graph must be positive and finite, not {brief(radius)}")
    points = rng.random((n, 2))
    rows = (i + 1 + np.flatnonzero(np.hypot(*(points[i] - points[i + 1 :]).T) <= radius) for i in range(n))
    return Topology.from_edges(n, _pairs(rows), f"geometric:{radius:g}{_suffix(seed)}")


def _graph_stream(seed: int) -> np.random.Generator:
    return streams.rng("graph" if whole(seed, "the seed of a graph") else "graph of seed 0", seed)


def _suffix(seed: int) -> str:
    return f":{seed}" if seed else ""


def _pairs(rows: Iterable[np.ndarray]) -> list[Edge]:
    """Edges (i, j) for every j of the i-th row; ConfigError as soon as they are too many."""
    pairs: list[Edge] = []
    for i, row in enumerate(rows):
        pairs += ((i, j) for j in row.tolist())
        edge_count(len(pairs))
    return pairs


def exponential(n: int) -> Topology:
    """The static exponential graph: i and i + 2^k (mod n), k = 0, 1, ..., links used in both directions."""
    hops = [2**k for k in range((worker_count(n) - 1).bit_length())]
    return Topology.from_networkx(nx.circulant_graph(n, hops), "exponential")


def dynamic_set(topology: Topology, count: int) -> tuple[Topology, ...]:
    """``count`` graphs to use in turn: the topology, then isomorphic copies with workers exchanged.

    The paper (AL-DSGD, dynamic graphs) moves low-degree workers to high-degree places; how it chose among
    such moves is not known. Here each copy gives the workers with the smallest total degree so far the places
    of largest degree, and among 64 ways of breaking ties keeps the one whose union with the graphs before has
    the fewest components, then the most edges, so that workers meet new neighbours. Deterministic.
    """
    graphs, total, n = [topology], topology.degrees.copy(), topology.n
    edges = np.array(topology.edges, dtype=np.int64).reshape(-1, 2)
    seen = edges @ [n, 1]
    for number in range(1, _set_size(count)):
        rng = streams.rng("set of graphs", number)
        best = None
        for trial in range(64):
            tie_workers, tie_places = (rng.permutation(n) for _ in range(2))
            perm = np.empty(n, dtype=int)
            perm[np.lexsort((tie_workers, total))] = np.lexsort((tie_places, -topology.degrees))
            union = np.union1d(seen, np.sort(np.argsort(perm)[edges], axis=1) @ [n, 1])
            links = coo_array((np.ones(len(union)), np.divmod(union, n)), (n, n))
            score = (connected_components(links, directed=False)[0], -len(union), trial)
            if best is None or score < best[0]:
                best = score, perm, union
        graphs.append(topology.permuted(best[1], f"{topology.name}#{number}"))
        seen = best[2]
        total += graphs[-1].degrees
    return tuple(graphs)


def _set_size(count: int) -> int:
    count = whole(count, "the number of graphs in turn")
    if count < 1:
        raise ConfigError(f"a set of graphs needs at least one graph, not {brief(count)}")
    if count > MOST_GRAPHS:
        raise ConfigError(f"{brief(count)} graphs in turn are too many: up to {MOST_GRAPHS} are meant to work")
    return count


def parse(spec: str, workers: int | None = None) -> Topology:
    """A graph from its name on the command line (`KNOWN` lists the names).

    workers: how many workers the run has; None takes the graph's own count where it has one. A random graph may
    name its seed after another colon, as in ``erdos_renyi:0.4:7``; without one it is that of seed 0.
    Raises ConfigError for an unknown name, a count that does not match, or a graph that is too large.
    """
    if not isinstance(spec, str):
        raise ConfigError(f"a graph is given by its name, not {brief(spec)}: known are {KNOWN}")
    workers = None if workers is None else worker_count(workers)
    kind, _, rest = spec.partition(":")
    sized = {"ring": ring, "line": line, "star": star, "complete": complete, "exponential": exponential}
    random = {"erdos_renyi": erdos_renyi, "geometric": geometric}
    if workers is None and (spec in sized or kind in random):
        raise ConfigError(f"graph {brief(spec)} has no worker count of its own: give the number of workers")
    if spec in sized:
        return sized[kind](workers)
    if kind in random:
        words = rest.split(":")
        try:
            parameter = float(words[0])
        except ValueError:
            raise ConfigError(f"graph {brief(spec)} needs a number after the colon, such as {kind}:0.4") from None
        if len(words) > 2 or not all(map(is_number, words[1:])):
            raise ConfigError(f"graph {brief(spec)} needs a seed after its second colon, such as {kind}:0.4:7")
        return random[kind](workers, parameter, *map(int, words[1:]))
    if kind == "file":
        return Topology.from_file(rest, workers)
    if kind == "paper":
        graph = paper_graph(*rest.split(":", 1))
    elif kind == "matcha":
        graph = matcha_graph(int(rest) if is_number(rest) else rest)
    elif kind == "torus":
        sides = rest.split("x")
        if len(sides) != 2 or not all(map(is_number, sides)):
            raise ConfigError(f"graph {brief(spec)} needs its sides, such as torus:4x4")
        graph = torus(*map(int, sides))
    else:
        raise ConfigError(f"unknown graph {brief(spec)}: known are {KNOWN}, and the schedules {SCHEDULES}")
    if workers is not None and graph.n != workers:
        raise ConfigError(f"graph {plain(spec)} has {graph.n} workers, not the {workers} asked for: make them agree")
    return graph


def parse_set(spec: str, count: int, workers: int | None = None) -> tuple[Topology, ...]:
    """``count`` graphs to use in turn: the paper's own A, B, C for ``paper:LEVEL``, else `dynamic_set`."""
    _set_size(count)
    first = parse(spec, workers)
    if spec.startswith("paper:") and spec.count(":") == 1:
        return paper_set(spec.removeprefix("paper:"), count)
    return dynamic_set(first, count)


@dataclass(frozen=True)
class Rotation:
    """Which graph of a set is used at which global step.

    uniform: 0, 1, ..., count - 1 and again, over the global step (the natural reading of the paper).
    released: the authors' code, by the batch number within the epoch; two graphs: even B, odd A; three:
    even B, else divisible by 3 C, else A. Needs steps_per_epoch with more than one graph, else ConfigError.
    """

    count: int
    order: str = "uniform"
    steps_per_epoch: int | None = None

    def __post_init__(self):
        _set_size(self.count)
        if self.steps_per_epoch is not None:
            whole(self.steps_per_epoch, "steps_per_epoch")
        if self.order not in ("uniform", "released"):
            raise ConfigError(f"unknown order {self.order!r} of the graphs: use uniform or released")
        if self.order == "released" and self.count > 3:
            raise ConfigError(f"the released order is for 1 to 3 graphs, not {self.count}: use uniform")
        if self.order == "released" and self.count > 1 and (self.steps_per_epoch or 0) < 1:
            raise ConfigError("the released order restarts with each epoch: give steps_per_epoch >= 1")

    def at(self, t: int) -> int:
        """Index of the graph used at global step t >= 0."""
        if self.order == "uniform" or self.count == 1:
            return t % self.count
        batch = t % self.steps_per_epoch
        if batch % 2 == 0:
            return 1
        return 2 if self.count == 3 and batch % 3 == 0 else 0

    def uses_before(self, t: int) -> int:
        """How often the graph of step t was used at steps 0..t-1 (closed form)."""
        if self.order == "uniform" or self.count == 1:
            return t // self.count
        epochs, batch = divmod(t, self.steps_per_epoch)
        graph = self.at(t)

        def within(batches: int) -> int:
            odd_thirds = (batches + 2) // 6 if self.count == 3 else 0
            return ((batches // 2) - odd_thirds, (batches + 1) // 2, odd_thirds)[graph]

        return epochs * within(self.steps_per_epoch) + within(batch)
