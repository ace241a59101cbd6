"""Weighted aggregation, WASGD and WASGD+ (arXiv 2004.03749; rules from memory): in the mean, good workers count more.

Every tau steps, with h_j the mean of worker j's losses since the last time:

    x_i <- (1 - beta) x_i + beta sum_j theta_j x_j,   WASGD: theta_j ~ 1 / h_j,   WASGD+: theta_j ~ exp(-a h_j / sum h)

At a = 0 it is elastic averaging, as a grows LSGD with c = beta and no snapshots. The paper also orders the samples,
which is left out.

Traffic: there is no server, so the weighted sum goes up a tree of workers and comes down again, 2 (n - 1) P.
"""

from dataclasses import dataclass

from aldsgd.algorithm import Algorithm
from aldsgd.errors import checked_counts, checked_numbers
from aldsgd.links import Broadcast, Reduce
from aldsgd.methods import Method, Options, option
from aldsgd.step import Exchange, Gossip, Step


@dataclass(frozen=True)
class Weighted:
    """Rows of theta over whoever is heard, 1 / h_j where sharpness is None, else exp(-a h_j / sum h).

    Whoever has no finite loss does not count; where nobody has one, the worker itself does.
    """

    sharpness: float | None

    def rows(self, hood, losses, lr):
        h, barred = losses.double(), ~losses.isfinite()
        if self.sharpness is None:
            theta = (1 / h.clamp_min(1e-300)).masked_fill(barred, 0.0)
        else:
            # From the smallest on: the same weights, which do not all vanish where a is large.
            first = h[hood.first_smallest(h.masked_fill(barred, float("inf")))][hood.row]
            share = (h - first) / hood.sums(h.masked_fill(barred, 0.0)).clamp_min(1e-300)
            theta = (-self.sharpness * share).exp().masked_fill(barred, 0.0)
        total = hood.sums(theta)
        return (theta / total).where(total > 0, hood.itself.double())


class WASGD(Algorithm):
    """WASGD, or WASGD+, on n workers.

    Args:
        beta: pull to the weighted mean, in [0, 1]. tau: steps between exchanges. sharpness: a of WASGD+, zero or more;
            None: WASGD.

    Raises:
        ConfigError: a coefficient that makes no sense.
    """

    state = {"centre": "row", "loss": "number"}

    def __init__(self, n: int, beta=0.9, tau=16, sharpness: float | None = None):
        checked_counts(dict(tau=tau))
        checked_numbers(dict(beta=beta), most=1)
        checked_numbers({} if sharpness is None else dict(sharpness=sharpness))
        self.n, self.beta, self.tau, self.sharpness = n, beta, tau, sharpness
        everyone = (tuple(range(n)),)
        up = Exchange(Reduce(everyone, (0,)), Weighted(sharpness), ("centre",))
        down = Exchange(Broadcast(everyone, (0,)), Gossip(1.0), ("centre",))
        self.exchange = Step(after=(up, down), losses="all", judge="loss")

    def step(self, t):
        return self.exchange if (t + 1) % self.tau == 0 else Step()

    def move(self, step, state, gradients, local):
        local(gradients)
        state.loss.add_(state.losses[:, None], alpha=1 / self.tau)
        if step.after:
            state.centre.copy_(state.x)

    def settle(self, step, state, local):
        if step.after:
            state.x.lerp_(state.centre, self.beta)
            state.loss.zero_()

    def description(self):
        return {"beta": self.beta, "tau": self.tau, "sharpness": self.sharpness}


@dataclass(frozen=True)
class Inverse(Options):
    """Options of WASGD."""

    beta: float = option(0.9, "pull to the weighted mean")
    tau: int = option(16, "steps between exchanges")


@dataclass(frozen=True)
class Exponential(Inverse):
    """Options of WASGD+."""

    sharpness: float = option(1.0, "a of WASGD+: 0 weighs all alike, a large one takes the best alone")


METHOD = Method("wasgd", "WASGD", lambda o, s: WASGD(s.workers, o.beta, o.tau), Inverse, graph=False)
PLUS = Method(
    "wasgd_plus", "WASGD+", lambda o, s: WASGD(s.workers, o.beta, o.tau, o.sharpness), Exponential, graph=False
)
