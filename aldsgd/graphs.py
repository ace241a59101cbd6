"""Communication graphs: workers, edges, and the matchings (groups of links that can run at the same time).

A graph of this method is a list of matchings: the schedules of D-PSGD's released code and of MATCHA activate
whole matchings, whose links run in parallel. Everything here is a pure function of its arguments.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import networkx as nx
import numpy as np

from aldsgd.errors import ConfigError
from aldsgd.matchings import (
    Edge,
    Matching,
    checked_edges,
    is_number,
    matchings_of,
    simple_edges,
    worker_count,
)
from aldsgd.paper_graphs import MATCHA, MATCHA_WORKERS, PAPER, PAPER_WORKERS, matchings_from_text

KNOWN = (
    "paper:LEVEL[:A|B|C] (LEVEL 100, 84.6, 69.2, 53.8, 38.5), matcha:1..4, ring, line, star, complete, "
    "exponential, torus:ROWSxCOLS, erdos_renyi:P, geometric:RADIUS, file:PATH"
)


@dataclass(frozen=True)
class Topology:
    """An undirected simple graph on workers 0..n-1, as matchings.

    Edges are stored as (smaller id, larger id); the order of matchings is kept, because leaders' ties and
    the released schedules depend on it. Names do not count in comparisons.

    Raises ConfigError for n < 1, an id outside 0..n-1, a self-loop, an edge that appears twice (in either
    direction, in any matchings), or two edges of one matching that share a worker.
    """

    n: int
    matchings: tuple[Matching, ...]
    name: str = field(default="custom", compare=False)

    def __post_init__(self):
        n = worker_count(self.n)
        matchings = tuple(tuple(matching) for matching in self.matchings)
        edges = iter(checked_edges(n, itertools.chain.from_iterable(matchings)))
        matchings = tuple(tuple(itertools.islice(edges, len(matching))) for matching in matchings)
        for number, matching in enumerate(matchings):
            seen: set[int] = set()
            for edge in matching:
                if seen.intersection(edge):
                    raise ConfigError(
                        f"matching {number} uses worker {seen.intersection(edge).pop()} twice: "
                        "give plain edges to Topology.from_edges to have them grouped"
                    )
                seen.update(edge)
        object.__setattr__(self, "n", n)
        object.__setattr__(self, "matchings", matchings)

    @classmethod
    def from_edges(cls, n: int, edges: Iterable[Edge], name: str = "custom") -> "Topology":
        """Group plain edges into matchings (see `matchings_of`)."""
        return cls(n, matchings_of(n, edges), name)

    @classmethod
    def from_networkx(cls, g: nx.Graph, name: str = "custom") -> "Topology":
        """Take an undirected graph; nodes that are not 0..n-1 are numbered in the order of ``g.nodes``."""
        if g.is_directed() or g.is_multigraph():
            raise ConfigError("the networkx graph is directed or has parallel edges: use networkx.Graph(g)")
        nodes = list(g.nodes)
        place = {node: i for i, node in enumerate(nodes)}
        if set(nodes) == set(range(len(nodes))):
            place = {node: int(node) for node in nodes}
        return cls.from_edges(len(nodes), [(place[a], place[b]) for a, b in g.edges], name)

    @classmethod
    def from_file(cls, path: str | Path) -> "Topology":
        """Read an edge list: one ``i j`` per line, ``#`` starts a comment.

        A first line ``n 8`` sets the worker count; without it n is the largest id plus one.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the edge list {path} ({error}): give 'i j' lines") from error
        n, edges = None, []
        for number, line in enumerate(text.splitlines(), start=1):
            words = line.split("#")[0].split()
            if not words:
                continue
            is_count = words[0] == "n" and n is None and not edges
            values = words[1:] if is_count else words
            if len(values) != 1 + (not is_count) or not all(map(is_number, values)):
                raise ConfigError(f"line {number} of {path} is not 'i j' (or first 'n COUNT'): {line.strip()!r}")
            if is_count:
                n = int(values[0])
            else:
                edges.append((int(values[0]), int(values[1])))
        if n is None and not edges:
            raise ConfigError(f"the edge list {path} is empty: write 'i j' lines, or 'n COUNT' for no edges")
        return cls.from_edges(1 + max(map(max, edges)) if n is None else n, edges, f"file:{path}")

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        """All edges, matching after matching."""
        return tuple(itertools.chain.from_iterable(self.matchings))

    @cached_property
    def degrees(self) -> np.ndarray:
        """Number of neighbours of each worker, int64 (n,), read-only."""
        return _frozen(np.bincount(np.array(self.edges, dtype=np.int64).ravel(), minlength=self.n))

    @cached_property
    def matching_laplacians(self) -> np.ndarray:
        """Laplacian of each matching, float64 (M, n, n), read-only."""
        laplacians = np.zeros((len(self.matchings), self.n, self.n))
        for laplacian, matching in zip(laplacians, self.matchings, strict=True):
            if matching:
                i, j = np.array(matching).T
                laplacian[i, j] = laplacian[j, i] = -1
                laplacian[i, i] = laplacian[j, j] = 1
        return _frozen(laplacians)

    @cached_property
    def laplacian(self) -> np.ndarray:
        """Degrees minus adjacency, float64 (n, n), read-only."""
        laplacian = np.diag(self.degrees.astype(float))
        if self.edges:
            i, j = np.array(self.edges).T
            laplacian[i, j] = laplacian[j, i] = -1
        return _frozen(laplacian)

    def to_networkx(self) -> nx.Graph:
        g = nx.Graph(self.edges)
        g.add_nodes_from(range(self.n))
        return g

    def components(self) -> list[list[int]]:
        """Connected components, each sorted, in the order of their smallest worker."""
        return sorted(sorted(component) for component in nx.connected_components(self.to_networkx()))

    @property
    def is_connected(self) -> bool:
        return len(self.components()) == 1

    def require_connected(self) -> None:
        """Raise ConfigError naming the components of a disconnected graph."""
        components = self.components()
        if len(components) > 1:
            shown = " ".join(str(component) for component in components[:8]) + " ..." * (len(components) > 8)
            raise ConfigError(
                f"graph {self.name} is not connected, its {len(components)} components are {shown}: "
                "use a connected graph, rotate several graphs, or allow disconnected graphs explicitly"
            )

    def permuted(self, perm: Sequence[int], name: str | None = None) -> "Topology":
        """The same graph with the workers moved: worker i goes to the place that worker perm[i] had.

        So ``new.degrees[i] == old.degrees[perm[i]]``, and the matchings keep their order.
        """
        perm = [int(place) for place in perm]
        if sorted(perm) != list(range(self.n)):
            raise ConfigError(f"the permutation must hold each of 0..{self.n - 1} once")
        worker = np.argsort(perm).tolist()
        moved = tuple(tuple((worker[i], worker[j]) for i, j in matching) for matching in self.matchings)
        return Topology(self.n, moved, name or self.name)


def paper_graph(level: float | str, which: str = "A") -> Topology:
    """Graph A, B or C of the AL-DSGD paper's 8 workers at a level in percent (released code)."""
    try:
        key = f"{float(str(level).removesuffix('%')):g}"
    except ValueError:
        key = str(level)
    if key not in PAPER:
        raise ConfigError(f"unknown level {level!r} of the paper's graphs: use one of {', '.join(PAPER)}")
    if which not in PAPER[key]:
        raise ConfigError(f"unknown graph {which!r} of the paper's sets: use A, B or C")
    return Topology(PAPER_WORKERS, matchings_from_text(PAPER[key][which]), f"paper:{key}:{which}")


def paper_set(level: float | str, count: int = 3) -> tuple[Topology, ...]:
    """The first ``count`` of the paper's graphs A, B, C at this level, the ones used in turn."""
    if count not in (1, 2, 3):
        raise ConfigError(f"the paper's sets have graphs A, B and C: ask for 1 to 3 graphs, not {count}")
    return tuple(paper_graph(level, which) for which in "ABC"[:count])


def matcha_graph(k: int) -> Topology:
    """Graph k = 1..4 of MATCHA's 16 workers (released code)."""
    if k not in MATCHA:
        raise ConfigError(f"unknown MATCHA graph {k!r}: use 1, 2, 3 or 4")
    return Topology(MATCHA_WORKERS, matchings_from_text(MATCHA[k]), f"matcha:{k}")


def ring(n: int) -> Topology:
    """A cycle; at n = 8 with the matchings of the released code. An odd ring needs a third matching."""
    if n < 3:
        raise ConfigError(f"a ring needs at least 3 workers, not {n}: use line")
    steps = [(i, (i + 1) % n) for i in range(n)]
    even = steps[: n - n % 2]
    return Topology(n, (tuple(even[0::2]), tuple(even[1::2]), tuple(steps[len(even) :]))[: 2 + n % 2], "ring")


def line(n: int) -> Topology:
    steps = [(i, i + 1) for i in range(n - 1)]
    return Topology(n, tuple(tuple(part) for part in (steps[0::2], steps[1::2]) if part), "line")


def star(n: int) -> Topology:
    """Worker 0 in the middle: n - 1 matchings of one edge, which no schedule can run in parallel."""
    return Topology(n, tuple(((0, i),) for i in range(1, n)), "star")


def complete(n: int) -> Topology:
    """All pairs, by the round-robin tournament: n - 1 matchings for even n, n for odd n."""
    seats = n + n % 2
    rounds = []
    for turn in range(seats - 1):
        order = [seats - 1] + [(turn + k) % (seats - 1) for k in range(seats - 1)]
        pairs = [(order[0], order[1])] + [(order[1 + k], order[seats - k]) for k in range(1, seats // 2)]
        rounds.append(tuple(pair for pair in pairs if max(pair) < n))
    return Topology(n, tuple(pairs for pairs in rounds if pairs), "complete")


def torus(rows: int, cols: int) -> Topology:
    """A rows x cols grid that wraps around; worker r * cols + c. Sides of 1 or 2 give no double edges."""
    if rows < 1 or cols < 1:
        raise ConfigError(f"a torus needs at least one row and one column, not {rows}x{cols}")
    places = [(r, c) for r in range(rows) for c in range(cols)]
    pairs = [(r * cols + c, (r + 1) % rows * cols + c) for r, c in places]
    pairs += [(r * cols + c, r * cols + (c + 1) % cols) for r, c in places]
    return Topology.from_edges(rows * cols, simple_edges(pairs), f"torus:{rows}x{cols}")


def erdos_renyi(n: int, p: float, seed: int = 0) -> Topology:
    """Each pair is an edge with probability p; may come out disconnected."""
    if not 0 <= p <= 1:
        raise ConfigError(f"the edge probability of erdos_renyi must be between 0 and 1, not {p}")
    i, j = np.triu_indices(worker_count(n), 1)
    kept = np.random.default_rng(seed).random(len(i)) < p
    return Topology.from_edges(n, np.stack([i[kept], j[kept]], 1), f"erdos_renyi:{p:g}")


def geometric(n: int, radius: float, seed: int = 0) -> Topology:
    """Uniform points in the unit square, joined up to a distance of ``radius``; may come out disconnected."""
    if not radius > 0:
        raise ConfigError(f"the radius of a geometric graph must be positive, not {radius}")
    points = np.random.default_rng(seed).random((worker_count(n), 2))
    i, j = np.triu_indices(n, 1)
    kept = np.hypot(*(points[i] - points[j]).T) <= radius
    return Topology.from_edges(n, np.stack([i[kept], j[kept]], 1), f"geometric:{radius:g}")


def exponential(n: int) -> Topology:
    """The static exponential graph: i and i + 2^k (mod n), k = 0, 1, ..., links used in both directions."""
    hops = [2**k for k in range((worker_count(n) - 1).bit_length())]
    pairs = [(i, (i + hop) % n) for hop in hops for i in range(n)]
    return Topology.from_edges(n, simple_edges(pairs), "exponential")


def dynamic_set(topology: Topology, count: int) -> tuple[Topology, ...]:
    """``count`` graphs to use in turn: the topology, then isomorphic copies with workers exchanged.

    The paper (AL-DSGD, dynamic graphs) moves low-degree workers to high-degree places; how it chose among
    such moves is not known. Here each copy gives the workers with the smallest total degree so far the places
    of largest degree, and among 64 ways of breaking ties keeps the one whose union with the graphs before has
    the fewest components, then the most edges, so that workers meet new neighbours. Deterministic.
    """
    if count < 1:
        raise ConfigError(f"a set of graphs needs at least one graph, not {count}")
    graphs, seen = [topology], set(topology.edges)
    total = topology.degrees.copy()
    for number in range(1, count):
        rng = np.random.default_rng(number)
        best = None
        for trial in range(64):
            tie_workers, tie_places = (rng.permutation(topology.n) for _ in range(2))
            perm = np.empty(topology.n, dtype=int)
            perm[np.lexsort((tie_workers, total))] = np.lexsort((tie_places, -topology.degrees))
            copy = topology.permuted(perm, f"{topology.name}#{number}")
            union = nx.Graph(seen.union(copy.edges))
            score = (nx.number_connected_components(union) - len(union), -union.number_of_edges(), trial)
            if best is None or score < best[0]:
                best = score, copy
        graphs.append(best[1])
        seen.update(best[1].edges)
        total += best[1].degrees
    return tuple(graphs)


def parse(spec: str, workers: int | None = None, seed: int = 0) -> Topology:
    """A graph from its name on the command line (`KNOWN` lists the names).

    workers: how many workers the run has; None takes the graph's own count where it has one. seed: of the
    random graphs. Raises ConfigError for an unknown name or a count that does not match.
    """
    kind, _, rest = spec.partition(":")
    sized = {"ring": ring, "line": line, "star": star, "complete": complete, "exponential": exponential}
    random = {"erdos_renyi": erdos_renyi, "geometric": geometric}
    if workers is None and (kind in sized or kind in random):
        raise ConfigError(f"graph {spec!r} has no worker count of its own: give the number of workers")
    if kind in sized and not rest:
        graph = sized[kind](workers)
    elif kind in random:
        try:
            parameter = float(rest)
        except ValueError:
            raise ConfigError(f"graph {spec!r} needs a number after the colon, such as {kind}:0.4") from None
        graph = random[kind](workers, parameter, seed)
    elif kind == "paper":
        level, _, which = rest.partition(":")
        graph = paper_graph(level, which or "A")
    elif kind == "matcha":
        graph = matcha_graph(int(rest) if is_number(rest) else rest)
    elif kind == "torus":
        sides = rest.split("x")
        if len(sides) != 2 or not all(map(is_number, sides)):
            raise ConfigError(f"graph {spec!r} needs its sides, such as torus:4x4")
        graph = torus(*map(int, sides))
    elif kind == "file":
        graph = Topology.from_file(rest)
    else:
        raise ConfigError(f"unknown graph {spec!r}: known are {KNOWN}")
    if workers is not None and graph.n != workers:
        raise ConfigError(f"graph {spec} has {graph.n} workers, not the {workers} asked for: make them agree")
    return graph


def parse_set(spec: str, count: int, workers: int | None = None, seed: int = 0) -> tuple[Topology, ...]:
    """``count`` graphs to use in turn: the paper's own A, B, C for ``paper:LEVEL``, else `dynamic_set`."""
    first = parse(spec, workers, seed)
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
        if self.count < 1:
            raise ConfigError(f"a rotation needs at least one graph, not {self.count}")
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


def _frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array
