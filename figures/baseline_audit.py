"""The released schedule against all matchings: curves of workers, the worst. python -m figures.baseline_audit"""

import sys
from pathlib import Path

import pandas as pd

from figures import style
from figures.common import categories, finish, script, within_percent
from tables.experiments import islands
from tables.query import Experiment

ALONE, REST = style.ALERT, "0.6"


def draw(results: Path, out: Path, width: float = style.PAGE_WIDTH) -> list[Path]:
    """Draw the figure from the store; returns the files written. Raises ConfigError when no run is complete."""
    runs = Experiment(results, "baseline_audit")
    families = runs.families
    fields = dict.fromkeys((config["graph"], config["start"], config["graphs"]) for config in runs.configs)
    cases = [dict(zip(("graph", "start", "graphs"), values, strict=True)) for values in fields]
    names = [
        (
            f"{c['graph'].removeprefix('paper:')} %",
            f"{c['graphs']} graph{'s' * (c['graphs'] > 1)}",
            f"{c['start']} start",
        )
        for c in cases
    ]
    with style.sheet(width):
        flat = style.narrow()
        across = 2 if flat else len(families)
        rows = -(-len(families) // across)
        fig = style.empty(1.5 * rows + 2.7 if flat else 5.2)
        heights = [1] * rows + [1.8 if flat else 1.2]
        places, first = fig.add_gridspec(rows + 1, across, height_ratios=heights), None
        for place, family in enumerate(families):
            axes = fig.add_subplot(places[divmod(place, across)], sharex=first, sharey=first)
            first = first or axes
            worker_curves(axes, [entry.run for entry in runs.select(family=family, **cases[0])])
            axes.set(title=style.brief(family), ylabel="a worker's accuracy (%)")
            style.epoch_axis(axes)
        axes = fig.add_subplot(places[rows, :])
        series = {f: [runs.select(family=f, **case).interval("worst") for case in cases] for f in families}
        categories(
            axes,
            ["{}, {}\n{}".format(*name) for name in names],
            series,
            "worst worker's test accuracy (%)",
            flat=flat,
        )
        within_percent(axes, "x" if flat else "y")
        axes.set_title("the worst worker at the last epoch")
        above = ", ".join(names[0])
        return finish(fig, runs, families, out, note=f"above: every worker, mean over seeds, {above}")


def worker_curves(axes, runs) -> None:
    """One curve per worker, mean over seeds; workers that never exchange in colour, with their number."""
    if not runs:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center")
        return
    alone = {group[0] for group in islands(runs[0].config) if len(group) == 1}
    frames = pd.concat([run.workers[run.workers["epoch"].isin(run.curve["epoch"])] for run in runs])
    mean = 100 * frames.groupby(["worker", "epoch"])["test_accuracy"].mean()
    for worker in sorted(mean.index.unique("worker"), key=lambda w: w in alone):
        curve = mean.loc[worker]
        axes.plot(
            curve.index, curve, color=ALONE if worker in alone else REST, linewidth=1.2 if worker in alone else 0.8
        )
    if alone:
        text = f"never exchange:\n{', '.join(map(str, sorted(alone)))}"
        axes.text(0.97, 0.04, text, transform=axes.transAxes, ha="right", color=ALONE, fontsize=style.SMALLEST)


if __name__ == "__main__":
    sys.exit(script("baseline_audit", draw))
