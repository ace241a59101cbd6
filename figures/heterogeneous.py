"""Workers that are not alike: learning rates, label noise, shard sizes. python -m figures.heterogeneous"""

import sys
from pathlib import Path

import numpy as np

from figures import style
from figures.common import by_condition, categories, finish, script, within_percent
from tables.base import REFERENCE
from tables.experiments import degrees
from tables.query import Experiment

#: Far below the others.
ALONE = "no exchange"


def condition(config: dict, graph: str | None) -> str:
    """How the workers of a run differ, in two lines; ``graph`` gives degrees to a method that has none."""
    if isinstance(config["lr"], list):
        if graph is None:
            return "lr differs"
        rising = np.corrcoef(config["lr"], degrees(graph, config["workers"]))[0, 1] > 0
        return f"lr {'rises' if rising else 'falls'}\nwith degree"
    if config.get("noisy_workers"):
        return f"noise\nat {config['noisy_workers']}"
    return "identical" if config["split"] == "iid" else f"{config['split']}\nshards"


def draw(results: Path, out: Path, width: float = style.PAGE_WIDTH) -> list[Path]:
    """Draw the figure from the store; returns the files written. Raises ConfigError when no run is complete."""
    runs = Experiment(results, "heterogeneous")
    graph = next(filter(None, runs.field("graph")), None)
    names = [condition(config, config["graph"] or graph) for config in runs.conditions.values()]
    cells = by_condition(runs)
    worst = {variant: [cell.interval("worst") for cell in own] for variant, own in cells.items()}
    gains = {
        variant: [cell.less(other, "worst") for cell, other in zip(own, cells[REFERENCE], strict=True)]
        for variant, own in cells.items()
        if variant not in (REFERENCE, ALONE) and REFERENCE in cells
    }
    with style.sheet(width):
        flat = style.narrow()
        fig, ((top,), (bottom,)) = style.grid(
            2, 1, 4.4, 3.9, turned=True, sharex="" if flat else "all", sharey="all" if flat else ""
        )
        categories(top, names, worst, "test accuracy (%)", flat=flat)
        top.set_title("worst worker")
        within_percent(top, "x" if flat else "y")
        categories(bottom, names, gains, "percentage points", flat=flat)
        (bottom.axvline if flat else bottom.axhline)(0, color="0.4", linewidth=0.6)
        bottom.set_title(f"less {REFERENCE}'s")
        note = f"less {REFERENCE}'s under the same condition" + f"; {ALONE}: in the other panel only" * (ALONE in cells)
        return finish(fig, runs, runs.variants, out, note)


if __name__ == "__main__":
    sys.exit(script("heterogeneous", draw))
