"""Claim: the learning rates of the presets cpu and mid are the best of a grid, chosen before any comparison.

What:     one seed (100) that no experiment uses. The rule: the largest mean worker accuracy at the last epoch.
          cpu: D-PSGD alone on the base graph, each data set, tested on the test set; its rate serves every method.
          mid: every method in every setting of SETTINGS, 10 of the 20 epochs, on 45,000 training images; the rate is
          chosen on the other 5,000, never on the test set. D-PSGD's serves every method, as in the paper; the others'
          own are in ``experiments.rates``.
Command:  python -m experiments.tuning --data DIR
Hardware: one CPU core. cpu: 18 runs, 4 minutes. mid: 4 hours. paper: cpu's grid in the paper's setting.
Expect:   each best rate lies inside its grid; a test compares it with the one that is used.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from experiments import heterogeneous
from experiments.configuration import RunConfig
from experiments.heterogeneous import conditions
from experiments.scales import (
    CIFAR10,
    CIFAR100,
    GROUPS,
    MID,
    MID_CNN,
    MID_FASHION,
    MOMENTUM,
    SMALL,
    TUNING_SEED,
    Entry,
    method,
    script,
)  # fmt: skip

RATES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
SEEDS = dict.fromkeys(("smoke", "cpu", "mid", "paper"), (TUNING_SEED,))
GOSSIP = ("D-PSGD", "D-PSGD, three graphs", "AL-DSGD on D-PSGD", "AL-DSGD, three graphs")


class Setting(NamedTuple):
    """What a table of preset mid compares: a configuration at a rate, its methods, and the grid of rates.

    more: method -> further rates, where the best was at an edge of the grid.
    """

    at: Callable[[float], RunConfig]
    methods: tuple[str, ...]
    rates: tuple[float, ...] = (0.4, 0.8, 1.6, 3.2)
    more: Mapping[str, tuple[float, ...]] = {}


def on(base: RunConfig) -> Callable[[float], RunConfig]:
    """One configuration at any rate."""
    return lambda lr: base.but(lr=lr)


SETTINGS: dict[str, Setting] = {
    "resnet_small": Setting(
        on(MID),
        ("D-PSGD", "all-reduce", "AL-DSGD, three graphs", "AL-DSGD on D-PSGD", "D-PSGD, three graphs", "MATCHA",
         "AL-DSGD on MATCHA", "no exchange", "D-PSGD (released schedule)"),
    ),
    **{
        f"fashionmnist, {name}": Setting(
            lambda lr, name=name: conditions(MID_FASHION.but(lr=lr))[name], heterogeneous.MID_COMPARED,
            (0.05, 0.1, 0.2, 0.4, 0.8, 1.6),
        )
        for name in conditions(MID_FASHION)
    },
    "cnn, 100 %": Setting(on(MID_CNN.but(graph="paper:100")), GOSSIP),
    # Workers of a single graph of 38.5 % cannot all agree.
    "cnn, 38.5 %": Setting(on(MID_CNN.but(graph="paper:38.5", disconnected=True)), GOSSIP),
    "GroupNorm": Setting(on(GROUPS), ("D-PSGD", "AL-DSGD, three graphs", "all-reduce")),
    "momentum": Setting(
        on(MOMENTUM),
        ("D-PSGD", "AL-DSGD on D-PSGD", "AL-DSGD, three graphs", "all-reduce"),
        (0.02, 0.04, 0.08, 0.16),
    ),
}  # fmt: skip


def held_out(base: RunConfig) -> RunConfig:
    """The same setting, tested once on training images that it does not train on; where an epoch has all images, at
    half the epochs."""
    if base.train_images:
        return base.but(validation=5000, eval_every=base.epochs, also=())
    half = tuple((round(epoch / 2), factor) for epoch, factor in base.lr_drops)
    changes = dict(epochs=base.epochs // 2, lr_drops=half, eval_every=base.epochs // 2, interim_images=None)
    return base.but(validation=5000, also=(), **changes)


def configurations(preset: str, seed: int) -> list[Entry]:
    """One run per setting, method and rate, labelled "cifar10, lr 0.2" or, in preset mid, "resnet_small, MATCHA, lr
    0.2"."""
    if preset == "mid":
        return [
            (f"{name}, {label}, lr {lr:g}", method(held_out(setting.at(lr)), label).but(seed=seed), name)
            for name, setting in SETTINGS.items()
            for label in setting.methods
            for lr in (*setting.rates, *setting.more.get(label, ()))
        ]
    bases = {SETTING[preset].dataset: method(SETTING[preset], "D-PSGD") for SETTING in (CIFAR10, CIFAR100, SMALL)}
    return [(f"{name}, lr {lr:g}", base.but(lr=lr, seed=seed)) for name, base in bases.items() for lr in RATES]


if __name__ == "__main__":
    script(__file__, __doc__, configurations, SEEDS)
