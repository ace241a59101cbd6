"""Claim (C3, C5): the gain is largest on sparse graphs, and rotating graphs cost no more communication.

What:     the paper's five levels of sparsity x one, two or three rotating graphs x D-PSGD, MATCHA and AL-DSGD on each.
          D-PSGD and MATCHA rotate too, so that what the leaders add and what the rotation adds are told apart. A single
          38.5 % graph leaves workers isolated: those runs allow it, and MATCHA activates all matchings alike there.
          cpu: as ``convergence`` (CIFAR-10 cut to 6,000 images, 8 epochs). mid: D-PSGD and AL-DSGD on one and three
          graphs of 100 % and 38.5 %, all of CIFAR-10, three convolutions, 12 epochs, each at its own best rate on that
          level. paper: 200 epochs of all of it.
Alone:    one worker with all the images reaches 63.3 % (mid, three convolutions, 12 epochs; ``alone``).
Command:  python -m experiments.sparsity --data DIR
Hardware: one CPU core; 300 runs of about 13 s each, 65 minutes (60 of them are shared with other experiments). mid:
          40 runs of about 2 minutes.
Expect:   where the paper is right, a gain that grows from 100 % to 38.5 %, at equal bytes for one, two, three graphs.
"""

from experiments.configuration import RunConfig
from experiments.rates import own_rate
from experiments.scales import CIFAR10, LEVELS, MID_CNN, MID_SEEDS, Entry, method, script

SEEDS = MID_SEEDS

COMPARED = ("D-PSGD", "MATCHA", "AL-DSGD on D-PSGD", "AL-DSGD on MATCHA")


def cell(base: RunConfig, label: str, level: str, graphs: int) -> RunConfig:
    """One method at one level with this many graphs; only a set on which workers cannot agree is let through."""
    alone = level == "38.5" and graphs == 1
    return method(base, label).but(graph=f"paper:{level}", graphs=graphs, disconnected=alone)


def of_graphs(label: str, graphs: int) -> str:
    """What ``experiments.own_rates`` calls a method on so many graphs."""
    return {"AL-DSGD on D-PSGD": "AL-DSGD, three graphs"}.get(label, f"{label}, three graphs") if graphs == 3 else label


def configurations(preset: str, seed: int) -> list[Entry]:
    """Every cell, labelled "MATCHA, 2 graphs, 69.2 %"; in preset mid the densest and the sparsest, D-PSGD and AL-DSGD,
    each at its own rate there."""
    if preset == "mid":
        base = MID_CNN.but(seed=seed)
        return [
            (
                f"{label}, {graphs} graph{'s' * (graphs > 1)}, {level} %",
                cell(base, label, level, graphs).but(lr=own_rate(f"cnn, {level} %", of_graphs(label, graphs))),
                level,
            )
            for level in ("100", "38.5")
            for graphs in (1, 3)
            for label in ("D-PSGD", "AL-DSGD on D-PSGD")
        ]
    base = CIFAR10[preset].but(seed=seed)
    return [
        (f"{label}, {graphs} graph{'s' * (graphs > 1)}, {level} %", cell(base, label, level, graphs))
        for level in LEVELS
        for graphs in (1, 2, 3)
        for label in COMPARED
    ]


if __name__ == "__main__":
    script(__file__, __doc__, configurations, SEEDS)
