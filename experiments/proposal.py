"""Claim under test: what the rule that won ``experiments.who_leads`` gained there, it gains on fresh seeds.

What:     the repository's own rule (``baselines.fading_leaders``) beside D-PSGD, DSGD-AC on either weights, all-reduce
          and the paper's, under the conditions of ``experiments.who_leads``, at the rates chosen there.
          cpu: as there, seeds 20 to 29, which neither choice nor rates saw. paper: as there.
Command:  python -m experiments.proposal --data DIR
Hardware: one CPU core; 180 runs of about 1.5 s.
Expect:   written before the runs: F1, in the mean over the conditions its worst worker is better than D-PSGD's; F2,
          than under the paper's rule; F3 to F5, under each condition than the best of D-PSGD, DSGD-AC and all-reduce,
          which send the same bytes on this graph. Better: a 95 % interval, paired by seed, above zero.
"""

from experiments.scales import Entry, script
from experiments.who_leads import compared

SEEDS = {"smoke": (0, 1), "cpu": tuple(range(20, 30)), "paper": (20, 21, 22, 23, 24)}
#: What ``--method fading_leaders`` is, under the name that it was chosen by.
PROPOSED = "AL-DSGD, receiver judges, fading"
COMPARED = ("D-PSGD", "DSGD-AC", "DSGD-AC, Metropolis", "all-reduce", "AL-DSGD on D-PSGD", PROPOSED)


def configurations(preset: str, seed: int) -> list[Entry]:
    """Every method under every condition."""
    return compared(preset, seed, COMPARED)


if __name__ == "__main__":
    script(__file__, __doc__, configurations, SEEDS)
