"""Grouping the edges of a graph into matchings: links that share no worker can run together."""

import itertools
import operator
from collections.abc import Iterable

import networkx as nx
import numpy as np

from aldsgd.errors import ConfigError, brief, whole

Edge = tuple[int, int]
Matching = tuple[Edge, ...]
# What graphs are meant for: dense n x n matrices and their spectra, and every pair of a thousand workers.
MOST_WORKERS, MOST_EDGES = 4096, 2**19


def matchings_of(n: int, edges: Iterable[Edge]) -> tuple[Matching, ...]:
    """Group the edges of a simple graph into matchings: at most max degree + 1, max degree if bipartite.

    Edge colouring by fans and alternating paths (Misra and Gries 1992); on a bipartite graph a fan of one
    edge is enough and saves a colour (Koenig). Deterministic: edges are taken in sorted order. Raises
    ConfigError for edges that do not make a simple graph on workers 0..n-1.
    """
    edges = sorted(checked_edges(worker_count(n), edges))
    if not edges:
        return ()
    bipartite = nx.is_bipartite(nx.Graph(edges))
    palette = int(np.bincount(np.array(edges).ravel()).max()) + 1
    mate: list[dict[int, int]] = [{} for _ in range(n)]  # mate[v][colour]: the neighbour of v over that colour

    def free(v: int) -> int:
        return next(colour for colour in range(palette) if colour not in mate[v])

    for u, v in edges:
        fan = [v] if bipartite else _maximal_fan(mate, u, v)
        c, d = free(u), free(fan[-1])
        if d in mate[u]:
            _swap_path(mate, u, c, d)
        # After the swap d is free at u, and a prefix of the fan still is one whose last member has d free.
        colour_at_u = {w: colour for colour, w in mate[u].items()}
        end = 0
        while d in mate[fan[end]]:
            if end + 1 == len(fan) or colour_at_u[fan[end + 1]] in mate[fan[end]]:
                raise AssertionError("edge colouring lost its fan")
            end += 1
        shifted = [colour_at_u[w] for w in fan[1 : end + 1]] + [d]
        for w in fan[1 : end + 1]:
            del mate[u][colour_at_u[w]], mate[w][colour_at_u[w]]
        for w, colour in zip(fan, shifted, strict=False):
            mate[u][colour], mate[w][colour] = w, u

    groups: list[list[Edge]] = [[] for _ in range(palette)]
    for i, colours in enumerate(mate):
        for colour, j in colours.items():
            if i < j:
                groups[colour].append((i, j))
    return tuple(tuple(sorted(group)) for group in groups if group)


def _maximal_fan(mate: list[dict[int, int]], u: int, v: int) -> list[int]:
    """Neighbours of u, first v: the colour between u and each next one is free at the one before."""
    fan, rest = [v], dict(sorted(mate[u].items()))
    while True:
        colour = next((colour for colour in rest if colour not in mate[fan[-1]]), None)
        if colour is None:
            return fan
        fan.append(rest.pop(colour))


def _swap_path(mate: list[dict[int, int]], u: int, c: int, d: int) -> None:
    """Exchange colours c and d along the path of these two colours that begins at u, where c is free."""
    path, colour = [u], d
    while colour in mate[path[-1]]:
        path.append(mate[path[-1]][colour])
        colour = c if colour == d else d
    for v in path:
        at_c, at_d = mate[v].pop(c, None), mate[v].pop(d, None)
        if at_d is not None:
            mate[v][c] = at_d
        if at_c is not None:
            mate[v][d] = at_c


def worker_count(n: int) -> int:
    """n as an int, before anything of its size is built; ConfigError unless 1 <= n <= MOST_WORKERS."""
    n = whole(n, "the number of workers")
    if n < 1:
        raise ConfigError(f"a graph needs at least one worker, not {brief(n)}")
    if n > MOST_WORKERS:
        raise ConfigError(
            f"{brief(n)} workers are too many: graphs are meant for up to {MOST_WORKERS}, whose n x n matrices "
            f"take {8 * MOST_WORKERS**2 // 2**20} MB each; use fewer"
        )
    return n


def edge_count(count: float) -> None:
    """Raise ConfigError for more edges than a graph may have, before they are built."""
    if count > MOST_EDGES:
        raise ConfigError(f"a graph of {count:.0f} edges is too large: up to {MOST_EDGES} are meant to work; use fewer")


def checked_edges(n: int, edges: Iterable[Edge]) -> list[Edge]:
    """Edges as (smaller, larger) in the given order; ConfigError for what is not a simple graph on 0..n-1."""
    checked: dict[Edge, None] = {}
    for edge in listed(edges, "edges"):
        try:
            i, j = (operator.index(end) for end in edge)
        except (TypeError, ValueError):
            raise ConfigError(f"edge {brief(edge)} is not a pair of worker numbers") from None
        if not (0 <= i < n and 0 <= j < n):
            raise ConfigError(
                f"edge {brief((i, j))} names a worker outside 0..{n - 1}: correct it or raise the worker count"
            )
        if i == j:
            raise ConfigError(f"edge ({i}, {j}) is a self-loop: remove it, every worker always keeps its own model")
        edge = (min(i, j), max(i, j))
        if edge in checked:
            raise ConfigError(f"edge {edge} appears twice: keep it once (direction does not count)")
        checked[edge] = None
    return list(checked)


def listed(values: Iterable, what: str) -> list:
    """The values as a list; ConfigError for what cannot be gone through, or holds more than edges are meant to be."""
    try:
        values = list(itertools.islice(values, MOST_EDGES + 1))
    except TypeError:
        raise ConfigError(f"{what} must be given as a list, not {brief(values)}") from None
    edge_count(len(values))
    return values


def is_number(word: str) -> bool:
    """Whether a word of a file or of the command line is a plain non-negative whole number, of up to 30 digits."""
    return word.isascii() and word.isdigit() and len(word) <= 30
