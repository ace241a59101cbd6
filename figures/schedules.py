"""Schedules at equal bytes: every method, with and without momentum. python -m figures.schedules"""

import sys
from pathlib import Path

from figures import style
from figures.common import categories, finish, script
from tables.query import Experiment


def draw(results: Path, out: Path, width: float = style.PAGE_WIDTH) -> list[Path]:
    """Draw the figure from the store; returns the files written. Raises ConfigError when no run is complete."""
    runs = Experiment(results, "schedules")
    sizes = sorted(runs.field("workers"))
    with style.sheet(width):
        fig, panels = style.grid(len(sizes), 2, 0.9 + 2.4 * len(sizes), 2.6, sharex="all")
        for row, workers in zip(panels, sizes, strict=True):
            own = runs.select(workers=workers)
            names = [(runs.named(number) or str(number)).replace(f", n = {workers}", "") for number in own.conditions]
            for axes, column in zip(row, ("mean", "averaged"), strict=True):
                cells = {
                    variant: [
                        own.select(variant=variant, condition=number).interval(column) for number in own.conditions
                    ]
                    for variant in runs.variants
                }
                categories(axes, names, cells, "test accuracy (%)", flat=True)
                axes.set_title(f"{'mean worker' if column == 'mean' else 'averaged model'}, {workers} workers")
        return finish(fig, runs, runs.variants, out)


if __name__ == "__main__":
    sys.exit(script("schedules", draw))
