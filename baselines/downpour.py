"""DOWNPOUR (Dean et al. 2012, NIPS; order as in sixin-zh/mpiT): tau local steps, then their sum goes to the server.

A worker moves by itself and adds up its moves; after tau of them it sends the sum to the server, c <- c + sum / n, and
goes on from the c that comes back. Released: without 1/n, which is here so that n workers go as far as a synchronous
step; at tau = 1 and plain SGD it is then the asynchronous server. Messages that are lost are sent again.
"""

from dataclasses import dataclass

from aldsgd.asynchronous import Asynchronous
from aldsgd.errors import checked_counts
from aldsgd.methods import Method, Options, option


class Downpour(Asynchronous):
    """DOWNPOUR of n workers.

    Args:
        tau: local steps between exchanges. Raises ConfigError where it is none.
    """

    centres, state = 1, {"moved": "row"}

    def __init__(self, n: int, tau=4):
        checked_counts(dict(tau=tau))
        self.n, self.tau = n, tau

    def start(self, i, net):
        net.x[i].copy_(net.x[self.n])
        net.state.moved[i].zero_()
        net.compute(i)

    def finished(self, i, gradient, net):
        before = net.x[i].clone()
        net.move(i, gradient)
        net.state.moved[i].add_(net.x[i] - before)
        if net.count[i] % self.tau:
            net.compute(i)
        else:
            net.post(i, net.state.moved[i], (self.n,), again=True)

    def received(self, i, message, net):
        if i == self.n:
            net.x[i].add_(net.carried(message), alpha=1 / self.n)
            net.post(i, net.x[i], (message.source,), again=True)
        else:
            net.x[i].copy_(net.carried(message))
            net.state.moved[i].zero_()
            net.compute(i)

    def helpers(self, i):
        return (self.n,)

    def description(self):
        return {"tau": self.tau}


@dataclass(frozen=True)
class DownpourOptions(Options):
    """Options of DOWNPOUR."""

    tau: int = option(4, "steps between exchanges")


METHOD = Method(
    "downpour",
    "DOWNPOUR",
    lambda options, setting: Downpour(setting.workers, options.tau),
    DownpourOptions,
    graph=False,
    asynchronous=True,
    place=225,
)
