"""The mean and the worst worker by the share of messages that are lost. python -m figures.losses"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from figures import style
from figures.common import by_condition, categories, finish, measured, script, within_percent
from tables.base import Unit
from tables.query import Experiment


def draw_over(
    results: Path, out: Path, width: float, name: str, value: Callable[[Mapping], str], label: str
) -> list[Path]:
    """Mean and worst worker of every method over a field of the configurations, called ``label``."""
    runs = Experiment(results, name)
    names, cells = [value(config) for config in runs.conditions.values()], by_condition(runs)
    with style.sheet(width):
        fig, (panels,) = style.grid(1, 2, 2.9, 1.8)
        for axes, column in zip(panels, ("mean", "worst"), strict=True):
            shown = {v: [cell.interval(column) for cell in own] for v, own in cells.items()}
            unit = Unit.of(runs)
            categories(axes, names, shown, measured(unit), joined=True)
            axes.set(title=f"{column} worker", xlabel=label)
            if unit.scale == 100:
                within_percent(axes)
        return finish(fig, runs, list(cells), out)


def draw(results: Path, out: Path, width: float = style.PAGE_WIDTH) -> list[Path]:
    """Draw the figure from the store; returns the files written. Raises ConfigError when no run is complete."""
    return draw_over(
        results, out, width, "losses", lambda c: f"{100 * c.get('message_loss', 0):g}", "messages lost (%)"
    )


if __name__ == "__main__":
    sys.exit(script("losses", draw))
