"""What each part of the method changes, less D-PSGD on one graph. python -m figures.ablation"""

import sys
from pathlib import Path

from figures import style
from figures.common import dots, finish, script
from tables.base import REFERENCE
from tables.query import Experiment


def draw(results: Path, out: Path, width: float = style.PAGE_WIDTH) -> list[Path]:
    """Draw the figure from the store; returns the files written. Raises ConfigError when no run is complete."""
    runs = Experiment(results, "ablation")
    reference = runs.counterpart(runs.labels[0], REFERENCE, graphs=1)
    labels = [label for label in runs.labels if label not in reference.labels]
    with style.sheet(width):
        fig, panels = style.grid(1, 3, 3.0, 1.75, sharex="all", sharey="all")
        titles = {"worst": "worst worker", "mean": "mean worker", "averaged": "averaged model"}
        for axes, (column, title) in zip(panels[0], titles.items(), strict=True):
            dots(axes, labels, [runs.of(label).less(reference, column) for label in labels])
            axes.axvline(0, color="0.4", linewidth=0.6)
            axes.set(title=title, xlabel=f"less {REFERENCE}'s (points)")
        return finish(fig, runs, (), out)


if __name__ == "__main__":
    sys.exit(script("ablation", draw))
