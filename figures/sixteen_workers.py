"""Sixteen workers on MATCHA's four graphs. python -m figures.sixteen_workers"""

import sys
from pathlib import Path

from aldsgd.graphs import parse
from figures import style
from figures.common import finish, script, worst_and_averaged
from tables.query import Experiment


def draw(results: Path, out: Path, width: float = style.PAGE_WIDTH) -> list[Path]:
    """Draw the figure from the store; returns the files written. Raises ConfigError when no run is complete."""
    runs = Experiment(results, "sixteen_workers")
    graphs = [config["graph"] for config in runs.conditions.values()]
    names = [f"graph {g.removeprefix('matcha:')}\n{len(parse(g, 16).edges)} edges" for g in graphs]
    with style.sheet(width):
        fig, panels = style.grid(1, 2, 2.9, 1.8, sharex="all", sharey="all")
        worst_and_averaged(panels[0], runs, names)
        return finish(fig, runs, runs.variants, out)


if __name__ == "__main__":
    sys.exit(script("sixteen_workers", draw))
