"""Distributed pull-push force, DPPF (Dimlioglu, Choromanska 2025, arXiv 2507.20424; rule from memory).

Every tau steps, with a = mean of x:

    x_i <- x_i + alpha (a - x_i) + lambda (x_i - a) / ||x_i - a||

so that workers keep apart: without gradients every gap ||x_i - a|| tends to lambda / alpha. lambda = 0 is elastic
averaging, alpha = 1 with lambda = 0 local SGD. At consensus there is no direction to push along: 0/0 = 0, so that
workers must differ, by data or by start. A gap no larger than the rounding of the mean is such a case.

Traffic: one all-reduce, 2 (n - 1) P.
"""

from dataclasses import dataclass

from aldsgd.algorithm import Algorithm
from aldsgd.errors import checked_counts, checked_numbers
from aldsgd.links import AllReduce
from aldsgd.methods import Method, Options, option
from aldsgd.step import Exchange, Step


class DPPF(Algorithm):
    """DPPF on n workers.

    Args:
        alpha: pull to the mean, in [0, 1]. push: lambda, zero or more, in the unit of the parameters. tau: steps
            between exchanges. The paper's own values are not known; the defaults are ours.

    Raises:
        ConfigError: a coefficient that makes no sense, or a period that is none.
    """

    state = {"mean": "row"}

    def __init__(self, n: int, alpha=0.1, push=0.1, tau=4):
        checked_counts(dict(tau=tau))
        checked_numbers(dict(alpha=alpha), most=1)
        checked_numbers(dict(push=push))
        self.n, self.alpha, self.push, self.tau = n, alpha, push, tau
        self.exchange = Step(after=Exchange(AllReduce(n), payload=("mean",)))

    def step(self, t):
        return self.exchange if (t + 1) % self.tau == 0 else Step()

    def move(self, step, state, gradients, local):
        local(gradients)
        if step.after:
            state.mean.copy_(state.x)

    def settle(self, step, state, local):
        if step.after:
            gap = state.x - state.mean
            size = gap.norm(dim=1, keepdim=True)
            rounding = self.n * 2.0 ** (-52 if gap.element_size() == 8 else -23)
            nowhere = size <= rounding * state.mean.norm(dim=1, keepdim=True)
            push = (self.push / size).masked_fill(nowhere, 0.0)
            state.x.add_(gap * (push - self.alpha))

    def description(self):
        return {"alpha": self.alpha, "push": self.push, "tau": self.tau}


@dataclass(frozen=True)
class PullPush(Options):
    """Options of DPPF."""

    pull: float = option(0.1, "pull at an exchange toward the leader of all, or the centre")
    push: float = option(0.1, "lambda of DPPF, the push away from the mean; gaps tend to push / pull")
    tau: int = option(4, "steps between exchanges")


METHOD = Method("dppf", "DPPF", lambda o, s: DPPF(s.workers, o.pull, o.push, o.tau), PullPush, graph=False)
