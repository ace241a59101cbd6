"""Leader gradient descent, LGD (Teng et al. 2019, arXiv 1905.10395): the pull to the leader is part of the gradient.

    x_i <- x_i - eta (grad f(x_i) + lambda (x_i - x_b)),    b = argmin f(x_j) of the models before the step

With the loss and the gradient of all data (a batch as large as the shard, equal shards) this is the paper's analysed
method; with mini-batches it is LSGD at tau = 1 as an objective would have it, with a pull that is scaled by the
learning rate. With momentum the force stays out of its buffer. The released code has neither. That the leader is chosen
by the loss before the step: from memory.
"""

from dataclasses import dataclass

from aldsgd.algorithm import Algorithm
from aldsgd.errors import checked_counts, checked_numbers
from aldsgd.links import Broadcast
from aldsgd.methods import Method, Options, option
from aldsgd.step import Exchange, Step


@dataclass(frozen=True)
class Follow:
    """Rows of I - eta lambda (I - 1 e_b^T) along a broadcast."""

    strength: float

    def rows(self, hood, losses, lr):
        return hood.gossip(self.strength * (lr if isinstance(lr, float) else lr.double()[hood.row]))


class LGD(Algorithm):
    """LGD on n workers.

    Args:
        strength: lambda, zero or more. tau: the force acts at every tau-th step.

    Raises:
        ConfigError: a strength below zero, or a period that is none.
    """

    def __init__(self, n: int, strength=1.0, tau=1):
        checked_counts(dict(tau=tau))
        checked_numbers(dict(strength=strength))
        self.n, self.tau = n, tau
        self.led = Step(before=Exchange(Broadcast((tuple(range(n)),)), Follow(float(strength))), losses="all")

    def step(self, t):
        return self.led if t % self.tau == 0 else Step()

    def description(self):
        return {"tau": self.tau}


@dataclass(frozen=True)
class Force(Options):
    """Options of LGD."""

    strength: float = option(1.0, "lambda of LGD, the pull to the leader beside the gradient")
    tau: int = option(1, "steps between exchanges")


METHOD = Method("lgd", "LGD", lambda o, s: LGD(s.workers, o.strength, o.tau), Force, graph=False)
