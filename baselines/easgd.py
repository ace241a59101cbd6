"""Elastic averaging SGD (Zhang, Choromanska, LeCun 2015, arXiv 1412.6651), synchronous, with a centre.

Every tau steps, both with the old values, and with the gradient at the model before the pull:

    EASGD:   x_i <- x_i - eta g_i(x_i) - alpha (x_i - c),    c <- c + alpha sum_i (x_i - c)
    EAMSGD:  v_i <- delta v_i - eta g_i(x_i + delta v_i),    x_i <- x_i + v_i - alpha (x_i - c),    c likewise

with alpha = beta / n; beta = 0.43 in LSGD's script, 0.9 in the paper [memory]. The centre, first worker 0's model, is
the model to be tested. sum_i x_i + c changes by the local moves alone. On F = h x^2 / 2 EASGD at tau = 1 is stable
exactly below alpha = 2 (2 - eta h) / (2 + n (2 - eta h)).

Traffic: every worker sends its model to the centre and hears it, 2 n P, one worker after another over the link of the
centre; as a reduction and a broadcast among the workers (LSGD's code) it would be 2 (n - 1) P.
"""

from dataclasses import dataclass

from aldsgd.algorithm import Algorithm
from aldsgd.errors import checked_counts, checked_numbers
from aldsgd.links import Pairs
from aldsgd.methods import Method, Options, option
from aldsgd.step import Exchange, Gossip, Step


class EASGD(Algorithm):
    """EASGD on n workers and a centre; any optimizer in the place of -eta g_i.

    Args:
        beta: n alpha, zero or more. tau: steps between exchanges, the first of which is at step 0.

    Raises:
        ConfigError: a coefficient below zero, or a period that is none.
    """

    centres, payload = 1, "x"

    def __init__(self, n: int, beta=0.43, tau=16):
        checked_counts(dict(tau=tau))
        checked_numbers(dict(beta=beta))
        self.n, self.tau = n, tau
        star = Pairs(tuple(((i, n),) for i in range(n)))
        self.elastic = Step(before=Exchange(star, Gossip(beta / n), (self.payload,)))

    def step(self, t):
        return self.elastic if t % self.tau == 0 else Step()

    def description(self):
        return {"tau": self.tau}


class EAMSGD(EASGD):
    """EAMSGD on n workers and a centre.

    X holds x_i + delta v_i, where the gradient is taken, and so is what is tested of the workers; x_i itself is in
    ``place``. v_i <- delta v_i + the local move, which is -eta g_i for plain SGD.

    Args:
        delta: momentum, in [0, 1]; 0 is EASGD. The others: as for ``EASGD``.
    """

    state, payload = {"place": "row", "velocity": "row"}, "place"

    def __init__(self, n: int, beta=0.43, tau=16, delta=0.9):
        super().__init__(n, beta, tau)
        checked_numbers(dict(delta=delta), most=1)
        self.delta = delta

    def begin(self, state):
        state.place.copy_(state.x)

    def move(self, step, state, gradients, local):
        before = state.x.clone()
        local(gradients)
        state.velocity.mul_(self.delta).add_(state.x - before)
        state.place.add_(state.velocity)
        state.x.copy_(state.place).add_(state.velocity, alpha=self.delta)

    def description(self):
        return super().description() | {"delta": self.delta}


@dataclass(frozen=True)
class Elastic(Options):
    """Options of EASGD."""

    beta: float = option(0.43, "n times the elastic force toward the centre; of WASGD: pull to the weighted mean")
    tau: int = option(16, "steps between exchanges")


@dataclass(frozen=True)
class ElasticMomentum(Elastic):
    """Options of EAMSGD."""

    delta: float = option(0.9, "momentum of EAMSGD, whose exchange leaves it out")


METHOD = Method("easgd", "EASGD", lambda o, s: EASGD(s.workers, o.beta, o.tau), Elastic, graph=False)
MOMENTUM = Method(
    "eamsgd", "EAMSGD", lambda o, s: EAMSGD(s.workers, o.beta, o.tau, o.delta), ElasticMomentum, graph=False
)
