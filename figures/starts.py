"""Initial models and BatchNorm policies. python -m figures.starts"""

import sys
from pathlib import Path

from figures import style
from figures.common import Experiment, categories, finish, grid, script, within_percent
from tables.base import average, final_values, split_label


def draw(results: Path, out: Path) -> list[Path]:
    """Draw the figure from the store; returns the files written. Raises ConfigError when no run is complete."""
    experiment = Experiment(results, "starts")
    values = final_values(experiment.entries)
    labels = ["D-PSGD", "AL-DSGD on D-PSGD"]
    cases = list(dict.fromkeys(split_label(label)[1] for label in experiment.runs))
    names = [case.replace(" start, ", "\n").replace(" statistics", "").replace(", ", ",\n") for case in cases]
    with style.sheet():
        fig, panels = grid(2, 1, 4.2, sharex=True)
        for axes, column, title in zip(
            panels[:, 0], ("worst", "averaged"), ("worst worker", "averaged model"), strict=True
        ):
            categories(
                axes,
                names,
                {label: [average(values, f"{label}, {case}", column) for case in cases] for label in labels},
            )
            axes.set(title=title, ylabel="test accuracy (%)")
            within_percent(axes)
        panels[1, 0].set_xlabel("start, and BatchNorm statistics of the tested models")
        return finish(fig, experiment, labels, out / "starts")


if __name__ == "__main__":
    sys.exit(script("starts", draw))
