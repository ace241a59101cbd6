"""Gradient-based weighted averaging, MGRAWA and LGRAWA (Dimlioglu, Choromanska 2024, arXiv 2403.04206).

Every tau steps, with A_j a running average of worker j's gradient norm (the sum over the model's tensors of the norm of
each), flat workers count more:

    c = sum_j w_j x_j,    w_j = A_j^-1 / sum_k A_k^-1,    x_i <- (1 - c2) x_i + c2 c

and after each local step x_i <- (1 - p2/tau) x_i + (p2/tau) c with the last c, at first one's own initial model.
LGRAWA does the same with weights of its own for each tensor. Rules and defaults: released code (tolgadimli/GRAWA).

Which gradients: "training", those of the local steps (running average with 0.85 of the old, begun anew at every
exchange: the code's experimental variant, which costs nothing), or "batch", one more batch before each exchange
(0.9^8 of the old; the code's main variant). There the batch comes from the whole training set; here it is the worker's
next one, of its own shard, and no step is taken on it. Norms are without weight decay. That the code corrects its
averages for their start from zero is left out: the factor is the same for all workers, and cancels.

Traffic: one all-reduce of the weighted models and of the weights, 2 (n - 1) (P + 1).
"""

from dataclasses import dataclass

from aldsgd.algorithm import Algorithm
from aldsgd.errors import ConfigError, checked_counts, checked_numbers
from aldsgd.links import AllReduce
from aldsgd.methods import Method, Options, option
from aldsgd.step import Exchange, Step

#: Share of the old in the running average of the norms.
MEMORY = {"training": 0.85, "batch": 0.9**8}


class GRAWA(Algorithm):
    """MGRAWA, or LGRAWA, on n workers.

    Args:
        tau: local steps between exchanges. c2: pull at an exchange to the weighted mean. p2: pull in a period toward
            the last one. layers: weights for each tensor (LGRAWA). norms: "training" or "batch", see above.

    Raises:
        ConfigError: a coefficient outside [0, 1], a period that is none, or norms of another name.
    """

    def __init__(self, n: int, tau=32, c2=0.5, p2=0.01, layers=False, norms="training"):
        checked_counts(dict(tau=tau))
        checked_numbers(dict(c2=c2, p2=p2), most=1)
        if norms not in MEMORY:
            raise ConfigError(f"unknown norms '{norms}'; choose one of: {', '.join(MEMORY)}")
        self.n, self.tau, self.c2, self.p2, self.layers, self.norms = n, tau, c2, p2, layers, norms
        each = "tensors" if layers else "number"
        self.state = {"centre": "row", "weight": each, "norm": each}
        self.exchange = Step(after=Exchange(AllReduce(n), payload=("centre", "weight")))

    def step(self, t):
        period = self.tau + (self.norms == "batch")
        return self.exchange if (t + 1) % period == 0 else Step()

    def begin(self, state):
        state.centre.copy_(state.x)

    def move(self, step, state, gradients, local):
        measures = self.norms == "training" or bool(step.after)
        if measures:
            self.measure(state, gradients - local.decay * state.x)
        if self.norms == "training" or not step.after:
            local(gradients)
            state.x.lerp_(state.centre, self.p2 / self.tau)
        if step.after:
            state.weight.copy_(1 / state.norm.clamp_min(1e-30))
            state.centre.copy_(state.x)
            for part, weight in self.parts(state):
                part.mul_(weight)

    def measure(self, state, gradients):
        """Take the norms of ``gradients`` (w, P) into the running average."""
        state.norm.mul_(MEMORY[self.norms])
        for k, part in enumerate(gradients.split(state.sizes, dim=1)):
            place = k if self.layers else 0
            state.norm[:, place].add_(part.norm(dim=1), alpha=1 - MEMORY[self.norms])

    def parts(self, state):
        """Pairs of a part of ``centre`` (w, s), and the weights (w, 1) that belong to it."""
        sizes = state.sizes if self.layers else state.x.shape[1]
        return zip(state.centre.split(sizes, dim=1), state.weight.split(1, dim=1), strict=True)

    def settle(self, step, state, local):
        if step.after:  # a weighted mean is the ratio of two means
            for part, weight in self.parts(state):
                part.div_(weight)
            state.x.lerp_(state.centre, self.c2)
            if self.norms == "training":
                state.norm.zero_()

    def description(self):
        return {"tau": self.tau, "c2": self.c2, "p2": self.p2, "layers": self.layers, "norms": self.norms}


@dataclass(frozen=True)
class Flatness(Options):
    """Options of MGRAWA and LGRAWA."""

    tau: int = option(32, "steps between exchanges")
    pull: float = option(0.5, "pull at an exchange toward the leader of all, or the centre")
    prox: float = option(0.01, "pull in a period toward what was sent last")
    norms: str = option("training", "gradients whose norms weigh the workers", tuple(MEMORY))


def _method(name: str, layers: bool) -> Method:
    def build(o, s):
        return GRAWA(s.workers, o.tau, o.pull, o.prox, layers, o.norms)

    return Method(name, name.upper(), build, Flatness, graph=False)


MODEL, LAYERS = _method("mgrawa", False), _method("lgrawa", True)
