"""DecentLaM (Yuan et al. 2021, arXiv 2104.11981): heavy ball on the whole step of D-PSGD, gossip included.

    G~ = (X - W (X - eta G)) / eta,   M <- beta M + G~,   X <- X - eta M

This removes the bias that a local momentum adds to D-PSGD. At beta = 0 it is D-PSGD.
"""

from aldsgd.methods import Method
from aldsgd.wrapper import Wrapper, by_row
from baselines.dpsgd import gossip
from baselines.quasi_global import Momentum, check_beta


class DecentLaM(Wrapper):
    """DecentLaM on a gossip method, with plain SGD as the local rule; beta in [0, 1)."""

    own, moves = {"m": "row", "old": "row"}, True

    def __init__(self, core, beta=0.9):
        self.beta = check_beta(beta)
        super().__init__(core)

    def around(self, step):
        self.mixing(step)
        return step

    def move(self, step, state, gradients, local):
        state.old.copy_(state.x)
        local(gradients)

    def settle(self, step, state, local):
        lr = by_row(local.lr, "DecentLaM")
        state.m.mul_(self.beta).add_((state.old - state.x).div_(lr))
        state.x.copy_(state.old).sub_(state.m * lr)


METHOD = Method("decentlam", "DecentLaM", lambda o, s: DecentLaM(gossip(o, s), o.beta), Momentum, core=True, place=115)
