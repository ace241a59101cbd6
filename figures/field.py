"""Every method at equal epochs, bytes, and time on three links. python -m figures.field"""

import sys
from pathlib import Path

from aldsgd.statistics import mean_interval
from figures import style
from figures.common import ends, finish, script
from tables.field import LINKS, at_budget
from tables.query import Experiment


def draw(results: Path, out: Path, width: float = style.PAGE_WIDTH) -> list[Path]:
    """Draw the figure from the store; returns the files written. Raises ConfigError when no run is complete."""
    runs = Experiment(results, "field")
    columns = {"equal epochs": None, "equal bytes": "bytes", **{f"time, {link}": link for link in LINKS}}
    with style.sheet(width):
        high = 0.16 * len(runs.labels)
        fig, (panels,) = style.grid(1, len(columns), 1.2 + high, 0.5 + 0.8 * high, across=2, sharex="all", sharey="all")
        for axes, (shown, along) in zip(panels, columns.items(), strict=True):
            for place, label in enumerate(runs.labels):
                own, look = runs.of(label), style.look(runs.of(label)[0].variant)
                values = at_budget(runs, label, along) if along else own.values("mean")
                mean, half = ends([mean_interval(list(values.values()))])
                axes.errorbar(mean, [place], xerr=half, color=look.color, marker=look.marker,
                              markersize=0.8 * look.markersize, linestyle="none", elinewidth=0.8)  # fmt: skip
            axes.set_yticks(range(len(runs.labels)), runs.labels, parse_math=False)
            axes.set_ylim(len(runs.labels) - 0.5, -0.5)
            axes.set(title=shown, xlabel="mean worker (%)")
        return finish(fig, runs, (), out)


if __name__ == "__main__":
    sys.exit(script("field", draw))
