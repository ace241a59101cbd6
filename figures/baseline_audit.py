"""The released schedule against all matchings: curves of workers, the worst. python -m figures.baseline_audit"""

import sys
from pathlib import Path

import pandas as pd

from figures import style
from figures.common import Experiment, categories, finish, script, within_percent
from tables.base import average, final_values
from tables.experiments import islands

LABELS = ("D-PSGD (released schedule)", "D-PSGD", "AL-DSGD on released schedule", "AL-DSGD on D-PSGD")
CASES = {
    f"{level} %\n{start} start\n{graphs} graph{'s' * (graphs > 1)}":
        f"{level} %, {start} start, {graphs} graph{'s' * (graphs > 1)}"
    for level, start in (("53.8", "different"), ("53.8", "same"), ("100", "different"))
    for graphs in (1, 2)
}  # fmt: skip
SHOWN = "53.8 %, different start, 1 graph"
ALONE, REST = "#D55E00", "#999999"


def draw(results: Path, out: Path) -> list[Path]:
    """Draw the figure from the store; returns the files written. Raises ConfigError when no run is complete."""
    experiment = Experiment(results, "baseline_audit")
    values = final_values(experiment.entries)
    with style.sheet():
        fig = style.figure(1, 5.2)[0]
        fig.clear()
        places = fig.add_gridspec(2, 4, height_ratios=(1, 1.1))
        first = None
        for place, label in enumerate(LABELS):
            axes = fig.add_subplot(places[0, place], sharey=first)
            first = first or axes
            runs = experiment.runs.get(f"{label}, {SHOWN}", [])
            worker_curves(axes, runs)
            axes.set_title(label.replace(" (", "\n(").replace(" on ", "\non "), fontsize=7)
            style.epoch_axis(axes)
            if place == 0:
                axes.set_ylabel("test accuracy (%)\n" + SHOWN.replace(" start,", " start,\n"))
            else:
                axes.tick_params(labelleft=False)
        axes = fig.add_subplot(places[1, :])
        series = {label: [average(values, f"{label}, {case}", "worst") for case in CASES.values()] for label in LABELS}
        categories(axes, list(CASES), series)
        within_percent(axes)
        axes.set(ylabel="worst test accuracy (%)", title="the worst worker at the last epoch")
        return finish(fig, experiment, LABELS, out / "baseline_audit")


def worker_curves(axes, runs) -> None:
    """One curve per worker, mean over seeds; workers that never exchange in colour, with their number."""
    if not runs:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center")
        return
    alone = {group[0] for group in islands(runs[0].config) if len(group) == 1}
    frames = pd.concat([run.workers for run in runs])
    mean = 100 * frames.groupby(["worker", "epoch"])["test_accuracy"].mean()
    for worker in sorted(mean.index.unique("worker"), key=lambda w: w in alone):
        curve = mean.loc[worker]
        axes.plot(
            curve.index, curve, color=ALONE if worker in alone else REST, linewidth=1.2 if worker in alone else 0.8
        )
    if alone:
        text = f"never exchange: {', '.join(map(str, sorted(alone)))}"
        axes.text(0.97, 0.04, text, transform=axes.transAxes, ha="right", color=ALONE, fontsize=6.5)


if __name__ == "__main__":
    sys.exit(script("baseline_audit", draw))
