"""Asynchronous parameter server (as in Dean et al. 2012, DOWNPOUR at one step): gradients at old parameters.

A worker sends its gradient to the server, which moves its model c by the local rule, c <- c - eta g / n, and sends c
back; there the worker takes its next gradient. 1/n: so n gradients go as far as a step of all-reduce, and one learning
rate means the same to both. Messages that are lost are sent again. The centre is the model to be tested.
"""

from aldsgd.asynchronous import Asynchronous
from aldsgd.methods import Look, Method, Variant


class AsynchronousServer(Asynchronous):
    """The asynchronous parameter server of n workers; momentum and the like are the server's."""

    centres, centre_moves, meets = 1, True, "server"

    def __init__(self, n: int):
        self.n = n

    def start(self, i, net):
        net.x[i].copy_(net.x[self.n])
        net.version[i] = net.version[self.n]
        net.compute(i)

    def finished(self, i, gradient, net):
        net.post(i, gradient, (self.n,), stamp=net.begun[i], count=net.version[i], again=True)

    def received(self, i, message, net):
        if i == self.n:
            net.note(message.source, net.version[i] - message.count)
            net.move(i, net.carried(message) / self.n, message.stamp)
            net.post(i, net.x[i], (message.source,), count=net.version[i], again=True)
        else:
            net.x[i].copy_(net.carried(message))
            net.version[i] = message.count
            net.compute(i)

    def helpers(self, i):
        return (self.n,)


METHOD = Method(
    "async_server",
    "asynchronous server",
    lambda options, setting: AsynchronousServer(setting.workers),
    graph=False,
    asynchronous=True,
    place=220,
    variants={"asynchronous server": Variant({"method": "async_server"}, Look("#A50F15", "X", ":"), standard=False)},
)
