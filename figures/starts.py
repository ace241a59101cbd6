"""Initial models and BatchNorm policies. python -m figures.starts"""

import sys
from pathlib import Path

from figures import style
from figures.common import finish, script, worst_and_averaged
from tables.query import Experiment


def draw(results: Path, out: Path, width: float = style.PAGE_WIDTH) -> list[Path]:
    """Draw the figure from the store; returns the files written. Raises ConfigError when no run is complete."""
    runs = Experiment(results, "starts")
    gap = ", " if width < style.PAGE_WIDTH else ",\n"
    scaled = [f"{gap}scaled" * c.get("start_scaled", False) for c in runs.conditions.values()]
    names = [f"{c['start']}{s}\n{c['batchnorm']}" for c, s in zip(runs.conditions.values(), scaled, strict=True)]
    with style.sheet(width):
        fig, panels = style.grid(2, 1, 4.2, 3.4, turned=True, sharex="all", sharey="all")
        worst_and_averaged(panels[:, 0], runs, names, flat=style.narrow())
        for axes in panels.flat:
            what = "start, and BatchNorm statistics of the tested models"
            axes.set(**{"ylabel" if style.narrow() else "xlabel": what})
        return finish(fig, runs, runs.variants, out)


if __name__ == "__main__":
    sys.exit(script("starts", draw))
