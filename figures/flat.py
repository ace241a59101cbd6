"""Flatness at the mean of the workers, and the barrier between them. python -m figures.flat"""

import sys
from pathlib import Path

from aldsgd.statistics import mean_interval
from figures import style
from figures.common import dots, grid, script
from figures.theory_common import frames

PANELS = {"curvature": "largest curvature", "rise": "rise, random directions", "barrier": "barrier between workers"}


def draw(results: Path, out: Path) -> list[Path]:
    """Draw the figure from the table of ``experiments.flat``; returns the files written."""
    rows = frames(results, "flat")["flat"]
    names = list(dict.fromkeys(rows["method"]))
    with style.sheet():
        fig, (panels,) = grid(1, 3, 1.2 + 0.2 * len(names), sharey=True)
        for axes, (column, title) in zip(panels, PANELS.items(), strict=True):
            own = [rows[rows["method"] == name][column] / 100 for name in names]
            dots(axes, names, [mean_interval(values) for values in own])  # which shows hundredths
            axes.set_title(title)
        return style.save(fig, out / "flat")


if __name__ == "__main__":
    sys.exit(script("flat", draw))
