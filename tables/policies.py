"""What the policies of BatchNorm's statistics change in the main comparison, whose runs were tested under three.

Nothing is trained apart for a policy: it is the same run, tested again (``also``; ``aldsgd.evaluation`` defines them).
"""

from pathlib import Path

from aldsgd.errors import ConfigError
from aldsgd.statistics import Interval, paired_by_seed
from experiments.rates import OWN_RATES
from tables.base import Table, Unit, caption, table
from tables.query import Experiment, Runs

#: Title -> (one of ``tables.query.VALUES``, what is taken from it); of the second kind a paired difference.
COLUMNS = {
    "worst worker, its own statistics": ("own_worst", None),
    "estimated anew, less own": ("fresh_worst", "own_worst"),
    "averaged model, estimated anew": ("averaged", None),
    "mean of the workers' statistics, less anew": ("own_averaged", "averaged"),
}


def policies(root: Path) -> Table:
    """One row a method, each at its own rate. Raises ConfigError where no run was tested under several policies."""
    runs = Experiment(root, "final_accuracy")
    main, unit = runs.under(OWN_RATES), Unit.of(runs)
    if not any(config.get("also") for config in main.configs):
        raise ConfigError("no run of final_accuracy was tested under several policies; train its preset mid")
    rows = [
        {"method": variant}
        | {
            title: unit.show(found) if less is None else unit.gain(found)
            for title, (column, less) in COLUMNS.items()
            for found in [changed(main.select(variant=variant), column, less)]
        }
        for variant in main.variants
    ]
    images = " and ".join(f"{count:,}" for count in main.field("bn_images"))
    note = (
        f"Each run tested under three policies of BatchNorm's statistics. Anew: from {images} training images, "
        "augmented as in training. The worst worker is the worst under the policy named."
    )
    return table(caption(runs, note), rows)


def changed(runs: Runs, column: str, less: str | None) -> Interval | None:
    """A value at the end of the runs, or its difference to another of the same runs, over seeds."""
    return runs.interval(column) if less is None else paired_by_seed(runs.values(column), runs.values(less))
