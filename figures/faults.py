"""What one faulty worker costs the honest ones, by method and by defence. python -m figures.faults"""

import sys
from pathlib import Path

from figures import style
from figures.common import categories, finish, script
from tables.base import LED, REFERENCE
from tables.faults import cells, interval_of, losses
from tables.query import Experiment

PLACE = "one high"


def draw(results: Path, out: Path, width: float = style.PAGE_WIDTH) -> list[Path]:
    """Draw the figure from the store; returns the files written. Raises ConfigError when no run is complete."""
    runs = Experiment(results, "faults")
    found = cells(runs)
    faults = list(dict.fromkeys(fault for _, fault, place, defence in found if place == PLACE and defence == "none"))
    methods = list(dict.fromkeys(method for method, *_ in found))
    defences = list(dict.fromkeys(defence for _, _, place, defence in found if place))
    defended = list(dict.fromkeys(fault for _, fault, place, defence in found if place and defence != "none"))
    value = "points that the mean honest worker loses"
    with style.sheet(width):
        fig, (panels,) = style.grid(1, 2, 3.6, 2.4)
        shown = {m: [interval_of(losses(found, m, fault, PLACE, "none")) for fault in faults] for m in methods}
        categories(panels[0], faults, shown, value, flat=True)
        panels[0].set_title("no defence")
        for fault in defended[:1]:
            pair = {m: [interval_of(losses(found, m, fault, PLACE, d)) for d in defences] for m in (REFERENCE, LED)}
            categories(panels[1], defences, pair, value, flat=True)
            panels[1].set_title(f"{fault}, by defence")
        for axes in panels:
            axes.axvline(0, color="0.4", linewidth=0.6)
        return finish(fig, runs, methods, out)


if __name__ == "__main__":
    sys.exit(script("faults", draw))
