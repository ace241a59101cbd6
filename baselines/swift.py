"""SWIFT (Bornstein et al. 2022, arXiv 2210.14026, order as released): mixes what was last received, without waiting.

When a gradient of worker i is done, it sends its model, mixes what it last received, and only then takes the step:
x_i <- sum_j W_ij x_j - eta g_i. So a neighbour gets each model one gradient later than from ADSGD. The weights are
those of the core, where the paper has some of its own, by degree.
"""

from aldsgd.methods import Look, Method, Variant
from baselines.adsgd import ADSGD, OnCore


class SWIFT(ADSGD):
    """SWIFT on the links and weights of ``core``, a gossip method."""

    def start(self, i, net):
        net.compute(i)

    def finished(self, i, gradient, net):
        self.send(i, net)
        net.mix(i, *self.entries(i, net))
        net.move(i, gradient)
        net.compute(i)


METHOD = Method(
    "swift",
    "SWIFT",
    lambda options, setting: SWIFT(setting.core()),
    OnCore,
    asynchronous=True,
    place=205,
    variants={"SWIFT": Variant({"method": "swift"}, Look("#66A61E", "v", ":"), standard=False)},
)
