"""Asynchronous EASGD and EAMSGD (Zhang, Choromanska, LeCun 2015, arXiv 1412.6651; order as in sixin-zh/mpiT).

When its own clock is divisible by tau, a worker asks for the centre c, sends s = alpha (x - c), which the centre adds
when it arrives, takes its local step from the unpulled x, and then subtracts s:

    EASGD:   x <- x - eta g(x) - s
    EAMSGD:  v <- delta v - eta g(x + delta v),  x <- x + v - s

alpha = beta / n. The sum of all x and c changes by the local moves alone, once what is under way has arrived. Messages
that are lost are sent again; the centre is the model to be tested.
"""

from aldsgd.asynchronous import Asynchronous
from aldsgd.errors import checked_counts, checked_numbers
from aldsgd.methods import Method
from baselines.easgd import Elastic, ElasticMomentum


class AsynchronousEASGD(Asynchronous):
    """Asynchronous EASGD on n workers and a centre.

    Args:
        beta: n alpha, zero or more. tau: steps between exchanges, the first of which is at step 0.

    Raises:
        ConfigError: a coefficient below zero, or a period that is none.
    """

    centres, state, place = 1, {"pull": "row"}, "x"

    def __init__(self, n: int, beta=0.43, tau=16):
        checked_counts(dict(tau=tau))
        checked_numbers(dict(beta=beta))
        self.n, self.alpha, self.tau = n, beta / n, tau

    def start(self, i, net):
        if net.count[i] % self.tau:
            net.compute(i)
        else:  # asks for the centre
            net.post(i, None, (self.n,), models=0, again=True)

    def finished(self, i, gradient, net):
        self.move(i, gradient, net)
        net.state.pull[i].zero_()
        self.start(i, net)

    def move(self, i, gradient, net):
        """The local step, then the pull."""
        net.move(i, gradient)
        net.x[i].sub_(net.state.pull[i])

    def received(self, i, message, net):
        if i < self.n:
            net.state.pull[i].copy_(self.alpha * (getattr(net.state, self.place)[i] - net.carried(message)))
            net.post(i, net.state.pull[i], (self.n,), again=True)
            net.compute(i)
        elif message.row is None:
            net.post(i, net.x[i], (message.source,), again=True)
        else:
            net.x[i].add_(net.carried(message))

    def helpers(self, i):
        return (self.n,)

    def description(self):
        return {"tau": self.tau, "alpha": self.alpha}


class AsynchronousEAMSGD(AsynchronousEASGD):
    """Asynchronous EAMSGD; X holds x + delta v, where the gradient is taken, and x itself is in ``place``.

    Args:
        delta: momentum, in [0, 1]; 0 is EASGD. The others: as for ``AsynchronousEASGD``.
    """

    state, place = {"pull": "row", "place": "row", "velocity": "row"}, "place"

    def __init__(self, n: int, beta=0.43, tau=16, delta=0.9):
        super().__init__(n, beta, tau)
        checked_numbers(dict(delta=delta), most=1)
        self.delta = delta

    def begin(self, state):
        state.place.copy_(state.x)

    def move(self, i, gradient, net):
        before, state = net.x[i].clone(), net.state
        net.move(i, gradient)
        state.velocity[i].mul_(self.delta).add_(net.x[i] - before)
        state.place[i].add_(state.velocity[i] - state.pull[i])
        net.x[i].copy_(state.place[i]).add_(state.velocity[i], alpha=self.delta)

    def description(self):
        return super().description() | {"delta": self.delta}


METHOD = Method(
    "async_easgd",
    "asynchronous EASGD",
    lambda o, s: AsynchronousEASGD(s.workers, o.beta, o.tau),
    Elastic,
    graph=False,
    asynchronous=True,
    place=226,
)
MOMENTUM = Method(
    "async_eamsgd",
    "asynchronous EAMSGD",
    lambda o, s: AsynchronousEAMSGD(s.workers, o.beta, o.tau, o.delta),
    ElasticMomentum,
    graph=False,
    asynchronous=True,
    place=227,
)
