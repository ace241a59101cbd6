"""Landscapes with several minima, or symmetric ones, and leader gradient descent beside elastic averaging on them.

Batch versions: every worker has the whole objective f and its gradient. Stacked over runs: X (R, n, d), centres (R, d).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Landscape:
    """An objective. value: (..., d) -> (...). gradient: (..., d) -> (..., d). minimum: its smallest value. saddle:
    (d,), a stationary point between its minima. width: standard deviation of starting points in each coordinate."""

    name: str
    value: Callable[[np.ndarray], np.ndarray]
    gradient: Callable[[np.ndarray], np.ndarray]
    minimum: float
    saddle: np.ndarray
    width: float

    def starts(self, rng: np.random.Generator, runs: int, n: int) -> np.ndarray:
        """Normal starting points (R, n, d), cut off at two standard deviations."""
        points = rng.standard_normal((runs, n, len(self.saddle)))
        return self.width * np.clip(points, -2, 2)

    def mirrored(self, rng: np.random.Generator, runs: int, n: int) -> np.ndarray:
        """Starting points (R, n, d) in pairs x, -x, for an even n and an even f: their mean is the saddle 0.

        A pair stands together, so that sums over the workers vanish to the last bit, and with them all that would end
        the symmetry but a rule that breaks it.
        """
        half = self.starts(rng, runs, n // 2)
        return np.stack([half, -half], axis=2).reshape(runs, n, -1)


def wells(tilt: float) -> Landscape:
    """(x^2 - 1)^2 / 4 + tilt x + y^2 / 2: two wells, the deeper one on the left for tilt in (0, 0.38)."""
    roots = np.sort(np.roots([1.0, 0.0, -1.0, tilt]).real)

    def value(x):
        return np.square(np.square(x[..., 0]) - 1) / 4 + tilt * x[..., 0] + np.square(x[..., 1]) / 2

    def gradient(x):
        a = x[..., 0]  # products, since a power of -a need not be that of a to the last bit
        return np.stack([a * a * a - a + tilt, x[..., 1]], axis=-1)

    deepest = float(value(np.array([roots[0], 0.0])))
    return Landscape(
        "two wells" if tilt else "two equal wells", value, gradient, deepest, np.array([roots[1], 0.0]), 1.0
    )


def egg_box(d: int = 2) -> Landscape:
    """sum_k x_k^2 / 20 + (1 - cos 3 x_k) / 2: a well in every cell, deeper toward the middle."""

    def value(x):
        return (np.square(x) / 20 + (1 - np.cos(3 * x)) / 2).sum(axis=-1)

    def gradient(x):
        return x / 10 + 1.5 * np.sin(3 * x)

    edge = 1.0  # the maximum of a coordinate between its two innermost wells, by Newton's method
    for _ in range(20):
        edge -= float(gradient(np.array([edge]))[0]) / (0.1 + 4.5 * np.cos(3 * edge))
    return Landscape("egg box", value, gradient, 0.0, np.array([edge] + [0.0] * (d - 1)), 2.0)


def factorisation(size: int = 6, rank: int = 2) -> Landscape:
    """||U U^T - M||_F^2 / 4 for U (size, rank), M = diag(1, 1/2, ..., 0): U and every rotation U Q are alike, 0 is
    between."""
    M = np.diag([1.0 / (k + 1) if k < rank else 0.0 for k in range(size)])

    def error(x):
        U = x.reshape(*x.shape[:-1], size, rank)
        return U, U @ np.swapaxes(U, -1, -2) - M

    def value(x):
        return np.square(error(x)[1]).sum(axis=(-1, -2)) / 4

    def gradient(x):
        U, E = error(x)
        return (E @ U).reshape(x.shape)

    return Landscape("matrix factorisation", value, gradient, 0.0, np.zeros(size * rank), 0.5)


def alone(x, centre, gradient, values, eta, strength):
    """x_i <- x_i - eta grad f(x_i)."""
    return x - eta * gradient, centre


def led(x, centre, gradient, values, eta, strength):
    """LGD: x_i <- x_i - eta (grad f(x_i) + lambda (x_i - x_b)), b the first of the smallest f."""
    best = np.take_along_axis(x, values.argmin(axis=1)[:, None, None], axis=1)
    return x - eta * (gradient + strength * (x - best)), centre


def elastic(x, centre, gradient, values, eta, strength):
    """EASGD at tau = 1, alpha = eta rho: x_i <- x_i - eta (grad f + rho (x_i - c)), c <- c + eta rho sum (x_i - c)."""
    pull = eta * strength * (x - centre[:, None])
    return x - eta * gradient - pull, centre + pull.sum(axis=1)


METHODS = {"no exchange": alone, "LGD": led, "EASGD": elastic}
#: Methods whose centre moves.
CENTRED = ("EASGD",)


@dataclass(frozen=True)
class Path:
    """Where runs end. x: (R, n, d). centre: (R, d), NaN where the method has none. rested: (R,) whether no coordinate
    moved faster than the tolerance. reached: (R,) the first step at which a worker's f was at or below the target, inf
    for never."""

    x: np.ndarray
    centre: np.ndarray
    rested: np.ndarray
    reached: np.ndarray


def descend(
    landscape: Landscape,
    method: str,
    strength: float,
    start: np.ndarray,
    eta: float,
    most: int,
    target: np.ndarray | float = -np.inf,
    tolerance: float = 1e-8,
) -> Path:
    """Up to ``most`` steps from ``start`` (R, n, d), or until all rest; centres start as the mean of the workers.

    (The paper's centre starts as the first worker; the mean keeps what is symmetric so.)
    """
    x, centre, step = start.copy(), start.mean(axis=1), METHODS[method]
    reached, rested = np.full(len(x), np.inf), np.zeros(len(x), dtype=bool)
    for t in range(most):
        values = landscape.value(x)
        hit = values.min(axis=1) <= target
        reached = np.where(hit & np.isinf(reached), t, reached)
        moved, drawn = step(x, centre, landscape.gradient(x), values, eta, strength)
        speed = np.maximum(np.abs(moved - x).max(axis=(1, 2)), np.abs(drawn - centre).max(axis=1)) / eta
        x, centre, rested = moved, drawn, speed < tolerance
        if rested.all():
            break
    return Path(x, centre if method in CENTRED else np.full_like(centre, np.nan), rested, reached)
