"""A2CiD2 (Nabli et al. 2023, arXiv 2306.08289; rule of AdelNabli/ACiD): AD-PSGD whose averaging has a momentum.

Each worker keeps an x~_i beside x_i. Over a time dt, in units of a gradient, the two flow into each other,

    (x, x~) <- exp(dt [[-h, h], [h, -h]]) (x, x~):  both go w = (1 - exp(-2 h dt)) / 2 of the way to the other,

a gradient moves both, x_i, x~_i -= eta g, and a pair averages x_i <- (x_i + x_j) / 2, x~_i <- x~_i + a (x_j - x_i), all
with old values. h = 1 / (2 sqrt(c1 c2)), a = sqrt(c1 / c2) / 2; 1 / c1 is the second eigenvalue of the Laplacian of the
averagings in a unit, c2 half the largest effective resistance of an edge in it. Who meets whom and when is as in
AD-PSGD here: each worker asks one random neighbour for each gradient, so that edge (i, j) averages 1/d_i + 1/d_j times.
The mean of x and that of x~ are one, and move by gradients alone. h = 0 is AD-PSGD.

A worker's flow is caught up when something befalls it, and everybody's at the end of an epoch. The released code also
averages all models before and after; here ``start`` says how they begin, and the average is tested with the rest.
"""

import math
from dataclasses import dataclass

import numpy as np

from aldsgd.errors import checked_numbers
from aldsgd.methods import Look, Method, Options, Variant, option
from baselines.adpsgd import ADPSGD


class A2CiD2(ADPSGD):
    """A2CiD2.

    Args:
        graphs, seed: as of AD-PSGD. eta_h, alpha_tilde: h and a, None: those of the graph.

    Raises:
        ConfigError: a coefficient below zero.
    """

    meets, state = None, {"tilde": "row"}  # in real time x~ would be missing

    def __init__(self, graphs, seed=0, allow_disconnected=False, eta_h=None, alpha_tilde=None):
        super().__init__(graphs, seed, allow_disconnected)
        found = dict(zip(("eta_h", "alpha_tilde"), constants(self.near), strict=True))
        found |= {k: v for k, v in dict(eta_h=eta_h, alpha_tilde=alpha_tilde).items() if v is not None}
        checked_numbers(found)
        self.h, self.a = found.values()

    def start(self, i, net):  # at first, and with the model of another
        net.state.tilde[i].copy_(net.x[i])
        net.post(i, None, (), keep=True)
        super().start(i, net)

    def finished(self, i, gradient, net):
        self.flow(i, net)
        before = net.x[i].clone()
        net.note(i, net.version[i] - net.read[i])
        net.move(i, gradient)
        net.state.tilde[i].add_(net.x[i] - before)
        super().start(i, net)

    def received(self, i, message, net):
        j, tilde = message.source, net.state.tilde
        if net.here[j]:
            self.flow(i, net)
            self.flow(j, net)
            pull = self.a * (net.x[j] - net.x[i])
            tilde[i].add_(pull)
            tilde[j].sub_(pull)
        super().received(i, message, net)

    def catch_up(self, net):
        for i in range(self.n):
            self.flow(i, net)

    def flow(self, i, net):
        """Bring x_i and x~_i up to now; the worker's own mailbox holds the time at which they were last."""
        share = -math.expm1(-2 * self.h * (net.now - net.box[i][i].stamp)) / 2
        if share:
            pull = share * (net.state.tilde[i] - net.x[i])
            net.x[i].add_(pull)
            net.state.tilde[i].sub_(pull)
        net.post(i, None, (), keep=True)

    def description(self):
        return super().description() | {"eta_h": self.h, "alpha_tilde": self.a}


def constants(near) -> tuple[float, float]:
    """(h, a) of workers that each ask one of their neighbours ``near`` (n lists) a unit; (0, 1/2) without any."""
    laplacian = np.zeros((len(near), len(near)))
    for i, own in enumerate(near):
        for j in own:  # once from each end
            laplacian[[i, j], [i, j]] += 1 / len(own)
            laplacian[[i, j], [j, i]] -= 1 / len(own)
    values = np.linalg.eigvalsh(laplacian)
    if not values[-1] > 0:
        return 0.0, 0.5
    inverse = np.linalg.pinv(laplacian, hermitian=True)
    spread = inverse.diagonal()[:, None] + inverse.diagonal() - 2 * inverse
    c1 = 1 / values[values > 1e-9 * values[-1]].min()
    c2 = max(spread[i, j] for i, own in enumerate(near) for j in own) / 2
    return 1 / (2 * math.sqrt(c1 * c2)), math.sqrt(c1 / c2) / 2


@dataclass(frozen=True)
class Accelerated(Options):
    """Options of A2CiD2."""

    eta_h: float | None = option(None, "rate at which x and x~ flow into each other; none: that of the graph")
    alpha_tilde: float | None = option(None, "share of the difference that x~ takes in a pair; none: that of the graph")


METHOD = Method(
    "acid",
    "A2CiD2",
    lambda o, s: A2CiD2(s.topologies, s.seed, s.disconnected, o.eta_h, o.alpha_tilde),
    Accelerated,
    asynchronous=True,
    place=215,
    variants={"A2CiD2": Variant({"method": "acid"}, Look("#882255", "P", ":"), standard=False)},
)
