"""Accuracy over the rate, every search of today's gossip, and what it chose. python -m figures.field_rates"""

import sys
from pathlib import Path

from matplotlib.ticker import NullFormatter

from figures import style
from figures.common import finish, grid, script
from tables.query import Experiment
from tables.rates import chosen

COLUMNS = 3
#: Points below the best that a panel shows.
SHOWN = 25


def draw(results: Path, out: Path) -> list[Path]:
    """Draw the figure from the store; returns the files written. Raises ConfigError when no run is complete."""
    runs = Experiment(results, "field_rates")
    best = set(chosen(runs).values())
    places = dict.fromkeys(entry.named or entry.run.config["dataset"] for entry in runs)
    parts = dict.fromkeys(place.partition(", ")[0] for place in places)
    with style.sheet():
        rows = -(-len(parts) // COLUMNS)
        fig, panels = grid(rows, COLUMNS, 0.9 + 1.9 * rows)
        for axes, part in zip(panels.flat, parts, strict=False):
            searches = [place for place in places if place.partition(", ")[0] == part]
            top = 0.0
            for search in searches:
                own = [entry for entry in runs if (entry.named or entry.run.config["dataset"]) == search]
                look = style.look(own[0].variant)
                points = sorted((e.run.config["lr"], 100 * e.run.final["mean_accuracy"], e.label in best) for e in own)
                x, y, taken = zip(*points, strict=True)
                top = max(top, *y)
                axes.plot(x, y, color=look.color, linestyle=look.linestyle, linewidth=0.6)
                marked = taken.index(True)
                axes.plot(x[marked], y[marked], color=look.color, marker=look.marker, markersize=4, linestyle="none")
            axes.set_title(f"{part}: {len(searches)} searches", fontsize=7)
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_ylim(bottom=max(axes.get_ylim()[0], top - SHOWN), top=top + SHOWN / 10)
            axes.set(xlabel="learning rate", ylabel="mean worker (%)")
        for axes in panels.flat[len(parts) :]:
            axes.set_visible(False)
        return finish(fig, runs, (), out)


if __name__ == "__main__":
    sys.exit(script("field_rates", draw))
