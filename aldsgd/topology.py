"""A communication graph: workers, edges, and the matchings (groups of links that can run at the same time).

A graph of this method is a list of matchings: the schedules of D-PSGD's released code and of MATCHA activate
whole matchings, whose links run in parallel.
"""

import itertools
import numbers
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import networkx as nx
import numpy as np

from aldsgd.edge_file import read_edges
from aldsgd.errors import ConfigError, brief, plain, whole
from aldsgd.matchings import Edge, Matching, checked_edges, edge_count, listed, matchings_of, worker_count


@dataclass(frozen=True)
class Topology:
    """An undirected simple graph on workers 0..n-1, as matchings.

    Edges are stored as (smaller id, larger id); the order of matchings is kept, because leaders' ties and
    the released schedules depend on it. Names do not count in comparisons.

    Raises ConfigError for n < 1, an id outside 0..n-1, a self-loop, an edge that appears twice (in either
    direction, in any matchings), two edges of one matching that share a worker, or more workers or edges than
    ``aldsgd.matchings`` allows.
    """

    n: int
    matchings: tuple[Matching, ...]
    name: str = field(default="custom", compare=False)

    def __post_init__(self):
        n = worker_count(self.n)
        matchings = tuple(tuple(listed(matching, "a matching")) for matching in listed(self.matchings, "matchings"))
        if any(isinstance(end, numbers.Integral) for matching in matchings for end in matching):
            raise ConfigError(
                f"{brief(matchings[0])} is an edge where a matching, a list of edges, is due: "
                "give plain edges to Topology.from_edges(n, edges)"
            )
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
        if not isinstance(g, nx.Graph):
            raise ConfigError(f"{brief(g)} is not a networkx graph: give one, or use Topology.from_edges(n, edges)")
        if g.is_directed() or g.is_multigraph():
            raise ConfigError("the networkx graph is directed or has parallel edges: use networkx.Graph(g)")
        worker_count(len(g))
        edge_count(g.number_of_edges())
        nodes = list(g.nodes)
        place = {node: i for i, node in enumerate(nodes)}
        if set(nodes) == set(range(len(nodes))):
            place = {node: int(node) for node in nodes}
        return cls.from_edges(len(nodes), [(place[a], place[b]) for a, b in g.edges], name)

    @classmethod
    def from_file(cls, path: str | Path, workers: int | None = None) -> "Topology":
        """Read an edge list: one ``i j`` per line, ``#`` starts a comment.

        A first line ``n 8`` sets the worker count; without it n is the largest id plus one. workers: what n must be,
        None for any. Raises ConfigError also for a file that leaves most numbers up to its largest without an edge.
        """
        n, edges = read_edges(path)
        largest, place = max(((max(edge), number) for number, edge in edges.items()), default=(-1, 0))
        found = largest + 1 if n is None else n
        if workers is not None and found != worker_count(workers):
            where = f" (its line {place} names worker {brief(largest)})" if n is None else ""
            raise ConfigError(
                f"graph file:{plain(str(path))} has {brief(found)} workers, not the {workers} asked for{where}: "
                "make them agree"
            )
        used = len(set(itertools.chain.from_iterable(edges.values())))
        if n is None and workers is None and found > 2 * used + 16:
            raise ConfigError(
                f"line {place} of {plain(str(path))} names worker {largest}, but {found - used} numbers below it have "
                "no edge: renumber the workers from 0, or start the file with 'n COUNT'"
            )
        return cls.from_edges(found, edges.values(), f"file:{path}")

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
        perm = [whole(place, "a place of a permutation") for place in listed(perm, "a permutation")]
        if sorted(perm) != list(range(self.n)):
            raise ConfigError(f"the permutation must hold each of 0..{self.n - 1} once")
        worker = np.argsort(perm).tolist()
        moved = tuple(tuple((worker[i], worker[j]) for i, j in matching) for matching in self.matchings)
        return Topology(self.n, moved, name or self.name)


def _frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array
