"""Momentum tracking (Takezawa et al. 2022, arXiv 2209.15505): gradient tracking of each worker's momentum.

    M <- beta M + G,   X <- W X - eta (M - C),   C <- W (C - M) + M,   C_0 = M_0 = (G_0 - mean G_0) / (1 - beta)

sum C = 0 at every step. With Y = M - C it is X <- W X - eta Y, Y <- W Y + M_new - M_old, which is kept here; Y_0 is the
mean of the first gradients, one all-reduce. At beta = 0 it is gradient tracking from that start.
"""

from aldsgd.links import AllReduce
from aldsgd.methods import Method
from aldsgd.step import Exchange, Step
from baselines.dpsgd import gossip
from baselines.gradient_tracking import GradientTracking
from baselines.quasi_global import Momentum, check_beta


class MomentumTracking(GradientTracking):
    """Momentum tracking on a gossip method; beta in [0, 1). ``state.g`` holds M."""

    def __init__(self, core, beta=0.9):
        self.beta = check_beta(beta)
        self.mean = Exchange(AllReduce(core.n), payload=("y",))
        super().__init__(core)

    def step(self, t):
        return Step(self.mixing(self.core.step(0)), self.mean) if t == 0 else super().step(t)

    def move(self, step, state, gradients, local):
        if step.after:
            state.y.copy_(gradients)
            state.g.copy_(gradients)
        else:
            super().move(step, state, gradients + self.beta * state.g, local)

    def settle(self, step, state, local):
        if step.after:
            state.g.add_(state.g - state.y, alpha=self.beta / (1 - self.beta))
            local(state.y)


METHOD = Method("mt", "momentum tracking", lambda o, s: MomentumTracking(gossip(o, s), o.beta), Momentum, place=135)
