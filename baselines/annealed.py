"""DSGD-AC, annealed consensus (arXiv 2602.02899, and its released code): gossip that weakens as the rate falls.

    X <- (1 - gamma) X + gamma W X - eta D,   gamma = 1 up to start_epoch, then (eta_t / eta_start)^power

eta_start is the rate at start_epoch, the end of the warm-up. The exchange is that of D-PSGD, combine while adapting,
which it is at power = 0 or a constant rate; the mean moves by -eta mean D whatever gamma is. With a rate that drops by
ten, power = 3 makes gamma 0.001 at the first drop. Under AL-DSGD W is its matrix C, so that leaders fade as well.
"""

from dataclasses import dataclass, replace

from aldsgd.errors import ConfigError
from aldsgd.methods import Method, Variant, option
from aldsgd.step import Step
from aldsgd.wrapper import Wrapper
from baselines.dpsgd import Weights, gossip


class AnnealedConsensus(Wrapper):
    """DSGD-AC on a gossip method.

    Args:
        power: zero or more. start: first step at which gamma may fall below 1.
    """

    own, moves = {"y": "row", "start": "number"}, True
    leads_first = True

    def __init__(self, core, power=3.0, start=0):
        if not (power >= 0 and start >= 0):
            raise ConfigError(f"power = {power} and start = {start} must be zero or more")
        self.power, self.start, self.tells_time = power, start, start > 0
        super().__init__(core)

    def step(self, t):
        # Before the start X itself is mixed, from then on Y, a copy of it.
        exchange = self.mixing(self.core.step(t))
        return Step(before=exchange if t < self.start else replace(exchange, payload=("y",)))

    def begin(self, state):
        state.y.copy_(state.x)

    def move(self, step, state, gradients, local):
        if step.before and step.before[0].payload == ("y",):
            lr = local.lr if isinstance(local.lr, float) else local.lr[:, None]
            state.start.add_((state.start == 0).to(state.start) * lr)  # at the first such step
            gamma = (lr / state.start).nan_to_num(1.0).pow(self.power)  # as long as the rate is zero, 1
            state.x.add_((state.y - state.x).mul_(gamma))
        local(gradients)

    def settle(self, step, state, local):
        state.y.copy_(state.x)


@dataclass(frozen=True)
class AnnealedOptions(Weights):
    """Options of DSGD-AC."""

    power: float = option(3.0, "exponent of the rate in DSGD-AC's gamma")
    start_epoch: int = option(0, "epoch at which gamma starts to follow the rate")


METHOD = Method(
    "dsgd_ac",
    "DSGD-AC",
    lambda o, s: AnnealedConsensus(gossip(o, s), o.power, o.start_epoch * s.steps_per_epoch),
    AnnealedOptions,
    core=True,
    place=140,
    variants={
        "DSGD-AC": Variant({"method": "dsgd_ac"}, None, standard=False),
        "DSGD-AC, Metropolis": Variant({"method": "dsgd_ac", "weights": "metropolis"}, None, standard=False),
    },
)
