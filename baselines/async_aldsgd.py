"""Asynchronous AL-DSGD: leaders among the copies that a worker last received. Open in the paper; choices are ours.

Core: ADSGD, since with it a worker has, when it moves, a copy of every neighbour's model to choose among. With each
model travel the loss of the sender's last mini-batch, its degree and a time stamp. When a gradient of worker i is done,
b is the entry of its mailbox with the smallest loss and m the one with the largest degree, worker i among them with the
loss just found, ties to the earliest, as in AL-DSGD; then, with C_i as in AL-DSGD's released order,

    x_i <- sum_j C_ij x_j - eta g_i,   C_i = (1 - p1 - p2) [(1 - c1 - c2) W_i + c1 e_b + c2 e_m] + p1 e_b + p2 e_m

A leader may be old, and its loss with it. ``age``: "none" ignores that; "bound": entries older than ``age_limit``, in
gradients of a worker that nothing slows, cannot lead; "fade": coefficients toward a leader of age a are multiplied by
exp(-max(a - 1, 0) / age_limit), the rest goes to W (1: the age of a fresh copy with equal times). The bound is the
default, because an old loss says little about whom to follow now. Where no copy is young enough a worker leads itself,
and so gives its neighbours less weight than W does. With c = p = 0 this is ADSGD.
"""

import math
from dataclasses import dataclass

from aldsgd.errors import ConfigError, checked_numbers
from aldsgd.leaders import Coefficients
from aldsgd.methods import Look, Method, Variant, option
from baselines.adsgd import ADSGD, OnCore

AGES = ("bound", "fade", "none")


class AsynchronousALDSGD(ADSGD):
    """Asynchronous AL-DSGD on a core.

    Args:
        core: gossip method whose links and weights are used. c1, c2, p1, p2: as of AL-DSGD. age, age_limit: the rule of
            age, and its limit in gradients.

    Raises:
        ConfigError: a coefficient below zero, an unknown rule, a limit that is none, or a core that is no plain gossip.
    """

    def __init__(self, core, c1=0.3, c2=0.1, p1=0.2, p2=0.2, age="bound", age_limit=3.0):
        checked_numbers(dict(c1=c1, c2=c2, p1=p1, p2=p2, age_limit=age_limit))
        if age not in AGES or age_limit == 0:
            raise ConfigError(f"age '{age}' must be one of {', '.join(AGES)}, with age_limit above 0")
        self.coefficients = {"c1 + c2": c1 + c2, "p1 + p2": p1 + p2}
        self.own, self.age, self.limit = (c1, c2, p1, p2), age, age_limit
        super().__init__(core)

    def entries(self, i, net):
        heard, weights = super().entries(i, net)
        mail = [j for j in heard if j in net.box[i] and j != i]
        ages = {j: net.now - net.box[i][j].stamp for j in mail} | {i: 0.0}
        losses = {j: net.box[i][j].loss for j in mail} | {i: net.loss[i]}
        degrees = {j: net.box[i][j].degree for j in mail} | {i: len(heard) - 1}
        oldest = self.limit if self.age == "bound" else math.inf
        able = [j for j in (i, *mail) if math.isfinite(losses[j]) and ages[j] <= oldest]
        best, largest = min(able, key=losses.get, default=i), max(able, key=degrees.get, default=i)
        fading = [math.exp(-max(ages[j] - 1, 0) / self.limit) if self.age == "fade" else 1.0 for j in (best, largest)]
        c1, c2, p1, p2 = (value * f for value, f in zip(self.own, fading * 2, strict=True))
        mixed = [(1 - p1 - p2) * ((1 - c1 - c2) * w) for w in weights]
        mixed[heard.index(best)] += (1 - p1 - p2) * c1 + p1
        mixed[heard.index(largest)] += (1 - p1 - p2) * c2 + p2
        return heard, mixed

    def send(self, i, net, **told):
        degree = len(self.table(net.count[i])[0][i]) - 1
        super().send(i, net, loss=net.loss[i], degree=degree)


@dataclass(frozen=True)
class Aged(OnCore, Coefficients):
    """Options of asynchronous AL-DSGD; those of its core join them."""

    age: str = option("bound", "what the age of a leader's copy does", AGES)
    age_limit: float = option(3.0, "limit of the age of leaders, in gradients")

    def used(self):
        found = super().used()
        return {**found, "age_limit": None} if self.age == "none" else found


def _build(o: Aged, s) -> AsynchronousALDSGD:
    return AsynchronousALDSGD(s.core(), o.c1, o.c2, o.p1, o.p2, o.age, o.age_limit)


def _variant(look: Look, **changes) -> Variant:
    return Variant({"method": "async_aldsgd", **changes}, look, standard=False)


METHOD = Method(
    "async_aldsgd",
    "asynchronous AL-DSGD",
    _build,
    Aged,
    asynchronous=True,
    place=230,
    variants={
        "asynchronous AL-DSGD": _variant(Look("#D55E00", "D", ":"), core="dpsgd"),
        "asynchronous AL-DSGD on MATCHA": _variant(Look("#CC79A7", "^", ":"), core="matcha"),
        "asynchronous AL-DSGD, any age": _variant(Look("#8C564B", "<", ":"), core="dpsgd", age="none"),
        "asynchronous AL-DSGD, fading": _variant(Look("#E69F00", "*", ":", 7), core="dpsgd", age="fade"),
    },
)
