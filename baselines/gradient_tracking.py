"""Gradient tracking (Di Lorenzo and Scutari 2016, arXiv 1602.00283; Nedic et al. 2017, arXiv 1607.03218).

Y follows the mean gradient: mean Y = mean G at every step, for every W whose columns sum to one. Y_0 = G_0.

    combine while adapting:  X <- W X - eta Y,    Y <- W Y + G_new - G_old
    adapt, then combine:     X <- W (X - eta Y),  Y <- W Y + G_new - G_old

Two rows are sent in one message, so X and Y meet over the same links where graphs take turns. The form that also mixes
the new difference, Y <- W (Y + G_new - G_old), needs two rounds one after the other at each step, and is not here.
"""

from dataclasses import dataclass, replace

from aldsgd.errors import ConfigError
from aldsgd.methods import Method, option
from aldsgd.step import Step
from aldsgd.wrapper import Wrapper
from baselines.dpsgd import FORMS, Weights, gossip


class GradientTracking(Wrapper):
    """Gradient tracking on a gossip method; ``form`` as for ``DPSGD``."""

    own, moves = {"y": "row", "g": "row"}, True

    def __init__(self, core, form="combine_while_adapt"):
        if form not in FORMS:
            raise ConfigError(f"unknown form '{form}'; choose one of: {', '.join(FORMS)}")
        self.form = form
        super().__init__(core)

    def around(self, step):
        both = replace(self.mixing(step), payload=("x", "y"))
        return Step(before=both) if self.form == "combine_while_adapt" else Step(after=both)

    def move(self, step, state, gradients, local):
        state.y.add_(gradients).sub_(state.g)
        state.g.copy_(gradients)
        local(state.y)


@dataclass(frozen=True)
class TrackingOptions(Weights):
    """Options of gradient tracking."""

    form: str = option("combine_while_adapt", "order of gradient tracking", FORMS)


METHOD = Method(
    "gt", "gradient tracking", lambda o, s: GradientTracking(gossip(o, s), o.form), TrackingOptions, place=120
)
