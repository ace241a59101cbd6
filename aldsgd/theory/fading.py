"""What becomes of leaders whose coefficients follow the rate: s c1, s c2, s p1, s p2 with s = eta_t / eta_0.

In the released order C_s = a W + b S_N + c S_tau with a = (1 - s p)(1 - s c), c = c1 + c2, p = p1 + p2, so that leaders
have the whole weight 1 - a = s (c + p) - s^2 c p <= s (c + p), and C_s = a W + (1 - a) R with R row-stochastic, zero
off closed neighbourhoods.

*Contraction.* With P = I - J, a >= 0 and W, R independent of the past, Minkowski gives for the norm in mean square

    ||P C_s x|| <= (a lambda + (1 - a) kappa) ||P x||,  lambda^2 = ||E[W^T P W]||,  kappa^2 = ||E[R^T P R]||,

so one step of the workers contracts as soon as (1 - a)(kappa - lambda) < 1 - lambda: whatever the coefficients, from
some s on. The spectral radius of M -> E[C_s^T M C_s] is continuous in s and goes to the core's with it; nothing makes
it do so from one side, nor monotonically.

*Drift.* W keeps the mean, so it moves by v^T P Y, v = (1 - a)(R^T 1 - 1)/n, in an exchange of Y = X - eta G: exactly
(1 - a) times what R alone would do. Columns of R sum to n, each to at most d_max + 1, so that
||R^T 1 - 1||^2 <= n d_max, and whoever judges,

    ||mean after - mean before|| <= s (c + p) sqrt(d_max) sqrt(||P Y||_F^2 / n).

Disagreement is O(eta). So the force of leaders on the mean is O(eta) with constant coefficients, as large as the
gradient's, and O(s eta) with fading ones: over a run at most a constant times sum_t eta_t^2 / eta_0.

*Where it rests.* With leaders judged by their own batch the mixture of ``selection`` has weights
w_k = b sum_i pi_i P(|N_i| = k), b <= s (c1 + p1): at rate eta_t fading leaders rest where the mixture of s does, and as
the rate falls that is the minimiser of F, as for the core. The squared gradient at which additive noise stops them is
``selection.selection_floor`` of these weights, O(s^2). Judged by the receiver, what is compared are models that differ
by O(eta), on its next batch: the leader is the one whose deviation from the others goes most along -g', g' the gradient
of that batch. Were deviations normal with covariance Sigma, this would move the mean by O(b eta) along
-E[Sigma g' / sqrt(g'^T Sigma g')]. Where batch gradients are symmetric about zero that vanishes at the minimum of F;
where they are skewed it need not, and fades with b as well. Derived here, for workers whose samples have one
distribution.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from aldsgd.graphs import Topology
from aldsgd.mixing import equal_weight_alpha, gossip_matrix
from aldsgd.theory.leaders import Active, closed_neighbourhoods, combine, degree_leaders, one_step_norm, pulls


def faded(coefficients: Sequence[float], s: float) -> tuple[float, float, float]:
    """(a, b, c), the weights of W, S_N and S_tau; coefficients: (c1, c2, p1, p2) at s = 1."""
    c1, c2, p1, p2 = coefficients
    return pulls(s * c1, s * c2, s * p1, s * p2)


def step_norms(terms: np.ndarray, alpha: float, weights: tuple[float, float, float]) -> tuple[float, float]:
    """(lambda, kappa) of one step from its compressed ``leaders.step_terms``; kappa of the R that ``weights`` make."""
    a, b, c = weights
    lead = (0.0, b / (1 - a), c / (1 - a)) if a < 1 else (0.0, 1.0, 0.0)
    return tuple(math.sqrt(one_step_norm(combine(terms, alpha, own))) for own in ((1.0, 0.0, 0.0), lead))


def contraction_bound(lam: float, kappa: float, a: float) -> float:
    """Bound on the factor of E||(I - J) X||^2 in one step: (a lambda + (1 - a) kappa)^2."""
    return (a * lam + (1 - a) * kappa) ** 2


def safe_share(lam: float, kappa: float, coefficients: Sequence[float]) -> float:
    """The s below which the bound says that the workers agree, at most 1; nan where the core need not (lambda = 1)."""
    if lam >= 1 - 1e-12:
        return math.nan
    total = sum(coefficients)
    return 1.0 if total * (kappa - lam) <= 1 - lam else (1 - lam) / (total * (kappa - lam))


def drift_bound(graph: Topology, coefficients: Sequence[float], s: float) -> float:
    """s (c + p) sqrt(d_max): by how many roots of the consensus distance one exchange moves the mean, at most."""
    return s * sum(coefficients) * math.sqrt(graph.degrees.max())


@dataclass(frozen=True)
class Rule:
    """How leaders act. judge: None for the core alone, "own" batch, "receiver". fades: coefficients follow the rate."""

    judge: str | None = None
    fades: bool = False


#: The core, the paper's rule, it fading, judged by the receiver, and both: the repository's own.
RULES = {
    "D-PSGD": Rule(),
    "AL-DSGD": Rule("own"),
    "AL-DSGD, fading": Rule("own", True),
    "AL-DSGD, receiver judges": Rule("receiver"),
    "fading leaders": Rule("receiver", True),
}


@lru_cache(maxsize=16)
def _parts(n: int, active: Active) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(W, closed neighbourhoods, maximum-degree workers) of a graph with equal weights."""
    laplacian = Topology(n, active).laplacian
    gossip = gossip_matrix(Topology(n, active), equal_weight_alpha(laplacian, "nonzero"))
    return gossip, closed_neighbourhoods(n, active), degree_leaders(n, active)


def exchange(y: np.ndarray, score: np.ndarray, graph: Topology, weights: tuple[float, float, float]) -> np.ndarray:
    """C_s Y (R, n, d) for models y (R, n, d); score (R, n, n): [r, i, j] what i finds of j, the smallest leads.

    Ties go to the smallest number.
    """
    a, b, c = weights
    gossip, closed, largest = _parts(graph.n, graph.matchings)
    best = np.where(closed, score, np.inf).argmin(axis=2)[:, :, None]
    return a * (gossip @ y) + b * np.take_along_axis(y, best, axis=1) + c * y[:, largest]


def falling(
    problem, graph: Topology, coefficients: Sequence[float], rule: Rule, eta: float, shares: Sequence[float],
    units: float, runs: int, start: np.ndarray, seeds: Sequence[int] = (0,),
) -> list[dict]:  # fmt: skip
    """One run whose rate is s eta for each s of ``shares`` in turn, for ``units`` / (s eta) steps, from ``start`` (d,).

    problem: with ``sample``, ``on``, ``judged`` and ``gradient_norm2`` (``selection.RareClass``,
    ``quadratics.Quadratics``); a receiver judges by the sample whose gradient it takes next. Every rule meets the same
    samples. Of the second half of each stage: mean, of the workers (runs, d); gradient, ||grad F(mean)||^2 (runs,);
    force, the root mean square move of the mean by an exchange over the rate (runs,); consensus, ||(I - J) X||_F^2 / n
    over its square (runs,); largest, the largest move over ``drift_bound``.
    """
    rng = np.random.default_rng([*seeds, graph.n, runs])
    x = np.broadcast_to(start, (runs, graph.n, len(start))).copy()
    following, found = problem.sample(x.shape[:2], rng), []
    for s in shares:
        lr, steps = s * eta, round(units / (s * eta))
        weights = (1.0, 0.0, 0.0) if rule.judge is None else faded(coefficients, s if rule.fades else 1.0)
        bound = drift_bound(graph, coefficients, s if rule.fades else 1.0)
        mean, counted, largest = np.zeros((runs, len(start))), 0, 0.0
        gradient, force, apart = (np.zeros(runs) for _ in range(3))
        for t in range(steps):
            now, following = following, problem.sample(x.shape[:2], rng)
            losses, gradients = problem.on(x, now)
            y = x - lr * gradients
            score = problem.judged(y, following) if rule.judge == "receiver" else losses[:, None]
            x = exchange(y, score, graph, weights)
            middle = x.mean(axis=1)
            moved = np.linalg.norm(middle - y.mean(axis=1), axis=1)
            distance = np.square(y - y.mean(axis=1, keepdims=True)).sum(axis=(1, 2)) / graph.n
            largest = max(largest, float((moved / (bound * np.sqrt(distance))).max()))
            if t >= steps // 2:
                counted += 1
                mean += middle
                gradient += problem.gradient_norm2(middle)
                force += np.square(moved / lr)
                apart += np.square(x - middle[:, None]).sum(axis=(1, 2)) / graph.n / lr**2
        found.append({
            "mean": mean / counted, "gradient": gradient / counted, "force": np.sqrt(force / counted),
            "consensus": apart / counted, "largest": largest,
        })  # fmt: skip
    return found
