"""Local SGD (Stich 2018, arXiv 1805.09767), post-local SGD (Lin et al. 2018, arXiv 1808.07217), bytes early or late.

Around another method: of tau steps only the last exchanges as that method says, X <- J X or X <- W_t X, whose own clock
then counts exchanges. Optimizer states stay where they are. The bytes of an exchange every tau steps may be spent late
instead, at every step of the last 1/tau of the run, and all models averaged once at the end (single global merge, arXiv
2507.06542): the averaged model of the records, with its all-reduce billed.
"""

from dataclasses import dataclass, replace

from aldsgd.algorithm import Algorithm
from aldsgd.errors import ConfigError, whole
from aldsgd.links import AllReduce
from aldsgd.methods import Method, Options, Setting, option
from aldsgd.step import ALONE, Exchange
from aldsgd.wrapper import Wrapper


class LocalSteps(Wrapper):
    """``core`` with fewer exchanges.

    Args:
        core: the method. tau: steps from one exchange to the next. post: first step at which tau counts, before it
            every step exchanges. late: first step with an exchange. merge: the step after which all workers take the
            mean of all, None for none.
    """

    def __init__(self, core: Algorithm, tau=8, post=0, late=0, merge: int | None = None):
        for name, value, least in (("tau", tau, 1), ("post", post, 0), ("late", late, 0)):
            if whole(value, name) < least:
                raise ConfigError(f"{name} = {value} is not a number of steps; give {least} or more")
        self.tau, self.first, self.late, self.merge = tau, max(post, late), late, merge
        super().__init__(core)
        if core.tells_time:
            raise ConfigError(
                f"{type(core).__name__} changes as the run goes on, but counts exchanges within local steps; give "
                "it a constant timing, and no start_epoch"
            )

    def exchanges_before(self, t: int) -> int:
        """How many exchanges there were before step t."""
        return max(0, min(t, self.first) - self.late) + max(0, t - self.first) // self.tau

    def step(self, t):
        done = self.exchanges_before(t)
        step = self.core.step(done) if self.exchanges_before(t + 1) > done else ALONE
        return replace(step, after=(*step.after, Exchange(AllReduce(self.n)))) if t == self.merge else step


@dataclass(frozen=True)
class LocalOptions(Options):
    """Options of local SGD; those of the method inside join them."""

    inner: str = option("allreduce", "method inside", "baselines.registry:INNER")
    tau: int = option(8, "steps from one exchange to the next")
    post_epoch: int = option(0, "epoch before which every step exchanges (post-local SGD)")
    late: float = option(1.0, "share of the steps, at the end of the run, in which there are exchanges")
    merge: bool = option(False, "average all models at the end of the run")


def _build(o: LocalOptions, s: Setting) -> LocalSteps:
    if not 0 <= o.late <= 1:
        raise ConfigError(f"late = {o.late} must be a share of the steps, from 0 to 1")
    steps = s.epochs * s.steps_per_epoch
    late, merge = steps - round(o.late * steps), steps - 1 if o.merge else None
    return LocalSteps(s.core(), o.tau, o.post_epoch * s.steps_per_epoch, late, merge)


METHOD = Method("local_sgd", "local SGD", _build, LocalOptions, place=150)
