"""Claim: in preset mid each method has the learning rate that is best for it, chosen without the test images.

What:     every method in every setting that preset mid compares, over a grid of at least four rates; one seed (100)
          that no experiment uses. The rule: the largest mean worker accuracy at the last epoch on 5,000 images held out
          of the training images; the test set is never looked at. Methods that are compared have the same grid, which
          was extended for all where the choice of one lay at an edge. Where an epoch has all images, at half the epochs
          first; then, since longer runs may want another rate, each rate within a point of the best is tried at all
          epochs, and the best of these counts; for ``resnet_small`` and ``cnn`` these came after first runs at the
          best rates of half the epochs, which are kept (``half_rates``).
          D-PSGD's rate serves every method, as in the paper; each one's own is in ``experiments.rates``.
Alone:    one worker with all the images reaches 79.8 % (ResNet, 20 epochs) and 63.3 % (three convolutions, 12).
Command:  python -m experiments.own_rates --preset mid --data DIR
Hardware: one CPU core; 622 runs: 378 of about 3 s on Fashion-MNIST, the rest on CIFAR-10, of half a minute
          to 16 minutes.
Expect:   each best rate lies inside its grid; a test compares it with the one that is used.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from experiments import heterogeneous
from experiments.configuration import RunConfig
from experiments.heterogeneous import conditions
from experiments.rates import LONGER
from experiments.scales import (
    ALONE,
    GROUPS,
    MID,
    MID_CNN,
    MID_FASHION,
    MOMENTUM,
    SMOKE,
    TUNING_SEED,
    Entry,
    method,
    script,
)  # fmt: skip

SEEDS = dict.fromkeys(("smoke", "mid"), (TUNING_SEED,))
#: How far below the best a rate still comes near it (share of accuracy).
FINALISTS = 0.01
GOSSIP = ("D-PSGD", "D-PSGD, three graphs", "AL-DSGD on D-PSGD", "AL-DSGD, three graphs")
#: First word of a condition of ``heterogeneous`` -> rates below those of all conditions. Rates spread over two decades
#: reach to ten times the one that is named.
LOWER = {"lr": (0.00625, 0.0125, 0.025), "noise": (0.0125, 0.025)}


class Setting(NamedTuple):
    """What a table of preset mid compares: a configuration at a rate, its methods, and the grid of rates.

    finals: method -> the rates that come within FINALISTS of its best at half the epochs, where these are several and
    an epoch has all images.
    """

    at: Callable[[float], RunConfig]
    methods: tuple[str, ...]
    rates: tuple[float, ...] = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
    finals: Mapping[str, tuple[float, ...]] = {}


def on(base: RunConfig) -> Callable[[float], RunConfig]:
    """One configuration at any rate."""
    return lambda lr: base.but(lr=lr)


SETTINGS: dict[str, Setting] = {
    "resnet_small": Setting(
        on(MID),
        ("D-PSGD", "all-reduce", "AL-DSGD, three graphs", "AL-DSGD on D-PSGD", "D-PSGD, three graphs", "MATCHA",
         "AL-DSGD on MATCHA", "no exchange", "D-PSGD (released schedule)"),
        (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2),
        finals={"D-PSGD": (0.1, 0.4, 0.8, 1.6), "all-reduce": (0.8, 1.6), "AL-DSGD, three graphs": (0.2, 0.4, 1.6),
                "AL-DSGD on D-PSGD": (0.05, 0.1, 0.4, 0.8), "D-PSGD, three graphs": (0.8, 1.6),
                # Two of these were within a point before the grid was extended to 0.05.
                "MATCHA": (0.05, 0.1, 0.2, 0.4, 0.8, 1.6), "AL-DSGD on MATCHA": (0.05, 0.2, 0.4),
                "no exchange": (0.1, 0.2, 0.4), "D-PSGD (released schedule)": (0.05, 0.1, 0.2, 0.4)},
    ),
    **{
        f"fashionmnist, {name}": Setting(
            lambda lr, name=name: conditions(MID_FASHION.but(lr=lr))[name], heterogeneous.MID_COMPARED,
            (*LOWER.get(name.split()[0], ()), 0.05, 0.1, 0.2, 0.4, 0.8, 1.6),
        )
        for name in conditions(MID_FASHION)
    },
    "cnn, 100 %": Setting(
        on(MID_CNN.but(graph="paper:100")), GOSSIP, (0.4, 0.8, 1.6, 3.2, 6.4),
        {"D-PSGD": (0.4, 0.8, 1.6),
         **dict.fromkeys(("AL-DSGD on D-PSGD", "AL-DSGD, three graphs"), (0.4, 0.8, 1.6, 3.2))},
    ),
    # Workers of a single graph of 38.5 % cannot all agree.
    "cnn, 38.5 %": Setting(
        on(MID_CNN.but(graph="paper:38.5", disconnected=True)), GOSSIP,
        finals={"D-PSGD": (0.4, 0.8), "D-PSGD, three graphs": (0.4, 0.8, 1.6), "AL-DSGD on D-PSGD": (0.4, 0.8, 1.6),
                "AL-DSGD, three graphs": (0.4, 1.6)},
    ),
    "GroupNorm": Setting(
        on(GROUPS),
        ("D-PSGD", "AL-DSGD, three graphs", "all-reduce"),
        (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2),
        {"D-PSGD": (0.1, 0.2, 0.4, 0.8), "all-reduce": (0.1, 0.2, 0.4)},
    ),
    "momentum": Setting(
        on(MOMENTUM),
        (*GOSSIP, "all-reduce"),
        (0.02, 0.04, 0.08, 0.16, 0.32, 0.64),
        {"D-PSGD": (0.08, 0.32), "D-PSGD, three graphs": (0.08, 0.16, 0.32),
         "AL-DSGD on D-PSGD": (0.04, 0.08, 0.16, 0.32), "AL-DSGD, three graphs": (0.16, 0.32)},
    ),
    **{
        name: Setting(on(ALONE[name]), ("no exchange",), (0.05, 0.1, 0.2, 0.4, 0.8, 1.6), {"no exchange": near})
        for name, near in (("resnet_small, alone", (0.4, 0.8)), ("cnn, alone", (0.2, 0.4)))
    },
}  # fmt: skip


def held_out(base: RunConfig, share: float = 0.5) -> RunConfig:
    """The same setting, tested once on training images that it does not train on; where an epoch has all images, at
    that share of the epochs."""
    if base.train_images:
        return base.but(validation=5000, eval_every=base.epochs, also=())
    epochs, drops = round(share * base.epochs), tuple((round(share * epoch), factor) for epoch, factor in base.lr_drops)
    return base.but(validation=5000, also=(), epochs=epochs, lr_drops=drops, eval_every=epochs, interim_images=None)


def configurations(preset: str, seed: int) -> list[Entry]:
    """One run per setting, method and rate, labelled "resnet_small, MATCHA, lr 0.2"."""
    if preset == "smoke":
        base = SMOKE.but(validation=64, seed=seed)
        return [(f"digits, D-PSGD, lr {lr:g}", method(base.but(lr=lr), "D-PSGD"), "digits") for lr in (0.1, 0.2)]

    def tried(place: str, at: Callable[[float], RunConfig], rates: Mapping[str, tuple[float, ...]], share: float):
        return [
            (f"{place}, {label}, lr {lr:g}", method(held_out(at(lr), share), label).but(seed=seed), place)
            for label in rates
            for lr in rates[label]
        ]

    found = []
    for name, setting in SETTINGS.items():
        found += tried(name, setting.at, dict.fromkeys(setting.methods, setting.rates), 0.5)
        found += tried(name + LONGER, setting.at, setting.finals, 1)
    return found


if __name__ == "__main__":
    script(__file__, __doc__, configurations, SEEDS)
