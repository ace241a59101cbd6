"""What the figures of the experiments share: their runs, panels of categories with intervals, and the command line."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from aldsgd.errors import ConfigError
from aldsgd.listings import read_experiment
from aldsgd.records import Run
from aldsgd.statistics import Interval
from figures import style
from tables.base import available


class Experiment:
    """The complete runs of one experiment, as figures want them. Raises ConfigError where there is none."""

    def __init__(self, root: Path, name: str):
        self.entries, self.listed = available(root, name)
        self.preset = read_experiment(root, name)["preset"]

    @property
    def runs(self) -> dict[str, list[Run]]:
        """label -> its runs, in the order of the experiment."""
        grouped: dict[str, list[Run]] = {}
        for label, _, run in self.entries:
            grouped.setdefault(label, []).append(run)
        return grouped

    def title(self) -> str:
        """What was run, with how many seeds, and how much of it is complete."""
        configs = [run.config for _, _, run in self.entries]
        names = " and ".join(dict.fromkeys(config["dataset"] for config in configs))
        images = {config["train_images"] for config in configs} - {None}
        size = f" ({', '.join(f'{n:,}' for n in sorted(images))} images)" if images else ""
        counts = sorted({len(runs) for runs in self.runs.values()})
        seeds = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
        missing = "" if len(self.entries) == self.listed else f"; {len(self.entries)} of {self.listed} runs measured"
        what = f"{names}{size}, {configs[0]['model']}, {configs[0]['workers']} workers, preset {self.preset}:"
        numbers = f"mean and 95 % interval over n = {seeds} seed{'s' * (counts != [1])}{missing}"
        return what + ("\n" if len(what + numbers) > 105 else " ") + numbers


def ends(intervals: Sequence[Interval | None]) -> tuple[np.ndarray, np.ndarray]:
    """(means, half widths) in percent; NaN where nothing was measured, width 0 of a single value."""
    means = [np.nan if interval is None else 100 * interval.mean for interval in intervals]
    halves = [0.0 if interval is None else 100 * interval.half_width for interval in intervals]
    return np.array(means), np.nan_to_num(halves)


def categories(axes: Axes, names: Sequence[str], series: dict[str, Sequence[Interval | None]], joined=False) -> None:
    """Methods side by side at each category: marker and interval; ``joined`` where the categories have an order."""
    reach = 0.15 if joined else 0.3
    shifts = np.linspace(-reach, reach, len(series)) if len(series) > 1 else [0.0]
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


def finish(fig: Figure, experiment: Experiment, labels: Sequence[str], stem: Path) -> list[Path]:
    """Title, one legend for all panels, and the files."""
    fig.suptitle(experiment.title(), fontsize=7.5)
    if labels:
        style.legend(fig, list(labels), columns=3 if len(labels) > 4 else 4)
    return style.save(fig, stem)


def script(name: str, draw: Callable[[Path, Path], list[Path]], arguments: list[str] | None = None) -> int:
    """The command line of a figure; an error is one line and exit code 2."""
    parser = argparse.ArgumentParser(description=f"Draw figures/{name}.pdf and .png from the recorded runs.")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of the runs (default: results)")
    parser.add_argument("--out", type=Path, default=Path("figures"), help="folder to write into (default: figures)")
    options = parser.parse_args(arguments)
    try:
        for path in draw(options.results, options.out):
            print(path)
    except ConfigError as error:
        print(f"figures.{name}: {error}", file=sys.stderr)
        return 2
    return 0
