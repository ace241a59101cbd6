"""Quasi-global momentum, QG-DSGDm (Lin et al. 2021, arXiv 2102.04761): a momentum along the way of the mixed model.

    X' = W (X - eta D),   D = beta M + G            (heavy ball)
                          D = G + beta (beta M + G)  (Nesterov, as its authors run it)
    M <- beta M + (1 - beta) (X - X') / eta

One row is sent, as by D-PSGD, which it is at beta = 0. With one worker it is neither plain SGD nor heavy ball.
"""

from dataclasses import dataclass

from aldsgd.errors import ConfigError
from aldsgd.methods import Method, option
from aldsgd.wrapper import Wrapper, by_row
from baselines.dpsgd import Weights, gossip

MOMENTA = ("heavy_ball", "nesterov")


class QuasiGlobal(Wrapper):
    """QG-DSGDm on a gossip method, with plain SGD as the local rule.

    Args:
        core: adapt-then-combine gossip. beta: in [0, 1). form: "heavy_ball" or "nesterov".
    """

    own, moves = {"m": "row", "old": "row"}, True

    def __init__(self, core, beta=0.9, form="heavy_ball"):
        self.beta, self.nesterov = check_beta(beta), form == "nesterov"
        if form not in MOMENTA:
            raise ConfigError(f"unknown form '{form}'; choose one of: {', '.join(MOMENTA)}")
        super().__init__(core)

    def around(self, step):
        self.mixing(step)
        return step

    def move(self, step, state, gradients, local):
        state.old.copy_(state.x)
        direction = gradients + self.beta * state.m
        local(gradients + self.beta * direction if self.nesterov else direction)

    def settle(self, step, state, local):
        state.old.sub_(state.x).div_(by_row(local.lr, "quasi-global momentum"))
        state.m.lerp_(state.old, 1 - self.beta)


def check_beta(beta: float) -> float:
    """``beta`` if it is a momentum. Raises ConfigError."""
    if not (isinstance(beta, int | float) and 0 <= beta < 1):
        raise ConfigError(f"beta = {beta} is no momentum; give a number from 0 to below 1")
    return beta


@dataclass(frozen=True)
class Momentum(Weights):
    """Options of a gossip method with a momentum of its own."""

    beta: float = option(0.9, "momentum of the method itself, apart from that of the local rule")


@dataclass(frozen=True)
class QuasiGlobalOptions(Momentum):
    """Options of QG-DSGDm."""

    form: str = option("heavy_ball", "form of the method's own momentum", MOMENTA)


METHOD = Method(
    "qg",
    "QG-DSGDm",
    lambda o, s: QuasiGlobal(gossip(o, s), o.beta, o.form),
    QuasiGlobalOptions,
    core=True,
    place=110,
)
