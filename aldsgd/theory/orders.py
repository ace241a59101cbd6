"""Both orders of AL-DSGD and leaders at every k-th step, in one form, with exact moments under random loss ranks.

With S the selection of the best and T that of the maximum-degree worker, a step in which leaders act is

    X <- C (B X - eta G),   C = a W + b S + c T,   B = I - f (I - S) - h (I - T),

the same S and T in both. Released order: B = I and (a, b, c) of ``leaders.pulls``. Printed order: the force comes
first, (a, b, c) = (1 - c1 - c2, c1, c2), and (f, h) = s (p1, p2) with s = 1 or eta (``aldsgd.leaders``). Between such
steps there is gossip alone, X <- W (X - eta G). So disagreement is mapped by M = C B, gradients only by C.

Random loss ranks as in ``leaders``. C B holds products of selections, for which the closed form there is not enough;
the moments are sums over the distinct choices that all n! orders make, each with its share of them: exact too.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from aldsgd.errors import ConfigError
from aldsgd.theory.adversary import MOST_ENUMERATED, loss_orders
from aldsgd.theory.leaders import (
    Active,
    GossipStep,
    closed_neighbourhoods,
    degree_leaders,
    operator,
    pulls,
    selection,
)


@dataclass(frozen=True)
class Leading:
    """How leaders act. weights: (a, b, c) of W, S, T in C. force: (f, h) of S, T in B. period: every k-th step."""

    weights: tuple[float, float, float] = (1.0, 0.0, 0.0)
    force: tuple[float, float] = (0.0, 0.0)
    period: int = 1

    @classmethod
    def released(cls, c1: float, c2: float, p1: float, p2: float, period: int = 1) -> "Leading":
        """Averaging, then the force."""
        return cls(pulls(c1, c2, p1, p2), period=period)

    @classmethod
    def printed(cls, c1: float, c2: float, p1: float, p2: float, scale: float = 1.0, period: int = 1) -> "Leading":
        """The force, times ``scale`` (1 or eta), then averaging."""
        return cls((1 - c1 - c2, c1, c2), (scale * p1, scale * p2), period)

    def matrices(self, gossip: np.ndarray, best: np.ndarray, largest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(B, C) of a step in which leaders act, for W, S and T (..., n, n)."""
        (a, b, c), (f, h) = self.weights, self.force
        eye = np.eye(gossip.shape[-1])
        return eye - f * (eye - best) - h * (eye - largest), a * gossip + b * best + c * largest


#: No leaders at all.
CORE = Leading()


class Moments(NamedTuple):
    """Of one step, M = C B. Second moments as [i, k, j, l]: ``state`` E[M_ik M_jl], ``cross`` E[M_ik C_jl], ``noise``
    E[C_ik C_jl]; ``mean`` E[M], ``entry`` E[C], both (n, n)."""

    state: np.ndarray
    cross: np.ndarray
    noise: np.ndarray
    mean: np.ndarray
    entry: np.ndarray


@lru_cache(maxsize=4096)
def leader_choices(n: int, active: Active) -> tuple[np.ndarray, np.ndarray]:
    """(chance (D,), best workers (D, n)): every choice that an order of n distinct losses makes, all orders equally
    likely. Raises ConfigError above n = 8, where n! orders are too many."""
    if n > MOST_ENUMERATED:
        raise ConfigError(f"all orders of {n} losses are too many: use at most {MOST_ENUMERATED} workers")
    orders, _ = loss_orders(n, 0)
    near = [np.flatnonzero(row) for row in closed_neighbourhoods(n, active)]
    best = np.column_stack([own[orders[:, own].argmin(axis=1)] for own in near])
    # Choices as numbers in base n: far quicker to tell apart than rows.
    _, first, counts = np.unique(best @ n ** np.arange(n), return_index=True, return_counts=True)
    return counts / len(orders), best[first]


def step_moments(step: GossipStep, leading: Leading, leads: bool = True) -> Moments:
    """Exact moments of a step, with leaders (``leads``) or without; n <= 8."""
    n = step.n
    total = [np.zeros((n,) * 4) for _ in range(3)] + [np.zeros((n, n)) for _ in range(2)]
    for chance, active in step.events:
        shares, best = leader_choices(n, active) if leads else (np.ones(1), np.arange(n)[None])
        how = leading if leads else CORE
        b, c = how.matrices(step.gossip(active), np.eye(n)[best], selection(degree_leaders(n, active)))
        b, c = np.broadcast_to(b, (len(best), n, n)), np.broadcast_to(c, (len(best), n, n))
        m = c @ b
        weighted = (chance * shares)[:, None, None]
        for place, (one, two) in enumerate(((m, m), (m, c), (c, c))):
            outer = (weighted * one).reshape(len(one), -1).T @ two.reshape(len(two), -1)
            total[place] += outer.reshape(n, n, n, n)
        total[3] += (weighted * m).sum(axis=0)
        total[4] += (weighted * c).sum(axis=0)
    return Moments(*total)


def period_moments(schedule: Sequence[GossipStep], leading: Leading) -> list[Moments]:
    """Moments of every step of the joint period of the schedule and the leaders, in the order of time."""
    led: dict[tuple[int, bool], Moments] = {}
    found = []
    for t in range(math.lcm(len(schedule), leading.period)):
        key = (t % len(schedule), t % leading.period == 0)
        if key not in led:
            led[key] = step_moments(schedule[key[0]], leading, key[1])
        found.append(led[key])
    return found


def perron_weights(moments: Sequence[Moments]) -> list[np.ndarray]:
    """pi_t (n,) for each step of a period: what is added to worker i after step t adds pi_t,i to the final agreement.

    Products of M tend to 1 pi^T, and in expectation, the draws being independent, pi_(t-1)^T = pi_t^T E[M_t]: the left
    eigenvector of the period's product of E[M] to the eigenvalue one. Entries sum to one; E[M] must have one such
    eigenvalue only, as where the workers agree.
    """
    product = np.eye(len(moments[0].mean))
    for moment in moments:
        product = moment.mean @ product
    values, vectors = np.linalg.eig(product.T)
    last = np.real(vectors[:, np.argmin(abs(values - 1))])
    found = [last / last.sum()]
    for moment in reversed(moments[1:]):
        found.append(found[-1] @ moment.mean)
    return found[::-1]


def noise_influence(moments: Sequence[Moments]) -> float:
    """E||pi||^2 of noise that enters with the gradients, so through C: ``leaders.influence`` for either order.

    The fixed point of M -> E[M_t^T . M_t] over a period is E[pi pi^T]; noise of step t meets E[C_t^T pi pi^T C_t].
    """
    operators = [operator(moment.state) for moment in moments]
    product = operators[0]
    for following in operators[1:]:
        product = product @ following
    values, vectors = np.linalg.eig(product)
    fixed = np.real(vectors[:, np.argmin(abs(values - 1))])
    fixed = fixed / fixed.sum()  # 1^T E[pi pi^T] 1 = 1
    n, sizes = len(moments[0].mean), []
    for moment, matrix in zip(reversed(moments), reversed(operators), strict=True):
        sizes.append(np.trace((operator(moment.noise) @ fixed).reshape(n, n)))
        fixed = matrix @ fixed
    return float(np.mean(sizes))
