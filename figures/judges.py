"""What leaders add to D-PSGD, by what tells who leads. python -m figures.judges"""

import sys
from pathlib import Path
from textwrap import fill

import numpy as np

from figures import style
from figures.common import by_condition, categories, finish, script
from tables.base import REFERENCE
from tables.query import Experiment


def broken(name: str) -> str:
    """The name of a condition on two lines, a long one on more."""
    return name.replace(" ", "\n", 1) if len(name) <= 12 else fill(name, 8)


def draw(
    results: Path, out: Path, width: float = style.PAGE_WIDTH, name: str = "judges", lowest: float = -np.inf
) -> list[Path]:
    """Draw the figure from the store; returns the files written. Raises ConfigError when no run is complete.

    lowest: percentage points below which nothing is shown.
    """
    runs = Experiment(results, name)
    names = [runs.named(number) or str(number) for number in runs.conditions]
    cells = by_condition(runs)
    plain = cells.pop(REFERENCE, None)
    with style.sheet(width):
        fig, (panels,) = style.grid(1, 2, 2.9, 1.8, sharex="all", sharey="all")
        for axes, column in zip(panels, ("worst", "mean"), strict=True):
            gains = {
                variant: [cell.less(other, column) for cell, other in zip(own, plain, strict=True)]
                for variant, own in cells.items()
                if plain
            }
            categories(axes, list(map(broken, names)), gains, "percentage points")
            axes.axhline(0, color="0.4", linewidth=0.6)
            axes.set_title(f"{column} worker, less {REFERENCE}'s")
        note = ""
        if panels[0].get_ylim()[0] < lowest:
            panels[0].set_ylim(bottom=lowest)
            note = f"what is missing ends more than {-lowest:g} points below"
        return finish(fig, runs, list(cells), out, note=note)


if __name__ == "__main__":
    sys.exit(script("judges", draw))
