"""Label skew: every method at three Dirichlet concentrations. python -m figures.non_iid"""

import sys
from pathlib import Path

from figures import style
from figures.common import Experiment, categories, finish, grid, script, within_percent
from tables.base import METHODS, average, final_values

ALPHAS = ("10", "1", "0.1")


def draw(results: Path, out: Path) -> list[Path]:
    """Draw the figure from the store; returns the files written. Raises ConfigError when no run is complete."""
    experiment = Experiment(results, "non_iid")
    values = final_values(experiment.entries)
    labels = [label for label in METHODS if any(f"{label}, alpha {alpha}" in experiment.runs for alpha in ALPHAS)]
    with style.sheet():
        fig, panels = grid(1, 2, 3.2)
        for axes, column, title in zip(
            panels[0], ("worst", "averaged"), ("worst worker", "averaged model"), strict=True
        ):
            series = {label: [average(values, f"{label}, alpha {a}", column) for a in ALPHAS] for label in labels}
            categories(axes, ALPHAS, series)
            axes.set(title=title, ylabel="test accuracy (%)", xlabel="Dirichlet alpha (smaller: more skewed)")
            within_percent(axes)
        return finish(fig, experiment, labels, out / "non_iid")


if __name__ == "__main__":
    sys.exit(script("non_iid", draw))
