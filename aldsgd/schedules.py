"""Schedules of links and weights: W_t as a pure function of t, and of a seed where it is random.

By name (`KNOWN`) they stand in place of a graph for every method that takes its W_t from D-PSGD. torch is never
imported.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import zip_longest

from aldsgd.errors import ConfigError, brief
from aldsgd.links import Arcs, Pairs
from aldsgd.matchings import Edge, Matching, is_number, matchings_of, worker_count
from aldsgd.step import EdgeWeights, Exchange, Gossip
from aldsgd.streams import rng

KNOWN = "hypercube, one_peer, base:K (K = 2, 3, ...), equidyn[:H], matching"
#: Weights of the edges of one step.
Weighted = dict[Edge, float]


@dataclass(frozen=True)
class Schedule:
    """at: t -> the exchange of step t among n workers. period: steps after which it repeats, None for a random one."""

    name: str
    n: int
    at: Callable[[int], Exchange]
    period: int | None = None


def in_turn(name: str, n: int, exchanges: Sequence[Exchange]) -> Schedule:
    """These exchanges one after another, and again."""
    return Schedule(name, n, lambda t: exchanges[t % len(exchanges)], len(exchanges))


def hypercube(n: int) -> Schedule:
    """Undirected one-peer exponential graph: i meets i xor 2^(t mod log2 n), half and half.

    Any log2 n steps in a row average exactly. Raises ConfigError unless n is a power of two, and 2 or more.
    """
    if worker_count(n) < 2 or n & (n - 1):
        raise ConfigError(f"hypercube needs 2, 4, 8, ... workers, not {n}; base:2 takes any number")
    hops = [1 << k for k in range(n.bit_length() - 1)]
    found = [tuple((i, i ^ hop) for i in range(n) if not i & hop) for hop in hops]
    return in_turn("hypercube", n, [Exchange(Pairs((matching,)), Gossip(0.5)) for matching in found])


def one_peer(n: int) -> Schedule:
    """Directed one-peer exponential graph (Ying et al. 2021, arXiv 2110.13363): i hears i + 2^(t mod ceil(log2 n)).

    Each sends and hears one model, half and half. A period averages exactly if n is a power of two, else not. Raises
    ConfigError for a single worker.
    """
    if worker_count(n) < 2:
        raise ConfigError("one_peer needs 2 workers or more")
    hops = [1 << k for k in range((n - 1).bit_length())]
    found = [tuple(((i + hop) % n, i) for i in range(n)) for hop in hops]
    return in_turn("one_peer", n, [Exchange(Arcs((arcs,)), Gossip(0.5)) for arcs in found])


def base(n: int, peers: int = 1) -> Schedule:
    """Base-(k+1) graph (Takezawa et al. 2023, arXiv 2305.11420): exact averaging in a few steps for any n.

    k = ``peers`` is the largest degree of a step, and 2 log_(k+1) n + 2 the longest period. The product of a period's
    matrices is J if the window starts with the period, in either order; other windows need not average.
    """
    if worker_count(n) < 2 or peers < 1:
        raise ConfigError(f"base:{peers + 1} of {n} workers makes no sense; give 2 or more of both")
    return in_turn(f"base:{peers + 1}", n, [weighted(n, edges) for edges in base_steps(n, peers + 1)])


def weighted(n: int, edges: Weighted) -> Exchange:
    """The exchange over these edges, grouped into matchings, each edge with its weight."""
    matchings = matchings_of(n, edges)
    return Exchange(Pairs(matchings), EdgeWeights(tuple(tuple(edges[edge] for edge in m) for m in matchings)))


def base_steps(n: int, K: int) -> list[Weighted]:
    """A period of the Base-K graph: `hyper_hypercube` where it can be, else the shorter of `simple_base`, and of that
    on equal parts, then across them."""
    smooth, rest = n, 1  # n without, and with, the primes above K
    for p in range(2, n + 1):
        while p > K and smooth % p == 0 and all(p % q for q in range(2, p)):
            smooth, rest = smooth // p, rest * p
    if rest == 1:
        return hyper_hypercube(range(n), K)
    whole = simple_base(range(n), K)
    parts = side_by_side([simple_base(range(i * rest, (i + 1) * rest), K) for i in range(smooth)])
    across = side_by_side([hyper_hypercube(range(j, n, rest), K) for j in range(rest)])
    return min(whole, parts + across, key=len)


def simple_base(nodes: Sequence[int], K: int) -> list[Weighted]:
    """Blocks of a K^p workers, by the digits of their number in base K, largest first.

    Each block averages. In turn each meets all that follow, one of each of its a parts, with a weight that makes the
    mean of every part that of all; then the part averages again.
    """
    blocks, power, done = [], 1, len(nodes)
    while power <= len(nodes):
        digit = len(nodes) // power % K
        if digit:
            blocks.insert(0, (nodes[done - digit * power : done], power))
            done -= digit * power
        power *= K
    steps = side_by_side([hyper_hypercube(block, K) for block, _ in blocks])
    again = []
    for number, (block, power) in enumerate(blocks[:-1]):
        later = [node for following, _ in blocks[number + 1 :] for node in following]
        parts = [block[start : start + power] for start in range(0, len(block), power)]
        weight = len(block) / (len(block) + len(later)) / len(parts)
        meeting = {ordered(part[i], node): weight for part in parts for i, node in enumerate(later)}
        wait: list[Weighted] = [{}] * number
        again.append([*wait, meeting, *side_by_side([hyper_hypercube(part, K) for part in parts])])
    return steps + side_by_side(again)


def hyper_hypercube(nodes: Sequence[int], K: int) -> list[Weighted]:
    """Exact averaging where the number of nodes is a product of factors up to K: one step for each factor f, in which
    groups of f average. Raises ConfigError for another number."""
    steps, stride = [], 1
    for f in factors(len(nodes), K):
        groups = [range(i, i + f * stride, stride) for i in range(len(nodes)) if i // stride % f == 0]
        pairs = [(nodes[a], nodes[b]) for group in groups for a in group for b in group if a < b]
        steps.append({ordered(a, b): 1 / f for a, b in pairs})
        stride *= f
    return steps


@cache
def factors(number: int, most: int) -> tuple[int, ...]:
    """The fewest factors, from 2 to ``most``, whose product this is. Raises ConfigError where there are none."""
    if number == 1:
        return ()
    found = []
    for f in range(min(most, number), 1, -1):
        if number % f == 0:
            try:
                found.append((f, *factors(number // f, most)))
            except ConfigError:
                continue
    if not found:
        raise ConfigError(f"{number} has a prime factor above {most}")
    return min(found, key=len)


def side_by_side(parts: Sequence[Sequence[Weighted]]) -> list[Weighted]:
    """Steps of several groups of workers at the same time."""
    return [{edge: w for step in steps for edge, w in step.items()} for steps in zip_longest(*parts, fillvalue={})]


def ordered(a: int, b: int) -> Edge:
    return (a, b) if a < b else (b, a)


def equidyn(n: int, seed: int = 0, h: float = 0.5) -> Schedule:
    """OU-EquiDyn (Song et al. 2022, arXiv 2210.07881): a random shift s and a random first worker; from it on, i meets
    i + s if both are free, with the weight h (n - 1)/n.

    h = 1 is the released code's default; h = 1/2 agrees faster (||E W'W - J|| 0.51 at n = 8, against 0.78). Raises
    ConfigError for an h outside (0, 1], or a single worker.
    """
    if worker_count(n) < 2 or not 0 < h <= 1:
        raise ConfigError(f"equidyn:{h:g} of {n} workers makes no sense; give h in (0, 1], and 2 workers or more")

    def at(t: int) -> Exchange:
        shift, first = rng("schedule", seed, t).integers((1, 0), n).tolist()
        return Exchange(Pairs((shifted(n, shift, first),)), Gossip(h * (n - 1) / n))

    return Schedule(f"equidyn:{h:g}", n, at)


def shifted(n: int, shift: int, first: int) -> Matching:
    """i with i + shift, for i = first, first + 1, ... (mod n), if both are free."""
    free, found = set(range(n)), []
    for i in ((first + k) % n for k in range(n)):
        j = (i + shift) % n
        if {i, j} <= free:
            free -= {i, j}
            found.append(ordered(i, j))
    return tuple(found)


def random_matching(n: int, seed: int = 0) -> Schedule:
    """A uniform perfect matching at each step, half and half; of an odd number one worker is left alone."""
    worker_count(n)
    return Schedule("matching", n, lambda t: Exchange(Pairs((drawn(n, seed, t),)), Gossip(0.5)))


def drawn(n: int, seed: int, t: int) -> Matching:
    """The uniform perfect matching of step t."""
    order = rng("schedule", seed, t).permutation(n)[: n - n % 2].reshape(-1, 2)
    return tuple(sorted(ordered(a, b) for a, b in order.tolist()))


def parse(spec: str | None, workers: int, seed: int = 0) -> Schedule | None:
    """The schedule of this name, None where it is no schedule's. Raises ConfigError as they do."""
    kind, _, rest = str(spec).partition(":")
    if spec in ("hypercube", "one_peer"):
        return {"hypercube": hypercube, "one_peer": one_peer}[kind](workers)
    if spec == "matching":
        return random_matching(workers, seed)
    if kind == "base":
        if not is_number(rest) or not 2 <= int(rest) <= 64:
            raise ConfigError(f"graph {brief(spec)} needs a base from 2 to 64, such as base:2")
        return base(workers, int(rest) - 1)
    if kind == "equidyn":
        try:
            h = float(rest or 0.5)
        except ValueError:
            h = math.nan
        return equidyn(workers, seed, h)
    return None
