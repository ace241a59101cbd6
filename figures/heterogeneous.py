"""Workers that are not alike: learning rates, label noise, shard sizes. python -m figures.heterogeneous"""

import sys
from pathlib import Path

from matplotlib.ticker import NullLocator

from figures import style
from figures.common import Experiment, categories, finish, grid, script, within_percent
from tables.base import METHODS, REFERENCE, average, final_values, gap, split_label


def draw(results: Path, out: Path) -> list[Path]:
    """Draw the figure from the store; returns the files written. Raises ConfigError when no run is complete."""
    experiment = Experiment(results, "heterogeneous")
    values = final_values(experiment.entries)
    parts = [split_label(label) for label in experiment.runs]
    labels, cases = ([x for x in METHODS if x in {m for m, _ in parts}], list(dict.fromkeys(c for _, c in parts)))
    names = [
        case.replace(" with ", "\nwith ").replace("noise at", "noise\nat").replace(" shards", "\nshards")
        for case in cases
    ]
    with style.sheet():
        fig, panels = grid(2, 1, 4.4, sharex=True)
        top, bottom = panels[:, 0]
        worst = {label: [average(values, f"{label}, {case}", "worst") for case in cases] for label in labels}
        gains = {
            label: [gap(values, f"{label}, {case}", f"{REFERENCE}, {case}", "worst") for case in cases]
            for label in labels
            if label != REFERENCE
        }
        categories(top, names, worst)
        top.set(title="worst worker", ylabel="test accuracy (%)")
        within_percent(top)
        categories(bottom, names, gains)
        bottom.axhline(0, color="0.4", linewidth=0.6)
        # Gains of half a point and of fifty in one panel: linear up to 2 points, logarithmic beyond.
        bottom.set_yscale("symlog", linthresh=2)
        low, high = bottom.get_ylim()
        ticks = [0, *(sign * size for size in (1, 2, 5, 10, 20, 50) for sign in (-1, 1))]
        bottom.set_yticks([tick for tick in sorted(ticks) if low <= tick <= high])
        bottom.yaxis.set_major_formatter("{x:g}")
        bottom.yaxis.set_minor_locator(NullLocator())
        bottom.set(title="worst worker, less D-PSGD's under the same condition", ylabel="points")
        return finish(fig, experiment, labels, out / "heterogeneous")


if __name__ == "__main__":
    sys.exit(script("heterogeneous", draw))
