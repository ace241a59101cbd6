"""AL-DSGD's random mixing matrices exactly: moments under random loss ranks, and the maps that decide contraction.

In the released order every C_t is a W_t + b S_N + c S_tau with a + b + c = 1 (``pulls``): the four coefficients act
through two numbers, the whole weight b on the best and c on the maximum-degree worker. A schedule is a period of
steps; a step has an alpha and a distribution over active edges. Random loss ranks: at each step the order of the n
losses is uniform and independent of the past. Then P(b_i = k, b_j = l) has a closed form, so nothing is sampled.
That is a model; losses of a run are not independent from step to step.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aldsgd.errors import ConfigError
from aldsgd.graphs import Matching, Rotation, Topology
from aldsgd.mixing import equal_weight_alpha, gossip_matrix, matcha_weights
from aldsgd.theory.spectra import disagreement_basis

#: c1, c2, p1 and p2 that the README of the released code names, which are the method's defaults here.
README = (0.3, 0.1, 0.2, 0.2)
Active = tuple[Matching, ...]


@dataclass(frozen=True)
class GossipStep:
    """One step of a schedule on n workers: W = I - alpha L of the active edges, drawn from ``events``.

    events: (probability, active matchings) pairs; probabilities sum to one.
    """

    n: int
    alpha: float
    events: tuple[tuple[float, Active], ...]

    def gossip(self, active: Active) -> np.ndarray:
        """W (n, n) with these edges active."""
        return gossip_matrix(Topology(self.n, active), self.alpha)


def dpsgd_schedule(graphs: Sequence[Topology], rotation: Rotation | None = None, period: int | None = None,
                   rule: str = "nonzero") -> list[GossipStep]:  # fmt: skip
    """D-PSGD: all edges of the step's graph, best equal weights; a period of the rotation."""
    rotation = rotation or Rotation(len(graphs))
    alphas = [equal_weight_alpha(graph.laplacian, rule) for graph in graphs]
    turns = [rotation.at(t) for t in range(period or len(graphs))]
    return [GossipStep(graphs[i].n, alphas[i], ((1.0, graphs[i].matchings),)) for i in turns]


def released_schedule(graphs: Sequence[Topology], rule: str = "nonzero") -> list[GossipStep]:
    """The released code's "D-PSGD": matchings 0 and 1 in turn, alpha of the whole graph (``baselines.dpsgd``)."""
    count = len(graphs)
    first = 0 if count == 1 else 1
    alphas = [equal_weight_alpha(graph.laplacian, rule) for graph in graphs]
    turns = [(t % count, (t // count + first) % 2) for t in range(2 * count)]
    return [GossipStep(graphs[i].n, alphas[i], ((1.0, (graphs[i].matchings[half],)),)) for i, half in turns]


def matcha_schedule(graphs: Sequence[Topology], budget: float) -> list[GossipStep]:
    """MATCHA: every subset of matchings with its probability; exact, so meant for up to about a dozen matchings."""
    steps = []
    for graph in graphs:
        weights = matcha_weights(graph, budget)
        events = []
        for on in itertools.product((False, True), repeat=len(graph.matchings)):
            chance = math.prod(p if x else 1 - p for p, x in zip(weights.probabilities, on, strict=True))
            if chance > 0:
                events.append((chance, tuple(itertools.compress(graph.matchings, on))))
        steps.append(GossipStep(graph.n, weights.alpha, tuple(events)))
    return steps


def pulls(c1: float, c2: float, p1: float, p2: float) -> tuple[float, float, float]:
    """(a, b, c), the weights of W_t, S_N and S_tau in the released order; they sum to one (the paper, 2.2)."""
    force = 1 - p1 - p2
    return force * (1 - c1 - c2), force * c1 + p1, force * c2 + p2


def closed_neighbourhoods(n: int, active: Active) -> np.ndarray:
    """Boolean (n, n): row i marks worker i and its active neighbours, its candidates."""
    return (Topology(n, active).laplacian != 0) | np.eye(n, dtype=bool)


def degree_leaders(n: int, active: Active) -> np.ndarray:
    """m_i (n,): the candidate of largest instantaneous degree; ties to the worker, then by matching order."""
    candidates = [[i] for i in range(n)]
    for i, j in itertools.chain.from_iterable(active):
        candidates[i].append(j)
        candidates[j].append(i)
    return np.array([max(own, key=lambda k: len(candidates[k])) for own in candidates])


def best_leaders(closed: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """b_i (R, n) for R vectors of distinct losses (R, n): the smallest loss among the candidates ``closed`` (n, n)."""
    if losses.shape[-1] != len(closed):
        raise ConfigError(f"{losses.shape[-1]} losses for {len(closed)} workers: give one each")
    return np.where(closed, losses[:, None, :], np.inf).argmin(axis=2)


def selection(leaders: np.ndarray) -> np.ndarray:
    """S (n, n): row i is one at ``leaders[i]``."""
    return np.eye(len(leaders))[leaders]


def leader_matrix(n: int, active: Active, alpha: float, best: np.ndarray, weights) -> np.ndarray:
    """C (n, n) = a W + b S_N + c S_tau for given best workers ``best`` (n,); weights (a, b, c)."""
    a, b, c = weights
    gossip = gossip_matrix(Topology(n, active), alpha)
    return a * gossip + b * selection(best) + c * selection(degree_leaders(n, active))


def random_rank_moments(closed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """E[S] (n, n) and E[S_ik S_jl] (n, n, n, n) under uniformly random loss ranks, exact.

    With A, B the candidates of i, j and U their union: the least loss of U is uniform on U, and is the leader of the
    one of A, B that holds it; if it lies outside the other set, the other leader is uniform there. So, for k in A and
    l in B, P(b_i = k, b_j = l) = ([k = l] + [k not in B]/|B| + [l not in A]/|A|) / |U|.
    """
    member = closed.astype(float)
    size = member.sum(axis=1)
    union = size[:, None] + size[None] - member @ member.T
    apart = 1 - member
    n = len(closed)
    chance = np.broadcast_to(np.eye(n)[None, :, None, :], (n, n, n, n)).copy()
    chance += apart.T[None, :, :, None] / size[None, None, :, None]  # k not in B = closed[j]
    chance += apart[:, None, None, :] / size[:, None, None, None]  # l not in A = closed[i]
    joint = np.einsum("ik,jl,ikjl,ij->ikjl", member, member, chance, 1 / union)
    return member / size[:, None], joint


def step_terms(step: GossipStep) -> np.ndarray:
    """E[Y_u (x) Y_v] (4, 4, n, n, n, n) of Y = (I, L, S_tau, S_N), entry [u, v, i, k, j, l] = E[Y_u,ik Y_v,jl].

    Every C_t is linear in Y, so these sixteen moments give those of C_t for all coefficients and every alpha.
    """
    n = step.n
    total = np.zeros((4, 4, n, n, n, n))
    for chance, active in step.events:
        mean, joint = random_rank_moments(closed_neighbourhoods(n, active))
        known = np.stack([np.eye(n), Topology(n, active).laplacian, selection(degree_leaders(n, active)), mean])
        terms = np.einsum("uik,vjl->uvikjl", known, known)
        terms[3, 3] = joint
        total += chance * terms
    return total


def combine(terms: np.ndarray, alpha: float, weights) -> np.ndarray:
    """E[C (x) C] as [i, k, j, l] = E[C_ik C_jl] from ``step_terms`` (compressed or not), weights (a, b, c)."""
    a, b, c = weights
    factors = np.array([a, -a * alpha, c, b])
    return np.tensordot(np.outer(factors, factors), terms, 2)


def compress(moment: np.ndarray) -> np.ndarray:
    """(..., n, n, n, n) to the disagreement space, (..., n-1, n-1, n-1, n-1): E[(U^T C U) (x) (U^T C U)]."""
    basis = disagreement_basis(moment.shape[-1])
    return np.einsum("...ikjl,ip,kq,jr,ls->...pqrs", moment, basis, basis, basis, basis, optimize=True)


def operator(moment: np.ndarray) -> np.ndarray:
    """Matrix (m^2, m^2) of M -> E[C^T M C] on row-major vec(M), from E[C_ik C_jl] as [i, k, j, l]."""
    m = moment.shape[-1]
    return moment.transpose(1, 3, 0, 2).reshape(m * m, m * m)


def covariance_operator(moment: np.ndarray) -> np.ndarray:
    """Matrix (m^2, m^2) of S -> E[C S C^T], the adjoint: E[C (x) C] of ``spectra.effective_neighbours``."""
    return operator(moment).T


def mean_square_radius(operators: Sequence[np.ndarray]) -> float:
    """Per-step rate r of E||(I - J) X||^2 over independent steps of a period: it behaves as r^t.

    Spectral radius, to the power 1/T, of M -> K_1(K_2(... K_T(M))), K_t(M) = E[C_t^T M C_t] on the disagreement space.
    Below one is necessary and sufficient for mean-square agreement. For fixed W and T = 1 it is rho.
    """
    product = np.linalg.multi_dot(operators) if len(operators) > 1 else operators[0]
    return float(np.abs(np.linalg.eigvals(product)).max() ** (1 / len(operators)))


def one_step_norm(moment: np.ndarray) -> float:
    """||E[C^T (I - J) C]||_2 from the compressed moment: below one suffices for contraction, but is not necessary."""
    return float(np.linalg.norm(np.einsum("pqps->qs", moment), 2))


def period_norm(operators: Sequence[np.ndarray]) -> float:
    """||E[P^T (I - J) P]||_2 of the product P of a period of independent steps, operators in the order of time."""
    m = math.isqrt(len(operators[0]))
    value = np.eye(m).ravel()
    for matrix in reversed(operators):
        value = matrix @ value
    return float(np.linalg.norm(value.reshape(m, m), 2))


def influence(operators: Sequence[np.ndarray]) -> float:
    """E||pi||^2, the weight of independent noise in the value the workers finally agree on; 1/n at best.

    Products of C_t tend to 1 pi^T; E[pi pi^T] is the fixed point of M -> K_1(... K_T(M)) on the full space that starts
    from 11^T/n^2 (operators (n^2, n^2), uncompressed), averaged over the phase of the period at which noise enters.
    1/E||pi||^2 is how many workers the consensus averages. NaN where the workers do not agree.
    """
    size = len(operators[0])
    n = math.isqrt(size)
    product = np.linalg.multi_dot(operators) if len(operators) > 1 else operators[0]
    fixed = np.full(size, 1 / n**2)
    for _ in range(30):
        following = product @ fixed
        if not np.isfinite(following).all() or abs(following).max() > 1e6:
            return math.nan
        settled = abs(following - fixed).max() < 1e-13
        fixed = following / following.sum()  # 1^T M 1 = 1 is kept because rows sum to one; rounding is not
        if settled:
            break
        product = product @ product
    else:
        return math.nan
    values = []
    for matrix in reversed(operators):
        fixed = matrix @ fixed
        values.append(np.trace(fixed.reshape(n, n)))
    return float(np.mean(values))


def column_moments(moment: np.ndarray, mean: np.ndarray) -> dict:
    """How far columns are from summing to one, from E[C_ik C_jl] and E[C] (n, n). Keys:

    column_rms: root mean square over columns of (column sum - 1). drift: smallest factor f with
    E||mean after - mean before||^2 <= f^2 E||(I - J) X||^2/n for every X: the mean moves by v^T (I - J) X with
    v = (C^T 1 - 1)/n, so f^2 = n lambda_max(E[v v^T]).
    """
    n = len(mean)
    sums = mean.sum(axis=0)
    square = np.einsum("ikjl->kl", moment)
    deviation = square - sums[:, None] - sums[None] + 1
    deviation[abs(deviation) < 1e-14] = 0  # what rounding leaves of matrices that keep the mean
    largest = max(float(np.linalg.eigvalsh(deviation)[-1]), 0.0) / n**2
    rms = math.sqrt(float(np.trace(deviation)) / n)
    return {"column_rms": rms, "drift": math.sqrt(n * largest)}


def mean_matrix(step: GossipStep, weights) -> np.ndarray:
    """E[C] (n, n) under random loss ranks."""
    a, b, c = weights
    total = np.zeros((step.n, step.n))
    for chance, active in step.events:
        closed = closed_neighbourhoods(step.n, active)
        best = closed / closed.sum(axis=1, keepdims=True)
        total += chance * (a * step.gossip(active) + b * best + c * selection(degree_leaders(step.n, active)))
    return total
