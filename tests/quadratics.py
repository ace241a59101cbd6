"""Random quadratics and graphs on which methods are compared with their plain transcriptions."""

import networkx as nx
import numpy as np
import torch

from aldsgd.graphs import Topology
from aldsgd.network import LocalNetwork
from tests import reference
from tests.stepping import rule, state_of, take


class Quadratics:
    """F_i(x) = 1/2 sum_k a_ik (x_k - b_ik)^2 of n workers, in R^p, with noise that all who ask get alike."""

    def __init__(self, n, p=4, seed=0, noise=0.1):
        rng = np.random.default_rng(seed)
        self.a, self.b = rng.uniform(0.3, 1.5, (n, p)), rng.normal(size=(n, p))
        self.start, self.noise = rng.normal(size=(n, p)), noise * rng.normal(size=(400, n, p))

    def gradient(self, x, t):
        return self.a * (x - self.b) + self.noise[t % 400]

    @property
    def optimum(self):
        """Minimum (p,) of the sum."""
        return (self.a * self.b).sum(axis=0) / self.a.sum(axis=0)


def random_graph(n, seed) -> Topology:
    """A connected random graph."""
    tree = nx.random_labeled_tree(n, seed=seed)
    tree.add_edges_from(nx.gnp_random_graph(n, 0.3, seed=seed).edges)
    return Topology.from_networkx(tree)


def gossip(alpha, matchings):
    """rows -> W rows, as a plain transcription needs it."""
    return lambda rows: np.stack([reference.gossip_of(i, matchings, rows, alpha) for i in range(len(rows))])


def walk(algorithm, problem, steps=30, lr=0.1, start=None, **settings):
    """Each step of the fast path: (t, state before it, gradient, rate, state after it), states as dictionaries."""
    network = LocalNetwork(algorithm.n, centres=algorithm.centres)
    x = torch.tensor(problem.start if start is None else start)
    state, local = state_of(algorithm, x), rule(x, network, lr, epochs=2 * steps, **settings)
    for t in range(steps):
        before = tensors(algorithm, state)
        gradient = problem.gradient(before["x"], t)
        rate = local.lr
        take(algorithm, t, network, x, torch.tensor(gradient), rate, torch.zeros(algorithm.n), state, local)
        local.next()
        yield t, before, gradient, rate, tensors(algorithm, state)


def tensors(algorithm, state):
    """Copies of the models and of all that the method keeps."""
    return {name: getattr(state, name).clone().numpy() for name in ("x", *algorithm.state)}


def end(algorithm, problem, steps=30, **settings):
    """All models after so many steps, one array for each step."""
    return np.stack([after["x"] for *_, after in walk(algorithm, problem, steps, **settings)])
