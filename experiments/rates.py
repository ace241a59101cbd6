"""Each method's own learning rate in preset mid: of a grid, the best for its mean worker on held-out images.

The choice is made in ``experiments.own_rates`` with a seed that no experiment uses; a test compares it with those runs.
"""

from collections.abc import Iterable

from aldsgd.errors import ConfigError
from experiments.configuration import RunConfig
from experiments.scales import Entry, method

#: Setting of ``experiments.own_rates`` -> method -> rate.
OWN: dict[str, dict[str, float]] = {}


def own_rate(setting: str, label: str) -> float:
    """The rate of a method. Raises ConfigError where none has been chosen."""
    try:
        return OWN[setting][label]
    except KeyError:
        raise ConfigError(
            f"no rate has been chosen for {label} in {setting}; run python -m experiments.own_rates --preset mid"
        ) from None


def at_own_rates(setting: str, base: RunConfig, labels: Iterable[str]) -> list[Entry]:
    """Each method on one base configuration at its own rate in that setting; all under one condition."""
    return [(label, method(base.but(lr=own_rate(setting, label)), label), "own rates") for label in labels]
