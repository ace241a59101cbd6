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
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from figures import style
from figures.common import script
from figures.theory_common import CORES, frames, plain

README = (0.38, 0.26)  # b and c of c1 = 0.3, c2 = 0.1, p1 = p2 = 0.2


def nearest(own):
    """The row of the map closest to the README's coefficients."""
    return own.loc[((own["best"] - README[0]) ** 2 + (own["degree"] - README[1]) ** 2).idxmin()]


def maps(fig: Figure, area, rows) -> None:
    levels = list(dict.fromkeys(rows["level"].astype(str)))
    lines = [(core, count) for core in dict.fromkeys(rows["core"]) for count in sorted(rows["graphs"].unique())]
    grid = area.subplots(len(lines), len(levels), sharex=True, sharey=True, squeeze=False)
    size = round(1 / np.diff(np.unique(rows["best"])).min())
    edges = (np.arange(size + 2) - 0.5) / size
    colors = matplotlib.colormaps["viridis_r"].with_extremes(over="#D55E00")
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
            axes.plot(*README, "*", color="white", markeredgecolor="black", markersize=7)
            axes.grid(False)
            axes.set(xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
            if axes in grid[0]:
                axes.set_title(f"{level} %")
        line[0].set_ylabel(f"{CORES[core]}{f' ×{count}' if count > 1 else ''}\nc (degree)")
    for axes in grid[-1]:
        axes.set_xlabel("b (best)")
    bar = fig.colorbar(image, ax=grid, shrink=0.6, pad=0.01, label="per-step rate (red: 1 or more)", extend="max")
    bar.outline.set_linewidth(0.5)


def alphas(area, rows) -> None:
    pairs = [(core, count) for core in dict.fromkeys(rows["core"]) for count in sorted(rows["graphs"].unique())]
    for axes, (core, count) in zip(area.subplots(1, len(pairs), sharey=True, squeeze=False)[0], pairs, strict=True):
        axes.set_title(f"{CORES[core]}{f' ×{count}' if count > 1 else ''}")
        axes.set_xlabel("alpha / the core's")
        chosen = rows[(rows["core"] == core) & (rows["graphs"] == count)]
        for k, level in enumerate(dict.fromkeys(chosen["level"].astype(str))):
            own = chosen[chosen["level"].astype(str) == level].groupby("alpha_factor")
            x = list(own.groups)
            axes.plot(x, [nearest(group)["rate"] for _, group in own], **plain(k), label=f"{level} %")
            axes.plot(x, own["rate"].min(), color=plain(k)["color"], linestyle=":", linewidth=1)
        axes.axhline(1, color="0.4", linewidth=0.8, linestyle=":")
        axes.set_ylim(0.1, 1.6)
    axes.figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=5,
                       title="at the cell nearest to the README's coefficients; dotted: at the best b and c",
                       title_fontsize=7)  # fmt: skip


def draw(results: Path, out: Path) -> list[Path]:
    rows = frames(results, "theory_leader_mixing")["leader_map"]
    with style.sheet():
        fig = Figure(figsize=(style.PAGE_WIDTH, 7.2), layout="constrained")
        FigureCanvasAgg(fig)
        upper, lower = fig.subfigures(2, 1, height_ratios=(2.6, 1))
        maps(upper, upper, rows)
        alphas(lower, rows)
        return style.save(fig, out / "theory_leader_map")


if __name__ == "__main__":
    sys.exit(script("theory_leader_map", draw))
