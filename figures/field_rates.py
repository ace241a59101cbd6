"""Accuracy over the rate, every search of today's gossip, and what it chose. python -m figures.field_rates"""

import sys
from pathlib import Path

from matplotlib.lines import Line2D

from figures import style
from figures.common import finish, script
from tables.query import Experiment
from tables.rates import chosen

COLUMNS = 3
#: Points below the best that a panel shows.
SHOWN = 25


def draw(results: Path, out: Path, width: float = style.PAGE_WIDTH) -> list[Path]:
    """Draw the figure from the store; returns the files written. Raises ConfigError when no run is complete."""
    runs = Experiment(results, "field_rates")
    best = set(chosen(runs).values())
    places = dict.fromkeys(entry.named or entry.run.config["dataset"] for entry in runs)
    parts = dict.fromkeys(place.partition(", ")[0] for place in places)
    with style.sheet(width):
        rows = -(-len(parts) // COLUMNS)
        fig, panels = style.grid(rows, COLUMNS, 0.9 + 1.9 * rows, 1.6, across=2)
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
            axes.set(xscale="log", xlabel="learning rate", ylabel="mean worker (%)")
            axes.set_title(style.verbatim(f"{part}: {len(searches)} searches"))
            axes.set_xticks([rate for rate in (0.01, 0.1, 1) if axes.get_xlim()[0] <= rate <= axes.get_xlim()[1]])
            axes.set_xticks([], minor=True)
            axes.set_ylim(bottom=max(axes.get_ylim()[0], top - SHOWN), top=top + SHOWN / 10)
        for axes in panels.flat[len(parts) :]:
            axes.remove()
        note = f"markers: the rate chosen; curves that leave below end more than {SHOWN} points under the best"
        style.key(fig, [Line2D([], [], color="0.3", marker="o", label="a search, in its method's colour")], note=note)
        return finish(fig, runs, (), out)


if __name__ == "__main__":
    sys.exit(script("field_rates", draw))
