"""Accuracy over the learning rate, every method of every grid, and the rate chosen. python -m figures.own_rates"""

import sys
from pathlib import Path

from matplotlib.ticker import NullFormatter

from figures import style
from figures.common import finish, grid, script
from tables.query import Experiment
from tables.rates import chosen, rate_of

COLUMNS = 3
#: Points below the best that a panel shows.
SHOWN = 12


def draw(results: Path, out: Path, name: str = "own_rates") -> list[Path]:
    """Draw the figure from the store; returns the files written. Raises ConfigError when no run is complete."""
    runs = Experiment(results, name)
    places = dict.fromkeys(entry.named or entry.run.config["dataset"] for entry in runs)
    best = set(chosen(runs).values())
    rows = -(-len(places) // COLUMNS)
    with style.sheet():
        fig, panels = grid(rows, COLUMNS, 0.9 + 1.5 * rows)
        for axes, place in zip(panels.flat, places, strict=False):
            own = [entry for entry in runs if (entry.named or entry.run.config["dataset"]) == place]
            for variant in runs.variants:
                points = sorted(
                    (rate_of(e.run), 100 * e.run.final[f"mean_{e.run.metrics[0]}"], e.label in best)
                    for e in own
                    if e.variant == variant
                )
                if not points:
                    continue
                look = style.look(variant)
                x, y, marked = zip(*points, strict=True)
                axes.plot(x, y, **look._asdict() | {"markersize": 2.5}, linewidth=0.9)
                for rate, value, taken in points:
                    if taken:
                        axes.plot(rate, value, color=look.color, marker=look.marker, markersize=6, linestyle="none")
            axes.set_title(place, fontsize=7)
            axes.set_xscale("log")
            rates = sorted({rate_of(entry.run) for entry in own})
            axes.set_xticks(rates[:: 1 + (len(rates) > 6)], [f"{rate:g}" for rate in rates[:: 1 + (len(rates) > 6)]])
            axes.xaxis.set_minor_formatter(NullFormatter())
            # What counts is near the best; where a method no longer trains, its curve leaves below.
            best_of_all = max(100 * e.run.final[f"mean_{e.run.metrics[0]}"] for e in own)
            axes.set_ylim(bottom=max(axes.get_ylim()[0], best_of_all - SHOWN), top=best_of_all + SHOWN / 10)
        for axes in panels.flat[len(places) :]:
            axes.set_visible(False)
        for axes in panels[:, 0]:
            axes.set_ylabel("mean worker (%)")
        for column in panels.T:
            for axes in [axes for axes in column if axes.get_visible()][-1:]:
                axes.set_xlabel("learning rate")
        return finish(fig, runs, runs.variants, out)


if __name__ == "__main__":
    sys.exit(script("own_rates", draw))
