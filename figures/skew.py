"""Label skew: drift correctors, leaders and all-reduce, mean worker and averaged model. python -m figures.skew"""

import sys
from pathlib import Path

from matplotlib.lines import Line2D

from figures import style
from figures.common import ends, finish, script
from tables.query import Experiment

#: Beside the full marker of the mean worker.
AVERAGED = dict(marker="o", markerfacecolor="none", markersize=3, linestyle="none", linewidth=0)


def draw(results: Path, out: Path, width: float = style.PAGE_WIDTH) -> list[Path]:
    """Draw the figure from the store; returns the files written. Raises ConfigError when no run is complete."""
    runs = Experiment(results, "skew")
    places = sorted({(config["workers"], -config["dirichlet_alpha"]) for config in runs.configs})
    with style.sheet(width):
        most = max(len(runs.select(workers=n, dirichlet_alpha=-a).labels) for n, a in places)
        rows = -(-len(places) // 2)
        fig, panels = style.grid(rows, 2, 1 + 0.19 * most * rows, 0.5 + 0.14 * most, sharex="all")
        for axes, (workers, alpha) in zip(panels.flat, places, strict=False):
            own = runs.select(workers=workers, dirichlet_alpha=-alpha)
            for place, label in enumerate(own.labels):
                cell = own.select(label=label)
                look = style.look(cell[0].variant)
                mean, half = ends([cell.interval("mean")])
                axes.errorbar(mean, [place], xerr=half, color=look.color, marker=look.marker,
                              markersize=look.markersize, linestyle="none", elinewidth=1)  # fmt: skip
                axes.errorbar(ends([cell.interval("averaged")])[0], [place], color=look.color, **AVERAGED)
            shown = [label.partition(", Dirichlet")[0] for label in own.labels]
            axes.set_yticks(range(len(shown)), shown, parse_math=False)
            axes.set_ylim(len(shown) - 0.5, -0.5)
            graph = own.field("graph")[0]
            axes.set(title=style.verbatim(f"alpha {-alpha:g}, {graph}"), xlabel="test accuracy (%)")
        for axes in panels.flat[len(places) :]:
            axes.remove()
        mean = Line2D([], [], color="0.3", marker="s", linestyle="none", label="mean worker")
        style.key(fig, [mean, Line2D([], [], color="0.3", **AVERAGED, label="averaged model")])
        return finish(fig, runs, (), out)


if __name__ == "__main__":
    sys.exit(script("skew", draw))
