"""Claim under test: the repository's own rule is worth its time: what its judges cost would gain less as more epochs.

What:     the rule (``baselines.fading_leaders``), whose workers judge each neighbour by a forward pass, beside D-PSGD,
          all-reduce and the paper's rule with twice the epochs, which is about as long under the clock that every run
          records (10 ms a step, a forward pass a third of it, 10 Gb/s). Drops of the rate at the same shares of the
          run. They send twice the bytes then.
          cpu: conditions and seeds of ``experiments.proposal``; each at its own rate for that many epochs
          (``experiments.leader_rates``).
Command:  python -m experiments.equal_time --data DIR
Hardware: one CPU core; 120 runs of 1.5 to 3 s, 30 of them those of ``experiments.proposal``.
Expect:   written before the runs. On a link that is no bottleneck D-PSGD uses the time better: in the mean over the
          conditions the rule's worst worker is not better than its at twice the epochs. If the rule is better, with an
          interval without zero, judging is worth what it costs even where time is what counts.
"""

from experiments.configuration import RunConfig
from experiments.proposal import PROPOSED
from experiments.proposal import SEEDS as FRESH
from experiments.rates import LEADERS
from experiments.scales import TWICE, Entry, script, twice
from experiments.who_leads import compared, conditions

SEEDS = {preset: FRESH[preset] for preset in ("smoke", "cpu")}
LONGER = ("D-PSGD", "all-reduce", "AL-DSGD on D-PSGD")


def longer(base: RunConfig) -> dict[str, RunConfig]:
    """The conditions at twice the epochs, by name."""
    return {name: twice(config) for name, config in conditions(base).items()}


def configurations(preset: str, seed: int) -> list[Entry]:
    """The rule as it is, and the others with twice the epochs, labelled "D-PSGD, skew 0.1"."""
    rates = {name.removesuffix(f", {TWICE}"): own for name, own in LEADERS.items() if name.endswith(TWICE)}
    return [*compared(preset, seed, (PROPOSED,)), *compared(preset, seed, LONGER, longer, rates=rates)]


if __name__ == "__main__":
    script(__file__, __doc__, configurations, SEEDS)
