"""Label skew: every method at three Dirichlet concentrations. python -m figures.non_iid"""

import sys
from pathlib import Path

from figures import style
from figures.common import finish, script, worst_and_averaged
from tables.query import Experiment


def draw(results: Path, out: Path, width: float = style.PAGE_WIDTH) -> list[Path]:
    """Draw the figure from the store; returns the files written. Raises ConfigError when no run is complete."""
    runs = Experiment(results, "non_iid")
    with style.sheet(width):
        fig, panels = style.grid(1, 2, 3.2, 1.9, sharex="all", sharey="all")
        worst_and_averaged(panels[0], runs, [f"{c['dirichlet_alpha']:g}" for c in runs.conditions.values()])
        for axes in panels[0]:
            axes.set_xlabel("Dirichlet alpha (smaller: more skewed)")
        return finish(fig, runs, runs.variants, out)


if __name__ == "__main__":
    sys.exit(script("non_iid", draw))
