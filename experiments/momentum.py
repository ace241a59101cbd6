"""Claim under test: leaders add something to gossip as it is trained today, with momentum and a cosine schedule.

What:     D-PSGD and AL-DSGD, each with one and with three graphs, and all-reduce, each worker with Nesterov momentum
          0.9 of its own and the rate on a cosine to zero, each method at its own best rate and all at D-PSGD's; 8
          workers on the paper's 53.8 % graph, five seeds. The paper trains without momentum.
          The named comparison is of AL-DSGD with three graphs and D-PSGD with one, so a gain may be the rotation's. If
          D-PSGD gains as much from three graphs, it is; if AL-DSGD is still better on the same three, it is the
          leaders'.
          "First grid": the named comparison as it was first made, when D-PSGD's rate was the best of a grid up to 0.16
          and AL-DSGD's of one up to 0.64. The same grid for all, and each rate within a point of the best at all
          epochs, were tried after those runs, and are what counts.
          mid: all of CIFAR-10, an eight-layer ResNet, 12 epochs.
Alone:    one worker with all the images reaches 79.8 % without momentum (ResNet, 20 epochs; ``alone``).
Command:  python -m experiments.momentum --preset mid --data DIR
Hardware: one CPU core; 35 runs of about 4 minutes.
Expect:   open; a gain of leaders, if it is theirs, over the same graphs without them.
"""

from experiments.rates import at_own_rates, at_shared_rate, own_rate
from experiments.scales import MOMENTUM, SMOKE, Entry, method, script

SEEDS = {"smoke": (0, 1), "mid": (0, 1, 2, 3, 4)}
COMPARED = ("D-PSGD", "D-PSGD, three graphs", "AL-DSGD on D-PSGD", "AL-DSGD, three graphs", "all-reduce")
#: The rates of the named comparison when the two methods had different grids.
FIRST = {"D-PSGD": 0.08, "AL-DSGD, three graphs": 0.32}


def configurations(preset: str, seed: int) -> list[Entry]:
    """The methods side by side."""
    if preset == "mid":
        base = MOMENTUM.but(seed=seed)
        first = [(f"{label}, first grid", method(base.but(lr=lr), label), "first grid") for label, lr in FIRST.items()]
        shared = at_shared_rate(base.but(lr=own_rate("momentum", "D-PSGD")), COMPARED)
        return [*at_own_rates("momentum", base, COMPARED), *shared, *first]
    base = SMOKE.but(momentum=0.9, nesterov=True, schedule="cosine", lr=0.01, seed=seed)
    return [(label, method(base, label)) for label in COMPARED]


if __name__ == "__main__":
    script(__file__, __doc__, configurations, SEEDS)
