"""What the recorded runs took: hours of one process, and seconds of a run."""

from pathlib import Path

import numpy as np

from aldsgd.listings import MissingRuns, names
from aldsgd.runs import Run
from tables.base import Cell, Table, table
from tables.query import Experiment


def seconds(run: Run) -> float:
    """From the start of a run to its end; of one that was interrupted, from where it went on."""
    return float(run.meta["extra"]["seconds_total"])


def cost(root: Path) -> Table:
    """One row an experiment, in the order of their names; runs that several share count in the first."""
    rows, counted = [], set()
    for name in names(root):
        try:
            runs = Experiment(root, name)
        except MissingRuns:
            continue
        own = {entry.run.key: seconds(entry.run) for entry in runs}
        new = [taken for key, taken in own.items() if key not in counted]
        counted |= set(own)
        rows.append(
            {
                "experiment": f"`{name}`",
                "preset": runs.preset,
                "runs": f"{len(runs)} of {runs.listed}" if len(runs) < runs.listed else str(len(runs)),
                "not in a row above": Cell(len(new)),
                "hours of those": Cell(sum(new) / 3600, "{:.2f}".format),
                "seconds a run, least": Cell(min(own.values()), "{:.1f}".format),
                "median": Cell(float(np.median(list(own.values()))), "{:.1f}".format),
            }
        )
    caption = (
        "What the recorded runs took: one process with one thread each, by the clock, two and more at a time on two "
        "cores, so that most waited for each other; the least is nearest to a quiet core."
    )
    return table(caption, rows)
