"""LSGD+ (yunfei-teng/SDTL, DistOptmizers.py): the leader moves all workers, and the mean pulls them together.

Every tau steps, with m = mean of x, b the leader and d = lead (x_b - m):

    x_i <- (1 - c) (x_i + d) + c (m + d)

so that the mean moves by exactly d and disagreement shrinks by 1 - c, each by a strength of its own. The released code
knows one strength, lead = c, and then the rule is x_i <- (1 - c) x_i + c x_b: that of LSGD, at three times its traffic.
Between exchanges x_i <- (1 - p/tau) x_i + (p/tau) (m + d) with the last m + d. Its leader is the worker with the
smallest running average (0.9 of the old) of <x_old - x_new, g>, the drop of the loss that a local step promises,
eta ||g||^2 or so for SGD: the flattest worker, not the best. (Here g is with weight decay, there without.)
"""

from dataclasses import dataclass

from aldsgd.algorithm import Algorithm
from aldsgd.errors import ConfigError, checked_counts, checked_numbers
from aldsgd.links import AllReduce, Broadcast
from aldsgd.methods import Method, Options, option
from aldsgd.step import Exchange, Gossip, Step

SCORES = ("drop", "loss")
MEMORY = 0.9


class LSGDPlus(Algorithm):
    """LSGD+ on n workers.

    Args:
        tau: steps between exchanges. c: contraction toward the mean. lead: share of the way from the mean to the leader
            that all go; None: c. p: pull in a period toward where the mean went last, at first one's own initial model.
        score: whose running average (0.9 of the old) decides: "drop" (released code) or "loss", of the mini-batches.

    Raises:
        ConfigError: a coefficient outside [0, 1], or an unknown score.
    """

    def __init__(self, n: int, tau=16, c=0.1, lead: float | None = None, p=0.1, score="drop"):
        checked_counts(dict(tau=tau))
        self.n, self.tau, self.c, self.lead, self.p, self.score = n, tau, c, c if lead is None else lead, p, score
        checked_numbers(dict(c=c, lead=self.lead, p=p), most=1)
        if score not in SCORES:
            raise ConfigError(f"unknown score '{score}'; choose one of: {', '.join(SCORES)}")
        self.state = {"centre": "row", "leader": "row", "running": "number"}
        mean, best = AllReduce(n), Broadcast((tuple(range(n)),))
        exchanges = Exchange(mean, payload=("centre",)), Exchange(best, Gossip(1.0), ("leader",))
        self.exchange = Step(after=exchanges, losses="all", judge="running")

    def step(self, t):
        return self.exchange if (t + 1) % self.tau == 0 else Step()

    def begin(self, state):
        state.centre.copy_(state.x)

    def move(self, step, state, gradients, local):
        old = state.x.clone()
        local(gradients)
        state.x.lerp_(state.centre, self.p / self.tau)
        now = ((old - state.x) * gradients).sum(dim=1) if self.score == "drop" else state.losses
        state.running.mul_(MEMORY).add_(now[:, None], alpha=1 - MEMORY)
        if step.after:
            state.centre.copy_(state.x)
            state.leader.copy_(state.x)

    def settle(self, step, state, local):
        if step.after:
            d = self.lead * (state.leader - state.centre)
            state.centre.add_(d)
            state.x.add_(d).lerp_(state.centre, self.c)

    def description(self):
        return {"tau": self.tau, "c": self.c, "lead": self.lead, "p": self.p, "score": self.score}


@dataclass(frozen=True)
class Translation(Options):
    """Options of LSGD+."""

    tau: int = option(16, "steps between exchanges")
    pull: float = option(0.1, "pull at an exchange toward the leader of all, or the centre")
    lead: float | None = option(None, "share of the way from mean to leader that all workers go; none: that of --pull")
    prox: float = option(0.1, "pull in a period toward what was sent last")
    score: str = option("drop", "running average whose smallest value leads", SCORES)


METHOD = Method(
    "lsgd_plus", "LSGD+", lambda o, s: LSGDPlus(s.workers, o.tau, o.pull, o.lead, o.prox, o.score), Translation,
    graph=False,
)  # fmt: skip
