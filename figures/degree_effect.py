"""A worker's accuracy against its degree in graph A, one graph and three in turn. python -m figures.degree_effect"""

import sys
from pathlib import Path

import pandas as pd

from aldsgd.statistics import mean_interval
from figures import style
from figures.common import categories, finish, script, within_percent
from tables.experiments import by_degree, degrees
from tables.query import Experiment


def draw(results: Path, out: Path, width: float = style.PAGE_WIDTH) -> list[Path]:
    """Draw the figure from the store; returns the files written. Raises ConfigError when no run is complete."""
    runs = Experiment(results, "degree_effect")
    cells = [(graph, graphs) for graph in runs.field("graph") for graphs in sorted(runs.field("graphs"))]
    most = [int(degrees(graph, runs[0].run.config["workers"]).max()) for graph, _ in cells]
    with style.sheet(width):
        fig, panels = style.grid(1, len(cells), 2.6, 1.6, across=2, sharey="all", width_ratios=most)
        for axes, (graph, graphs), last in zip(panels[0], cells, most, strict=True):
            places, series = range(1, last + 1), {}
            for family in runs.families:
                own = runs.select(family=family, graph=graph, graphs=graphs)
                means = pd.DataFrame([by_degree(entry.run).groupby("degree")["accuracy"].mean() for entry in own])
                series[family] = [mean_interval(means[d].to_numpy()) if d in means else None for d in places]
            categories(axes, list(map(str, places)), series, "worker's test accuracy (%)", joined=True)
            level = style.verbatim(f"{graph.removeprefix('paper:')} %")
            axes.set(title=f"{level}, {graphs} graph{'s' * (graphs > 1)}", xlabel="degree in graph A")
        within_percent(panels[0, 0])
        return finish(fig, runs, runs.families, out)


if __name__ == "__main__":
    sys.exit(script("degree_effect", draw))
