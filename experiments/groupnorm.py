"""Claim under test: what is found does not hang on how BatchNorm's statistics are treated.

What:     D-PSGD, AL-DSGD with three graphs and all-reduce with GroupNorm in place of BatchNorm, each at its own best
          rate; 8 workers on the paper's 53.8 % graph, five seeds. No policy of statistics is mixed into any model.
          mid: all of CIFAR-10, an eight-layer ResNet, 12 epochs.
Command:  python -m experiments.groupnorm --preset mid --data DIR
Hardware: one CPU core; mid: 15 runs of about 10 minutes.
Expect:   where BatchNorm does not matter, what ``final_accuracy`` finds: no gain of leaders, and one of all-reduce. An
          interval above zero for leaders would mean that what is found there hangs on BatchNorm, or on its 20 epochs.
"""

from experiments.rates import at_own_rates
from experiments.scales import GROUPS, SMOKE, Entry, method, script

SEEDS = {"smoke": (0, 1), "mid": (0, 1, 2, 3, 4)}
COMPARED = ("D-PSGD", "AL-DSGD, three graphs", "all-reduce")


def configurations(preset: str, seed: int) -> list[Entry]:
    """The methods side by side."""
    if preset == "mid":
        return at_own_rates("GroupNorm", GROUPS.but(seed=seed), COMPARED)
    return [(label, method(SMOKE.but(model="resnet_small_gn", seed=seed), label)) for label in COMPARED]


if __name__ == "__main__":
    script(__file__, __doc__, configurations, SEEDS)
