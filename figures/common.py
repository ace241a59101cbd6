"""What the figures of the experiments share: their runs, panels of categories with intervals, and the command line."""

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aldsgd.errors import ConfigError
from aldsgd.runs import Run
from aldsgd.statistics import Interval, mean_interval
from experiments.options import Parser
from figures import style
from tables.base import Unit
from tables.query import Experiment, Runs


def title(runs: Experiment) -> str:
    """What was run, with how many seeds, and how much of it is complete."""
    images = {size for size in runs.field("train_images") if size}
    size = f" ({listed(f'{n:,}' for n in sorted(images))} images)" if images else ""
    counts = sorted({len(runs.of(label)) for label in runs.labels})
    seeds = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    missing = "" if len(runs) == runs.listed else f"; {len(runs)} of {runs.listed} runs measured"
    data, models, workers = (listed(runs.field(name)) for name in ("dataset", "model", "workers"))
    what = style.verbatim(f"{data}{size}, {models}, {workers} workers, preset {runs.preset}:")
    numbers = "one seed, no interval" if counts == [1] else f"mean and 95\xa0% interval over n\xa0=\xa0{seeds} seeds"
    return what + ("\n" if len(what + numbers) > 105 else " ") + numbers + missing


def listed(values: Iterable) -> str:
    """a, b and c."""
    *others, last = map(str, values)
    return f"{', '.join(others)} and {last}" if others else last


def measured(unit: Unit) -> str:
    """What an axis of test results is called."""
    return style.verbatim(f"test {unit.metric}") + " (%)" * (unit.scale == 100)


def curves(runs: Iterable[Run], column: str) -> pd.DataFrame:
    """One column of several runs: a row for each epoch that every run has tested on the samples of its curve, a column
    for each run."""
    frames = [run.curve.set_index("epoch")[column] for run in runs]
    return pd.concat(frames, axis=1, join="inner", keys=range(len(frames)))


def tested_on(runs: Iterable[Run]) -> str:
    """What the tests of the curves took, where the end was tested on more; nothing where all took the same."""
    counts = dict.fromkeys(f"{run.config['interim_images']:,}" for run in runs if len(run.curve) < len(run.network))
    counts = " and ".join(counts)
    return f"curves: tests on {counts} images; the last, on all, is left out" if counts else ""


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


def worst_and_averaged(panels: Iterable[Axes], runs: Experiment, names: Sequence[str], flat: bool = False) -> None:
    """Two panels: the worst worker and the averaged model of each method under each condition, called ``names``."""
    panels, cells = list(panels), by_condition(runs)
    for axes, column, name in zip(panels, ("worst", "averaged"), ("worst worker", "averaged model"), strict=True):
        values = {variant: [cell.interval(column) for cell in own] for variant, own in cells.items()}
        categories(axes, names, values, "test accuracy (%)", flat=flat)
        axes.set_title(name)
    for axes in panels:  # only now: limits that are set are not widened for what another panel shows on the same axis
        within_percent(axes, "x" if flat else "y")


def ends(intervals: Sequence[Interval | None], scale: float = 100) -> tuple[np.ndarray, np.ndarray]:
    """(means, half widths), in percent unless scaled; NaN where nothing was measured, width 0 of a single value."""
    means = [np.nan if interval is None else scale * interval.mean for interval in intervals]
    halves = [0.0 if interval is None else scale * interval.half_width for interval in intervals]
    return np.array(means), np.nan_to_num(halves)


def categories(
    axes: Axes, names: Sequence[str], series: dict[str, Sequence[Interval | None]], value: str, *, joined: bool = False,
    flat: bool = False,
) -> None:  # fmt: skip
    """Methods side by side at each category: marker and interval of a ``value``, which its axis is called after.

    joined: where the categories have an order. flat: categories from the top, for names too long to stand beside one
    another in a column.
    """
    reach = min(0.15, 0.04 * (len(series) - 1)) if joined else 0.3
    shifts = np.linspace(-reach, reach, len(series)) if len(series) > 1 else np.zeros(len(series))
    for shift, (label, intervals) in zip(shifts, series.items(), strict=True):
        look, (mean, half), places = style.look(label), ends(intervals), np.arange(len(names)) + shift
        points = {"x": mean, "y": places, "xerr": half} if flat else {"x": places, "y": mean, "yerr": half}
        axes.errorbar(
            **points, color=look.color, marker=look.marker, markersize=look.markersize * (0.7 if flat else 0.85),
            linestyle=look.linestyle if joined else "none", linewidth=0.7, elinewidth=1,
        )  # fmt: skip
    across, along = (axes.yaxis, axes.xaxis) if flat else (axes.xaxis, axes.yaxis)
    across.set_ticks(range(len(names)), list(map(style.verbatim, names)))
    along.set_label_text(value)
    axes.set(**{"ylim": (len(names) - 0.5, -0.5)} if flat else {"xlim": (-0.5, len(names) - 0.5)})
    across.grid(False)
    for edge in range(1, len(names)):
        (axes.axhline if flat else axes.axvline)(edge - 0.5, color="0.9", linewidth=0.5, zorder=0)


def dots(axes: Axes, names: Sequence[str], intervals: Sequence[Interval | None]) -> None:
    """One row per name from the top, marker and horizontal interval."""
    mean, half = ends(intervals)
    axes.errorbar(mean, np.arange(len(names)), xerr=half, color=style.INK, marker="o", markersize=4.5, linestyle="none",
                  elinewidth=1.2)  # fmt: skip
    axes.set_yticks(range(len(names)), list(map(style.verbatim, names)))
    axes.set_ylim(len(names) - 0.5, -0.5)


def within_percent(axes: Axes, which: str = "y") -> None:
    """Cut a linear axis of accuracies, "x" or "y", at 0 and 100 %, which an interval of few seeds may pass."""
    low, high = axes.get_ylim() if which == "y" else axes.get_xlim()
    axes.set(**{f"{which}lim": (max(low, -2), min(high, 102))})


def finish(fig: Figure, runs: Experiment, labels: Sequence[str], out: Path, note: str = "") -> list[Path]:
    """Title, one legend for all panels under what else has to be said, and the files, called after the experiment."""
    style.heading(fig, title(runs))
    if labels:
        style.legend(fig, list(labels), 3 if len(labels) > 4 else 4, note)
    return style.save(fig, out / runs.name)


def overview(results: Path, out: Path, width: float = style.PAGE_WIDTH, *, name: str) -> list[Path]:
    """The figure of an experiment without one of its own: three panels, a row a label, all seeds and the interval."""
    runs = Experiment(results, name)
    unit = Unit.of(runs)
    rows = 0.18 * len(runs.labels)
    with style.sheet(width):
        fig, (panels,) = style.grid(1, 3, 1.2 + rows, 0.5 + 0.7 * rows, sharex="all", sharey="all")
        for axes, column in zip(panels, ("worst", "mean", "averaged"), strict=True):
            for place, label in enumerate(runs.labels):
                seeds = (runs.frame[column][runs.frame["label"] == label] * unit.scale).to_numpy()
                if len(seeds) > 1:  # one below the other: equal seeds hide none
                    axes.plot(seeds, place + np.linspace(-0.3, 0.3, len(seeds)), ".", color="0.6", markersize=3.5)
                own, look = runs.of(label), style.look(runs.of(label)[0].variant)
                mean, half = ends([own.interval(column)], unit.scale)
                axes.errorbar(mean, [place], xerr=half, color=look.color, marker=look.marker,
                              markersize=look.markersize, linestyle="none", elinewidth=1.2)  # fmt: skip
            axes.set_yticks(range(len(runs.labels)), runs.labels, parse_math=False)
            axes.set_ylim(len(runs.labels) - 0.5, -0.5)
            shown = "averaged model" if column == "averaged" else f"{column} worker"
            axes.set(title=shown, ylabel="", xlabel=measured(unit))
        return finish(fig, runs, (), out)


def against_bytes(results: Path, out: Path, width: float = style.PAGE_WIDTH, *, name: str) -> list[Path]:
    """Three panels, a row a label: mean worker, averaged model, and the logical bytes of the run on a log axis."""
    runs = Experiment(results, name)
    unit = Unit.of(runs)
    rows = 0.18 * len(runs.labels)
    with style.sheet(width):
        fig, (panels,) = style.grid(1, 3, 1.2 + rows, 0.5 + 0.7 * rows, sharey="all")
        for axes, column in zip(panels, ("mean", "averaged", "megabytes"), strict=True):
            for place, label in enumerate(runs.labels):
                own, look = runs.of(label), style.look(runs.of(label)[0].variant)
                mean, half = ends([own.interval(column)], 1 if column == "megabytes" else unit.scale)
                shown = np.where(mean > 0, mean, np.nan)  # no exchange has no place on a log axis
                axes.errorbar(shown, [place], xerr=half, color=look.color, marker=look.marker,
                              markersize=look.markersize, linestyle="none", elinewidth=1.2)  # fmt: skip
            axes.set_yticks(range(len(runs.labels)), runs.labels, parse_math=False)
            axes.set_ylim(len(runs.labels) - 0.5, -0.5)
        shown = measured(unit)
        limits = [f([axes.get_xlim() for axes in panels[:2]], axis=0) for f in (np.min, np.max)]
        for axes, title in zip(panels, ("mean worker", "averaged model"), strict=False):
            axes.set(title=title, xlabel=shown, xlim=(limits[0][0], limits[1][1]))
        panels[2].set(title="sent by all workers", xlabel="MB")
        panels[2].set_xscale("log")
        return finish(fig, runs, (), out)


def script(name: str, draw: Callable[[Path, Path, float], list[Path]], arguments: list[str] | None = None) -> int:
    """The command line of a figure; an error is one line and exit code 2."""
    parser = Parser(description=f"Draw figures/{name}.pdf and .png from the recorded runs.")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of the runs (default: results)")
    parser.add_argument("--width", type=float, default=style.PAGE_WIDTH, choices=style.WIDTHS, help=style.WIDTHS_HELP)
    parser.add_argument(
        "--out", type=Path, help="folder to write into (default: figures; figures/column at 3.5 inches)"
    )
    try:
        options = parser.parse_args(arguments)
        out = options.out or Path("figures", "column" if options.width < style.PAGE_WIDTH else "")
        style.check_out(out)
        for path in draw(options.results, out, options.width):
            print(path)
    except ConfigError as error:
        print(f"figures.{name}: {error}", file=sys.stderr)
        return 2
    return 0
