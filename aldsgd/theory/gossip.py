"""Methods of the library, as they are, where the answer is known: agreement without gradients, and where they rest.

Nothing is modelled: every step is the library's own (``algorithm.advance``) in float64, on n workers in one process.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from aldsgd.algorithm import Algorithm, advance, checked, started
from aldsgd.local import LocalRule
from aldsgd.network import LocalNetwork
from aldsgd.settings import Settings
from aldsgd.theory.spectra import disagreement_part

#: Steps between two looks at whether a method has come to rest, how little it then moves, how far one that diverges.
LOOK, STILL, FAR = 25, 1e-13, 1e6


def states(algorithm: Algorithm, start: np.ndarray, eta: float, pull) -> Iterator[np.ndarray]:
    """The models (n, d) after each step from ``start``; ``pull``: models -> (losses (n,), gradients (n, d))."""
    network = LocalNetwork(algorithm.n, centres=algorithm.centres)
    x = torch.tensor(np.concatenate([start, np.repeat(start.mean(axis=0)[None], algorithm.centres, axis=0)]))
    state = started(checked(algorithm), x, (x.shape[1],))
    local = LocalRule(x[: algorithm.n], network.workers, Settings(lr=eta, weight_decay=0.0), steps=1)
    t = 0
    while True:
        losses, gradients = pull(state.x[: algorithm.n].numpy())
        advance(algorithm, algorithm.step(t), network, state, torch.tensor(gradients), local, torch.tensor(losses))
        local.next()
        t += 1
        yield state.x[: algorithm.n].numpy().copy()


def products(algorithm: Algorithm, steps: int, seed: int = 0) -> list[np.ndarray]:
    """C_t ... C_1 C_0 (n, n) for t = 0, ..., steps - 1: what becomes of the identity where nobody moves.

    Losses, where leaders are judged by them, are drawn uniformly and anew at each step.
    """
    rng = np.random.default_rng([seed, algorithm.n])

    def pull(x):
        return rng.random(len(x)), np.zeros_like(x)

    made = states(algorithm, np.eye(algorithm.n), 1.0, pull)
    return [next(made) for _ in range(steps)]


def left(product: np.ndarray) -> float:
    """The share of squared disagreement that a product leaves, mean over directions: ||(I - J) C||^2 / (n - 1)."""
    part = disagreement_part(product)
    return float(np.square(part).sum() / len(part))


def moved(product: np.ndarray) -> float:
    """How far a product moves the mean: n ||(1/n) 1^T C - (1/n) 1^T||^2, zero where columns sum to one."""
    return float(len(product) * np.square(product.mean(axis=0) - 1 / len(product)).sum())


@dataclass(frozen=True)
class Unlike:
    """F_i(x) = (1/2) sum_k h_ik (x_k - a_ik)^2: workers differ in their minima a_i and in their curvatures h_i.

    curvatures, centres: (n, d).
    """

    curvatures: np.ndarray
    centres: np.ndarray

    @classmethod
    def random(cls, n: int, d: int, smoothness: float, mu: float, seed: int):
        """Curvatures uniform in [mu, L], centres standard normal."""
        rng = np.random.default_rng([seed, n, d])
        return cls(rng.uniform(mu, smoothness, (n, d)), rng.standard_normal((n, d)))

    @property
    def minimum(self) -> np.ndarray:
        """(d,), of F."""
        return (self.curvatures * self.centres).sum(axis=0) / self.curvatures.sum(axis=0)

    def pull(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Losses (n,) and gradients (n, d) at x (n, d)."""
        away = x - self.centres
        return 0.5 * (self.curvatures * away**2).sum(axis=1), self.curvatures * away


class Rest(NamedTuple):
    """Where a method ends without noise: squared distances to the minimiser of F, of the mean of the workers and of
    the worst of them, infinite where it diverges; whether it has come to rest, and after how many steps."""

    mean: float
    worst: float
    rested: bool
    steps: int


def rest(algorithm: Algorithm, problem: Unlike, eta: float, most: int) -> Rest:
    """Run a method at a constant rate, all workers from 2 sqrt(d) off the minimiser, until it rests or for ``most``
    steps."""
    minimum = problem.minimum
    x = before = np.repeat(minimum[None] + 2, len(problem.centres), axis=0)
    rested, t = False, 0
    for t, x in enumerate(states(algorithm, before, eta, problem.pull), 1):
        if t % LOOK == 0:
            gone = np.abs(x - before).max()
            if not gone < FAR:
                return Rest(np.inf, np.inf, False, t)
            rested = bool(gone <= STILL)
            if rested or t >= most:
                break
            before = x
    mean, worst = np.square(x.mean(axis=0) - minimum).sum(), np.square(x - minimum).sum(axis=1).max()
    return Rest(float(mean), float(worst), rested, t)
