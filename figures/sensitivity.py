"""Maps of the coefficients with the edge of stability, and learning rates per method. python -m figures.sensitivity"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from aldsgd.statistics import mean_interval
from figures import style
from figures.common import finish, script
from tables.query import Experiment, Runs
from tables.rates import coefficient_maps, lr_grid

TITLES = {"c": "(a) weights, released order", "p": "(b) force, printed order"}
#: Accuracy below which a run counts as diverged: that of chance, ten classes, is 10 %.
CHANCE = 0.15
#: Points below the best that the colours tell apart.
SHOWN = 10


def draw(results: Path, out: Path, width: float = style.PAGE_WIDTH) -> list[Path]:
    """Draw the figure from the store; returns the files written. Raises ConfigError when no run is complete."""
    experiment = Experiment(results, "sensitivity")
    maps, grid_of_rates = coefficient_maps(experiment), lr_grid(experiment)
    labels = list(grid_of_rates)
    with style.sheet(width):
        fig = style.empty(4.2 if style.narrow() else 3.6)
        places = fig.add_gridspec(2, 2, height_ratios=(1.15, 1)) if style.narrow() else fig.add_gridspec(1, 3)
        panels = [
            fig.add_subplot(place)
            for place in (places[0, 0], places[0, 1], places[-1, :] if style.narrow() else places[0, 2])
        ]
        images = {letter: image(maps[letter], letter) for letter in "cp"}
        best = max((np.nanmax(values) for _, values in images.values() if values.size), default=100.0)
        drawn = None
        for axes, letter in zip(panels, "cp", strict=False):
            drawn = heat(axes, *images[letter], letter, best) or drawn
        if drawn is not None:
            bar = fig.colorbar(drawn, ax=list(panels[:2]), location="bottom", shrink=0.6, aspect=30, extend="min")
            bar.set_label("mean worker (%); crossed out: a seed diverged", fontsize=style.SMALLEST)
            bar.ax.tick_params(labelsize=style.SMALLEST)
        panels[2].set(xlabel="learning rate", title="(c) learning rates")
        style.accuracy_axis(panels[2], "mean worker's test accuracy (%)")
        for place, label in enumerate(labels):
            rates = sorted(grid_of_rates[label])
            found = [mean_interval(np.nan_to_num(list(grid_of_rates[label][rate].values()))) for rate in rates]
            mean = 100 * np.array([interval.mean for interval in found])
            half = 100 * np.nan_to_num([interval.half_width for interval in found])
            style.curve(panels[2], place, label, rates, mean, mean - half, mean + half, of=len(labels))
        style.plain_log(panels[2], ticks=6)
        return finish(fig, experiment, labels, out)


def image(runs: Runs, letter: str) -> tuple[list[float], np.ndarray]:
    """(values of a coefficient, mean worker's accuracy in percent over both), NaN where a seed diverged."""
    cells: dict[tuple[float, float], list[float]] = {}
    for entry in runs:
        final, config = entry.run.final, entry.run.config
        accuracy = final["mean_accuracy"]
        broken = not np.isfinite(final["averaged_loss"]) or accuracy < CHANCE
        cell = config[f"{letter}1"], config[f"{letter}2"]
        cells.setdefault(cell, []).append(np.nan if broken else accuracy)
    values = sorted({a for a, _ in cells})
    # One diverged seed makes the cell unstable: the mean of the others would hide it.
    return values, 100 * np.array([[np.mean(cells.get((a, b), [np.nan])) for a in values] for b in values])


def heat(axes: Axes, values: list[float], image: np.ndarray, letter: str, best: float):
    """Accuracy over two coefficients on the scale of both maps, what diverged crossed out and fenced off; None where
    nothing was measured."""
    axes.set_title(TITLES[letter])
    axes.grid(False)
    if not values:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center")
        return None
    drawn = axes.imshow(image, origin="lower", cmap="viridis", vmin=best - SHOWN, vmax=best)
    places = range(len(values))
    axes.set_xticks(places, [f"{v:g}" for v in values])
    axes.set_yticks(places, [f"{v:g}" for v in values])
    axes.set(xlabel=f"${letter}_1$ (best worker)", ylabel=f"${letter}_2$ (maximum degree)")
    lost = np.isnan(image)
    for row in places:
        for column in places:
            if lost[row, column]:
                axes.plot(column, row, marker="x", markeredgecolor=style.ALERT, markersize=5, markeredgewidth=1.2)
            else:  # the number, too: what is far below the best has the last colour
                value = image[row, column]
                axes.text(column, row, f"{value:.0f}" if style.narrow() else f"{value:.1f}", fontsize=style.SMALLEST,
                          ha="center", va="center", color="white" if value < best - SHOWN / 2 else "black")  # fmt: skip
            if column + 1 < len(values) and lost[row, column] != lost[row, column + 1]:
                axes.plot([column + 0.5] * 2, [row - 0.5, row + 0.5], color=style.ALERT, linewidth=1.6)
            if row + 1 < len(values) and lost[row, column] != lost[row + 1, column]:
                axes.plot([column - 0.5, column + 0.5], [row + 0.5] * 2, color=style.ALERT, linewidth=1.6)
    return drawn


if __name__ == "__main__":
    sys.exit(script("sensitivity", draw))
