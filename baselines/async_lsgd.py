"""LSGD, asynchronous as released (yunfei-teng/LSGD; Teng et al. 2019, arXiv 1905.10395): unequal numbers of steps.

Each worker steps at its own pace, x_i <- (1 - p/tau) x_i + (p/tau) s_i after each step, s_i the leader as it was last
sent. When all together have taken n tau steps, whoever ends a step waits; when all wait, b is the one with the smallest
mean loss since the last exchange, its model goes to the others, x_i <- (1 - c) x_i + c x_b, s_i <- x_b, and all go on.
One group. So nothing is ever old but s, and the slowest still decides when an exchange ends. The released mean counts
batches that were not seen as zeros; here it does not.
"""

from dataclasses import dataclass

from aldsgd.asynchronous import Asynchronous
from aldsgd.errors import checked_counts, checked_numbers
from aldsgd.methods import Method, Options, option


class AsynchronousLSGD(Asynchronous):
    """LSGD with unequal numbers of local steps.

    Args:
        tau: steps a worker, on average, between exchanges. c, p: pull at an exchange, and in a period.

    Raises:
        ConfigError: a coefficient outside [0, 1], or a period that is none.
    """

    state = {"leader": "row"} | dict.fromkeys(("total", "seen", "waits"), "number")

    def __init__(self, n: int, tau=16, c=0.1, p=0.1):
        checked_counts(dict(tau=tau))
        checked_numbers(dict(c=c, p=p), most=1)
        self.n, self.tau, self.c, self.p = n, tau, c, p

    def begin(self, state):
        state.leader.copy_(state.x)

    def finished(self, i, gradient, net):
        state = net.state
        net.move(i, gradient)
        net.x[i].lerp_(state.leader[i], self.p / self.tau)
        state.total[i] += net.loss[i]
        state.seen[i] += 1
        if state.seen.sum() < self.n * self.tau:
            net.compute(i)
            return
        state.waits[i] = 1
        if state.waits.sum() == self.n:
            self.exchange(net)

    def exchange(self, net):
        """The leader's model to all others; it goes on at once."""
        best = int((net.state.total / net.state.seen).nan_to_num(float("inf")).argmin())
        for name in ("total", "seen", "waits"):
            getattr(net.state, name).zero_()
        net.post(best, net.x[best], [i for i in range(self.n) if i != best], again=True)
        net.state.leader[best].copy_(net.x[best])
        net.compute(best)

    def received(self, i, message, net):
        net.state.leader[i].copy_(net.carried(message))
        net.x[i].lerp_(net.state.leader[i], self.c)
        net.compute(i)

    def description(self):
        return {"tau": self.tau, "c": self.c, "p": self.p}


@dataclass(frozen=True)
class UnequalSteps(Options):
    """Options of LSGD with unequal numbers of steps."""

    tau: int = option(16, "steps between exchanges")
    pull: float = option(0.1, "pull at an exchange toward the leader of all, or the centre")
    prox: float = option(0.1, "pull in a period toward what was sent last")


METHOD = Method(
    "async_lsgd",
    "LSGD, unequal steps",
    lambda o, s: AsynchronousLSGD(s.workers, o.tau, o.pull, o.prox),
    UnequalSteps,
    graph=False,
    asynchronous=True,
    place=228,
)
