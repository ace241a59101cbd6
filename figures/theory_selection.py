"""What AL-DSGD minimises: where it settles, and whether SGD on the mixture follows the same way.

python -m figures.theory_selection --results results --out figures

Logistic regression with a rare class. (a) The plane of two parameters, complete graph: minimisers of F and of the
mixture (crosses), and where the mean of the workers settles, one mark a run; (b) the share of the way from the one
minimiser to the other against the step, 95 % intervals over runs; (c) distance of mean trajectories to AL-DSGD's,
eta = 0.4, in units of that between the minimisers: SGD on the mixture (full) and on F (broken).
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from aldsgd.statistics import mean_interval
from figures import style
from figures.common import script
from figures.theory_common import COLORS, frames, panel_letter

#: What the tables call a method -> what comparisons call it.
SHOWN = {
    "AL-DSGD": "AL-DSGD on D-PSGD",
    "printed order": "AL-DSGD, printed order",
    "running average": "AL-DSGD, running average",
    "second draw": "AL-DSGD, second draw",
    "D-PSGD": "D-PSGD",
}
LINES = ("-", "--", ":", "-.")
ETA = 0.4


def small(method: str) -> dict:
    """Colour and small marker of a method."""
    look = style.look(SHOWN[method])
    return {"color": look.color, "marker": look.marker, "markersize": 3.5}


def plane(axes: Axes, points, targets) -> None:
    panel_letter(axes, "a", "where the mean settles")
    axes.set(xlabel="weight along the classes", ylabel="intercept")
    own = points[(points["graph"] == "complete") & (points["eta"] == ETA)]
    for method in SHOWN:
        part = own[own["method"] == method]
        axes.plot(part["along"], part["intercept"], linestyle="none", **small(method))
    ends = targets[(targets["method"] == "F") | (targets["graph"] == "complete")]
    names = {"F": "F", "AL-DSGD": "mixture, released", "printed order": "mixture, printed"}
    for method, name in names.items():
        x, y = ends[ends["method"] == method][["along", "intercept"]].mean()
        axes.plot(x, y, "+", color="black", markersize=11, markeredgecolor="black", markeredgewidth=1.1,
                  zorder=1)  # fmt: skip
        axes.annotate(name, (x, y), (-9, -3), textcoords="offset points", ha="right", fontsize=6.5)
    axes.margins(0.18, 0.08)
    low, high = axes.get_xlim()
    axes.set_xlim(low - 0.6 * (high - low), high)


def share(axes: Axes, points) -> None:
    panel_letter(axes, "b", "share of the way")
    axes.set(xscale="log", xlabel=r"$\eta$", ylabel="F is 0, the mixture 1")
    for level in (0, 1):
        axes.axhline(level, color="0.4", linewidth=0.8, linestyle=":")
    for place, graph in enumerate(dict.fromkeys(points["graph"])):
        for k, method in enumerate(SHOWN):
            own = points[(points["graph"] == graph) & (points["method"] == method)]
            if own.empty:
                continue
            found = [(eta, mean_interval(g["share"].to_numpy())) for eta, g in own.groupby("eta")]
            # A little apart, so that intervals do not hide each other.
            x = [eta * 1.1 ** (place - 1.5 + 0.3 * k / 5) for eta, _ in found]
            mean, half = zip(*[(f.mean, np.nan_to_num(f.half_width)) for _, f in found], strict=True)
            axes.errorbar(x, mean, half, linestyle=LINES[place % len(LINES)], linewidth=0.8, elinewidth=0.7,
                          **small(method))  # fmt: skip
    ticks = sorted(points["eta"].unique())
    axes.set_xticks(ticks)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()


def trajectory(axes: Axes, paths, graphs: list[str]) -> None:
    panel_letter(axes, "c", "SGD on the mixture, and on F")
    axes.set(yscale="log", xlabel="step", ylabel="distance to AL-DSGD's mean")
    own = paths[(paths["eta"] == ETA) & (paths["step"] > 0)]
    for graph, part in own.groupby("graph", sort=False):
        for color, column in zip(COLORS, ("AL-DSGD to mixture", "AL-DSGD to F"), strict=False):
            axes.plot(part["step"], part[column], color=color, linestyle=LINES[graphs.index(graph)])


def draw(results: Path, out: Path, width: float = style.PAGE_WIDTH) -> list[Path]:
    tables = frames(results, "theory_selection")
    points = tables["selection_points"]
    with style.sheet(width):
        fig, ((left, middle, right),) = style.grid(1, 3, 3.0, 1.8)
        graphs = list(dict.fromkeys(points["graph"]))
        plane(left, points, tables["selection_targets"])
        share(middle, points)
        trajectory(right, tables["selection_trajectory"], graphs)
        followed = set(tables["selection_trajectory"]["graph"])
        handles = [Line2D([], [], linestyle="none", **small(method), label=name) for method, name in SHOWN.items()]
        where = {graph: "b, c" if graph in followed else "b" for graph in graphs}
        handles += [Line2D([], [], color="0.3", linestyle=line, label=f"{graph} ({where[graph]})")
                    for line, graph in zip(LINES, graphs, strict=False)]  # fmt: skip
        handles += [Line2D([], [], color=color, label=f"to SGD on {name} (c)")
                    for color, name in zip(COLORS, ("the mixture", "F"), strict=False)]  # fmt: skip
        style.key(fig, handles)
        return style.save(fig, out / "theory_selection")


if __name__ == "__main__":
    sys.exit(script("theory_selection", draw))
