"""Claim under test: what is found does not hang on the epochs at which the rates were chosen.

What:     the runs that were made first, before any at these rates at all epochs: each method at the rate that is the
          best of its grid at half the epochs (then from 0.1), as ``final_accuracy`` (eight-layer ResNet, 20 epochs,
          53.8 %) and ``sparsity`` (three convolutions, 12 epochs, 100 % and 38.5 %) have it at the best at all epochs
          (``own_rates``). The primary comparisons that they decide, then and now.
Alone:    one worker with all the images reaches 79.8 % (ResNet, 20 epochs) and 63.3 % (three convolutions, 12).
Command:  python -m experiments.half_rates --preset mid --data DIR
Hardware: one CPU core; 80 runs of 2 to 10 minutes, of which some are those of ``final_accuracy`` and ``sparsity``.
Expect:   the same words; where a word changes, it was the rate's.
"""

from itertools import product

from experiments.configuration import RunConfig
from experiments.rates import OWN_RATES
from experiments.scales import MID, MID_CNN, SMOKE, Entry, method, script
from experiments.sparsity import cell, of_graphs

SEEDS = {"smoke": (0, 1), "mid": (0, 1, 2, 3, 4)}
#: Method -> the best rate at half the epochs: of the main comparison, and by level of those on other graphs.
MAIN = {
    "D-PSGD (released schedule)": 0.2,
    "D-PSGD": 1.6,
    "D-PSGD, three graphs": 1.6,
    "MATCHA": 0.2,
    "all-reduce": 0.8,
    "AL-DSGD on D-PSGD": 0.8,
    "AL-DSGD, three graphs": 1.6,
    "AL-DSGD on MATCHA": 0.2,
}
LEVELS = {
    "100": {
        "D-PSGD": 1.6, "D-PSGD, three graphs": 1.6, "AL-DSGD on D-PSGD": 0.8, "AL-DSGD, three graphs": 1.6,
    },
    "38.5": {
        "D-PSGD": 0.8, "D-PSGD, three graphs": 0.4, "AL-DSGD on D-PSGD": 0.8, "AL-DSGD, three graphs": 0.4,
    },
}  # fmt: skip


def on_graphs(base: RunConfig, level: str) -> list[Entry]:
    """The methods on one and on three graphs of a level."""
    found = []
    for family, graphs in product(("D-PSGD", "AL-DSGD on D-PSGD"), (1, 3)):
        label = of_graphs(family, graphs)
        found.append((f"{label}, {level} %", cell(base.but(lr=LEVELS[level][label]), family, level, graphs), level))
    return found


def configurations(preset: str, seed: int) -> list[Entry]:
    """The main comparison, each method at its own rate, and other graphs under their level, as the primary
    comparisons look for them."""
    if preset == "mid":
        main = [(label, method(MID.but(lr=rate, seed=seed), label), OWN_RATES) for label, rate in MAIN.items()]
        return main + [entry for level in LEVELS for entry in on_graphs(MID_CNN.but(seed=seed), level)]
    return [(label, method(SMOKE.but(seed=seed), label), OWN_RATES) for label in ("D-PSGD", "AL-DSGD, three graphs")]


if __name__ == "__main__":
    script(__file__, __doc__, configurations, SEEDS)
