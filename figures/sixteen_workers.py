"""Sixteen workers on MATCHA's four graphs. python -m figures.sixteen_workers"""

import sys
from pathlib import Path

from aldsgd.graphs import matcha_graph
from figures import style
from figures.common import Experiment, categories, finish, grid, script, within_percent
from tables.base import METHODS, average, final_values


def draw(results: Path, out: Path) -> list[Path]:
    """Draw the figure from the store; returns the files written. Raises ConfigError when no run is complete."""
    experiment = Experiment(results, "sixteen_workers")
    values = final_values(experiment.entries)
    labels = [label for label in METHODS if any(f"{label}, graph {k}" in experiment.runs for k in (1, 2, 3, 4))]
    names = [f"graph {k}\n{len(matcha_graph(k).edges)} edges" for k in (1, 2, 3, 4)]
    with style.sheet():
        fig, panels = grid(1, 2, 2.9)
        for axes, column, title in zip(
            panels[0], ("worst", "averaged"), ("worst worker", "averaged model"), strict=True
        ):
            series = {label: [average(values, f"{label}, graph {k}", column) for k in (1, 2, 3, 4)] for label in labels}
            categories(axes, names, series)
            axes.set(title=title, ylabel="test accuracy (%)")
            within_percent(axes)
        return finish(fig, experiment, labels, out / "sixteen_workers")


if __name__ == "__main__":
    sys.exit(script("sixteen_workers", draw))
