"""What leaders add to D-PSGD, by what tells who leads. python -m figures.judges"""

import sys
from pathlib import Path

import numpy as np

from figures import style
from figures.common import by_condition, categories, finish, grid, script
from tables.base import REFERENCE
from tables.query import Experiment


def draw(results: Path, out: Path, name: str = "judges", lowest: float = -np.inf) -> list[Path]:
    """Draw the figure from the store; returns the files written. Raises ConfigError when no run is complete.

    lowest: percentage points below which nothing is shown.
    """
    runs = Experiment(results, name)
    names = [runs.named(number) or str(number) for number in runs.conditions]
    cells = by_condition(runs)
    plain = cells.pop(REFERENCE, None)
    with style.sheet():
        fig, (panels,) = grid(1, 2, 2.9)
        for axes, column in zip(panels, ("worst", "mean"), strict=True):
            gains = {
                variant: [cell.less(other, column) for cell, other in zip(own, plain, strict=True)]
                for variant, own in cells.items()
                if plain
            }
            categories(axes, [name.replace(" ", "\n", 1) for name in names], gains)
            axes.axhline(0, color="0.4", linewidth=0.6)
            axes.set(title=f"{column} worker, less D-PSGD's", ylabel="percentage points")
            if axes.get_ylim()[0] < lowest:
                axes.set_ylim(bottom=lowest)
                axes.set_xlabel(f"below {lowest:g} points: see the table")
        return finish(fig, runs, list(cells), out)


if __name__ == "__main__":
    sys.exit(script("judges", draw))
