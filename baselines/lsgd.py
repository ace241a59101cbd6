"""Leader SGD, LSGD (Teng et al. 2019, arXiv 1905.10395): everyone is pulled to whoever has the smallest loss.

After each local step, toward the leaders as they were when they were last sent (snapshots s; proximal form):

    x_i <- (1 - p2/tau) x_i + (p2/tau) s_all,    x_i <- (1 - p1/tau_local) x_i + (p1/tau_local) s_group

When the n workers together have taken n tau_local steps, b is the worker of each group with the smallest mean loss over
its last tau_local batches, and x_i <- (1 - c1) x_i + c1 x_b; at every (tau/tau_local)-th time then
x_i <- (1 - c2) x_i + c2 x_b with the best of all. With one group only the latter is left, every tau steps. Rules, order
and defaults: released code (yunfei-teng/LSGD), which trains with Nesterov momentum 0.9 and weight decay 1e-4 from one
common model, and calls "asynchronous" that workers take unequal numbers of steps between two exchanges, which stay
collective: here ``speeds``, in virtual time.

Traffic: the leader's broadcast, (n - 1) P; an all-reduce is twice that.
"""

import math
from dataclasses import dataclass

from aldsgd.algorithm import Algorithm
from aldsgd.errors import ConfigError, checked_counts, checked_numbers
from aldsgd.links import Broadcast
from aldsgd.methods import Look, Method, Options, Variant, option
from aldsgd.step import Exchange, Gossip, Step


class LSGD(Algorithm):
    """LSGD with one leader, or with a leader in each of several groups and one above them.

    Args:
        n: workers. groups: of consecutive workers. tau: steps a worker between exchanges with the leader of all.
            tau_local: the same with that of the group; without effect with one group, or where tau is no more.
        c1, c2: pull at an exchange toward the leader of the group, and of all. p1, p2: pull in a period toward their
            snapshots, which until the first exchange are the worker's own initial model.
        speeds: relative speeds of the workers, all above 0; by default equal.

    Raises:
        ConfigError: a coefficient outside [0, 1], a period that does not fit the other, speeds that are none.
    """

    def __init__(
        self, n: int, groups=1, tau=16, tau_local=4, c1=0.1, c2=0.1, p1=0.1, p2=0.1, speeds: tuple[float, ...] = ()
    ):
        checked_counts(dict(groups=groups, tau=tau, tau_local=tau_local))
        checked_numbers(dict(c1=c1, c2=c2, p1=p1, p2=p2), most=1)
        if len(speeds) not in (0, n) or not all(0 < speed < math.inf for speed in speeds):
            raise ConfigError(f"speeds = {tuple(speeds)} for {n} workers; give each one above 0, or none")
        if groups > n:
            raise ConfigError(f"groups = {groups} for {n} workers; give at most one a worker")
        local = groups > 1 and tau > tau_local
        if local and tau % tau_local:
            raise ConfigError(f"tau = {tau} must be a multiple of tau_local = {tau_local}")
        self.n, self.period, self.ratio = n, tau_local if local else tau, tau // tau_local if local else 1
        self.rates = [speed / max(speeds) for speed in speeds] or [1.0] * n
        parts = groups if local else 1
        self.parts = tuple(tuple(range(k * n // parts, (k + 1) * n // parts)) for k in range(parts))
        self.group = (Exchange(Broadcast(self.parts), Gossip(1.0), ("group_leader",)),) if local else ()
        self.all = (Exchange(Broadcast((tuple(range(n)),)), Gossip(1.0), ("leader",)),)
        #: Snapshot -> (pull at an exchange, pull after a step), in the order of the proximal pulls.
        self.pulls = {"leader": (c2, p2 / tau)} | ({"group_leader": (c1, p1 / tau_local)} if local else {})
        self.state = dict.fromkeys(self.pulls, "row") | {"window": self.period, "seen": "number", "loss": "number"}

    def steps(self, t: int) -> list[int]:
        """How many local steps each worker has taken before step t."""
        return [math.floor(t * rate) for rate in self.rates]

    def exchanges(self, t: int) -> int:
        """How many exchanges there were before step t."""
        return sum(self.steps(t)) // (self.n * self.period)

    def step(self, t):
        before, after, count = self.steps(t), self.steps(t + 1), self.exchanges(t + 1)
        acting = None if min(self.rates) == 1 else tuple(i for i in range(self.n) if after[i] > before[i])
        if count == self.exchanges(t):
            return Step(acting=acting)
        led = self.group + (self.all if count % self.ratio == 0 else ())
        return Step(after=led, losses="all", judge="loss", acting=acting)

    def begin(self, state):
        for name in self.pulls:
            getattr(state, name).copy_(state.x)

    def move(self, step, state, gradients, local):
        local(gradients)
        who = slice(None) if local.acting is None else local.acting
        for name, (_, prox) in self.pulls.items():
            state.x[who] = state.x[who].lerp(getattr(state, name)[who], prox)
        state.window[who] = state.window[who].roll(-1, dims=1)
        state.window[who, -1] = state.losses[who]
        state.seen[who] += 1
        mean = state.window.sum(dim=1, keepdim=True) / self.batches(state.seen)
        state.loss.copy_(mean.masked_fill(state.seen == 0, math.inf))
        for exchange in step.after:
            getattr(state, exchange.payload[0]).copy_(state.x)

    def batches(self, seen):
        """Of how many batches the running loss is the mean, (w, 1)."""
        return seen.clamp(max=self.period)

    def settle(self, step, state, local):
        for exchange in step.after:
            (name,) = exchange.payload
            state.x.lerp_(getattr(state, name), self.pulls[name][0])

    def description(self):
        return {"pulls": self.pulls, "period": self.period, "ratio": self.ratio, "rates": self.rates}


#: Options that need more than one group, and a period of its own in each.
LOCAL = ("groups", "tau_local", "pull_local", "prox_local")


@dataclass(frozen=True)
class Leaders(Options):
    """Options of LSGD."""

    groups: int = option(1, "groups of workers, each with a leader of its own")
    tau: int = option(16, "steps between exchanges")
    tau_local: int = option(4, "steps between exchanges within a group")
    pull: float = option(0.1, "pull at an exchange toward the leader of all, or the centre")
    pull_local: float = option(0.1, "pull at an exchange toward the leader of the group")
    prox: float = option(0.1, "pull in a period toward what was sent last")
    prox_local: float = option(0.1, "pull in a period toward the group's leader as it was sent last")
    slow_workers: int = option(0, "number of workers, the last ones, at half the speed of the others")

    def used(self):
        local = self.groups > 1 and self.tau > self.tau_local
        return {k: v for k, v in super().used().items() if local or k not in LOCAL}


def build(o: Leaders, s, kind: type[LSGD] = LSGD) -> LSGD:
    """The method that the options describe."""
    speeds = (1.0,) * (s.workers - o.slow_workers) + (0.5,) * o.slow_workers if o.slow_workers else ()
    return kind(s.workers, o.groups, o.tau, o.tau_local, o.pull_local, o.pull, o.prox_local, o.prox, speeds)


METHOD = Method(
    "lsgd",
    "LSGD",
    build,
    Leaders,
    graph=False,
    variants={
        "LSGD": Variant({"method": "lsgd"}, None, standard=False),
        "LSGD, 2 groups of 4": Variant({"method": "lsgd", "groups": 2}, Look("#9E9AC8", (4, 0, 0), "-.", 5), False),
        "LSGD, 4 groups of 2": Variant({"method": "lsgd", "groups": 4}, Look("#54278F", (3, 0, 60), "-.", 5), False),
    },
)
