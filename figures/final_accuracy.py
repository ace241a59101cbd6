"""Worst, mean and best worker and the averaged model at the last epoch. python -m figures.final_accuracy"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.lines import Line2D

from figures import style
from figures.common import ends, finish, script
from tables.query import Experiment, Runs

#: The bar is no method's marker elsewhere.
MARKERS = {"worst": "<", "mean": "o", "best": ">", "averaged": "|"}
#: One line for each, so that no interval lies on another.
OFFSETS = (-0.27, -0.09, 0.09, 0.27)


#: How the data sets are called in titles.
NAMES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}


def draw(results: Path, out: Path, width: float = style.PAGE_WIDTH) -> list[Path]:
    """Draw the figure from the store; returns the files written. Raises ConfigError when no run is complete."""
    runs = Experiment(results, "final_accuracy")
    variants = runs.variants
    with style.sheet(width):
        # On one data set the panels are compared with each other.
        alike = "all" if len(runs.field("dataset")) == 1 else ""
        fig, panels = style.grid(1, len(runs.conditions), 4.2, 3.0, sharex=alike, sharey="all")
        far = False
        for axes, (number, config) in zip(panels[0], runs.conditions.items(), strict=True):
            floor = lowest(runs.select(condition=number))
            for place, variant in enumerate(variants):
                own = runs.select(variant=variant, condition=number)
                if not own:
                    continue
                color = style.look(variant).color
                for (column, marker), up in zip(MARKERS.items(), OFFSETS, strict=True):
                    (mean,), (half,) = ends([own.interval(column)])
                    if mean < floor:
                        axes.annotate(f"\N{BLACK LEFT-POINTING SMALL TRIANGLE} {mean:.0f} %", (0, place + up), (3, 0),
                                      xycoords=("axes fraction", "data"), textcoords="offset points", va="center",
                                      color=color, fontsize=style.SMALLEST)  # fmt: skip
                        far = True
                        continue
                    axes.errorbar(mean, place + up, xerr=half, color=color, elinewidth=0.9, **look_of(marker, color))
            title, rates = NAMES.get(config["dataset"], config["dataset"]), runs.named(number)
            title = style.verbatim(title + (f", {rates}" if rates else ""))
            axes.set(xlabel="test accuracy (%)", title=title)
            axes.set_yticks(np.arange(len(variants)), list(map(style.brief, variants)))
            axes.set_ylim(len(variants) - 0.4, -0.6)
        handles = [
            Line2D([], [], color="0.3", linestyle="none", **look_of(marker, "0.3"),
                   label="averaged model" if column == "averaged" else f"{column} worker")
            for column, marker in MARKERS.items()
        ]  # fmt: skip
        style.key(fig, handles, note="number at the edge: an averaged model far below the workers" if far else "")
        return finish(fig, runs, (), out)


def lowest(runs: Runs) -> float:
    """Percent below which an averaged model would squeeze all others: below the lowest worker by more than the lowest
    and the highest of the methods are apart."""
    each = [runs.select(variant=variant) for variant in runs.variants]
    low, high = (100 * end(own.interval(c).mean for own in each) for end, c in ((min, "worst"), (max, "best")))
    return 2 * low - high


def look_of(marker: str, color: str) -> dict:
    """A marker of this colour; the bar is all edge."""
    if marker == "|":
        return {"marker": marker, "markersize": 6, "markeredgecolor": color, "markeredgewidth": 1.6}
    return {"marker": marker, "markersize": 4}


if __name__ == "__main__":
    sys.exit(script("final_accuracy", draw))
