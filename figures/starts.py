"""Initial models and BatchNorm policies. python -m figures.starts"""

import sys
from pathlib import Path

from figures import style
from figures.common import finish, grid, script, worst_and_averaged
from tables.query import Experiment


def draw(results: Path, out: Path) -> list[Path]:
    """Draw the figure from the store; returns the files written. Raises ConfigError when no run is complete."""
    runs = Experiment(results, "starts")
    scaled = [",\nscaled" * c.get("start_scaled", False) for c in runs.conditions.values()]
    names = [f"{c['start']}{s}\n{c['batchnorm']}" for c, s in zip(runs.conditions.values(), scaled, strict=True)]
    with style.sheet():
        fig, panels = grid(2, 1, 4.2, sharex=True)
        worst_and_averaged(panels[:, 0], runs, names)
        panels[1, 0].set_xlabel("start, and BatchNorm statistics of the tested models")
        return finish(fig, runs, runs.variants, out)


if __name__ == "__main__":
    sys.exit(script("starts", draw))
