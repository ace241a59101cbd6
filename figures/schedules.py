"""Schedules at equal bytes: every method, with and without momentum. python -m figures.schedules"""

import sys
from pathlib import Path

from figures import style
from figures.common import categories, finish, grid, script, within_percent
from tables.query import Experiment


def draw(results: Path, out: Path) -> list[Path]:
    """Draw the figure from the store; returns the files written. Raises ConfigError when no run is complete."""
    runs = Experiment(results, "schedules")
    sizes = sorted(runs.field("workers"))
    with style.sheet():
        fig, panels = grid(len(sizes), 2, 0.9 + 1.9 * len(sizes))
        for row, workers in zip(panels, sizes, strict=True):
            own = runs.select(workers=workers)
            names = [runs.named(number) or str(number) for number in own.conditions]
            shown = [name.replace(f", n = {workers}", "").replace(", ", ",\n").replace("_", "\n") for name in names]
            for axes, column in zip(row, ("mean", "averaged"), strict=True):
                cells = {
                    variant: [
                        own.select(variant=variant, condition=number).interval(column) for number in own.conditions
                    ]
                    for variant in runs.variants
                }
                categories(axes, shown, cells)
                named = "mean worker" if column == "mean" else "averaged model"
                axes.set(title=f"{named}, {workers} workers", ylabel="test accuracy (%)")
                axes.tick_params(axis="x", labelsize=5)
        for axes in panels.flat:
            within_percent(axes)
        return finish(fig, runs, runs.variants, out)


if __name__ == "__main__":
    sys.exit(script("schedules", draw))
