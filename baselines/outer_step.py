"""SlowMo (Wang et al. 2019, arXiv 1910.00643) and DiLoCo (Douillard et al. 2023, arXiv 2311.08105): an outer step.

Every tau steps, with A = mean of all models and Z what all last started from,

    SlowMo:  U <- mu U + (Z - A)/eta,   Z <- Z - nu eta U
    DiLoCo:  U <- mu U + (Z - A),       Z <- Z - nu (Z - A + mu U)      (Nesterov)

and every worker goes on from Z. SlowMo's eta is the rate of now. With mu = 0 and nu = 1 both are local SGD. The first
outer step sends Z too, on which workers that started from different models agree then.
"""

from dataclasses import dataclass, replace

from aldsgd.algorithm import Algorithm
from aldsgd.errors import ConfigError, whole
from aldsgd.links import AllReduce
from aldsgd.methods import Method, Options, option
from aldsgd.step import Exchange
from aldsgd.wrapper import Wrapper, by_row

FORMS = ("slowmo", "diloco")


class OuterStep(Wrapper):
    """An outer step around a method that does not average all by itself; ``Single`` for local steps in between.

    Args:
        form: "slowmo" or "diloco". tau: steps from one outer step to the next. nu: outer rate. mu: outer momentum.
    """

    own = {"z": "row", "u": "row"}

    def __init__(self, core: Algorithm, form="diloco", tau=100, nu=0.7, mu=0.9):
        if form not in FORMS:
            raise ConfigError(f"unknown form '{form}'; choose one of: {', '.join(FORMS)}")
        if whole(tau, "tau") < 1 or not nu > 0 or not 0 <= mu < 1:
            raise ConfigError(f"tau = {tau}, nu = {nu}, mu = {mu}: give tau from 1, nu above 0, mu from 0 to below 1")
        self.form, self.tau, self.nu, self.mu = form, tau, nu, mu
        self.mean, self.first = (Exchange(AllReduce(core.n), payload=p) for p in (("x",), ("x", "z")))
        super().__init__(core)

    def step(self, t):
        step = self.core.step(t)
        if any(isinstance(exchange.links, AllReduce) for exchange in step.exchanges):
            raise ConfigError(f"{type(self.core).__name__} averages all models by itself; take one that does not")
        if (t + 1) % self.tau:
            return step
        return replace(step, after=(*step.after, self.first if t + 1 == self.tau else self.mean))

    def begin(self, state):
        super().begin(state)
        state.z.copy_(state.x)

    def settle(self, step, state, local):
        super().settle(step, state, local)
        if not (step.after and isinstance(step.after[-1].links, AllReduce)):
            return
        gap = state.z - state.x
        if self.form == "slowmo":
            lr = by_row(local.lr, "SlowMo")
            state.u.mul_(self.mu).add_(gap / lr)
            state.z.sub_(self.nu * lr * state.u)
        else:
            state.u.mul_(self.mu).add_(gap)
            state.z.sub_(self.nu * (gap + self.mu * state.u))
        state.x.copy_(state.z)


@dataclass(frozen=True)
class DiLoCoOptions(Options):
    """Options of DiLoCo; those of the method inside join them."""

    inner: str = option("single", "method inside", "baselines.registry:INNER")
    tau: int = option(100, "steps from one exchange to the next")
    nu: float = option(0.7, "outer rate")
    mu: float = option(0.9, "outer momentum")


@dataclass(frozen=True)
class SlowMoOptions(DiLoCoOptions):
    """Options of SlowMo."""

    tau: int = option(48, "steps from one exchange to the next")
    nu: float = option(1.0, "outer rate")
    mu: float = option(0.5, "outer momentum")


METHOD = Method(
    "diloco", "DiLoCo", lambda o, s: OuterStep(s.core(), "diloco", o.tau, o.nu, o.mu), DiLoCoOptions, place=160
)
SLOWMO = Method(
    "slowmo", "SlowMo", lambda o, s: OuterStep(s.core(), "slowmo", o.tau, o.nu, o.mu), SlowMoOptions, place=155
)
