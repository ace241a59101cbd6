"""Claim under test: leaders help where workers are not alike, and plain gossip survives there.

What:     identical workers (as in the paper) against learning rates spread log-uniformly over two decades about the
          tuned one, rising or falling with the worker's degree; 60 % wrong labels at two, four and six of the eight
          workers (which ones follows from the seed); shards in proportion to 1, 2, ..., 8. 53.8 % graph, five seeds.
          Tested on clean labels.
          mid: leaders judged by a second draw as well; each method at its own best rate under each condition, ten
          seeds, each with 10,000 training images of its own; all 10,000 test images.
          cpu: Fashion-MNIST cut to 10,000 training and 2,000 test images, an MLP, 8 epochs, lr 0.2 (tuned for identical
          workers with D-PSGD). paper: CIFAR-10, narrow ResNet-50, 200 epochs.
Command:  python -m experiments.heterogeneous --data DIR
Hardware: one CPU core; 210 runs of about 3 s each, 11 minutes. mid: 490 runs of about 3 s each.
Expect:   open. A worker with clean labels has the smaller loss, so leaders should find it.
"""

import numpy as np

from aldsgd.graphs import parse
from experiments.configuration import RunConfig
from experiments.rates import own_rate
from experiments.scales import MID_FASHION, SMALL, Entry, method, script
from experiments.scales import SEEDS as OTHERS

SEEDS = OTHERS | {"mid": tuple(range(10))}

COMPARED = ("no exchange", "D-PSGD", "MATCHA", "all-reduce", "AL-DSGD on D-PSGD", "AL-DSGD, three graphs")
MID_COMPARED = (*COMPARED, "AL-DSGD, second draw")
NOISE = 0.6


def at_rate(label: str, condition: str, seed: int) -> RunConfig:
    """The base of preset mid at the rate of a method under a condition."""
    return MID_FASHION.but(lr=own_rate(f"fashionmnist, {condition}", label), seed=seed)


def spread_rates(base: RunConfig, rising: bool) -> tuple[float, ...]:
    """Eight rates from lr/10 to 10 lr, evenly spaced in the logarithm, rising or falling with the degree in graph A."""
    rates = base.lr * 10 ** np.linspace(-1, 1, base.workers)
    places = np.argsort(parse(base.graph, base.workers).degrees, kind="stable")
    own = np.empty(base.workers)
    own[places] = rates if rising else rates[::-1]
    return tuple(float(f"{rate:.4g}") for rate in own)


def conditions(base: RunConfig) -> dict[str, RunConfig]:
    """How the workers differ, by name."""
    return {
        "identical": base,
        "lr rises with degree": base.but(lr=spread_rates(base, True)),
        "lr falls with degree": base.but(lr=spread_rates(base, False)),
        **{f"noise at {k}": base.but(label_noise=NOISE, noisy_workers=k) for k in (2, 4, 6)},
        "unequal shards": base.but(split="unequal"),
    }


def configurations(preset: str, seed: int) -> list[Entry]:
    """Every method under every condition, labelled "MATCHA, noise at 4"; in preset mid each at its own rate."""
    if preset == "mid":
        return [
            (f"{label}, {name}", method(conditions(at_rate(label, name, seed))[name], label), name)
            for name in conditions(MID_FASHION)
            for label in MID_COMPARED
        ]
    return [
        (f"{label}, {name}", method(base, label))
        for name, base in conditions(SMALL[preset].but(seed=seed)).items()
        for label in COMPARED
    ]


if __name__ == "__main__":
    script(__file__, __doc__, configurations, SEEDS)
