"""ADSGD (2025, arXiv 2505.10322): nobody waits; a worker mixes what it last received: x_i <- sum_j W_ij x_j - eta g_i.

When a gradient g_i(x_i) of worker i is done, x_j is the latest copy that has arrived from worker j, and the new x_i
goes to all neighbours. W and the links are those of a gossip method, D-PSGD or MATCHA, at the worker's own step. With
equal constant times it is D-PSGD that combines while it adapts. Rule: abstract and summary; the paper's text was not
seen.
"""

from dataclasses import dataclass

from aldsgd.asynchronous import Gossip
from aldsgd.methods import Look, Method, Options, Variant, option


class ADSGD(Gossip):
    """ADSGD on the links and weights of ``core``, a gossip method."""

    def start(self, i, net):
        self.send(i, net)
        net.compute(i)

    def finished(self, i, gradient, net):
        net.mix(i, *self.entries(i, net))
        net.move(i, gradient)
        self.send(i, net)
        net.compute(i)

    def entries(self, i, net):
        """Whom worker i mixes, itself first, and with which weights."""
        heard, weights, _ = self.table(net.count[i] - 1)
        return heard[i], weights[i]

    def send(self, i, net, **told):
        """The model to whoever hears worker i at its next step, and to its own mailbox."""
        _, _, hearers = self.table(net.count[i])
        net.post(i, net.x[i], hearers[i], keep=True, count=net.count[i], **told)


@dataclass(frozen=True)
class OnCore(Options):
    """Options of asynchronous gossip; those of its core join them."""

    core: str = option("dpsgd", "gossip method whose links and weights are used", "baselines.registry:CORES")


METHOD = Method(
    "adsgd",
    "ADSGD",
    lambda options, setting: ADSGD(setting.core()),
    OnCore,
    asynchronous=True,
    place=200,
    variants={"ADSGD": Variant({"method": "adsgd"}, Look("#009E73", "o", ":"), standard=False)},
)
