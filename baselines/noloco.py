"""NoLoCo (Kolehmainen et al. 2025, arXiv 2506.10911; as its released code): DiLoCo by random pairs, no all-reduce.

Every tau steps, in random pairs, with the means of the pair written with a bar,

    M <- mu M + nu (X_bar - Z_bar) + nu (Z_bar - Z),   Z <- Z + M,   X <- Z

Two rows are sent, as by the released code, although Z_bar drops out while both terms have the same nu. For two workers
it is DiLoCo with heavy ball once their Z agree.
"""

from dataclasses import dataclass

from aldsgd.algorithm import Algorithm
from aldsgd.links import Pairs
from aldsgd.methods import Method, Options, option
from aldsgd.schedules import drawn
from aldsgd.step import ALONE, Exchange, Gossip, Step
from baselines.outer_step import check_outer


class NoLoCo(Algorithm):
    """NoLoCo on n workers, of whom an odd number leaves one alone. tau, nu, mu as for ``OuterStep``; seed: of the
    pairs."""

    state = {"z": "row", "m": "row", "pair": "row"}

    def __init__(self, n: int, tau=50, nu=0.7, mu=0.5, seed=0):
        check_outer(tau, nu, mu)
        self.n, self.tau, self.nu, self.mu, self.seed = n, tau, nu, mu, seed

    def step(self, t):
        if (t + 1) % self.tau:
            return ALONE
        pairs = Pairs((drawn(self.n, self.seed, t // self.tau),))
        return Step(after=Exchange(pairs, Gossip(0.5), ("x", "pair")))

    def begin(self, state):
        state.z.copy_(state.x)

    def move(self, step, state, gradients, local):
        local(gradients)
        state.pair.copy_(state.z)

    def settle(self, step, state, local):
        if step.after:
            state.m.mul_(self.mu).add_(self.nu * ((state.x - state.pair) + (state.pair - state.z)))
            state.z.add_(state.m)
            state.x.copy_(state.z)


@dataclass(frozen=True)
class NoLoCoOptions(Options):
    """Options of NoLoCo."""

    tau: int = option(50, "steps from one exchange to the next")
    nu: float = option(0.7, "outer rate")
    mu: float = option(0.5, "outer momentum")


METHOD = Method(
    "noloco",
    "NoLoCo",
    lambda o, s: NoLoCo(s.workers, o.tau, o.nu, o.mu, s.seed),
    NoLoCoOptions,
    graph=False,
    place=165,
)
