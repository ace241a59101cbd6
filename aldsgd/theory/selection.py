"""What AL-DSGD minimises when leaders are elected by the losses of their own mini-batches.

Let every worker's batch loss l(x; xi) have the same distribution, with mean F(x), and let M_k(x) = E min of k
independent ones. Where ties have no probability the minimum is differentiable almost surely, and its gradient is that
of the batch that attains it, so

    grad M_k(x) = E[grad l(x; xi_b)],   b = argmin_(j <= k) l(x; xi_j):

a step on the gradient of the luckiest of k batches is, in expectation, a step on M_k and not on F.

With ``orders``, X <- C (B X - eta G), M = C B. Rows sum to one, and where the workers agree, products of M tend to
1 pi^T. Their disagreement is then O(eta), so that all losses and gradients are those at one x up to O(eta), and what
they agree on moves per step by -eta pi_t^T C_t G_t, pi_t made of later draws alone. S_t G_t has the rows
grad l(x; xi_(b_i)), b_i the best of the closed neighbourhood N_i(t); W_t G_t and T_t G_t have grad F in the mean. So to
first order in eta

    mean step = -eta [(1 - sum_k w_k) grad F + sum_k w_k grad M_k],   w_k = b sum_i pi_i P(|N_i(t)| = k),

averaged over the period (``selection_weights``): AL-DSGD minimises the mixture (1 - w) F + sum_k w_k M_k. b is the
weight of S in C: (1 - p1 - p2) c1 + p1 in the released order, c1 alone in the printed one, whose force acts on
disagreement before the gradient enters and so vanishes with eta; divided by k with leaders at every k-th step. On the
complete graph the mixture is (1 - b) F + b M_n. A leader judged by another draw than that of its gradient leaves
E[S G] = grad F, hence F itself. Derived here, for independent draws.

Not covered: shards that differ (pi then depends on x through the losses, and the mean step need not be a gradient);
running averages (past draws still sit in the disagreement); anything of second order in eta.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, ndtr

from aldsgd.theory.leaders import GossipStep, closed_neighbourhoods
from aldsgd.theory.orders import Leading, period_moments, perron_weights
from aldsgd.theory.quadratics import Mixer


def selection_weights(schedule: Sequence[GossipStep], leading: Leading) -> dict[int, float]:
    """w_k of M_k in the mixture, by the size k of the neighbourhood that elects (a worker alone: k = 1, M_1 = F)."""
    moments = period_moments(schedule, leading)
    found: dict[int, float] = {}
    for t, pi in enumerate(perron_weights(moments)):
        if t % leading.period:
            continue
        step = schedule[t % len(schedule)]
        for chance, active in step.events:
            sizes = closed_neighbourhoods(step.n, active).sum(axis=1)
            for size, weight in zip(sizes.tolist(), pi, strict=True):
                found[size] = found.get(size, 0.0) + leading.weights[1] * chance * float(weight) / len(moments)
    return dict(sorted(found.items()))


def largest_normal(n: int) -> float:
    """Expected largest of n independent standard normals."""
    z = np.linspace(-12, 12, 4001)
    # The density of the largest is n phi Phi^(n-1): smooth and zero at both ends, so plain sums are exact.
    density = n * np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi) * ndtr(z) ** (n - 1)
    return float((z * density).sum() * (z[1] - z[0]))


def selection_floor(weights: Mapping[int, float], d: int, sigma2: float) -> float:
    """||grad F||^2 at which AL-DSGD stops on ``Quadratics`` with H = h I and equal centres: additive noise.

    Losses differ by xi . u, u = x - a, normal with standard deviation sigma |u| / sqrt(d), so that
    M_k = F - (sigma / sqrt(d)) m_k |u| with m_k of ``largest_normal``. The cone has its tip at the minimum of F and
    pushes away from it however small eta is; the mixture is least where ||grad F|| = (sigma / sqrt(d)) sum_k w_k m_k.
    On least squares and logistic regression the noise of a loss does not vanish at the minimum, M_k is smooth there,
    and nothing of the kind happens: how far the minimum of the mixture lies from that of F is a matter of the data.
    """
    return float(sum(weight * largest_normal(size) for size, weight in weights.items()) ** 2 * sigma2 / d)


@dataclass(frozen=True)
class LeastSquares:
    """Linear regression on normal features, y = z . w + noise, batches of new samples; w = 0, every worker alike.

    At x the residuals are normal with variance noise^2 + |x|^2, whatever the direction of x: M_k is
    q_k (noise^2 + |x|^2) / 2 with q_k the expected smallest of k chi^2_m / m. So F and all M_k have one minimum, and
    leaders only shorten the step.
    """

    n: int
    d: int
    batch: int
    noise: float = 1.0

    def gradient_norm2(self, x: np.ndarray) -> np.ndarray:
        """||grad F(x)||^2 for x (..., d)."""
        return np.square(x).sum(axis=-1)

    def draw(self, x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Losses (R, n) and gradients (R, n, d) at x (R, n, d), of one mini-batch each."""
        z = rng.standard_normal((*x.shape[:2], self.batch, self.d))
        residual = np.einsum("rnbd,rnd->rnb", z, x) - self.noise * rng.standard_normal(z.shape[:3])
        return 0.5 * np.square(residual).mean(axis=2), np.einsum("rnb,rnbd->rnd", residual, z) / self.batch


@dataclass(frozen=True)
class RareClass:
    """Logistic regression on two classes of unequal size, the same samples for all workers; ridge/2 ||x||^2 is added.

    signed: (N, p), label (+1 for the rare class, else -1) times the features, the last of which is one. A batch is
    ``batch`` samples with replacement.
    """

    signed: np.ndarray
    n: int
    batch: int = 16
    ridge: float = 0.01

    @classmethod
    def random(cls, n: int, samples: int = 2000, share: float = 0.1, apart: float = 1.5, seed: int = 0, **settings):
        """Two normal clouds of unit variance in the plane, ``apart`` from each other, ``share`` of them rare."""
        rng = np.random.default_rng(seed)
        labels = np.where(np.arange(samples) < round(samples * share), 1.0, -1.0)
        features = np.column_stack([rng.standard_normal((samples, 2)), np.ones(samples)])
        features[:, 0] += apart * labels / 2
        return cls(features * labels[:, None], n, **settings)

    @property
    def rare(self) -> np.ndarray:
        """(N,) bool: of the rare class."""
        return self.signed[:, -1] > 0

    def losses(self, x: np.ndarray) -> np.ndarray:
        """Loss of every sample (N,) at x (p,), without the ridge."""
        return np.logaddexp(0, -(self.signed @ x))

    def objective(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """F and its gradient (p,) at x (p,)."""
        slope = -expit(-(self.signed @ x)) @ self.signed / len(self.signed)
        return float(self.losses(x).mean() + 0.5 * self.ridge * x @ x), slope + self.ridge * x

    def gradient_norm2(self, x: np.ndarray) -> np.ndarray:
        """||grad F(x)||^2 for x (..., p)."""
        slope = -expit(-(x @ self.signed.T)) @ self.signed / len(self.signed)
        return np.square(slope + self.ridge * x).sum(axis=-1)

    def sample(self, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        """A mini-batch each (R, n, batch, p) for ``shape`` (R, n)."""
        return self.signed[rng.integers(len(self.signed), size=(*shape, self.batch))]

    def on(self, x: np.ndarray, signed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Losses (R, n) and gradients (R, n, p) at x (R, n, p), each on its mini-batch of ``sample``."""
        margins = np.einsum("rnbp,rnp->rnb", signed, x)
        losses = np.logaddexp(0, -margins).mean(axis=2) + 0.5 * self.ridge * np.square(x).sum(axis=2)
        return losses, -np.einsum("rnb,rnbp->rnp", expit(-margins), signed) / self.batch + self.ridge * x

    def judged(self, x: np.ndarray, signed: np.ndarray) -> np.ndarray:
        """(R, n, n): [r, i, j] the loss of model j of x (R, n, p) on mini-batch i of ``sample``."""
        margins = np.einsum("ribp,rjp->rijb", signed, x)
        return np.logaddexp(0, -margins).mean(axis=3) + 0.5 * self.ridge * np.square(x).sum(axis=2)[:, None]

    def draw(self, x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Losses (R, n) and gradients (R, n, p) at x (R, n, p), of one mini-batch each."""
        return self.on(x, self.sample(x.shape[:2], rng))

    @cached_property
    def minimiser(self) -> np.ndarray:
        """argmin F (p,)."""
        start = np.zeros(self.signed.shape[1])
        return minimize(self.objective, start, jac=True, method="BFGS", options={"gtol": 1e-10}).x

    def mixture(self, x: np.ndarray, weights: Mapping[int, float], picks: np.ndarray) -> tuple[float, np.ndarray]:
        """(1 - w) F + sum_k w_k M_k and its gradient at x, each M_k as the mean over the groups of batches ``picks``
        (R, at least k, batch), indices of samples, of the smallest loss among the first k batches of a group."""
        value, slope = self.objective(x)
        each = self.losses(x)
        pull = -expit(-(self.signed @ x))
        own, ridge = each[picks].mean(axis=2), 0.5 * self.ridge * x @ x
        total = sum(weights.values())
        value, slope = (1 - total) * value + total * ridge, (1 - total) * slope + total * self.ridge * x
        rows = np.arange(len(picks))
        for size, weight in weights.items():
            best = own[:, :size].argmin(axis=1)
            value += weight * own[rows, best].mean()
            counts = np.bincount(picks[rows, best].ravel(), minlength=len(each)) / (len(picks) * picks.shape[2])
            slope = slope + weight * ((counts * pull) @ self.signed)
        return float(value), slope

    def mixture_minimiser(self, weights: Mapping[int, float], groups: int, seed: int) -> np.ndarray:
        """The minimum of the mixture nearest to that of F (p,), on ``groups`` drawn groups of batches."""
        size = (groups, max(weights), self.batch)
        picks = np.random.default_rng(seed).integers(len(self.signed), size=size)
        found = minimize(
            self.mixture, self.minimiser, (weights, picks), jac=True, method="L-BFGS-B",
            options={"ftol": 0, "gtol": 1e-7, "maxiter": 60},
        )  # fmt: skip
        return found.x


def agreeing(mixer: Mixer, weights: Sequence[np.ndarray]) -> Mixer:
    """The same steps by workers that agree at once on pi_t^T of what they would hold: SGD on the mixture.

    weights: pi_t (n,) of a period (``orders.perron_weights``). From a common start X keeps equal rows.
    """

    def mix(t, x, move, score, rng):
        agreed = np.einsum("i,rid->rd", weights[t % len(weights)], mixer(t, x, move, score, rng))
        return np.broadcast_to(agreed[:, None], x.shape)

    return mix
