"""Steps of the methods with leaders, centres and weighted means on a small problem, for tests."""

import numpy as np
import torch

from aldsgd.network import LocalNetwork
from aldsgd.stepper import Acting
from tests.stepping import rule, state_of, take


class Problem:
    """Each worker's own quadratic, with noise that depends on the step alone: gradients and losses at given models.

    Losses have a share of luck, so that who leads changes.
    """

    def __init__(self, n: int, size: int, seed: int = 0, steps: int = 200):
        rng = np.random.default_rng(seed)
        self.start, self.goal = rng.normal(size=(n, size)), rng.normal(size=(n, size))
        self.noise = 0.3 * rng.normal(size=(steps, n, size))
        self.luck = 10 * rng.random((steps, n))

    def gradient(self, i: int, x: np.ndarray, t: int) -> np.ndarray:
        return x - self.goal[i] + self.noise[t, i]

    def loss(self, i: int, x: np.ndarray, t: int) -> float:
        return float(0.5 * np.square(x - self.goal[i] + self.noise[t, i]).sum() + self.luck[t, i])


class Nothing(Problem):
    """No gradients: what is left is the exchange."""

    def gradient(self, i, x, t):
        return np.zeros_like(x)


def walk(algorithm, problem: Problem, steps: int, lr: float = 0.1, first: int = 0, state=None, sizes=None, **local):
    """(models (n + c, P), state) after so many steps from ``first`` on; centres start as worker 0's model."""
    n = algorithm.n
    network = LocalNetwork(n, centres=algorithm.centres)
    if state is None:
        models = torch.tensor(np.concatenate([problem.start, problem.start[:1].repeat(algorithm.centres, 0)]))
        state = state_of(algorithm, models, sizes)
    models, moves = state.x, rule(state.x, network, lr, **local)
    for t in range(first, first + steps):
        x = models.numpy()
        gradients = torch.tensor(np.stack([problem.gradient(i, x[i], t) for i in range(n)]))
        losses = torch.tensor([problem.loss(i, x[i], t) for i in range(n)], dtype=torch.float64)
        acting = algorithm.step(t).acting
        take(algorithm, t, network, models, gradients, lr, losses, state,
             moves if acting is None else Acting(moves, list(acting)))  # fmt: skip
    return models.numpy().copy(), state


def spread(models: np.ndarray) -> float:
    """Root of the summed squared distances from the mean."""
    return float(np.linalg.norm(models - models.mean(axis=0)))
