"""Curves of any recorded runs against epochs, bytes or modelled time; drawn by ``experiments.compare``."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from aldsgd.statistics import Interval, mean_interval
from figures import style
from figures.common import ends, measured, tested_on
from tables.base import Unit
from tables.comparison import AXES, UNITS, Selection, columns_of, distinct


def draw_comparison(
    selections: Sequence[Selection], out: Path, axis: str = "epochs", metric: str | None = None,
    width: float = style.PAGE_WIDTH,
) -> list[Path]:  # fmt: skip
    """Draw ``compare.pdf`` and ``.png`` into ``out``; returns the files written."""
    selections = distinct(selections)
    columns = columns_of(selections, metric)
    unit = Unit(columns[0].partition("_")[2])
    with style.sheet(width):
        fig, (panels,) = style.grid(1, len(columns), 3.0, 1.8, sharex="all", sharey="all")
        for axes, column in zip(panels, columns, strict=True):
            for place, selection in enumerate(selections):
                x, intervals = points(selection, column, axis)
                mean, half = ends(intervals, unit.scale)
                style.curve(axes, place, selection.name, x, mean, mean - half, mean + half, of=len(selections))
            shown = column.partition("_")[0]
            axes.set(title="averaged model" if shown == "averaged" else f"{shown} worker", xlabel=UNITS[axis],
                     ylabel=measured(unit))  # fmt: skip
            if axis == "epochs":
                style.epoch_axis(axes)
        told = tested_on(run for selection in selections for run in selection.runs.values())
        style.legend(fig, [selection.name for selection in selections], note=told)
        return style.save(fig, out / "compare")


def points(selection: Selection, column: str, axis: str) -> tuple[np.ndarray, list[Interval]]:
    """Where some run's curve was tested, as far as every curve goes, and the mean of all curves there; between two
    tests of a curve on the line that joins them."""
    curves = [(AXES[axis](run.curve), run.curve[column]) for run in selection.runs.values()]
    x = np.unique(np.concatenate([along for along, _ in curves]))
    x = x[x <= min(along[-1] for along, _ in curves)]
    return x, [mean_interval([float(np.interp(at, *curve, left=np.nan)) for curve in curves]) for at in x]
