"""How old is what asynchronous workers use, and how far old copies and leaders move the mean of the models.

**Queues.** n workers and a server that answers at once; a gradient takes one unit on average. The staleness of a use is
the number of steps that the server took since it gave the model out.

- Equal constant times: between two arrivals of one worker each other arrives once: n - 1, after the first round.
- One worker takes k units, k whole: k (n - 1) others arrive in the meantime, which is its staleness. Each other worker
  sees n - 2 others in its unit, and the slow one once in k: n - 2 + 1/k on average. In k units the n - 1 others make k
  gradients each, and the slow one makes one; n workers that wait for each other make n: (k (n - 1) + 1) / n as many.
- Exponential times: whoever is next is each of the n with chance 1/n, whatever was before, so that of the steps after
  a worker's own each is its next with that chance: P(s) = (1/n) (1 - 1/n)^s, n - 1 on average.
- Workers that wait take the largest of n times a step: H_n = 1 + 1/2 + ... + 1/n with exponential ones.

**A bound for asynchronous AL-DSGD.** Let x_i(u) be the model of worker i after all that it did up to time u. At time s
it mixes copies y_j = x_j(s_j) of age a_j = s - s_j, y_i its own model, with coefficients C_ij that sum to one over j:
x_i <- x_i + sum_{j != i} C_ij (y_j - x_i) - eta g_i. Beyond its gradient, this moves the mean of the models by

    Delta = (1/n) sum_{j != i} C_ij (y_j - x_i),   y_j - x_i = [x_j(s_j) - x_i(s_j)] - [x_i - x_i(s_j)]:

how far the two were apart when the copy was made, r_ij, less what worker i has gone since. If it has moved m_ij times
since, and each time by no more than D, the latter is no longer than m_ij D, and

    |Delta| <= (1/n) sum_{j != i} |C_ij| (r_ij + m_ij D).                                                 (1)

r_ij would be there with fresh copies; the rest, the *drag*, is what age adds: an old copy pulls worker i, and with it
the mean, back along its own path. With C_i = a W_i + b e_best + c e_degree (``leaders.pulls``) the leaders' share of
the drag is at most (b m_best + c m_degree) D / n. With constant times of at least one unit, worker i has moved
m_ij = ceil(a_j / T_i) - 1 <= ceil(a_j) - 1 times, hence, in units of D / n,

- no rule of age: (b + c) (ceil(a) - 1), with the age a of the older leader: it grows without end;
- leaders no older than a limit l: (b + c) (ceil(l) - 1), however slow anyone is;                         (2)
- fading: c and p toward a leader are multiplied by f(a) = exp(-max(a - 1, 0) / l), so that b <= f (c1 + p1), and
  f(a) (ceil(a) - 1) < max_q q exp(-(q - 1) / l) over whole q: (c1 + p1 + c2 + p2) times that maximum.

Derived here; the closed forms of queues are textbook arguments.
"""

import math
from collections.abc import Sequence

import numpy as np

from aldsgd.theory.leaders import pulls


def geometric(n: int, ages: Sequence[int]) -> np.ndarray:
    """P(s) of each staleness s, with n workers and exponential times."""
    return (1 / n) * (1 - 1 / n) ** np.asarray(ages, dtype=float)


def harmonic(n: int) -> float:
    """H_n: units of a step of n workers that wait for each other, with exponential times."""
    return float(sum(1 / i for i in range(1, n + 1)))


def others_staleness(n: int, k: int) -> float:
    """Mean staleness of the n - 1 workers beside one that is k times slower."""
    return n - 2 + 1 / k


def speed_up(n: int, k: int) -> float:
    """Gradients of asynchronous workers, one of which is k times slower, over those of workers that wait for it."""
    return (k * (n - 1) + 1) / n


def led(
    losses: Sequence[float], degrees: Sequence[int], ages: Sequence[float], own: Sequence[float], age: str, limit: float
) -> tuple[int, int, tuple[float, float, float]]:
    """Whom a worker follows, as places in its mailbox, itself first, and the weights of W, of the best and of the one
    of largest degree.

    losses, degrees, ages: of its entries. own: c1, c2, p1, p2. age, limit: as of ``baselines.async_aldsgd``.
    """
    able = [k for k in range(len(ages)) if math.isfinite(losses[k]) and (age != "bound" or ages[k] <= limit)] or [0]
    best = min(able, key=lambda k: losses[k])
    largest = max(able, key=lambda k: degrees[k])
    fade = [math.exp(-max(ages[k] - 1, 0) / limit) if age == "fade" else 1.0 for k in (best, largest)]
    c1, c2, p1, p2 = own
    return best, largest, pulls(c1 * fade[0], c2 * fade[1], p1 * fade[0], p2 * fade[1])


def most_drag(own: Sequence[float], age: str, limit: float) -> float:
    """(2): the most that leaders drag the mean back in one event, in units of D / n, with constant times of at least
    one unit; infinite without a rule of age."""
    if age == "none":
        return math.inf
    if age == "bound":
        _, b, c = pulls(*own)
        return (b + c) * (math.ceil(limit) - 1)
    # The maximum over whole q lies beside q = limit.
    return sum(own) * max(q * math.exp(-(q - 1) / limit) for q in range(1, math.ceil(limit) + 2))
