"""Each method's own learning rate in preset mid: of a grid, the best for its mean worker on held-out images.

The choice is made in ``experiments.own_rates`` with a seed that no experiment uses; a test compares it with those runs.
"""

from collections.abc import Iterable

from aldsgd.errors import ConfigError
from experiments.configuration import RunConfig
from experiments.scales import Entry, method

#: Ends the name of a condition whose runs are of all epochs, where others of it are of half.
LONGER = ", all epochs"
#: Conditions: all methods have D-PSGD's rate; each has its own.
SHARED, OWN_RATES = "D-PSGD's rate", "own rates"
#: Setting of ``experiments.own_rates`` -> method -> rate.
OWN: dict[str, dict[str, float]] = {
    "resnet_small": {
        "D-PSGD": 0.4,
        "all-reduce": 0.8,
        "AL-DSGD, three graphs": 1.6,
        "AL-DSGD on D-PSGD": 0.4,
        "D-PSGD, three graphs": 0.8,
        "MATCHA": 1.6,
        "AL-DSGD on MATCHA": 0.4,
        "no exchange": 0.1,
        "D-PSGD (released schedule)": 0.4,
    },
    "cnn, 100 %": {
        "D-PSGD": 1.6,
        "D-PSGD, three graphs": 1.6,
        "AL-DSGD on D-PSGD": 1.6,
        "AL-DSGD, three graphs": 3.2,
    },
    "cnn, 38.5 %": {
        "D-PSGD": 0.8,
        "D-PSGD, three graphs": 0.8,
        "AL-DSGD on D-PSGD": 0.4,
        "AL-DSGD, three graphs": 1.6,
    },
    "momentum": {
        "D-PSGD": 0.32,
        "D-PSGD, three graphs": 0.32,
        "AL-DSGD on D-PSGD": 0.32,
        "AL-DSGD, three graphs": 0.16,
        "all-reduce": 0.32,
    },
    "GroupNorm": {
        "D-PSGD": 0.4,
        "AL-DSGD, three graphs": 0.4,
        "all-reduce": 0.2,
    },
    "resnet_small, alone": {"no exchange": 0.4},
    "cnn, alone": {"no exchange": 0.4},
    "fashionmnist, identical": {
        "no exchange": 0.1,
        "D-PSGD": 0.2,
        "MATCHA": 0.2,
        "all-reduce": 0.4,
        "AL-DSGD on D-PSGD": 0.2,
        "AL-DSGD, three graphs": 0.4,
        "AL-DSGD, second draw": 0.2,
    },
    "fashionmnist, lr rises with degree": {
        "no exchange": 0.025,
        "D-PSGD": 0.025,
        "MATCHA": 0.025,
        "all-reduce": 0.1,
        "AL-DSGD on D-PSGD": 0.025,
        "AL-DSGD, three graphs": 0.05,
        "AL-DSGD, second draw": 0.025,
    },
    "fashionmnist, lr falls with degree": {
        "no exchange": 0.025,
        "D-PSGD": 0.025,
        "MATCHA": 0.025,
        "all-reduce": 0.1,
        "AL-DSGD on D-PSGD": 0.1,
        "AL-DSGD, three graphs": 0.1,
        "AL-DSGD, second draw": 0.1,
    },
    "fashionmnist, noise at 2": {
        "no exchange": 0.1,
        "D-PSGD": 0.2,
        "MATCHA": 0.2,
        "all-reduce": 0.4,
        "AL-DSGD on D-PSGD": 0.2,
        "AL-DSGD, three graphs": 0.2,
        "AL-DSGD, second draw": 0.2,
    },
    "fashionmnist, noise at 4": {
        "no exchange": 0.05,
        "D-PSGD": 0.2,
        "MATCHA": 0.2,
        "all-reduce": 0.4,
        "AL-DSGD on D-PSGD": 0.2,
        "AL-DSGD, three graphs": 0.2,
        "AL-DSGD, second draw": 0.2,
    },
    "fashionmnist, noise at 6": {
        "no exchange": 0.05,
        "D-PSGD": 0.2,
        "MATCHA": 0.1,
        "all-reduce": 0.4,
        "AL-DSGD on D-PSGD": 0.1,
        "AL-DSGD, three graphs": 0.2,
        "AL-DSGD, second draw": 0.1,
    },
    "fashionmnist, unequal shards": {
        "no exchange": 0.1,
        "D-PSGD": 0.2,
        "MATCHA": 0.2,
        "all-reduce": 0.4,
        "AL-DSGD on D-PSGD": 0.4,
        "AL-DSGD, three graphs": 0.4,
        "AL-DSGD, second draw": 0.2,
    },
}
#: Condition of ``experiments.leader_rates`` -> method -> rate; "cifar10" serves all of ``experiments.leaders_cifar10``.
LEADERS: dict[str, dict[str, float]] = {
    "identical": {
        "D-PSGD": 0.2,
        "D-PSGD, Metropolis": 0.2,
        "DSGD-AC": 0.05,
        "DSGD-AC, Metropolis": 0.2,
        "all-reduce": 0.2,
        "AL-DSGD, itself": 0.2,
        "AL-DSGD on D-PSGD": 0.2,
        "AL-DSGD, receiver judges": 0.2,
        "AL-DSGD, soft": 0.2,
        "AL-DSGD, translation": 0.2,
        "AL-DSGD, fading": 0.2,
        "AL-DSGD, late": 0.2,
        "soft gossip": 0.2,
        "soft gossip, receiver judges": 0.2,
        "AL-DSGD, receiver judges, fading": 0.2,
        "LSGD": 0.1,
        "LSGD, 2 groups of 4": 0.1,
        "LSGD, 4 groups of 2": 0.1,
        "LSGD+": 0.1,
        "EASGD": 0.1,
        "MGRAWA": 0.1,
        "WASGD+": 0.1,
        "DPPF": 0.1,
        "AL-DSGD, gradient judges": 0.2,
        "AL-DSGD, shared samples judge": 0.2,
        "AL-DSGD, rank": 0.2,
    },
    "lr rises with degree": {
        "D-PSGD": 0.025,
        "all-reduce": 0.05,
        "AL-DSGD on D-PSGD": 0.025,
        "LSGD": 0.025,
        "LSGD, 2 groups of 4": 0.1,
        "LSGD, 4 groups of 2": 0.1,
        "LSGD+": 0.025,
        "EASGD": 0.025,
        "MGRAWA": 0.025,
        "WASGD+": 0.025,
        "DPPF": 0.025,
    },
    "noise at 2": {
        "D-PSGD": 0.2,
        "all-reduce": 0.2,
        "AL-DSGD on D-PSGD": 0.2,
        "LSGD": 0.1,
        "LSGD, 2 groups of 4": 0.1,
        "LSGD, 4 groups of 2": 0.1,
        "LSGD+": 0.1,
        "EASGD": 0.1,
        "MGRAWA": 0.1,
        "WASGD+": 0.1,
        "DPPF": 0.1,
    },
    "noise at 4": {
        "D-PSGD": 0.2,
        "D-PSGD, Metropolis": 0.2,
        "DSGD-AC": 0.05,
        "DSGD-AC, Metropolis": 0.1,
        "all-reduce": 0.4,
        "AL-DSGD, itself": 0.2,
        "AL-DSGD on D-PSGD": 0.2,
        "AL-DSGD, receiver judges": 0.2,
        "AL-DSGD, soft": 0.2,
        "AL-DSGD, translation": 0.2,
        "AL-DSGD, fading": 0.2,
        "AL-DSGD, late": 0.2,
        "soft gossip": 0.2,
        "soft gossip, receiver judges": 0.2,
        "AL-DSGD, receiver judges, fading": 0.2,
        "LSGD": 0.1,
        "LSGD, 2 groups of 4": 0.1,
        "LSGD, 4 groups of 2": 0.1,
        "LSGD+": 0.1,
        "EASGD": 0.1,
        "MGRAWA": 0.1,
        "WASGD+": 0.2,
        "DPPF": 0.1,
        "AL-DSGD, gradient judges": 0.2,
        "AL-DSGD, shared samples judge": 0.2,
        "AL-DSGD, rank": 0.2,
    },
    "noise at 6": {
        "D-PSGD": 0.2,
        "all-reduce": 0.2,
        "AL-DSGD on D-PSGD": 0.2,
        "LSGD": 0.1,
        "LSGD, 2 groups of 4": 0.1,
        "LSGD, 4 groups of 2": 0.1,
        "LSGD+": 0.1,
        "EASGD": 0.05,
        "MGRAWA": 0.1,
        "WASGD+": 0.1,
        "DPPF": 0.1,
    },
    "skew 0.1": {
        "D-PSGD": 0.2,
        "D-PSGD, Metropolis": 0.2,
        "DSGD-AC": 0.05,
        "DSGD-AC, Metropolis": 0.2,
        "all-reduce": 0.4,
        "AL-DSGD, itself": 0.2,
        "AL-DSGD on D-PSGD": 0.2,
        "AL-DSGD, receiver judges": 0.2,
        "AL-DSGD, soft": 0.4,
        "AL-DSGD, translation": 0.2,
        "AL-DSGD, fading": 0.2,
        "AL-DSGD, late": 0.2,
        "soft gossip": 0.4,
        "soft gossip, receiver judges": 0.4,
        "AL-DSGD, receiver judges, fading": 0.2,
        "LSGD": 0.2,
        "LSGD, 2 groups of 4": 0.4,
        "LSGD, 4 groups of 2": 0.4,
        "LSGD+": 0.2,
        "EASGD": 0.2,
        "MGRAWA": 0.4,
        "WASGD+": 0.2,
        "DPPF": 0.2,
        "AL-DSGD, gradient judges": 0.2,
        "AL-DSGD, rank": 0.2,
    },
    "one broken": {
        "D-PSGD": 0.2,
        "all-reduce": 0.2,
        "AL-DSGD on D-PSGD": 0.2,
        "LSGD": 0.1,
        "LSGD, 2 groups of 4": 0.1,
        "LSGD, 4 groups of 2": 0.1,
        "LSGD+": 0.05,
        "EASGD": 0.1,
        "MGRAWA": 0.1,
        "WASGD+": 0.1,
        "DPPF": 0.1,
    },
    "cifar10": {
        "D-PSGD": 0.4,
        "DSGD-AC, Metropolis": 0.4,
        "all-reduce": 1.6,
        "AL-DSGD on D-PSGD": 1.6,
        "AL-DSGD, receiver judges, fading": 0.4,
        "LSGD": 0.2,
        "EASGD": 0.4,
    },
    "identical, twice the epochs": {
        "D-PSGD": 0.2,
        "all-reduce": 0.2,
        "AL-DSGD on D-PSGD": 0.2,
    },
    "noise at 4, twice the epochs": {
        "D-PSGD": 0.2,
        "all-reduce": 0.2,
        "AL-DSGD on D-PSGD": 0.2,
    },
    "skew 0.1, twice the epochs": {
        "D-PSGD": 0.2,
        "all-reduce": 0.4,
        "AL-DSGD on D-PSGD": 0.4,
    },
}


class NoRate(ConfigError):
    """No rate has been chosen yet."""


def own_rate(setting: str, label: str) -> float:
    """The rate of a method. Raises NoRate where none has been chosen."""
    try:
        return OWN[setting][label]
    except KeyError:
        raise NoRate(
            f"no rate has been chosen for {label} in {setting}; run python -m experiments.own_rates --preset mid"
        ) from None


def at_own_rates(setting: str, base: RunConfig, labels: Iterable[str]) -> list[Entry]:
    """Each method on one base configuration at its own rate in that setting; all under one condition."""
    return [(label, method(base.but(lr=own_rate(setting, label)), label), OWN_RATES) for label in labels]


def at_shared_rate(base: RunConfig, labels: Iterable[str]) -> list[Entry]:
    """Each method at the rate of that base configuration, which is D-PSGD's, as in the paper; all under one
    condition."""
    return [(f"{label}, {SHARED}", method(base, label), SHARED) for label in labels]
