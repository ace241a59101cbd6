"""The worst worker at five levels of sparsity, and what leaders add on the same graphs. python -m figures.sparsity"""

import sys
from pathlib import Path

from figures import style
from figures.common import Experiment, categories, finish, grid, script, within_percent
from tables.base import average, final_values, gap
from tables.experiments import cell_label

LEVELS = ("100", "84.6", "69.2", "53.8", "38.5")
CORES = {"AL-DSGD on D-PSGD": "D-PSGD", "AL-DSGD on MATCHA": "MATCHA"}


def draw(results: Path, out: Path) -> list[Path]:
    """Draw the figure from the store; returns the files written. Raises ConfigError when no run is complete."""
    experiment = Experiment(results, "sparsity")
    values = final_values(experiment.entries)
    labels = [label for core in ("D-PSGD", "MATCHA") for label in (core, f"AL-DSGD on {core}")]
    with style.sheet():
        fig, panels = grid(2, 3, 4.4, sharey="row", sharex=True)
        for (top, bottom), graphs in zip(panels.T, (1, 2, 3), strict=True):
            worst = {
                label: [average(values, cell_label(label, graphs, level), "worst") for level in LEVELS]
                for label in labels
            }
            gains = {
                ours: [
                    gap(values, cell_label(ours, graphs, level), cell_label(core, graphs, level), "worst")
                    for level in LEVELS
                ]
                for ours, core in CORES.items()
            }
            categories(top, LEVELS, worst, joined=True)
            categories(bottom, LEVELS, gains, joined=True)
            bottom.axhline(0, color="0.4", linewidth=0.6)
            top.set_title(f"{graphs} graph{'s in turn' * (graphs > 1)}")
            bottom.set_xlabel("level: share of the 13 links (%)")
        panels[0, 0].set_ylabel("worst test accuracy (%)")
        within_percent(panels[0, 0])
        panels[1, 0].set_ylabel("leaders' gain (points)")
        return finish(fig, experiment, labels, out / "sparsity")


if __name__ == "__main__":
    sys.exit(script("sparsity", draw))
