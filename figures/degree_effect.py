"""A worker's accuracy against its degree in graph A, one graph and three in turn. python -m figures.degree_effect"""

import sys
from pathlib import Path

import pandas as pd

from aldsgd.statistics import mean_interval
from figures import style
from figures.common import Experiment, categories, finish, grid, script, within_percent
from tables.experiments import by_degree, cell_label


def draw(results: Path, out: Path) -> list[Path]:
    """Draw the figure from the store; returns the files written. Raises ConfigError when no run is complete."""
    experiment = Experiment(results, "degree_effect")
    labels = ["D-PSGD", "AL-DSGD on D-PSGD"]
    with style.sheet():
        fig, panels = grid(1, 4, 2.6, sharey="row", width_ratios=(5, 5, 3, 3))
        cells = [(level, graphs) for level in ("100", "53.8") for graphs in (1, 3)]
        for axes, (level, graphs) in zip(panels[0], cells, strict=True):
            most = 5 if level == "100" else 3
            series = {}
            for label in labels:
                runs = experiment.runs.get(cell_label(label, graphs, level), [])
                means = pd.DataFrame([by_degree(run).groupby("degree")["accuracy"].mean() for run in runs])
                series[label] = [
                    mean_interval(means[degree].to_numpy()) if degree in means else None
                    for degree in range(1, most + 1)
                ]
            categories(axes, [str(degree) for degree in range(1, most + 1)], series, joined=True)
            axes.set(title=f"{level} %, {graphs} graph{'s' * (graphs > 1)}", xlabel="degree in graph A")
        panels[0, 0].set_ylabel("worker's test accuracy (%)")
        within_percent(panels[0, 0])
        return finish(fig, experiment, labels, out / "degree_effect")


if __name__ == "__main__":
    sys.exit(script("degree_effect", draw))
