"""What an attacker gains by lying about its loss: in one step, and until the others are where it wants them.

Let all honest workers H agree, y_i = y, and let worker a send y + d instead. After one exchange with coefficients C the
mean of the honest has moved by kappa d, with the attacker's *share*

    kappa = (1/|H|) sum_{i in H} C_ia.

- D-PSGD: C_ia = alpha for each of its d_a honest neighbours: kappa = alpha d_a / |H|. What it reports has no effect.
- AL-DSGD, released order, (A, B, C) the weights of W, S_N and S_tau (``leaders.pulls``), told truly: among losses that
  are exchangeable each of the d_i + 1 candidates of i is its leader with the same chance, so that
  kappa = (1/|H|) sum_{i ~ a} (A alpha + B / (d_i + 1) + C [m_i = a]).
- AL-DSGD, the lie: a reports a loss below all others, and leads every neighbour,
  kappa = (1/|H|) sum_{i ~ a} (A alpha + B + C [m_i = a]).

So the lie gains (1/|H|) B sum_{i ~ a} d_i / (d_i + 1) over the truth, and against D-PSGD a factor
A + (B + C s) / alpha, s the share of its neighbours that have it for their worker of largest degree. The factor does
not depend on d. It is the smaller the larger alpha is: where gossip itself takes over much of a neighbour, a lie adds
little.

An attacker that sends the same row z for ever draws everyone there, whatever C: with P the part of C among the honest,
the others' distance from z falls as P^t 1. Its rate is the spectral radius of P per step, below one where everybody can
hear the attacker over some path. It needs as many steps to reach a worker as there are links between. Derived here.
"""

from collections.abc import Sequence

import numpy as np

from aldsgd.graphs import Topology
from aldsgd.mixing import equal_weight_alpha
from aldsgd.theory.leaders import closed_neighbourhoods, degree_leaders, gossip_matrix, selection

#: How the attacker is heard.
WAYS = ("D-PSGD", "AL-DSGD, truth", "AL-DSGD, lie")


def mean_matrix(graph: Topology, attacker: int, way: str, weights: Sequence[float]) -> np.ndarray:
    """E[C] (n, n) of a step on a graph, with losses that are exchangeable but for the attacker's lie.

    way: one of ``WAYS``. weights: (A, B, C) of W, S_N and S_tau.
    """
    n, active = graph.n, graph.matchings
    gossip = gossip_matrix(graph, equal_weight_alpha(graph.laplacian, "nonzero"))
    if way == "D-PSGD":
        return gossip
    closed = closed_neighbourhoods(n, active).astype(float)
    best = closed / closed.sum(axis=1, keepdims=True)
    if way == "AL-DSGD, lie":
        hears = closed[:, attacker] > 0
        best[hears] = np.eye(n)[attacker]
    a, b, c = weights
    return a * gossip + b * best + c * selection(degree_leaders(n, active))


def share(matrix: np.ndarray, attacker: int) -> float:
    """kappa: by what share of its deviation the attacker moves the honest mean in one step."""
    return float(np.delete(matrix[:, attacker], attacker).mean())


def factor(graph: Topology, attacker: int, weights: Sequence[float]) -> float:
    """kappa of the lie over that of D-PSGD, by the closed form A + (B + C s) / alpha."""
    a, b, c = weights
    near = closed_neighbourhoods(graph.n, graph.matchings)[attacker]
    near[attacker] = False
    led = float((degree_leaders(graph.n, graph.matchings)[near] == attacker).mean())
    return a + (b + c * led) / equal_weight_alpha(graph.laplacian, "nonzero")


def stubborn(matrix: np.ndarray, attacker: int, most: int = 10_000) -> tuple[float, int]:
    """(rate, half): of an attacker that always sends the same row, the spectral radius of the honest part of the
    matrix (n, n), and the steps after which the honest mean is half the way there; ``most`` where it takes longer."""
    honest = np.delete(np.delete(matrix, attacker, 0), attacker, 1)
    rate, far = float(np.abs(np.linalg.eigvals(honest)).max()), np.ones(len(honest))
    for t in range(most):
        if far.mean() <= 0.5:
            return rate, t
        far = honest @ far
    return rate, most


def hops(graph: Topology, attacker: int) -> np.ndarray:
    """(n,): over how many links each worker hears the attacker, -1 for never."""
    near, found = closed_neighbourhoods(graph.n, graph.matchings), np.full(graph.n, -1)
    reached = np.arange(graph.n) == attacker
    for distance in range(graph.n):
        found[reached & (found < 0)] = distance
        reached = near[:, reached].any(axis=1)
    return found
