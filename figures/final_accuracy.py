"""Worst, mean and best worker and the averaged model at the last epoch. python -m figures.final_accuracy"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.lines import Line2D

from figures import style
from figures.common import Experiment, ends, finish, grid, script
from tables.base import METHODS, average, final_values


def draw(results: Path, out: Path) -> list[Path]:
    """Draw the figure from the store; returns the files written. Raises ConfigError when no run is complete."""
    experiment = Experiment(results, "final_accuracy")
    values = final_values(experiment.entries)
    with style.sheet():
        fig, panels = grid(1, 2, 3.4, sharey=True)
        for axes, dataset in zip(panels[0], ("CIFAR-10", "CIFAR-100"), strict=True):
            measured = 0
            for place, label in enumerate(METHODS):
                found = {c: average(values, f"{label}, {dataset}", c) for c in ("worst", "mean", "best", "averaged")}
                if found["mean"] is None:
                    continue
                measured, color = measured + 1, style.look(label).color
                axes.plot([100 * found["worst"].mean, 100 * found["best"].mean], [place, place], color=color, alpha=0.4)
                for column, marker, up in (
                    ("worst", "<", 0),
                    ("mean", "o", 0),
                    ("best", ">", 0),
                    ("averaged", "D", 0.3),
                ):
                    (mean,), (half,) = ends([found[column]])
                    axes.errorbar(mean, place + up, xerr=half, color=color, marker=marker, markersize=4, elinewidth=0.9)
            axes.set(xlabel="test accuracy (%)", title=f"{dataset}" + ("" if measured else ": not measured"))
            axes.set_yticks(np.arange(len(METHODS)), METHODS)
            axes.set_ylim(len(METHODS) - 0.4, -0.6)
        kinds = (("worst worker", "<"), ("mean worker", "o"), ("best worker", ">"), ("averaged model", "D"))
        handles = [Line2D([], [], color="0.3", marker=m, markersize=4, linestyle="none", label=k) for k, m in kinds]
        fig.legend(handles=handles, loc="outside lower center", ncols=4)
        return finish(fig, experiment, (), out / "final_accuracy")


if __name__ == "__main__":
    sys.exit(script("final_accuracy", draw))
