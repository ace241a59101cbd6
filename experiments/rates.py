"""Each method's own learning rate in preset mid: of a grid, the best for its mean worker on held-out images.

The choice is made in ``experiments.tuning`` with a seed that no experiment uses; a test compares it with those runs.
"""

from experiments.configuration import RunConfig
from experiments.scales import Entry, method

#: Setting of ``experiments.tuning`` -> method -> rate.
OWN: dict[str, dict[str, float]] = {}


def at_own(setting: str, base: RunConfig, labels) -> list[Entry]:
    """Each method on one base configuration, at its own best rate in that setting."""
    return [(label, method(base, label).but(lr=OWN[setting][label])) for label in labels]
