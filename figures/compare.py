"""Curves of any recorded runs against epochs, bytes or modelled time; drawn by ``experiments.compare``."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from aldsgd.statistics import mean_interval
from figures import style
from figures.common import ends, measured
from tables.base import Unit
from tables.comparison import AXES, UNITS, Selection, columns_of, common_end, distinct, values_at


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
                end = common_end([selection], axis)
                x = np.unique([AXES[axis](run.network) for run in selection.runs.values()])
                x = x[x <= end]
                intervals = [mean_interval(list(values_at(selection, column, axis, at).values())) for at in x]
                mean, half = ends(intervals, unit.scale)
                style.curve(axes, place, selection.name, x, mean, mean - half, mean + half, of=len(selections))
            shown = column.partition("_")[0]
            axes.set(title="averaged model" if shown == "averaged" else f"{shown} worker", xlabel=UNITS[axis],
                     ylabel=measured(unit))  # fmt: skip
            if axis == "epochs":
                style.epoch_axis(axes)
        style.legend(fig, [selection.name for selection in selections])
        return style.save(fig, out / "compare")
