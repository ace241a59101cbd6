"""The released schedule against all matchings: workers, the worst, the average. python -m figures.baseline_audit"""

import sys
from pathlib import Path

import pandas as pd

from figures import style
from figures.common import categories, finish, script, tested_on, within_percent
from tables.experiments import islands
from tables.query import Experiment

ALONE, REST = style.ALERT, "0.6"
#: Column of the last epoch -> what it is.
ENDS = {"worst": "worst worker", "averaged": "averaged model"}
#: Field of a case -> its text.
TEXT = {
    "graph": lambda graph: f"{graph.removeprefix('paper:')} %",
    "graphs": lambda count: f"{count} graph{'s' * (count > 1)}",
    "start": lambda start: f"{start} start",
}


def draw(results: Path, out: Path, width: float = style.PAGE_WIDTH) -> list[Path]:
    """Draw the figure from the store; returns the files written. Raises ConfigError when no run is complete."""
    runs = Experiment(results, "baseline_audit")
    # Where each method has one number of graphs, that number is the method's and no case.
    crossed = any(len(runs.select(family=family).field("graphs")) > 1 for family in runs.families)
    kind, methods = ("family", runs.families) if crossed else ("variant", runs.variants)
    fields = ("graph", "graphs", "start") if crossed else ("graph", "start")
    found = dict.fromkeys(tuple(config[field] for field in fields) for config in runs.configs)
    cases = [dict(zip(fields, values, strict=True)) for values in found]
    names = [[TEXT[field](value) for field, value in case.items()] for case in cases]
    with style.sheet(width):
        flat = style.narrow()
        across = 2 if flat else len(methods)
        rows = -(-len(methods) // across)
        fig = style.empty(1.5 * rows + 4.2 if flat else 5.2)
        heights = [1] * rows + [3 if flat else 1.2]
        places, first = fig.add_gridspec(rows + 1, across, height_ratios=heights), None
        for place, method in enumerate(methods):
            axes = fig.add_subplot(places[divmod(place, across)], sharex=first, sharey=first)
            first = first or axes
            worker_curves(axes, [entry.run for entry in runs.select(**{kind: method}, **cases[0])])
            axes.set(title=style.brief(method), ylabel="a worker's accuracy (%)")
            style.epoch_axis(axes)
        ticks = [f"{', '.join(name[:-1])}\n{name[-1]}" for name in names]
        ends = places[rows, :].subgridspec(*(2, 1) if flat else (1, 2))
        for place, (column, title) in zip(ends, ENDS.items(), strict=True):
            axes = fig.add_subplot(place)
            series = {m: [runs.select(**{kind: m}, **case).interval(column) for case in cases] for m in methods}
            categories(axes, ticks, series, f"{title}'s accuracy (%)", flat=flat)
            within_percent(axes, "x" if flat else "y")
            axes.set_title(f"the {title} at the last epoch")
        note = f"above: every worker, mean over seeds, {', '.join(names[0])}"
        told = tested_on(entry.run for entry in runs)
        return finish(fig, runs, methods, out, note="; ".join(filter(None, (note, told))))


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
