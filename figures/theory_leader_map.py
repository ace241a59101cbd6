"""Where AL-DSGD agrees: the rate over the weights on both leaders, and against alpha.

python -m figures.theory_leader_map --results results --out figures

Random loss ranks. Above: the rate at the core's own alpha over b = (1-p1-p2) c1 + p1 (best) and c = (1-p1-p2) c2 + p2
(maximum degree); red: rate one or more; the star marks the README's coefficients. Below: its best value over b and c,
and at the cell nearest to the README's coefficients, for other alphas.
"""

import sys
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import SubFigure

from aldsgd.theory.leaders import README, pulls
from figures import style
from figures.common import script
from figures.theory_common import CORES, frames, plain

#: b and c of the coefficients of the README.
NAMED = pulls(*README)[1:]


def nearest(own):
    """The row of the map closest to the README's coefficients."""
    return own.loc[((own["best"] - NAMED[0]) ** 2 + (own["degree"] - NAMED[1]) ** 2).idxmin()]


def maps(area: SubFigure, rows) -> None:
    levels = list(dict.fromkeys(rows["level"].astype(str)))
    lines = [(core, count) for core in dict.fromkeys(rows["core"]) for count in sorted(rows["graphs"].unique())]
    grid = area.subplots(len(lines), len(levels), sharex=True, sharey=True, squeeze=False)
    size = round(1 / np.diff(np.unique(rows["best"])).min())
    edges = (np.arange(size + 2) - 0.5) / size
    colors = matplotlib.colormaps["viridis_r"].with_extremes(over=style.ALERT)
    for line, (core, count) in zip(grid, lines, strict=True):
        for axes, level in zip(line, levels, strict=True):
            own = rows[(rows["core"] == core) & (rows["graphs"] == count) & (rows["alpha_factor"] == 1)
                       & (rows["level"].astype(str) == level)]  # fmt: skip
            cells = np.full((size + 1, size + 1), np.nan)
            cells[(own["degree"] * size).round().astype(int), (own["best"] * size).round().astype(int)] = own["rate"]
            # As vectors: an embedded image would not give the same PDF twice.
            image = axes.pcolormesh(
                edges, edges, np.where(cells >= 1 - 1e-5, 2.0, cells), cmap=colors, vmin=0.3, vmax=1.0
            )
            axes.set_aspect("equal")
            axes.plot(*NAMED, "*", color="white", markeredgecolor="black", markersize=6)
            axes.grid(False)
            axes.set(xticks=[0, 1] if style.narrow() else [0, 0.5, 1], yticks=[0, 1] if style.narrow() else [0, 0.5, 1])
            axes.xaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_major_formatter("{x:g}")
            if axes in grid[0]:
                axes.set_title(f"{level} %")
        line[0].set_ylabel(f"{CORES[core]}{f' ×{count}' if count > 1 else ''}\nc (degree)")
    for axes in grid[-1]:
        axes.set_xlabel("b (best)")
    where = {"location": "bottom", "aspect": 40} if style.narrow() else {"pad": 0.01}
    bar = area.colorbar(image, ax=grid, shrink=0.6, label="per-step rate (red: 1 or more)", extend="max", **where)
    bar.outline.set_linewidth(0.5)


def alphas(area: SubFigure, rows) -> None:
    pairs = [(core, count) for core in dict.fromkeys(rows["core"]) for count in sorted(rows["graphs"].unique())]
    shape = (-(-len(pairs) // 2), 2) if style.narrow() else (1, len(pairs))
    panels = area.subplots(*shape, sharex=True, sharey=True, squeeze=False)
    for axes, (core, count) in zip(panels.flat, pairs, strict=False):
        axes.set_title(f"{CORES[core]}{f' ×{count}' if count > 1 else ''}")
        chosen = rows[(rows["core"] == core) & (rows["graphs"] == count)]
        for k, level in enumerate(dict.fromkeys(chosen["level"].astype(str))):
            own = chosen[chosen["level"].astype(str) == level].groupby("alpha_factor")
            x = list(own.groups)
            axes.plot(x, [nearest(group)["rate"] for _, group in own], **plain(k), label=f"{level} %")
            axes.plot(x, own["rate"].min(), color=plain(k)["color"], linestyle=":", linewidth=1)
        axes.axhline(1, color="0.4", linewidth=0.8, linestyle=":")
        axes.set_ylim(0.1, 1.2)
    for axes in panels[-1]:
        axes.set_xlabel("alpha / the core's")
    for axes in panels[:, 0]:
        axes.set_ylabel("per-step rate")
    note = "at the cell nearest to the README's coefficients; dotted: at the best b and c"
    style.key(area.figure, panels[0, 0].get_legend_handles_labels()[0], 5, note)


def draw(results: Path, out: Path, width: float = style.PAGE_WIDTH) -> list[Path]:
    """Draw the figure from the theory's tables; returns the files written. Raises ConfigError where one is missing."""
    rows = frames(results, "theory_leader_mixing")["leader_map"]
    with style.sheet(width):
        fig = style.empty(6.4 if style.narrow() else 7.2)
        upper, lower = fig.subfigures(2, 1, height_ratios=(1.5, 1) if style.narrow() else (2.6, 1))
        maps(upper, rows)
        alphas(lower, rows)
        return style.save(fig, out / "theory_leader_map")


if __name__ == "__main__":
    sys.exit(script("theory_leader_map", draw))
