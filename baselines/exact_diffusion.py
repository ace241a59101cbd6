"""Exact diffusion (Yuan et al. 2017, arXiv 1702.05122), and with momentum, EDM (arXiv 2501.19082).

    M <- beta M + (1 - beta) G,   Y' = X - eta M,   X <- (I + W)/2 (X + Y' - Y),   Y <- Y',   Y_0 = X_0

At beta = 0, M = G: exact diffusion, which is D2 with (I + W)/2, and reaches the optimum with a constant rate where
D-PSGD does not. Its proofs are for one fixed, symmetric W.
"""

from dataclasses import dataclass, replace

from aldsgd.methods import Method, Variant
from aldsgd.step import Rule, Step
from aldsgd.wrapper import Wrapper
from baselines.dpsgd import gossip
from baselines.quasi_global import Momentum, check_beta


@dataclass(frozen=True)
class Lazy:
    """Rows of (I + W)/2."""

    W: Rule

    def rows(self, hood, losses, lr):
        return (hood.itself + self.W.rows(hood, losses, lr)) / 2


class ExactDiffusion(Wrapper):
    """Exact diffusion with momentum on a gossip method; beta in [0, 1), 0 for none."""

    own, moves = {"y": "row", "m": "row"}, True

    def __init__(self, core, beta=0.0):
        self.beta = check_beta(beta)
        super().__init__(core)

    def around(self, step):
        exchange = self.mixing(step)
        return Step(after=replace(exchange, rule=Lazy(exchange.rule)))

    def begin(self, state):
        state.y.copy_(state.x)

    def move(self, step, state, gradients, local):
        state.m.lerp_(gradients, 1 - self.beta)
        correction = state.x - state.y
        local(state.m)
        state.y.copy_(state.x)
        state.x.add_(correction)


METHOD = Method(
    "edm",
    "exact diffusion with momentum",
    lambda o, s: ExactDiffusion(gossip(o, s), o.beta),
    Momentum,
    place=125,
    variants={
        "exact diffusion": Variant({"method": "edm", "beta": 0.0}, None, standard=False),
        "exact diffusion with momentum": Variant({"method": "edm"}, None, standard=False),
    },
)
