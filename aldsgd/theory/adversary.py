"""AL-DSGD when leaders are chosen against it: no independence, no probabilities, any order of losses at any step.

Whether every sequence of leaders agrees is a question about the joint spectral radius of the finitely many matrices
that orders of losses can make. It is bounded from both sides: from below by products that an adversary can play, from
above by norms in which every one of the matrices shrinks disagreement. All figures are per step and squared, so that
they compare with rho.
"""

import itertools
import math
import warnings
from collections.abc import Sequence

import numpy as np

from aldsgd.errors import ConfigError
from aldsgd.theory.leaders import GossipStep, best_leaders, closed_neighbourhoods, leader_matrix
from aldsgd.theory.spectra import check_sequence, disagreement_basis

MOST_ENUMERATED = 8


def loss_orders(n: int, sample: int, seed: int = 0) -> tuple[np.ndarray, bool]:
    """(orders (R, n), exhaustive): all n! rank vectors up to n = 8, above it ``sample`` random ones."""
    if n <= MOST_ENUMERATED:
        return np.array(list(itertools.permutations(range(n)))), True
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(n) for _ in range(sample)]), False


def reachable_leaders(n: int, active, orders: np.ndarray) -> np.ndarray:
    """Distinct vectors of best workers (D, n) that the loss orders (R, n) make; the rest is idle."""
    closed = closed_neighbourhoods(n, active)
    parts = [best_leaders(closed, part) for part in np.array_split(orders, max(1, len(orders) // 4096))]
    return np.unique(np.concatenate(parts), axis=0)


def reachable_matrices(step: GossipStep, weights, orders: np.ndarray) -> np.ndarray:
    """Every C (D, n, n) of a step with certain edges that some loss order makes. ConfigError for random edges."""
    if len(step.events) != 1:
        raise ConfigError("the adversarial bounds need steps whose edges are certain: use D-PSGD's schedule")
    active = step.events[0][1]
    leaders = reachable_leaders(step.n, active, orders)
    return np.stack([leader_matrix(step.n, active, step.alpha, best, weights) for best in leaders])


def fixed_order_rate(period: Sequence[np.ndarray]) -> float:
    """Largest per-step rate of an adversary that keeps one choice for ever; period: D periods as (D, T, n, n).

    A lower bound on what an adversary can do: each choice is a periodic product of matrices he may use.
    """
    parts = _parts(period)
    products = parts[:, 0]
    for k in range(1, parts.shape[1]):
        products = parts[:, k] @ products
    return float(np.abs(np.linalg.eigvals(products)).max() ** (2 / parts.shape[1]))


def greedy_rate(steps: Sequence[np.ndarray], rounds: int = 24, starts: int = 8, seed: int = 0) -> float:
    """A lower bound by greedy play: at each step the matrix that keeps most of the current disagreement.

    steps: for each step of the period the matrices (D_t, n, n). The best spectral radius, per step and squared, of all
    runs of whole periods within each trajectory; every one is a product that an adversary can repeat for ever.
    """
    parts = [_parts(matrices) for matrices in steps]
    rng = np.random.default_rng(seed)
    best = 0.0
    for _ in range(starts):
        vector, played = rng.standard_normal(parts[0].shape[-1]), []
        for t in range(rounds * len(parts)):
            after = parts[t % len(parts)] @ vector
            choice = int(np.square(after).sum(axis=1).argmax())
            vector = after[choice] / max(np.linalg.norm(after[choice]), 1e-300)
            played.append(parts[t % len(parts)][choice])
        product = np.eye(len(vector))
        # Backwards from the end, where the greedy play has settled.
        for length, part in enumerate(reversed(played), 1):
            product = product @ part
            if length % len(parts) == 0 and length <= 8 * len(parts):
                best = max(best, float(np.abs(np.linalg.eigvals(product)).max() ** (2 / length)))
    return best


def worst_one_step(matrices: np.ndarray) -> float:
    """max over the matrices (D, n, n) of ||(I - J) C||_2^2: below one, every sequence contracts; the crude test."""
    return float(np.linalg.norm(_parts(matrices), 2, axis=(-2, -1)).max() ** 2)


def ellipsoid_rate(steps: Sequence[np.ndarray], tolerance: float = 0.005) -> float:
    """Certified upper bound on what any adversary can do, from one ellipsoid P_t per step of the period.

    For all positive definite P_t, every sequence's per-step rate is at most the geometric mean over the period of
    max_B ||P_(t+1)^(1/2) B P_t^(-1/2)||_2^2 (joint spectral radius by ellipsoids: Ando and Shih 1998). P_t come from
    the problem B^T P_(t+1) B <= gamma P_t, by bisection on gamma and generation of constraints. The bound is evaluated
    afterwards on all matrices, so an inaccurate solver loosens it but cannot make it wrong.

    steps: for each step of the period the matrices (D_t, n, n). Needs cvxpy.
    """
    parts = [_parts(matrices) for matrices in steps]
    shapes = [np.eye(parts[0].shape[-1])] * len(parts)
    sizes = _ellipsoid_sizes(parts, shapes)
    best, low = _geometric_mean(sizes), greedy_rate(steps)
    used = [set(np.argsort(-size)[:15].tolist()) for size in sizes]
    while best - low > tolerance:
        middle = (low + best) / 2
        while True:
            shapes = _ellipsoids(parts, used, middle)
            if shapes is None:
                low = middle
                break
            sizes = _ellipsoid_sizes(parts, shapes)
            best = min(best, _geometric_mean(sizes))
            fresh = [set(np.argsort(-size)[:15].tolist()) - own for size, own in zip(sizes, used, strict=True)]
            fresh = [{k for k in new if size[k] > middle} for size, new in zip(sizes, fresh, strict=True)]
            if best <= middle * (1 + 1e-3):
                break
            if not any(fresh):  # the solver is at the end of its accuracy
                low = middle
                break
            used = [own | new for own, new in zip(used, fresh, strict=True)]
    return best


def _geometric_mean(sizes) -> float:
    return float(np.exp(np.mean([np.log(size.max()) for size in sizes])))


def _ellipsoid_sizes(parts, shapes) -> list[np.ndarray]:
    """||P_(t+1)^(1/2) B P_t^(-1/2)||_2^2 for every matrix of every step; P = F F^T, so F^T plays the root."""
    factors = [np.linalg.cholesky(shape) for shape in shapes]
    sizes = []
    for t, part in enumerate(parts):
        after, before = factors[(t + 1) % len(parts)], np.linalg.inv(factors[t])
        sizes.append(np.linalg.norm(after.T @ part @ before.T, 2, axis=(-2, -1)) ** 2)
    return sizes


def _ellipsoids(parts, used, gamma: float) -> list[np.ndarray] | None:
    """P_t >= I, as round as possible, with B^T P_(t+1) B <= gamma P_t for the matrices in ``used``; None if none."""
    import cvxpy as cp

    m, count = parts[0].shape[-1], len(parts)
    shapes, largest = [cp.Variable((m, m), symmetric=True) for _ in parts], cp.Variable()
    constraints = [shape >> np.eye(m) for shape in shapes] + [shape << largest * np.eye(m) for shape in shapes]
    for t, own in enumerate(used):
        for k in sorted(own):
            constraints.append(gamma * shapes[t] - parts[t][k].T @ shapes[(t + 1) % count] @ parts[t][k] >> 0)
    problem = cp.Problem(cp.Minimize(largest), constraints)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # an inaccurate solution is judged by its certificate
        try:
            problem.solve(solver=cp.CLARABEL)
        except cp.error.SolverError:
            return None
    if problem.status not in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE):
        return None
    values = [(shape.value + shape.value.T) / 2 for shape in shapes]
    return values if all(np.linalg.eigvalsh(value)[0] > 0 for value in values) else None


def guaranteed_rate(gossip: Sequence[np.ndarray], keep: float, periods: int = 16) -> float:
    """Certified upper bound for every sequence of leaders whatever they depend on, where all W_t are nonnegative.

    C_t = a W_t + (nonnegative) >= a W_t entry by entry, so P = C_k ... C_1 >= Q = a^k W_k ... W_1, its rows sum to one,
    and tau(P) = (1/2) max_ij sum_l |P_il - P_jl| = 1 - min_ij sum_l min(P_il, P_jl) <= 1 - min_ij sum_l
    min(Q_il, Q_jl), by which P stretches the spread max - min of any x at most (Dobrushin 1956). The best of tau^(2/k)
    over whole periods k; below one as soon as some column of the product of a nonnegative W is positive in each pair of
    rows, as over a connected graph with positive diagonal. So contraction needs no assumption on losses at all. Derived
    here.

    gossip: the W_t of a period. keep: a > 0. NaN where an entry is negative: then nothing is proved.
    """
    gossip = check_sequence(gossip)
    if min(w.min() for w in gossip) < -1e-12 or keep < 0:
        return math.nan
    best, product = 1.0, np.eye(len(gossip[0]))
    for k in range(1, periods * len(gossip) + 1):
        product = keep * gossip[(k - 1) % len(gossip)] @ product
        if k % len(gossip) == 0:
            shared = np.minimum(product[:, None], product[None]).sum(axis=2).min()
            best = min(best, (1 - shared) ** (2 / k))
    return float(best)


def _parts(matrices: np.ndarray) -> np.ndarray:
    """The disagreement parts of stacked matrices (..., n, n)."""
    basis = disagreement_basis(np.shape(matrices)[-1])
    return basis.T @ np.asarray(matrices) @ basis
