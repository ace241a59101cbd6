"""Adjacent Leader Decentralized SGD: leaders among the neighbours, and the update they steer.

AL-DSGD wraps a gossip method (its core) that supplies W_t. S_N and S_tau select the adjacent best and the adjacent
maximum-degree worker. Released order, one exchange (released code), with the identity as B_t:

    C_t = (1 - p1 - p2) [(1 - c1 - c2) W_t + c1 S_N + c2 S_tau] + p1 S_N + p2 S_tau

Printed order, force first and then averaging, two exchanges (arXiv 2405.11389, as summarised; the scaling of the
force is not confirmed, so both are offered):

    B_t = I - s [p1 (I - S_N) + p2 (I - S_tau)],   s = eta or 1
    C_t = (1 - c1 - c2) W_t + c1 S_N + c2 S_tau

Rows of both matrices sum to one, columns do not: the mean of the workers is not preserved.

Candidates are the worker itself first, then its active neighbours in matching order; ties go to the earliest
candidate (released code). With ``candidates="neighbours"`` the worker itself is left out, and serves only when
nobody else does. A worker whose loss is not finite is never a leader; where no candidate is left, the worker
follows itself.
"""

import math
import warnings

import torch
from torch import Tensor

from aldsgd.algorithm import Algorithm, kind_of
from aldsgd.errors import ConfigError
from aldsgd.neighbourhood import Neighbourhood

CANDIDATES = ("closed", "neighbours")
ORDERS = ("released", "printed")
FORCE_SCALES = ("one", "lr")


def best_worker(hood: Neighbourhood, candidates: str = "closed") -> Tensor:
    """Entry (w,) of the adjacent best worker b_i, the candidate with the smallest mini-batch loss."""
    return hood.first_smallest(_eligible(hood, hood.loss.to(torch.float64), candidates))


def maximum_degree_worker(hood: Neighbourhood, candidates: str = "closed") -> Tensor:
    """Entry (w,) of the adjacent maximum-degree worker m_i, by the instantaneous degree."""
    return hood.first_smallest(_eligible(hood, -hood.degree, candidates))


def _eligible(hood: Neighbourhood, score: Tensor, candidates: str) -> Tensor:
    # An excluded candidate scores infinity: if all do, the first entry wins, which is the worker itself.
    barred = ~torch.isfinite(hood.loss)
    if candidates == "neighbours":
        barred = barred | hood.itself
    return score.masked_fill(barred, torch.inf)


class ALDSGD(Algorithm):
    """AL-DSGD on a core such as ``DPSGD`` or ``MATCHA``.

    Args:
        core: adapt-then-combine gossip method; its ``after`` gives W_t, its ``matchings`` the active edges.
        c1, c2: averaging weights of the best and of the maximum-degree worker (w_N, w_tau of the paper).
        p1, p2: force toward the best and toward the maximum-degree worker (lambda_N, lambda_tau). The defaults are
            those of the released code's README; the paper's own are not known.
        order: "released" or "printed". force_scale: "one", or "lr" to scale the force by the learning rate.
        period: leaders act at every ``period``-th step, the others are plain gossip. steps_per_epoch: when given,
            the period is counted within an epoch, as the released code does; otherwise over the whole run.
        candidates: "closed" (the worker itself and its neighbours) or "neighbours".

    Raises:
        ConfigError: a coefficient is negative or not finite, an option is unknown, or the core mixes before the
            gradient step. Warns where c1 + c2 or p1 + p2 exceeds one.
    """

    def __init__(
        self,
        core: Algorithm,
        c1=0.3,
        c2=0.1,
        p1=0.2,
        p2=0.2,
        order="released",
        force_scale="one",
        period=1,
        steps_per_epoch=None,
        candidates="closed",
    ):
        for name, value in dict(c1=c1, c2=c2, p1=p1, p2=p2).items():
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"{name} = {value} is not a coefficient; give a finite number, zero or more")
        for names, total in (("c1 + c2", c1 + c2), ("p1 + p2", p1 + p2)):
            if total > 1:
                warnings.warn(
                    f"{names} = {total:g} is more than 1: the rest of the row gets a negative weight",
                    stacklevel=2,
                )
        for name, value, known in (
            ("order", order, ORDERS),
            ("force_scale", force_scale, FORCE_SCALES),
            ("candidates", candidates, CANDIDATES),
        ):
            if value not in known:
                raise ConfigError(f"unknown {name} '{value}'; choose one of: {', '.join(known)}")
        if period < 1:
            raise ConfigError(f"period = {period} is not a number of steps; give 1 or more")
        if core.mixes_first:
            raise ConfigError("the core mixes before the gradient step; AL-DSGD wraps adapt-then-combine cores")
        self.core, self.n = core, core.n
        self.c1, self.c2, self.p1, self.p2 = c1, c2, p1, p2
        self.order, self.force_scale, self.candidates = order, force_scale, candidates
        self.period, self.steps_per_epoch = period, steps_per_epoch

    def matchings(self, t):
        return self.core.matchings(t)

    def needs_loss(self, t):
        """Whether leaders act at step t."""
        return (t % self.steps_per_epoch if self.steps_per_epoch else t) % self.period == 0

    def kind(self, t):
        core = kind_of(self.core, t)
        return None if core is None else (core, self.needs_loss(t))

    def leaders(self, hood: Neighbourhood):
        """S_N and S_tau as row coefficients (E,) over the neighbourhood."""
        return (
            hood.select(best_worker(hood, self.candidates)),
            hood.select(maximum_degree_worker(hood, self.candidates)),
        )

    def before(self, t, hood, lr):
        if self.order == "released" or not self.needs_loss(t):
            return None
        eye, (best, largest) = hood.itself.to(torch.float64), self.leaders(hood)
        scale = 1.0 if self.force_scale == "one" else lr
        if isinstance(scale, Tensor):
            scale = scale.to(torch.float64)[hood.row]
        return eye - scale * (self.p1 * (eye - best) + self.p2 * (eye - largest))

    def after(self, t, hood):
        W = self.core.after(t, hood)
        if not self.needs_loss(t):
            return W
        best, largest = self.leaders(hood)
        averaged = (1 - self.c1 - self.c2) * W + self.c1 * best + self.c2 * largest
        if self.order == "printed":
            return averaged
        return (1 - self.p1 - self.p2) * averaged + self.p1 * best + self.p2 * largest

    def description(self):
        return self.core.description()
