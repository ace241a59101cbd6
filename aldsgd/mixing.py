"""Gossip matrices: equal weights, Metropolis, and MATCHA's activation probabilities and step.

Every W here is symmetric with rows and columns that sum to one; entries may be negative, as the papers' own are
(the released alpha gives diagonal entries down to -0.43 on the AL-DSGD paper's 100 % graph).
"""

import contextlib
import hashlib
import json
import math
import numbers
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aldsgd.cache import cache_dir, replace_file
from aldsgd.errors import ConfigError, brief
from aldsgd.topology import Topology

RULES = ("nonzero", "released")
MOST_WORKERS = 64
ROUND_DIGITS = 8
SOLVER_TOLERANCE = 1e-6


def equal_weight_alpha(laplacian: np.ndarray, rule: str = "nonzero") -> float:
    """Step of W = I - alpha L with the smallest rho: alpha = 2 / (lambda_2 + lambda_max) (Xiao and Boyd 2004).

    laplacian: (n, n). On a disconnected graph lambda_2 = 0 and no alpha averages over everyone. Rule "nonzero"
    takes the smallest non-zero eigenvalue, the best alpha inside the components; rule "released" keeps lambda_2 = 0
    as the released code does, whose W then has an eigenvalue -1 and oscillates even inside a component. The rules
    agree on connected graphs. Without edges alpha is 0. Raises ConfigError for an unknown rule.
    """
    _check_rule(rule)
    eigenvalues = np.linalg.eigvalsh(laplacian)
    nonzero = eigenvalues[eigenvalues > 1e-9 * max(1.0, eigenvalues[-1])]
    if not len(nonzero):
        return 0.0
    is_connected = len(nonzero) == len(eigenvalues) - 1
    low = nonzero[0] if is_connected or rule == "nonzero" else 0.0
    return float(2 / (low + nonzero[-1]))


def gossip_matrix(topology: Topology, alpha: float) -> np.ndarray:
    """W = I - alpha L with all edges active, float64 (n, n)."""
    return np.eye(topology.n) - alpha * topology.laplacian


def metropolis_matrix(topology: Topology) -> np.ndarray:
    """W_ij = 1 / (1 + max(d_i, d_j)) on edges, the diagonal takes the rest; all entries >= 0, float64 (n, n)."""
    w = np.zeros((topology.n, topology.n))
    for i, j in topology.edges:
        w[i, j] = w[j, i] = 1 / (1 + max(topology.degrees[i], topology.degrees[j]))
    return w + np.diag(1 - w.sum(axis=1))


def check_gossip_matrix(w: np.ndarray) -> None:
    """Raise ConfigError, naming the row, unless W is square, real, finite, symmetric and each row sums to one.

    Columns then sum to one too, so that mixing keeps the mean of the workers. Negative entries are allowed.
    """
    w = _real(w, "a gossip matrix")
    if w.ndim != 2 or w.shape[0] != w.shape[1] or not w.size:
        raise ConfigError(f"a gossip matrix must be square, not of shape {w.shape}")
    checks = (
        (~np.isfinite(w), "holds a number that is not finite"),
        (~np.isclose(w, w.T, rtol=0, atol=1e-8), "is not symmetric: give both directions of a link one weight"),
        (abs(w.sum(axis=1, keepdims=True) - 1) > 1e-8, "does not sum to one: put the rest on its diagonal"),
    )
    for wrong, what in checks:
        rows = np.flatnonzero(wrong.any(axis=1))
        if len(rows):
            raise ConfigError(f"row {rows[0]} of the gossip matrix {what}")


def rho(w: np.ndarray) -> float:
    """||W^T W - J||_2 of a fixed (n, n) gossip matrix, J = 11^T/n; below 1 means that repeated mixing averages.

    MATCHA's rho without the expectation; the square of the second largest absolute eigenvalue of W.
    """
    return _disagreement_norm(w.T @ w)


@dataclass(frozen=True)
class MatchaWeights:
    """MATCHA's solution: matching j is active with probability p_j, W = I - alpha (sum of active Laplacians).

    rho = ||E[W^T W] - J||_2, exact for these probabilities and alpha; it is 1 on a disconnected graph.
    """

    probabilities: tuple[float, ...]
    alpha: float
    rho: float
    budget: float
    rule: str


def matcha_weights(topology: Topology, budget: float, rule: str = "nonzero") -> MatchaWeights:
    """Activation probabilities and alpha of MATCHA (Wang et al. 2019, arXiv 1905.09435: two convex problems).

    p maximises lambda_2(sum_j p_j L_j) with sum_j p_j <= budget * M and 0 <= p_j <= 1; alpha minimises rho for
    that p. At budget 1 all matchings are always active: D-PSGD with its best equal weights.

    On a disconnected graph lambda_2 is 0 whatever p is. Then every p_j = budget, and rule "nonzero" minimises rho
    over the complement of the null space of the mean Laplacian, that is inside the components; rule "released"
    keeps the released formula, alpha = 2 / lambda_max of the graph. The rules agree on connected graphs.

    p and alpha are rounded to 8 digits, so that machines agree, and kept in the folder `matcha` of `cache_dir()`
    by n, matchings, budget and rule; p is feasible after rounding. Needs cvxpy where no solution is kept. Raises
    ConfigError for a budget outside (0, 1], more than 64 workers, an unknown rule, a missing cvxpy, or a problem
    that the solvers do not solve to full accuracy.
    """
    _check_rule(rule)
    if not isinstance(topology, Topology):
        raise ConfigError(f"MATCHA needs a Topology, not {brief(topology)}: use Topology.from_networkx or from_edges")
    if not (isinstance(budget, numbers.Real) and 0 < budget <= 1):
        raise ConfigError(f"MATCHA's budget, the share of active matchings, must be in (0, 1], not {brief(budget)}")
    if topology.n > MOST_WORKERS:
        raise ConfigError(
            f"MATCHA's weights are solved for at most {MOST_WORKERS} workers, not {topology.n}: "
            "use a smaller graph or another method"
        )
    problem = {
        "n": topology.n,
        "matchings": [sorted(map(list, matching)) for matching in topology.matchings],
        "budget": float(budget),
        "rule": rule,
        "digits": ROUND_DIGITS,
    }
    path = cache_dir() / "matcha" / f"{_digest(problem)}.json"
    solution = _kept(path, problem)
    if solution is None:
        p, alpha = _solve(topology, float(budget), rule)
        solution = {"problem": problem, "probabilities": p, "alpha": alpha}
        text = json.dumps({**solution, "digest": _digest(solution)})
        # A cache that cannot be written costs the next run some seconds, not this run its result.
        with contextlib.suppress(OSError):
            replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    p, alpha = tuple(solution["probabilities"]), solution["alpha"]
    return MatchaWeights(p, alpha, matcha_rho(topology, p, alpha), float(budget), rule)


def expected_matcha(topology: Topology, p: Sequence[float], alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """(E[W], E[W^T W]), each (n, n), of W = I - alpha sum_j B_j L_j with independent B_j ~ Bernoulli(p_j).

    Exact (MATCHA): E[W] = I - alpha Lbar and E[W^T W] = I - 2 alpha Lbar + alpha^2 (Lbar^2 + 2 Ltil), where
    Lbar = sum_j p_j L_j, Ltil = sum_j p_j (1 - p_j) L_j, because L_j^2 = 2 L_j for a matching. Raises ConfigError
    for p of another length than the matchings or outside [0, 1].
    """
    mean, second = _moments(topology, p)
    identity = np.eye(topology.n)
    return identity - alpha * mean, identity - 2 * alpha * mean + alpha**2 * second


def matcha_rho(topology: Topology, p: Sequence[float], alpha: float) -> float:
    """||E[W^T W] - J||_2 of MATCHA's random matrix, exact."""
    return _disagreement_norm(expected_matcha(topology, p, alpha)[1])


def _real(values, what: str) -> np.ndarray:
    """A float64 array; ConfigError for text, complex numbers, objects and rows of different length."""
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError):  # torch refuses with RuntimeError and TypeError.
        array = np.asarray(None)
    if array.dtype.kind not in "fiub":
        raise ConfigError(f"{what} must be a plain array of real numbers, not {brief(values)}")
    return array.astype(float, copy=False)


def _disagreement_norm(second_moment: np.ndarray) -> float:
    return float(np.linalg.norm(second_moment - 1 / len(second_moment), 2))


def _moments(topology: Topology, p: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Lbar = E[L] and E[L^2] of the active Laplacian L, each (n, n)."""
    p = _real(p, "MATCHA's probabilities")
    if p.shape != (len(topology.matchings),) or not ((p >= 0) & (p <= 1)).all():
        raise ConfigError(f"MATCHA needs one probability in [0, 1] for each of {len(topology.matchings)} matchings")
    mean = np.tensordot(p, topology.matching_laplacians, 1)
    return mean, mean @ mean + 2 * np.tensordot(p * (1 - p), topology.matching_laplacians, 1)


def _solve(topology: Topology, budget: float, rule: str) -> tuple[list[float], float]:
    """Rounded probabilities and alpha."""
    count = len(topology.matchings)
    if budget == 1:
        return [1.0] * count, equal_weight_alpha(topology.laplacian, rule)
    if not topology.is_connected:
        p = [budget] * count
        if rule == "released":
            return p, equal_weight_alpha(topology.laplacian, rule)
    else:
        p = _rounded(_probabilities(topology, budget), budget)
        used = tuple(matching for matching, share in zip(topology.matchings, p, strict=True) if share > 0)
        if not Topology(topology.n, used).is_connected:
            raise ConfigError(f"MATCHA's budget {budget} is too small: some workers would never exchange, raise it")
    return p, round(_best_alpha(topology, p), ROUND_DIGITS)


def _probabilities(topology: Topology, budget: float) -> np.ndarray:
    """argmax of lambda_2(sum_j p_j L_j) on a connected graph, (M,)."""
    count = len(topology.matchings)
    if count < 2:
        return np.full(count, budget)
    cp = _cvxpy()
    white, eigenvalues = _whitened(topology, topology.laplacian)
    laplacians = white.T @ topology.matching_laplacians @ white
    # In units of the budget and of lambda_2 of the whole graph: small budgets and long lines are then as well
    # conditioned as any other.
    share, gain = cp.Variable(count, nonneg=True), cp.Variable()
    mean = sum(share[j] * laplacian for j, laplacian in enumerate(laplacians))
    constraints = [mean - gain * np.diag(eigenvalues[0] / eigenvalues) >> 0]
    constraints += [cp.sum(share) <= count, share <= 1 / budget]

    def error() -> float:
        whole = np.tensordot(share.value, topology.matching_laplacians, 1)
        return abs(np.linalg.eigvalsh(whole)[1] / eigenvalues[0] - gain.value)

    _solve_accurately(cp.Problem(cp.Maximize(gain), constraints), error, "probabilities")
    return budget * share.value


def _rounded(p: np.ndarray, budget: float) -> list[float]:
    """p with ROUND_DIGITS digits, still in [0, 1] and within the budget."""
    units = np.rint(np.clip(p, 0, 1) * 10**ROUND_DIGITS).astype(np.int64)
    excess = units.sum() - math.floor(budget * len(p) * 10**ROUND_DIGITS + 1e-3)
    if excess > 0:
        units[units.argmax()] -= excess
    return (units / 10**ROUND_DIGITS).tolist()


def _best_alpha(topology: Topology, p: Sequence[float]) -> float:
    """argmin of rho over alpha, on the vectors that sum to zero over every component.

    MATCHA's problem: minimise s with (1 - s) I - 2 a Lbar - J + b (Lbar^2 + 2 Ltil) <= 0 and a^2 <= b. On a
    connected graph those vectors are the whole disagreement space, where J drops out.
    """
    if not topology.edges:
        return 0.0
    cp = _cvxpy()
    mean, second = _moments(topology, p)
    white, eigenvalues = _whitened(topology, mean)
    # gain = (1 - s) / lambda_2(Lbar), for the same reason as above.
    a, b, gain = (cp.Variable(nonneg=True) for _ in range(3))
    bound = 2 * a * np.eye(len(eigenvalues)) - b * (white.T @ second @ white)
    bound -= gain * np.diag(eigenvalues[0] / eigenvalues)
    problem = cp.Problem(cp.Maximize(gain), [bound >> 0, cp.square(a) <= b])

    def error() -> float:
        drop = np.linalg.eigvalsh(2 * a.value * mean - a.value**2 * second)[-len(eigenvalues)]
        return abs(drop / eigenvalues[0] - gain.value)

    _solve_accurately(problem, error, "step")
    return float(a.value)


def _whitened(topology: Topology, laplacian: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(T, lambda) with T^T laplacian T = I and T^T T = diag(1 / lambda), lambda > 0 ascending.

    The columns of T, (n, n - components), span the vectors that sum to zero over every component of the graph.
    """
    eigenvalues, vectors = np.linalg.eigh(laplacian)
    zeros = len(topology.components())
    return vectors[:, zeros:] / np.sqrt(eigenvalues[zeros:]), eigenvalues[zeros:]


def _solve_accurately(problem, error: Callable[[], float], what: str) -> None:
    """Solve with Clarabel, else SCS; accept only a solution called optimal whose objective is the real one.

    error: how far the reported objective is from the one recomputed at the solution. Raises ConfigError otherwise.
    """
    cp = _cvxpy()
    outcomes = []
    for solver, options in (
        (cp.CLARABEL, {}),
        (cp.SCS, {"eps_abs": 1e-9, "eps_rel": 1e-9, "max_iters": 100_000}),
    ):
        try:
            with warnings.catch_warnings():
                # cvxpy warns of an inaccurate solution; it is refused below.
                warnings.simplefilter("ignore", UserWarning)
                problem.solve(solver=solver, **options)
        except cp.error.SolverError as failure:
            outcomes.append(f"{solver} failed ({str(failure).splitlines()[0]})")
            continue
        if problem.status == cp.OPTIMAL and error() <= SOLVER_TOLERANCE:
            return
        outcomes.append(f"{solver} ended {problem.status}")
    raise ConfigError(
        f"MATCHA's {what} could not be solved accurately: {', '.join(outcomes)}; use another budget or graph"
    )


def _cvxpy():
    try:
        import cvxpy
    except ImportError as error:
        raise ConfigError(
            f"MATCHA's weights need cvxpy, which is missing here ({error}): install it, or copy the folder "
            f"{cache_dir() / 'matcha'} from a machine that has solved this graph and budget"
        ) from error
    return cvxpy


def _kept(path: Path, problem: dict) -> dict | None:
    """The solution kept in the cache, or None where there is none, it is damaged, or is of another problem."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        digest = kept.pop("digest")
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None
    return kept if digest == _digest(kept) and kept["problem"] == problem else None


def _digest(value: dict) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _check_rule(rule: str) -> None:
    if rule not in RULES:
        raise ConfigError(f"unknown rule {rule!r} for disconnected graphs: use {' or '.join(RULES)}")
