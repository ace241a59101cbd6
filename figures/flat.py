"""Flatness at the mean of the workers, and the barrier between them. python -m figures.flat"""

import sys
from pathlib import Path

from aldsgd.statistics import mean_interval
from figures import style
from figures.common import dots, script
from figures.theory_common import frames

PANELS = {
    "curvature": ("largest curvature", "of the training loss"),
    "rise": ("random directions", "rise of the training loss"),
    "barrier": ("between workers", "height of the barrier"),
}


def draw(results: Path, out: Path, width: float = style.PAGE_WIDTH) -> list[Path]:
    """Draw the figure from the table of ``experiments.flat``; returns the files written."""
    rows = frames(results, "flat")["flat"]
    names = list(dict.fromkeys(rows["method"]))
    high = 0.2 * len(names)
    with style.sheet(width):
        fig, (panels,) = style.grid(1, 3, 1.2 + high, 0.5 + high, sharey="all")
        for axes, (column, (title, label)) in zip(panels, PANELS.items(), strict=True):
            own = [rows[rows["method"] == name][column] / 100 for name in names]  # dots are drawn in hundredths
            dots(axes, names, [mean_interval(values) for values in own])
            axes.set(title=title, xlabel=label)
        seeds = rows["seed"].nunique()
        style.heading(fig, f"Means of identical workers: mean and 95 % interval over n = {seeds} seeds")
        return style.save(fig, out / "flat")


if __name__ == "__main__":
    sys.exit(script("flat", draw))
