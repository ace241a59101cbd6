"""Fading leaders, the repository's own rule: AL-DSGD judged by the receiver, with coefficients that follow the rate.

    C_t = (1 - s p1 - s p2) [(1 - s c1 - s c2) W_t + s c1 S_N + s c2 S_tau] + s p1 S_N + s p2 S_tau,   s = eta_t / eta_0

with S_N the neighbour whose model, as it arrives, has the smallest loss on the next mini-batch of whoever hears it,
the worker itself among them. While the rate is as it was named the coefficients are those of AL-DSGD's released order;
as it falls the method becomes its core, whose mean no leader moves (``aldsgd.theory.fading``). Nothing is sent but the
models; a worker takes one forward pass for each that it judges. ``experiments.who_leads`` chose it by a criterion that
was fixed before its runs, ``experiments.proposal`` says what became of it on fresh seeds.
"""

from dataclasses import dataclass

from aldsgd.leaders import JUDGES, TIMINGS, LeaderOptions, build
from aldsgd.methods import Method, option


@dataclass(frozen=True)
class FadingOptions(LeaderOptions):
    """Options of AL-DSGD, two with another default."""

    judge: str = option("receiver", "what tells who is best", JUDGES)
    timing: str = option("rate", "when leaders act, and how much", TIMINGS)

    def used(self):
        return super().used() | {"judge": self.judge, "timing": self.timing}


# Not within local steps, whose clock counts exchanges: the rate follows steps.
METHOD = Method("fading_leaders", "fading leaders", build, FadingOptions, place=65)
