"""Problems on which the theory's constants are known: quadratics with a common Hessian, non-convex logistic regression.

Simulation is stacked over runs: X (R, n, d). A mixer maps (t, X, losses, rng) to C_t X; the losses (R, n) are those of
the same draw as the gradients, as a mini-batch gives both.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import ndtr

from aldsgd.errors import ConfigError
from aldsgd.theory.leaders import GossipStep, closed_neighbourhoods, degree_leaders

Mixer = Callable[[int, np.ndarray, np.ndarray, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Quadratics:
    """f_i(x) = (1/2) (x - a_i)^T H (x - a_i), H diagonal, with additive gradient noise.

    hessian: (d,) eigenvalues of H in [mu, L]. centres: (n, d), a_i. sigma2: E||noise||^2, normal, the same in every
    coordinate. A draw xi makes the loss f_i(x) + xi . (x - a_i) and the gradient H (x - a_i) + xi: both unbiased.
    """

    hessian: np.ndarray
    centres: np.ndarray
    sigma2: float

    @classmethod
    def random(cls, n: int, d: int, smoothness: float, mu: float, sigma2: float, zeta2: float, seed: int = 0):
        """Eigenvalues evenly spaced from mu to L; centres with mean zero and dissimilarity exactly zeta2 (n > 1).

        Raises ConfigError unless 0 < mu <= L, d >= 1, and one worker is not asked to differ from itself.
        """
        if not (0 < mu <= smoothness and d >= 1 and n >= 1 and min(sigma2, zeta2) >= 0):
            raise ConfigError("a quadratic needs 0 < mu <= L, at least one dimension and worker, and variances >= 0")
        hessian = np.linspace(smoothness, mu, d)
        centres = np.random.default_rng([seed, n]).standard_normal((n, d))
        centres -= centres.mean(axis=0)
        size = np.square(hessian * centres).sum() / n
        if size < 1e-12:  # one worker: its own centre is the mean
            return cls(hessian, np.zeros((n, d)), sigma2)
        return cls(hessian, centres * np.sqrt(zeta2 / size), sigma2)

    @property
    def n(self) -> int:
        return len(self.centres)

    @property
    def smoothness(self) -> float:
        return float(self.hessian.max())

    @property
    def zeta2(self) -> float:
        """(1/n) sum ||grad f_i(x) - grad F(x)||^2, the same at every x."""
        return float(np.square(self.hessian * (self.centres - self.centres.mean(axis=0))).sum() / self.n)

    def gap(self, x: np.ndarray) -> np.ndarray:
        """F(x) - F_inf for x (..., d)."""
        return 0.5 * (self.hessian * np.square(x - self.centres.mean(axis=0))).sum(axis=-1)

    def gradient_norm2(self, x: np.ndarray) -> np.ndarray:
        """||grad F(x)||^2 for x (..., d)."""
        return np.square(self.hessian * (x - self.centres.mean(axis=0))).sum(axis=-1)

    def draw(self, x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Losses (R, n) and gradients (R, n, d) at x (R, n, d), of one draw of noise."""
        noise = rng.standard_normal(x.shape) * np.sqrt(self.sigma2 / x.shape[-1])
        away = x - self.centres
        losses = (0.5 * self.hessian * away + noise) * away
        return losses.sum(axis=-1), self.hessian * away + noise


def exact_trajectory(
    problem: Quadratics, means: list[np.ndarray], moments: list[np.ndarray], eta: float, steps: int, start: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """E||grad F(mean of X_k)||^2 and E||(I - J) X_k||_F^2 / n, each (steps + 1,), for C_t independent of the noise.

    Coordinates decouple. With y = (1 - eta h) x + eta h a - eta xi and C independent of y,
    E[x'] = E[C] E[y] and E[x' x'^T] = E[C E[y y^T] C^T]: exact, no inequality.

    means: E[C] (n, n) per step of the period; moments: E[C (x) C] (n^2, n^2), ``covariance_operator``. start: (d,).
    """
    n, d = problem.centres.shape
    h = problem.hessian[:, None]
    pull = eta * h * problem.centres.T  # (d, n)
    mean = np.repeat(start[:, None], n, axis=1)
    square = np.repeat(np.square(start)[:, None], n * n, axis=1).reshape(d, n, n)
    noise = eta**2 * problem.sigma2 / d * np.eye(n)
    centre = problem.centres.mean(axis=0)
    gradients, consensus = [], []
    for t in range(steps + 1):
        of_mean = square.mean(axis=(1, 2)) - 2 * centre * mean.mean(axis=1) + centre**2
        gradients.append(float(problem.hessian**2 @ of_mean))
        consensus.append(float((np.trace(square, axis1=1, axis2=2) / n - square.mean(axis=(1, 2))).sum()))
        shrink = 1 - eta * h
        y = shrink * mean + pull
        cross = np.einsum("dn,dm->dnm", shrink * mean, pull)
        outer = np.einsum("dn,dm->dnm", pull, pull)
        yy = (shrink**2)[:, :, None] * square + cross + cross.transpose(0, 2, 1) + outer + noise
        mean = y @ means[t % len(means)].T
        square = (yy.reshape(d, n * n) @ moments[t % len(moments)].T).reshape(d, n, n)
    return np.array(gradients), np.array(consensus)


@dataclass(frozen=True)
class Logistic:
    """Binary logistic regression with the non-convex penalty lam * sum_j w_j^2 / (1 + w_j^2), n equal shards.

    features: (N, d), labels: (N,) in {-1, 1}; worker i has rows i N/n ... of them, and draws ``batch`` of its rows with
    replacement. The objective is the same for every n. Constants: L <= lambda_max(Z^T Z / N)/4 + 2 lam for F, and with
    the shard's Z for f_i; mini-batch variance <= (1/batch) max_i mean ||z||^2, dissimilarity
    <= (1/n) sum_i lambda_max(Z_i^T Z_i / m), both because a logistic derivative lies in [-1, 1]; F_inf >= 0.
    """

    features: np.ndarray
    labels: np.ndarray
    n: int
    batch: int = 4
    lam: float = 0.05

    @classmethod
    def random(cls, n: int, d: int = 10, samples: int = 512, batch: int = 4, seed: int = 0):
        """Standard normal features, labels by a random plane through zero, one in ten flipped."""
        if samples % n:
            raise ConfigError(f"{samples} samples cannot be cut into {n} equal shards")
        rng = np.random.default_rng(seed)
        features = rng.standard_normal((samples, d))
        labels = np.sign(features @ rng.standard_normal(d)) * np.where(rng.random(samples) < 0.1, -1, 1)
        return cls(features, labels, n, batch)

    @cached_property
    def shards(self) -> np.ndarray:
        """Signed features y z (n, m, d)."""
        return (self.features * self.labels[:, None]).reshape(self.n, -1, self.features.shape[1])

    @cached_property
    def _tops(self) -> np.ndarray:
        return np.array([np.linalg.eigvalsh(z.T @ z / len(z))[-1] for z in self.shards])

    @property
    def smoothness(self) -> float:
        """A bound on every L of the f_i, hence of F; the penalty's second derivative lies in [-lam, 2 lam]."""
        return float(self._tops.max() / 4 + 2 * self.lam)

    @property
    def sigma2(self) -> float:
        return float(np.square(self.shards).sum(axis=2).mean(axis=1).max() / self.batch)

    @property
    def zeta2(self) -> float:
        return float(self._tops.mean()) if self.n > 1 else 0.0

    def gap(self, x: np.ndarray) -> np.ndarray:
        """F(x) - 0, an upper bound on F(x) - F_inf; x (..., d)."""
        margins = x @ self.shards.reshape(-1, x.shape[-1]).T
        return np.logaddexp(0, -margins).mean(axis=-1) + self.lam * (x**2 / (1 + x**2)).sum(axis=-1)

    def gradient_norm2(self, x: np.ndarray) -> np.ndarray:
        """||grad F(x)||^2 for x (..., d)."""
        signed = self.shards.reshape(-1, x.shape[-1])
        inner = -_sigmoid(-(x @ signed.T)) @ signed / len(signed)
        return np.square(inner + 2 * self.lam * x / (1 + x**2) ** 2).sum(axis=-1)

    def draw(self, x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Losses (R, n) and gradients (R, n, d) at x (R, n, d), of one mini-batch each."""
        pick = rng.integers(self.shards.shape[1], size=(*x.shape[:2], self.batch))
        signed = self.shards[np.arange(self.n)[None, :, None], pick]
        margins = np.einsum("rnbd,rnd->rnb", signed, x)
        losses = np.logaddexp(0, -margins).mean(axis=2) + self.lam * (x**2 / (1 + x**2)).sum(axis=2)
        inner = -np.einsum("rnb,rnbd->rnd", _sigmoid(-margins), signed) / self.batch
        return losses, inner + 2 * self.lam * x / (1 + x**2) ** 2


def _sigmoid(value: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * value))


def gossip_mixer(matrices: list[np.ndarray]) -> Mixer:
    """A periodic sequence of fixed matrices (n, n)."""
    return lambda t, x, losses, rng: matrices[t % len(matrices)] @ x


def leader_mixer(schedule: list[GossipStep], weights, leaders: str = "loss") -> Mixer:
    """AL-DSGD's released order on a schedule, weights (a, b, c); b = c = 0 is its core.

    leaders: "loss", the smallest drawn loss among the candidates, as the method does, or "random", loss ranks drawn
    independently of everything, the model of leaders.py. Active edges are drawn anew for each run.
    """
    if leaders not in ("loss", "random"):
        raise ConfigError(f"unknown leaders {leaders!r}: use loss or random")
    a, b, c = weights
    tables = []
    for step in schedule:
        actives = [active for _, active in step.events]
        tables.append(
            (
                np.cumsum([chance for chance, _ in step.events]),
                np.stack([step.gossip(active) for active in actives]),
                np.stack([closed_neighbourhoods(step.n, active) for active in actives]),
                np.stack([degree_leaders(step.n, active) for active in actives]),
            )
        )

    def mix(t, x, losses, rng):
        chances, gossips, closed, largest = tables[t % len(tables)]
        event = np.zeros(len(x), dtype=int)
        if len(chances) > 1:
            event = np.searchsorted(chances[:-1], rng.random(len(x)), side="right")
        mixed = a * (gossips[event] @ x)
        if b:
            score = losses if leaders == "loss" else rng.random(losses.shape)
            best = np.where(closed[event], score[:, None, :], np.inf).argmin(axis=2)
            mixed += b * np.take_along_axis(x, best[:, :, None], axis=1)
        if c:
            mixed += c * np.take_along_axis(x, largest[event][:, :, None], axis=1)
        return mixed

    return mix


def selection_floor(pull: float, n: int, d: int, sigma2: float) -> float:
    """||grad F||^2 at which AL-DSGD stops on a complete graph, however small eta is: (pull sigma m_n)^2 / d.

    Why: the loss that elects the leader and the gradient that moves it come from the same draw. Take ``Quadratics``
    with H = h I and equal centres, all workers at x, u = x - a. Their losses differ by xi_i . u, normal with standard
    deviation sigma |u| / sqrt(d), so the leader's noise has the mean -(sigma / sqrt(d)) m_n u / |u|, m_n being the
    expected largest of n standard normals: a lucky draw is one whose noise undoes the gradient. The mean of the workers
    moves by -eta (h u - pull sigma m_n u / (|u| sqrt(d))), which vanishes where h |u| = ||grad F|| is
    pull sigma m_n / sqrt(d), for every eta. pull: the whole weight on the best worker, b of ``leaders.pulls``.
    Derived here; to first order in eta.
    """
    z = np.linspace(-12, 12, 4001)
    # The density of the largest is n phi Phi^(n-1): smooth and zero at both ends, so plain sums are exact.
    density = n * np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi) * ndtr(z) ** (n - 1)
    largest = (z * density).sum() * (z[1] - z[0])
    return float((pull * largest) ** 2 * sigma2 / d)


def simulate(
    problem, mixer: Mixer, eta: float, steps: int, runs: int, start: np.ndarray, seeds=(0,), fresh: bool = False
) -> dict:
    """Adapt-then-combine SGD from a common start (d,), R = runs at once, one random stream from ``seeds``. Keys:

    gradient: ||grad F(mean)||^2 (R, steps), before each step. consensus: ||(I - J) X||_F^2 / n (R, steps), likewise.
    fresh: losses come from a second draw at the same models, independent of the gradients; the method uses one draw.
    """
    rng = np.random.default_rng([*seeds, problem.n, steps])
    x = np.broadcast_to(start, (runs, problem.n, len(start))).copy()
    gradient, consensus = np.empty((runs, steps)), np.empty((runs, steps))
    for t in range(steps):
        mean = x.mean(axis=1)
        gradient[:, t] = problem.gradient_norm2(mean)
        consensus[:, t] = np.square(x - mean[:, None]).sum(axis=(1, 2)) / problem.n
        losses, gradients = problem.draw(x, rng)
        if fresh:
            losses, _ = problem.draw(x, rng)
        x = mixer(t, x - eta * gradients, losses, rng)
    return {"gradient": gradient, "consensus": consensus}
