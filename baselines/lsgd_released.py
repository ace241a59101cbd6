"""LSGD with two defects of its released code (yunfei-teng/LSGD), to tell what they do.

The running loss is a mean over a window of tau_local batches that is filled with zeros at first and never emptied, so
that whoever has seen fewer batches looks better, until all have seen as many. And after a test the snapshot of the
leader of all is overwritten by what was tested, the mean of the group: s_all <- mean of x_i in the group.
"""

from dataclasses import replace

from aldsgd.errors import checked_counts
from aldsgd.links import Broadcast, Reduce
from aldsgd.methods import Method
from aldsgd.step import Exchange, Gossip, Uniform
from baselines.lsgd import LSGD, Leaders, build


class ReleasedLSGD(LSGD):
    """LSGD as released.

    Args:
        tested_every: exchanges between tests, which come after an exchange. The others: as for ``LSGD``.

    What a test exchanges, a mean within the group, counts as traffic.
    """

    def __init__(self, *arguments, tested_every=1, **named):
        super().__init__(*arguments, **named)
        checked_counts(dict(tested_every=tested_every))
        self.tested_every, self.state = tested_every, self.state | {"mean": "row"}
        first = tuple(part[0] for part in self.parts)
        down = Exchange(Broadcast(self.parts, first), Gossip(1.0), ("mean",))
        self.test = (Exchange(Reduce(self.parts, first), Uniform(), ("mean",)), down)

    def step(self, t):
        step = super().step(t)
        tested = step.after and self.exchanges(t + 1) % self.tested_every == 0
        return replace(step, after=step.after + self.test) if tested else step

    def batches(self, seen):
        return self.period

    def settle(self, step, state, local):
        led = replace(step, after=tuple(e for e in step.after if e not in self.test))
        super().settle(led, state, local)
        if led != step:
            for exchange in led.after:  # a pull is linear: the mean of the pulled is the pulled mean
                (name,) = exchange.payload
                state.mean.lerp_(getattr(state, name), self.pulls[name][0])
            state.leader.copy_(state.mean)

    def description(self):
        return super().description() | {"tested_every": self.tested_every}


def _build(o: Leaders, s) -> ReleasedLSGD:
    made = build(o, s, ReleasedLSGD)
    made.tested_every = max(1, s.steps_per_epoch // made.period)
    return made


METHOD = Method("lsgd_released", "LSGD (released code)", _build, Leaders, graph=False)
