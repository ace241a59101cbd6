"""What the figures of the experiments share: their runs, panels of categories with intervals, and the command line."""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from aldsgd.errors import ConfigError
from aldsgd.runs import Run
from aldsgd.statistics import Interval, mean_interval
from figures import style
from tables.base import Unit
from tables.query import Experiment, Runs


def title(runs: Experiment) -> str:
    """What was run, with how many seeds, and how much of it is complete."""
    images = {size for size in runs.field("train_images") if size}
    size = f" ({', '.join(f'{n:,}' for n in sorted(images))} images)" if images else ""
    counts = sorted({len(runs.of(label)) for label in runs.labels})
    seeds = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    missing = "" if len(runs) == runs.listed else f"; {len(runs)} of {runs.listed} runs measured"
    names, first = " and ".join(map(str, runs.field("dataset"))), runs[0].run.config
    what = f"{names}{size}, {first.get('model')}, {first.get('workers')} workers, preset {runs.preset}:"
    numbers = f"mean and 95 % interval over n = {seeds} seed{'s' * (counts != [1])}{missing}"
    return what + ("\n" if len(what + numbers) > 105 else " ") + numbers


def curves(runs: Iterable[Run], column: str) -> pd.DataFrame:
    """One column of several runs: a row for each epoch that every run has evaluated, a column for each run."""
    frames = [run.network.set_index("epoch")[column].dropna() for run in runs]
    return pd.concat(frames, axis=1, join="inner", keys=range(len(frames)))


def band(values: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, lower and upper end of the interval of every row; a single run has an interval of no width."""
    mean, half = ends([mean_interval(row) for row in values.to_numpy()], scale=1)
    return mean, mean - half, mean + half


def by_condition(runs: Experiment) -> dict[str, list[Runs]]:
    """method -> its runs under each condition."""
    return {
        variant: [runs.select(variant=variant, condition=number) for number in runs.conditions]
        for variant in runs.variants
    }


def worst_and_averaged(panels: Iterable[Axes], runs: Experiment, names: Sequence[str]) -> None:
    """Two panels: the worst worker and the averaged model of each method under each condition, called ``names``."""
    panels, cells = list(panels), by_condition(runs)
    for axes, column, name in zip(panels, ("worst", "averaged"), ("worst worker", "averaged model"), strict=True):
        categories(axes, names, {v: [cell.interval(column) for cell in own] for v, own in cells.items()})
        axes.set(title=name, ylabel="test accuracy (%)")
    for axes in panels:  # only now: limits that are set are not widened for what another panel shows on the same axis
        within_percent(axes)


def ends(intervals: Sequence[Interval | None], scale: float = 100) -> tuple[np.ndarray, np.ndarray]:
    """(means, half widths), in percent unless scaled; NaN where nothing was measured, width 0 of a single value."""
    means = [np.nan if interval is None else scale * interval.mean for interval in intervals]
    halves = [0.0 if interval is None else scale * interval.half_width for interval in intervals]
    return np.array(means), np.nan_to_num(halves)


def categories(axes: Axes, names: Sequence[str], series: dict[str, Sequence[Interval | None]], joined=False) -> None:
    """Methods side by side at each category: marker and interval; ``joined`` where the categories have an order."""
    reach = 0.15 if joined else 0.3
    shifts = np.linspace(-reach, reach, len(series)) if len(series) > 1 else np.zeros(len(series))
    for shift, (label, intervals) in zip(shifts, series.items(), strict=True):
        look, (mean, half) = style.look(label), ends(intervals)
        axes.errorbar(
            np.arange(len(names)) + shift, mean, yerr=half, color=look.color, marker=look.marker,
            markersize=look.markersize, linestyle=look.linestyle if joined else "none", linewidth=0.7, elinewidth=1,
        )  # fmt: skip
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.grid(False, axis="x")
    for edge in range(1, len(names)):
        axes.axvline(edge - 0.5, color="0.9", linewidth=0.5, zorder=0)


def dots(axes: Axes, names: Sequence[str], intervals: Sequence[Interval | None], color="#D55E00") -> None:
    """One row per name from the top, marker and horizontal interval."""
    mean, half = ends(intervals)
    axes.errorbar(mean, np.arange(len(names)), xerr=half, color=color, marker="o", linestyle="none", elinewidth=1.2)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)


def grid(rows: int, columns: int, height: float, **options) -> tuple[Figure, np.ndarray]:
    """A figure of the page's width (inches) with an array of panels."""
    fig = style.figure(1, height)[0]
    fig.clear()
    return fig, fig.subplots(rows, columns, squeeze=False, **options)


def within_percent(axes: Axes) -> None:
    """Cut a linear axis of accuracies at 0 and 100 %, which an interval of few seeds may pass."""
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, -2), min(high, 102))


def plain_log(axes: Axes, ticks: int = 4) -> None:
    """A horizontal logarithmic axis with plain numbers, few enough to be read."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5), numticks=ticks))
    axes.xaxis.set_minor_formatter("")
    axes.xaxis.set_major_formatter("{x:g}")


def finish(fig: Figure, runs: Experiment, labels: Sequence[str], out: Path) -> list[Path]:
    """Title, one legend for all panels, and the files, which are called after the experiment."""
    fig.suptitle(title(runs), fontsize=7.5)
    if labels:
        style.legend(fig, list(labels), columns=3 if len(labels) > 4 else 4)
    return style.save(fig, out / runs.name)


def overview(results: Path, out: Path, name: str) -> list[Path]:
    """The figure of an experiment without one of its own: three panels, a row a label, all seeds and the interval."""
    from seaborn import swarmplot

    runs = Experiment(results, name)
    unit = Unit.of(runs)
    with style.sheet():
        fig, (panels,) = grid(1, 3, 1.2 + 0.18 * len(runs.labels), sharey=True)
        for axes, column in zip(panels, ("worst", "mean", "averaged"), strict=True):
            values = runs.frame[column] * unit.scale
            swarmplot(x=values, y=runs.frame["label"], order=runs.labels, color="0.6", size=2.5, ax=axes, zorder=0)
            for place, label in enumerate(runs.labels):
                own, look = runs.of(label), style.look(runs.of(label)[0].variant)
                mean, half = ends([own.interval(column)], unit.scale)
                axes.errorbar(mean, [place], xerr=half, color=look.color, marker=look.marker,
                              markersize=look.markersize, linestyle="none", elinewidth=1.2)  # fmt: skip
            axes.set_yticks(range(len(runs.labels)), runs.labels, parse_math=False)
            axes.set_ylim(len(runs.labels) - 0.5, -0.5)
            shown = "averaged model" if column == "averaged" else f"{column} worker"
            axes.set(title=shown, ylabel="", xlabel=f"test {unit.metric}" + " (%)" * (unit.scale == 100))
        return finish(fig, runs, (), out)


def against_bytes(results: Path, out: Path, name: str) -> list[Path]:
    """Three panels, a row a label: mean worker, averaged model, and the logical bytes of the run on a log axis."""
    runs = Experiment(results, name)
    unit = Unit.of(runs)
    with style.sheet():
        fig, (panels,) = grid(1, 3, 1.2 + 0.18 * len(runs.labels), sharey=True)
        for axes, column in zip(panels, ("mean", "averaged", "megabytes"), strict=True):
            for place, label in enumerate(runs.labels):
                own, look = runs.of(label), style.look(runs.of(label)[0].variant)
                mean, half = ends([own.interval(column)], 1 if column == "megabytes" else unit.scale)
                shown = np.where(mean > 0, mean, np.nan)  # no exchange has no place on a log axis
                axes.errorbar(shown, [place], xerr=half, color=look.color, marker=look.marker,
                              markersize=look.markersize, linestyle="none", elinewidth=1.2)  # fmt: skip
            axes.set_yticks(range(len(runs.labels)), runs.labels, parse_math=False)
            axes.set_ylim(len(runs.labels) - 0.5, -0.5)
        panels[0].set(title="mean worker", xlabel=f"test {unit.metric}" + " (%)" * (unit.scale == 100))
        panels[1].set(title="averaged model", xlabel=f"test {unit.metric}" + " (%)" * (unit.scale == 100))
        panels[2].set(title="sent by all workers", xlabel="MB")
        plain_log(panels[2])
        return finish(fig, runs, (), out)


def script(name: str, draw: Callable[[Path, Path], list[Path]], arguments: list[str] | None = None) -> int:
    """The command line of a figure; an error is one line and exit code 2."""
    parser = argparse.ArgumentParser(description=f"Draw figures/{name}.pdf and .png from the recorded runs.")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of the runs (default: results)")
    parser.add_argument("--out", type=Path, default=Path("figures"), help="folder to write into (default: figures)")
    options = parser.parse_args(arguments)
    try:
        style.check_out(options.out)
        for path in draw(options.results, options.out):
            print(path)
    except ConfigError as error:
        print(f"figures.{name}: {error}", file=sys.stderr)
        return 2
    return 0
