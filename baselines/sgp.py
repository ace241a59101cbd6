"""Stochastic gradient push, SGP (Assran et al. 2018, arXiv 1811.10792): gossip over arcs by push-sum.

    X <- A (X - eta G(Z)),   w <- A w,   Z = X / w,   A_ij = 1 / (1 + number of workers that hear j)

Columns of A sum to one, rows need not: X keeps its sum, and Z goes to its mean on any strongly connected links, where
models mixed with A alone would not. Where every worker hears as many as hear it, w stays 1 and it is D-PSGD with A. One
number travels beside each row. The models of the records are Z.
"""

from dataclasses import dataclass, replace

from aldsgd.methods import Method, Options, Setting
from aldsgd.step import Step
from aldsgd.wrapper import Wrapper
from baselines.dpsgd import DPSGD


@dataclass(frozen=True)
class Push:
    """Rows of A: a worker gives equal parts to itself and to all who hear it."""

    def rows(self, hood, losses, lr):
        return hood.kept(self, self.entries)

    def entries(self, hood) -> list[float]:
        """(E,): the part that each entry's worker gives to one."""
        parts = [1] * hood.n
        for hop in hood.links.rounds:
            for sender, _ in hop:
                parts[sender] += 1
        return [1 / parts[j] for j in hood.col.tolist()]


class PushSum(Wrapper):
    """SGP over the links of a gossip method, whose own weights do not count; ``state.x`` holds Z between steps."""

    own, moves = {"w": "number"}, True

    def around(self, step):
        links = self.mixing(step)
        return Step(after=replace(links, rule=Push(), payload=("x", "w"), stochastic=False))

    def begin(self, state):
        state.w.fill_(1.0)

    def move(self, step, state, gradients, local):
        rest = state.x * (state.w - 1)
        local(gradients)
        state.x.add_(rest)  # X, of Z that has moved

    def settle(self, step, state, local):
        state.x.div_(state.w)


def _build(o: Options, s: Setting) -> PushSum:
    if s.schedule is not None:
        return PushSum(DPSGD(s.schedule))
    return PushSum(DPSGD(s.topologies, s.rotation, allow_disconnected=s.disconnected))


METHOD = Method("sgp", "SGP", _build, place=145)
