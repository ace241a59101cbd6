"""What each part of the method changes, less D-PSGD on one graph. python -m figures.ablation"""

import sys
from pathlib import Path

from figures import style
from figures.common import Experiment, dots, finish, grid, script
from tables.base import REFERENCE, final_values, gap


def draw(results: Path, out: Path) -> list[Path]:
    """Draw the figure from the store; returns the files written. Raises ConfigError when no run is complete."""
    experiment = Experiment(results, "ablation")
    values = final_values(experiment.entries)
    labels = [label for label in experiment.runs if label != REFERENCE]
    with style.sheet():
        fig, panels = grid(1, 3, 3.0, sharey=True)
        titles = {"worst": "worst worker", "mean": "mean worker", "averaged": "averaged model"}
        for axes, (column, title) in zip(panels[0], titles.items(), strict=True):
            dots(axes, labels, [gap(values, label, REFERENCE, column) for label in labels])
            axes.axvline(0, color="0.4", linewidth=0.6)
            axes.set(title=title, xlabel="less D-PSGD's (points)")
        return finish(fig, experiment, (), out / "ablation")


if __name__ == "__main__":
    sys.exit(script("ablation", draw))
