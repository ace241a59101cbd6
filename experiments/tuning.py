"""Claim: the learning rates of preset cpu are those at which D-PSGD ends best, chosen before any comparison.

What:     D-PSGD alone on the base graph, each data set of preset cpu, a grid of learning rates, one seed (100) that no
          experiment uses. The rule: the largest mean worker accuracy at the last epoch.
Command:  python -m experiments.tuning --data DIR
Hardware: one CPU core; 18 runs of about 12 s. paper: the same grid in the paper's setting, 200 epochs each.
Expect:   the best rate lies inside the grid, and is the one that ``experiments.scales`` holds; a test compares them.
"""

from experiments.scales import CIFAR10, CIFAR100, SMALL, TUNING_SEED, Entry, method, script

RATES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
SEEDS = dict.fromkeys(("smoke", "cpu", "paper"), (TUNING_SEED,))


def configurations(preset: str, seed: int) -> list[Entry]:
    """One run per data set and rate, labelled "cifar10, lr 0.2"."""
    bases = {SETTING[preset].dataset: method(SETTING[preset], "D-PSGD") for SETTING in (CIFAR10, CIFAR100, SMALL)}
    return [(f"{name}, lr {lr:g}", base.but(lr=lr, seed=seed)) for name, base in bases.items() for lr in RATES]


if __name__ == "__main__":
    script(__file__, __doc__, configurations, SEEDS)
