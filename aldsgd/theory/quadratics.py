"""Problems on which the theory's constants are known: quadratics with a common Hessian, non-convex logistic regression.

Simulation is stacked over runs: X (R, n, d). A mixer maps (t, X, eta G, scores, rng) to the next X; the worker of
smallest score (R, n) leads, anyone where it is None. In the method a score is the loss of the same draw as the
gradient, as a mini-batch gives both; other judges are there to compare.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from aldsgd.errors import ConfigError
from aldsgd.theory.leaders import GossipStep, closed_neighbourhoods, covariance_operator, degree_leaders
from aldsgd.theory.orders import Leading, Moments

Mixer = Callable[[int, np.ndarray, np.ndarray, np.ndarray, np.random.Generator], np.ndarray]
#: What a leader is judged by: the loss of its own mini-batch, as in the method; of a second, independent one; the
#: running average of its own losses; nothing at all.
JUDGES = ("own", "second", "running", "random")
#: Weight of the past in the running average.
MEMORY = 0.9


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

    def sample(self, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        """Noise (R, n, d), one draw each for ``shape`` (R, n)."""
        d = len(self.hessian)
        return rng.standard_normal((*shape, d)) * np.sqrt(self.sigma2 / d)

    def on(self, x: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Losses (R, n) and gradients (R, n, d) at x (R, n, d), each of its draw of ``sample``."""
        away = x - self.centres
        losses = (0.5 * self.hessian * away + noise) * away
        return losses.sum(axis=-1), self.hessian * away + noise

    def judged(self, x: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """(R, n, n): [r, i, j] what worker i's draw of ``sample`` and its f_i make of model j of x (R, n, d)."""
        away = x[:, None] - self.centres[:, None]
        return ((0.5 * self.hessian * away + noise[:, :, None]) * away).sum(axis=-1)

    def draw(self, x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Losses (R, n) and gradients (R, n, d) at x (R, n, d), of one draw of noise."""
        return self.on(x, self.sample(x.shape[:2], rng))


def exact_trajectory(
    problem: Quadratics, moments: list[Moments], eta: float, steps: int, start: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """E||grad F(mean of X_k)||^2 and E||(I - J) X_k||_F^2 / n, each (steps + 1,), for leaders independent of the noise.

    Coordinates decouple. With M = C B, A = M - eta h C and p = eta h a, a step is x' = A x + C p - eta C xi, so
    E[x'] = E[A] E[x] + E[C] p and E[x' x'^T] = E[A E[x x^T] A^T] + E[A E[x] p^T C^T] + its transpose
    + E[C (p p^T + eta^2 Var xi) C^T]: exact, no inequality.

    moments: of each step of the period (``orders.period_moments``). start: (d,).
    """
    n, d = problem.centres.shape
    h = problem.hessian
    pull = eta * h[:, None] * problem.centres.T  # (d, n)
    mean = np.repeat(start[:, None], n, axis=1)
    square = np.repeat(np.square(start)[:, None], n * n, axis=1).reshape(d, n, n)
    entering = np.einsum("dn,dm->dnm", pull, pull) + eta**2 * problem.sigma2 / d * np.eye(n)
    centre = problem.centres.mean(axis=0)
    maps = [[covariance_operator(moment) for moment in own[:3]] for own in moments]
    gradients, consensus = [], []
    for t in range(steps + 1):
        of_mean = square.mean(axis=(1, 2)) - 2 * centre * mean.mean(axis=1) + centre**2
        gradients.append(float(h**2 @ of_mean))
        consensus.append(float((np.trace(square, axis1=1, axis2=2) / n - square.mean(axis=(1, 2))).sum()))
        own, (state, cross, noise) = moments[t % len(moments)], maps[t % len(moments)]
        step = (eta * h)[:, None]
        xx, xp = square.reshape(d, n * n), np.einsum("dn,dm->dnm", mean, pull).reshape(d, n * n)
        # E[A . A^T] = E[M . M^T] - eta h (E[M . C^T] + E[C . M^T]) + (eta h)^2 E[C . C^T]; E[x x^T] is symmetric.
        once = (xx @ cross.T).reshape(d, n, n)
        total = xx @ state.T + step**2 * (xx @ noise.T) + entering.reshape(d, n * n) @ noise.T
        shift = (xp @ cross.T - step * (xp @ noise.T)).reshape(d, n, n) - step[:, :, None] * once
        square = total.reshape(d, n, n) + shift + shift.transpose(0, 2, 1)
        mean = mean @ own.mean.T + (pull - step * mean) @ own.entry.T
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
    return lambda t, x, move, score, rng: matrices[t % len(matrices)] @ (x - move)


def leader_mixer(schedule: list[GossipStep], leading: Leading) -> Mixer:
    """AL-DSGD on a schedule, in either order (``orders``). Active edges are drawn anew for each run."""
    (a, b, c), (f, h) = leading.weights, leading.force
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

    def mix(t, x, move, score, rng):
        chances, gossips, closed, largest = tables[t % len(tables)]
        event = np.zeros(len(x), dtype=int)
        if len(chances) > 1:
            event = np.searchsorted(chances[:-1], rng.random(len(x)), side="right")
        if t % leading.period:
            return gossips[event] @ (x - move)
        largest = largest[event][:, :, None]
        best = largest  # where nobody follows the best, any will do
        if b or f:
            score = rng.random(x.shape[:2]) if score is None else score
            best = np.where(closed[event], score[:, None, :], np.inf).argmin(axis=2)[:, :, None]
        if f or h:
            best_x, largest_x = np.take_along_axis(x, best, axis=1), np.take_along_axis(x, largest, axis=1)
            x = x - f * (x - best_x) - h * (x - largest_x)
        y = x - move
        mixed = a * (gossips[event] @ y)
        if b:
            mixed += b * np.take_along_axis(y, best, axis=1)
        if c:
            mixed += c * np.take_along_axis(y, largest, axis=1)
        return mixed

    return mix


def simulate(
    problem, mixer: Mixer, eta: float, steps: int, runs: int, start: np.ndarray, seeds=(0,), judge: str = "own",
    every: int = 1,
) -> dict:  # fmt: skip
    """SGD from a common start (d,), R = runs at once, one random stream from ``seeds``. Keys, each before every
    ``every``-th step, K of them:

    mean: of the workers (R, K, d). gradient: ||grad F(mean)||^2 (R, K). consensus: ||(I - J) X||_F^2 / n (R, K).
    judge: one of ``JUDGES``.
    """
    if judge not in JUDGES:
        raise ConfigError(f"unknown judge {judge!r}: use one of {', '.join(JUDGES)}")
    rng = np.random.default_rng([*seeds, problem.n, steps])
    x = np.broadcast_to(start, (runs, problem.n, len(start))).copy()
    kept = range(0, steps, every)
    found = {"mean": np.empty((runs, len(kept), len(start)))}
    found |= {name: np.empty((runs, len(kept))) for name in ("gradient", "consensus")}
    past = None
    for t in range(steps):
        if t in kept:
            mean, k = x.mean(axis=1), t // every
            found["mean"][:, k] = mean
            found["gradient"][:, k] = problem.gradient_norm2(mean)
            found["consensus"][:, k] = np.square(x - mean[:, None]).sum(axis=(1, 2)) / problem.n
        score, gradients = problem.draw(x, rng)
        if judge == "second":
            score, _ = problem.draw(x, rng)
        elif judge == "running":
            score = past = score if past is None else MEMORY * past + (1 - MEMORY) * score
        elif judge == "random":
            score = None
        x = mixer(t, x, eta * gradients, score, rng)
    return found
