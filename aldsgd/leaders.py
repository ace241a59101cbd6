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

Who is best is told by the loss of the mini-batch whose gradient is taken (released code). That is one point of four
parts, each an option of its own, and all but the coefficients as in the paper by default:

- judge: "batch", that loss; "second", the loss of a second mini-batch of the sender, independent of the gradient;
  "average", a running average of its mini-batch losses; "shared", its loss on samples that all workers share;
  "gradient", the norm of its gradient, as in SDTL's LSGD (in the printed order that of the step before); "receiver",
  the loss of what is heard on the next mini-batch of whoever hears it; "random", chance; "none": all are equal, so
  that the worker itself stands in its leader's place (with a, lazy gossip) and ties go as ever.
- selection: "argmin", "soft" or "rank" (``aldsgd.selections``), of sharpness a.
- action: averaging weight c1, force p1, or translation ``shift``, which leaves to W how fast workers agree: on the
  complete graph all move by shift (x_b - mean), as in LSGD+.
- timing: "constant"; "rate", all coefficients in proportion to the learning rate of the schedule; "late", in the second
  half of the run alone.

All coefficients at 0 are the core, bit for bit.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

from aldsgd.algorithm import Algorithm
from aldsgd.errors import ConfigError, checked_counts
from aldsgd.methods import Look, Method, Options, Variant, option
from aldsgd.selections import CANDIDATES, SELECTIONS, selections, tilted
from aldsgd.step import DRAWS, Exchange, Rule, Step
from aldsgd.streams import rng
from aldsgd.wrapper import Wrapper

ORDERS = ("released", "printed")
JUDGES = ("batch", "second", "average", "shared", "gradient", "receiver", "random", "none")
TIMINGS = ("constant", "rate", "late")
#: What judges that need it remember: name of a number each.
OWN = {"average": ("total", "weight", "average"), "gradient": ("gradient",)}
#: Weight of the past in the running average of losses.
MEMORY = 0.9
FORCE_SCALES = ("one", "lr")


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
        return self.led(self.W.rows(hood, losses, lr), *selections(hood, losses, self.candidates))

    def led(self, W, best, largest):
        averaged = (1 - self.c1 - self.c2) * W + self.c1 * best + self.c2 * largest
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


@dataclass(frozen=True)
class Following(Averaging):
    """The same with a selection of another kind in the place of S_N, and the leader as a translation.

    The neighbourhood's mean moves: rows of ``shift`` (S_N - U) are added, U the mean of the closed neighbourhood.
    """

    selection: str = "argmin"
    sharpness: float = 0.0
    shift: float = 0.0

    def rows(self, hood, losses, lr):
        W = self.W.rows(hood, losses, lr)
        best, largest = selections(hood, losses, self.candidates)
        if self.selection != "argmin":
            best = tilted(hood, losses, W, self.sharpness, self.candidates, self.selection == "rank")
        return self.led(W, best, largest) + self.shift * (best - hood.gossip(1 / (1 + hood.own_degree)))


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
        judge: one of ``JUDGES``, as described above; "average" has weight MEMORY on the past, without the bias of its
            start. shared: samples that all workers share, for that judge. seed: of the random leaders.
        selection: "argmin", "soft" or "rank", of sharpness ``sharpness``; shift: translation; share: step -> factor of
            all coefficients, None for 1. All three need the released order.

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
        selection="argmin",
        sharpness=1.0,
        shift=0.0,
        share: Callable[[int], float] | None = None,
        shared=64,
    ):
        for name, value in dict(c1=c1, c2=c2, p1=p1, p2=p2, sharpness=sharpness, shift=shift).items():
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
            ("selection", selection, SELECTIONS),
        ):
            if value not in known:
                raise ConfigError(f"unknown {name} '{value}'; choose one of: {', '.join(known)}")
        if not (isinstance(period, int) and period >= 1):
            raise ConfigError(f"period = {period} is not a number of steps; give a whole number, 1 or more")
        self.given = dict(c1=c1, c2=c2, p1=p1, p2=p2)
        self.parts = {}
        if selection != "argmin" or shift:
            self.parts = dict(selection=selection, sharpness=sharpness if selection != "argmin" else 0.0, shift=shift)
        if order == "printed" and (self.parts or share):
            raise ConfigError("selection, shift and timing are parts of the released order; leave out order='printed'")
        self.order, self.scaled, self.candidates = order, force_scale == "lr", candidates
        self.period, self.steps_per_epoch, self.judge, self.seed = period, steps_per_epoch, judge, seed
        self.given_share, self.share = share, share or (lambda t: 1.0)
        self.tells_time = share is not None
        if judge in DRAWS:
            self.draw = judge
        if judge == "shared":
            checked_counts(dict(shared=shared))
            self.shared = shared
        if judge in OWN:
            self.own = dict.fromkeys(OWN[judge], "number")
        super().__init__(core)

    def leads(self, t: int) -> bool:
        """Whether leaders act at step t."""
        return (t % self.steps_per_epoch if self.steps_per_epoch else t) % self.period == 0

    def step(self, t):
        step, share = self.core.step(t), self.share(t)
        if not self.leads(t) or share == 0:
            return step
        led = self.changed(step) if share == 1 else self.around(step, share)
        if self.judge == "random":
            led = replace(led, judge=tuple(rng("random leader", self.seed, t).random(self.n).tolist()))
        return led

    def around(self, step: Step, share=1.0) -> Step:
        """A step of the core with leaders whose coefficients are ``share`` of what was given."""
        first = getattr(self.core, "leads_first", False)
        if first and self.order == "printed":
            raise ConfigError(f"{type(self.core).__name__} mixes before it moves; take order='released', one exchange")
        exchange, before = self.mixing(Step(after=step.before, losses=step.losses) if first else step), ()
        given = {name: share * value for name, value in self.given.items()}
        if self.order == "printed":
            before = Exchange(exchange.links, Force(given["p1"], given["p2"], self.scaled, self.candidates))
            given |= dict(p1=0.0, p2=0.0)
        rule = Averaging(exchange.rule, **given, candidates=self.candidates)
        if self.parts:
            parts = self.parts | dict(shift=share * self.parts["shift"])
            rule = Following(exchange.rule, **given, candidates=self.candidates, **parts)
        # Random numbers join later: they belong to the step, not to its value.
        judge = {"random": "batch", "none": (0.0,) * self.n}.get(self.judge, self.judge)
        led, told = Exchange(exchange.links, rule, exchange.payload), dict(losses="links", judge=judge)
        return Step(before=led, **told) if first else Step(before, led, **told)

    def move(self, step, state, gradients, local):
        if self.judge == "gradient":
            state.gradient[: len(gradients)] = gradients.norm(dim=1, keepdim=True)
        super().move(step, state, gradients, local)

    def description(self):
        if self.given_share is None:
            return super().description()
        # What tells apart runs whose first steps are equal.
        return super().description() | {"shares": [self.share(t) for t in (0, *(2**k for k in range(15)))]}

    def observe(self, step, state):
        super().observe(step, state)
        if self.judge == "average":
            losses = state.losses
            total, weight, average = (getattr(state, name)[: len(losses), 0] for name in OWN["average"])
            total.mul_(MEMORY).add_(losses, alpha=1 - MEMORY)
            weight.mul_(MEMORY).add_(1 - MEMORY)
            average.copy_(total / weight)


@dataclass(frozen=True)
class Coefficients(Options):
    """Options of whatever follows leaders as AL-DSGD does."""

    c1: float = option(0.3, "averaging weight of the best neighbour (w_N)")
    c2: float = option(0.1, "averaging weight of the maximum-degree neighbour (w_tau)")
    p1: float = option(0.2, "force toward the best neighbour (lambda_N)")
    p2: float = option(0.2, "force toward the maximum-degree neighbour (lambda_tau)")


@dataclass(frozen=True)
class LeaderOptions(Coefficients):
    """Options of AL-DSGD; those of its core join them."""

    core: str = option("dpsgd", "gossip method under AL-DSGD", "baselines.registry:CORES")
    order: str = option("released", "order of AL-DSGD's update", ORDERS)
    force_scale: str = option("one", "scaling of the force in the printed order", FORCE_SCALES)
    period: int = option(1, "leaders act at every period-th batch of an epoch")
    candidates: str = option("closed", "who may lead; closed: the worker itself too", CANDIDATES)
    judge: str = option("batch", "what tells who is best", JUDGES)
    shared: int = option(64, "samples that all workers share, of judge shared")
    selection: str = option("argmin", "who is followed, of all that are judged", SELECTIONS)
    sharpness: float = option(1.0, "how much selections soft and rank prefer the best")
    shift: float = option(0.0, "share of the way from the neighbourhood's mean to the best by which all go")
    timing: str = option("constant", "when leaders act, and how much", TIMINGS)

    def used(self):
        found = super().used()
        if self.judge != "shared":
            del found["shared"]
        if self.selection == "argmin":
            del found["sharpness"]
        for name in ("judge", "selection", "shift", "timing"):
            if found[name] == PAPER[name]:  # not in the records of runs before there was a choice
                del found[name]
        if self.order == "released":
            del found["force_scale"]
        return found


PAPER = {f.name: f.default for f in fields(LeaderOptions)}


def build(o: LeaderOptions, setting) -> ALDSGD:
    """The method that the options describe."""
    own = (setting.core(), o.c1, o.c2, o.p1, o.p2, o.order, o.force_scale, o.period)
    if o.timing not in TIMINGS:
        raise ConfigError(f"unknown timing '{o.timing}'; choose one of: {', '.join(TIMINGS)}")
    half = setting.epochs * setting.steps_per_epoch // 2
    late = {"late": lambda t: float(t >= half)}.get(o.timing)
    share = setting.rate() if o.timing == "rate" else late
    parts = dict(selection=o.selection, sharpness=o.sharpness, shift=o.shift, share=share, shared=o.shared)
    seen = dict(candidates=o.candidates, judge=o.judge, seed=setting.seed)
    return ALDSGD(*own, steps_per_epoch=setting.steps_per_epoch, **seen, **parts)


def _variant(look: Look, standard=True, **changes) -> Variant:
    return Variant({"method": "aldsgd", **changes}, look, standard)


#: Neither weights nor force; and the tilted W alone.
STILL = dict(c1=0.0, c2=0.0, p1=0.0, p2=0.0)
SOFT = STILL | dict(core="dpsgd", weights="metropolis", c1=1.0, selection="soft", sharpness=3.0)

METHOD = Method(
    "aldsgd",
    "AL-DSGD",
    build,
    LeaderOptions,
    inner=True,
    place=60,
    variants={
        "AL-DSGD on released schedule": _variant(Look("#8C564B", "<", "-"), core="dpsgd_released"),
        "AL-DSGD on D-PSGD": _variant(Look("#D55E00", "D", "-"), core="dpsgd"),
        "AL-DSGD on MATCHA": _variant(Look("#CC79A7", "^", "-"), core="matcha"),
        "AL-DSGD, three graphs": _variant(Look("#E69F00", "*", "-", 7), core="dpsgd", graphs=3),
        "AL-DSGD on MATCHA, three graphs": _variant(Look("#7B3294", "h", "-", 5.5), core="matcha", graphs=3),
        "AL-DSGD on DSGD-AC": _variant(None, standard=False, core="dsgd_ac"),
        "AL-DSGD, printed order": _variant(
            Look("#A6761D", "p", ":", 5.5), standard=False, core="dpsgd", order="printed", force_scale="one"
        ),
        "AL-DSGD, second draw": _variant(Look("#17BECF", ">", "-"), standard=False, core="dpsgd", judge="second"),
        "AL-DSGD, running average": _variant(Look("#9467BD", "d", "-"), standard=False, core="dpsgd", judge="average"),
        "AL-DSGD, random leader": _variant(Look("#7F7F7F", "H", "-"), standard=False, core="dpsgd", judge="random"),
        "AL-DSGD, itself": _variant(Look("#BDBDBD", (4, 1, 45), "-", 6), standard=False, core="dpsgd", judge="none"),
        "AL-DSGD, receiver judges": _variant(
            Look("#D62728", (5, 1, 180), "-", 6), standard=False, core="dpsgd", judge="receiver"
        ),
        "AL-DSGD, soft": _variant(
            Look("#2CA02C", (4, 0, 20), "-", 6), standard=False, core="dpsgd", selection="soft", sharpness=3.0
        ),
        "AL-DSGD, translation": _variant(
            Look("#8C6BB1", (3, 0, 30), "-", 6), standard=False, core="dpsgd", **STILL, shift=0.3
        ),
        "AL-DSGD, fading": _variant(Look("#BCBD22", (3, 0, 75), "-", 6), standard=False, core="dpsgd", timing="rate"),
        "AL-DSGD, receiver judges, fading": _variant(
            Look("#8B0000", (6, 1, 0), "-", 6), standard=False, core="dpsgd", judge="receiver", timing="rate"
        ),
        "AL-DSGD, late": _variant(Look("#393B79", (3, 0, 105), "-", 6), standard=False, core="dpsgd", timing="late"),
        "AL-DSGD, gradient judges": _variant(
            Look("#00798C", (3, 1, 0), "-", 6), standard=False, core="dpsgd", judge="gradient"
        ),
        "AL-DSGD, shared samples judge": _variant(
            Look("#B5651D", (4, 1, 0), "-", 6), standard=False, core="dpsgd", judge="shared"
        ),
        "AL-DSGD, rank": _variant(
            Look("#556B2F", (5, 0, 0), "-", 6), standard=False, core="dpsgd", selection="rank", sharpness=3.0
        ),
        "soft gossip": _variant(Look("#31A354", (7, 0, 0), "-", 6), standard=False, **SOFT),
        "soft gossip, receiver judges": _variant(Look("#E7298A", (8, 1, 0), "-", 6), False, **SOFT, judge="receiver"),
    },
)
