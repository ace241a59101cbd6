"""Accuracy over the learning rate, every method of every grid, and the rate chosen. python -m figures.own_rates"""

import sys
from pathlib import Path

from figures import style
from figures.common import finish, script
from tables.query import Experiment
from tables.rates import chosen, rate_of

COLUMNS = 3
#: Points below the best that a panel shows.
SHOWN = 12


def draw(results: Path, out: Path, width: float = style.PAGE_WIDTH, name: str = "own_rates") -> list[Path]:
    """Draw the figure from the store; returns the files written. Raises ConfigError when no run is complete."""
    runs = Experiment(results, name)
    places = dict.fromkeys(entry.named or entry.run.config["dataset"] for entry in runs)
    best = set(chosen(runs).values())
    rows = -(-len(places) // COLUMNS)
    with style.sheet(width):
        fig, panels = style.grid(rows, COLUMNS, 0.9 + 1.65 * rows, 1.3, across=2)
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
                large = 9 if look.marker == "*" else 6  # a star fills less of its size
                for rate, value, taken in points:
                    if taken:
                        axes.plot(rate, value, color=look.color, marker=look.marker, markersize=large, linestyle="none")
            axes.set(title=style.verbatim(place), xscale="log", xlabel="learning rate", ylabel="mean worker (%)")
            rates = sorted({rate_of(entry.run) for entry in own})
            rates = rates[:: -(-len(rates) // (4 if style.narrow() else 6))]
            axes.set_xticks(rates, [f"{rate:g}".lstrip("0") for rate in rates])
            axes.set_xticks([], minor=True)
            # What counts is near the best; where a method no longer trains, its curve leaves below.
            best_of_all = max(100 * e.run.final[f"mean_{e.run.metrics[0]}"] for e in own)
            axes.set_ylim(bottom=max(axes.get_ylim()[0], best_of_all - SHOWN), top=best_of_all + SHOWN / 10)
        for axes in panels.flat[len(places) :]:
            axes.remove()
        note = f"large markers: the best rate; curves that leave below end more than {SHOWN} points under the best"
        return finish(fig, runs, runs.variants, out, note=note)


if __name__ == "__main__":
    sys.exit(script("own_rates", draw))
