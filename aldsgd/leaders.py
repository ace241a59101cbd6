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

Who is best is told by the loss of the mini-batch whose gradient is taken (released code). ``judge`` has others, for
finding out what that costs: a second mini-batch of the sender, independent of the gradient; a running average of its
mini-batch losses; or nothing but chance, with the same matrices otherwise.
"""

import math
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aldsgd.algorithm import Algorithm
from aldsgd.errors import ConfigError
from aldsgd.methods import Look, Method, Options, Variant, option
from aldsgd.step import Exchange, Rule, Step
from aldsgd.streams import rng
from aldsgd.wrapper import Wrapper

if TYPE_CHECKING:
    from torch import Tensor

    from aldsgd.neighbourhood import Neighbourhood

CANDIDATES = ("closed", "neighbours")
ORDERS = ("released", "printed")
JUDGES = ("batch", "second", "average", "random")
#: Weight of the past in the running average of losses.
MEMORY = 0.9
FORCE_SCALES = ("one", "lr")


def best_worker(hood: "Neighbourhood", losses: "Tensor", candidates: str = "closed") -> "Tensor":
    """Entry (w,) of the adjacent best worker b_i, the candidate with the smallest mini-batch loss; ``losses``: (E,)."""
    return hood.first_smallest(_eligible(hood, losses, losses.double(), candidates))


def maximum_degree_worker(hood: "Neighbourhood", losses: "Tensor", candidates: str = "closed") -> "Tensor":
    """Entry (w,) of the adjacent maximum-degree worker m_i, by the instantaneous degree; ``losses``: (E,)."""
    return hood.first_smallest(_eligible(hood, losses, -hood.degree, candidates))


def _eligible(hood, losses, score, candidates: str):
    # An excluded candidate scores infinity: if all do, the first entry wins, which is the worker itself.
    barred = ~losses.isfinite()
    if candidates == "neighbours":
        barred = barred | hood.itself
    return score.masked_fill(barred, math.inf)


@dataclass(frozen=True)
class Averaging:
    """Rows of (1 - c1 - c2) W + c1 S_N + c2 S_tau, then the force of the released order with p1 and p2."""

    W: Rule
    c1: float
    c2: float
    p1: float
    p2: float
    candidates: str

    def rows(self, hood, losses, lr):
        best, largest = selections(hood, losses, self.candidates)
        averaged = (1 - self.c1 - self.c2) * self.W.rows(hood, losses, lr) + self.c1 * best + self.c2 * largest
        return (1 - self.p1 - self.p2) * averaged + self.p1 * best + self.p2 * largest


@dataclass(frozen=True)
class Force:
    """Rows of B_t = I - s [p1 (I - S_N) + p2 (I - S_tau)], the printed order's force before the averaging."""

    p1: float
    p2: float
    scaled: bool
    candidates: str

    def rows(self, hood, losses, lr):
        eye, (best, largest) = hood.itself.double(), selections(hood, losses, self.candidates)
        scale = 1.0
        if self.scaled:
            scale = lr if isinstance(lr, float) else lr.double()[hood.row]
        return eye - scale * (self.p1 * (eye - best) + self.p2 * (eye - largest))


def selections(hood, losses, candidates: str) -> tuple["Tensor", "Tensor"]:
    """S_N and S_tau as row coefficients (E,) over the neighbourhood."""
    return (
        hood.select(best_worker(hood, losses, candidates)),
        hood.select(maximum_degree_worker(hood, losses, candidates)),
    )


class ALDSGD(Wrapper):
    """AL-DSGD on a core, whose move and state, such as a momentum, it keeps.

    Args:
        core: adapt-then-combine gossip method, whose one exchange after the local move gives W_t and the active links;
            or one that ``leads_first``, DSGD-AC, whose exchange before it does: of the models that the losses are of.
        c1, c2: averaging weights of the best and of the maximum-degree worker (w_N, w_tau of the paper).
        p1, p2: force toward the best and toward the maximum-degree worker (lambda_N, lambda_tau). The defaults are
            those of the released code's README; the paper's own are not known.
        order: "released" or "printed". force_scale: "one", or "lr" to scale the force by the learning rate.
        period: leaders act at every ``period``-th step, the others are plain gossip. steps_per_epoch: when given,
            the period is counted within an epoch, as the released code does; otherwise over the whole run.
        candidates: "closed" (the worker itself and its neighbours) or "neighbours".
        judge: whose loss is smallest is told by "batch", "second", "average" (weight MEMORY on the past, without the
            bias of its start) or "random". seed: of the random leaders.

    Raises:
        ConfigError: a coefficient is negative or not finite, an option is unknown, the core is no method, or it does
            not mix once as said, or before the move in the printed order. Warns where c1 + c2 or p1 + p2 exceeds one.
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
        judge="batch",
        seed=0,
    ):
        for name, value in dict(c1=c1, c2=c2, p1=p1, p2=p2).items():
            if not (isinstance(value, int | float) and math.isfinite(value) and value >= 0):
                raise ConfigError(f"{name} = {value} is not a coefficient; give a finite number, zero or more")
        self.coefficients = {"c1 + c2": c1 + c2, "p1 + p2": p1 + p2}
        for names, total in self.coefficients.items():
            if total > 1:
                warnings.warn(
                    f"{names} = {total:g} is more than 1: the rest of the row gets a negative weight",
                    stacklevel=2,
                )
        for name, value, known in (
            ("order", order, ORDERS),
            ("force_scale", force_scale, FORCE_SCALES),
            ("candidates", candidates, CANDIDATES),
            ("judge", judge, JUDGES),
        ):
            if value not in known:
                raise ConfigError(f"unknown {name} '{value}'; choose one of: {', '.join(known)}")
        if not (isinstance(period, int) and period >= 1):
            raise ConfigError(f"period = {period} is not a number of steps; give a whole number, 1 or more")
        self.averaging = dict(c1=c1, c2=c2, p1=p1, p2=p2, candidates=candidates)
        self.force = None
        if order == "printed":
            self.averaging |= dict(p1=0.0, p2=0.0)
            self.force = Force(p1, p2, force_scale == "lr", candidates)
        self.period, self.steps_per_epoch, self.judge, self.seed = period, steps_per_epoch, judge, seed
        self.second_draw = judge == "second"
        if judge == "average":
            self.own = dict.fromkeys(("total", "weight", "average"), "number")
        super().__init__(core)

    def leads(self, t: int) -> bool:
        """Whether leaders act at step t."""
        return (t % self.steps_per_epoch if self.steps_per_epoch else t) % self.period == 0

    def step(self, t):
        step = self.core.step(t)
        if not self.leads(t):
            return step
        led = self.changed(step)
        if self.judge == "random":
            led = replace(led, judge=tuple(rng("random leader", self.seed, t).random(self.n).tolist()))
        return led

    def around(self, step: Step) -> Step:
        """A step of the core with leaders."""
        first = getattr(self.core, "leads_first", False)
        if first and self.force is not None:
            raise ConfigError(f"{type(self.core).__name__} mixes before it moves; take order='released', one exchange")
        exchange = self.mixing(Step(after=step.before, losses=step.losses) if first else step)
        averaged = Exchange(exchange.links, Averaging(exchange.rule, **self.averaging), exchange.payload)
        # Random numbers join later: they belong to the step, not to its value.
        told = dict(losses="links", judge="batch" if self.judge == "random" else self.judge)
        if first:
            return Step(before=averaged, **told)
        return Step(() if self.force is None else Exchange(exchange.links, self.force), averaged, **told)

    def observe(self, step, state):
        super().observe(step, state)
        if self.judge == "average":
            losses = state.losses
            total, weight, average = (getattr(state, name)[: len(losses), 0] for name in self.own)
            total.mul_(MEMORY).add_(losses, alpha=1 - MEMORY)
            weight.mul_(MEMORY).add_(1 - MEMORY)
            average.copy_(total / weight)


@dataclass(frozen=True)
class LeaderOptions(Options):
    """Options of AL-DSGD; those of its core join them."""

    core: str = option("dpsgd", "gossip method under AL-DSGD", "baselines.registry:CORES")
    c1: float = option(0.3, "averaging weight of the best neighbour (w_N)")
    c2: float = option(0.1, "averaging weight of the maximum-degree neighbour (w_tau)")
    p1: float = option(0.2, "force toward the best neighbour (lambda_N)")
    p2: float = option(0.2, "force toward the maximum-degree neighbour (lambda_tau)")
    order: str = option("released", "order of AL-DSGD's update", ORDERS)
    force_scale: str = option("one", "scaling of the force in the printed order", FORCE_SCALES)
    period: int = option(1, "leaders act at every period-th batch of an epoch")
    candidates: str = option("closed", "who may lead; closed: the worker itself too", CANDIDATES)
    judge: str = option("batch", "what tells who is best", JUDGES)

    def used(self):
        found = super().used()
        if self.judge == "batch":  # not in the records of runs before there was a choice
            del found["judge"]
        if self.order == "released":
            del found["force_scale"]
        return found


def _build(o: LeaderOptions, setting) -> ALDSGD:
    own = (setting.core(), o.c1, o.c2, o.p1, o.p2, o.order, o.force_scale, o.period)
    return ALDSGD(
        *own, steps_per_epoch=setting.steps_per_epoch, candidates=o.candidates, judge=o.judge, seed=setting.seed
    )


def _variant(look: Look, standard=True, **changes) -> Variant:
    return Variant({"method": "aldsgd", **changes}, look, standard)


METHOD = Method(
    "aldsgd",
    "AL-DSGD",
    _build,
    LeaderOptions,
    inner=True,
    place=60,
    variants={
        "AL-DSGD on released schedule": _variant(Look("#8C564B", "<", "-"), core="dpsgd_released"),
        "AL-DSGD on D-PSGD": _variant(Look("#D55E00", "D", "-"), core="dpsgd"),
        "AL-DSGD on MATCHA": _variant(Look("#CC79A7", "^", "-"), core="matcha"),
        "AL-DSGD, three graphs": _variant(Look("#E69F00", "*", "-", 7), core="dpsgd", graphs=3),
        "AL-DSGD on MATCHA, three graphs": _variant(Look("#7B3294", "h", "-", 5.5), core="matcha", graphs=3),
        "AL-DSGD on DSGD-AC": _variant(Look("#D62728", "P", "-", 5.5), standard=False, core="dsgd_ac"),
        "AL-DSGD, printed order": _variant(
            Look("#A6761D", "p", ":", 5.5), standard=False, core="dpsgd", order="printed", force_scale="one"
        ),
        "AL-DSGD, second draw": _variant(Look("#17BECF", ">", "-"), standard=False, core="dpsgd", judge="second"),
        "AL-DSGD, running average": _variant(Look("#9467BD", "d", "-"), standard=False, core="dpsgd", judge="average"),
        "AL-DSGD, random leader": _variant(Look("#7F7F7F", "H", "-"), standard=False, core="dpsgd", judge="random"),
    },
)
