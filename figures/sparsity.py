"""The worst worker at each level of sparsity, and what leaders add on the same graphs. python -m figures.sparsity"""

import sys
from pathlib import Path

from figures import style
from figures.common import categories, finish, script, within_percent
from tables.query import Experiment


def draw(results: Path, out: Path, width: float = style.PAGE_WIDTH) -> list[Path]:
    """Draw the figure from the store; returns the files written. Raises ConfigError when no run is complete."""
    runs = Experiment(results, "sparsity")
    cores = runs.cores
    groups = dict.fromkeys(cores.get(family, family) for family in runs.families)
    labels = [family for core in groups for family in runs.families if cores.get(family, family) == core]
    levels, counts = runs.field("graph"), sorted(runs.field("graphs"))
    names = [graph.removeprefix("paper:") for graph in levels]
    with style.sheet(width):
        fig, panels = style.grid(2, len(counts), 4.4, 1.6, turned=True, sharex="all", sharey="row")
        for (top, bottom), graphs in zip(panels.T, counts, strict=True):
            cells = {
                label: [runs.select(family=label, graph=graph, graphs=graphs) for graph in levels] for label in labels
            }
            gains = {
                ours: [a.less(b, "worst") for a, b in zip(cells[ours], cells[core], strict=True)]
                for ours, core in cores.items()
                if core in cells
            }
            worst = {label: [cell.interval("worst") for cell in own] for label, own in cells.items()}
            categories(top, names, worst, "worst test accuracy (%)", joined=True)
            categories(bottom, names, gains, "leaders' gain (points)", joined=True)
            bottom.axhline(0, color="0.4", linewidth=0.6)
            top.set_title(f"{graphs} graph{'s in turn' * (graphs > 1)}")
            for axes in (top, bottom):
                axes.set_xlabel("share of 13 links (%)" if style.narrow() else "level: share of the 13 links (%)")
        within_percent(panels[0, 0])
        return finish(fig, runs, labels, out)


if __name__ == "__main__":
    sys.exit(script("sparsity", draw))
