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
from figures.theory_common import frames, panel_letter, plain

SHOWN = {"AL-DSGD": 0, "printed order": 1, "running average": 2, "second draw": 3, "D-PSGD": 5}
ETA = 0.4


def plane(axes: Axes, points, targets) -> None:
    panel_letter(axes, "a", "where the mean settles")
    axes.set(xlabel="weight along the classes", ylabel="intercept")
    own = points[(points["graph"] == "complete") & (points["eta"] == ETA)]
    for method, k in SHOWN.items():
        part = own[own["method"] == method]
        axes.plot(part["along"], part["intercept"], linestyle="none", **plain(k) | {"markersize": 3})
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
        for method, k in SHOWN.items():
            own = points[(points["graph"] == graph) & (points["method"] == method)]
            if own.empty:
                continue
            found = [(eta, mean_interval(g["share"].to_numpy())) for eta, g in own.groupby("eta")]
            # A little apart, so that intervals do not hide each other.
            x = [eta * 1.1 ** (place - 1.5 + 0.3 * k / 5) for eta, _ in found]
            mean, half = zip(*[(f.mean, np.nan_to_num(f.half_width)) for _, f in found], strict=True)
            look = plain(k) | {"markersize": 3, "linestyle": LINES[place % len(LINES)], "linewidth": 0.8}
            axes.errorbar(x, mean, half, elinewidth=0.7, **look)
    ticks = sorted(points["eta"].unique())
    axes.set_xticks(ticks)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()


LINES = ("-", "--", ":", "-.")


def trajectory(axes: Axes, paths) -> None:
    panel_letter(axes, "c", "SGD on the mixture, and on F")
    axes.set(yscale="log", xlabel="step", ylabel="distance to AL-DSGD's mean")
    own = paths[(paths["eta"] == ETA) & (paths["step"] > 0)]
    for place, (graph, part) in enumerate(own.groupby("graph", sort=False)):
        color = plain(place)["color"]
        axes.plot(part["step"], part["AL-DSGD to mixture"], color=color, label=f"{graph}: mixture")
        axes.plot(part["step"], part["AL-DSGD to F"], color=color, linestyle="--", label=f"{graph}: F")
    axes.legend(loc="center right", fontsize=6.5)


def draw(results: Path, out: Path) -> list[Path]:
    tables = frames(results, "theory_selection")
    points = tables["selection_points"]
    with style.sheet():
        fig, (left, middle, right) = style.figure(columns=3, height=3.0)
        plane(left, points, tables["selection_targets"])
        share(middle, points)
        trajectory(right, tables["selection_trajectory"])
        handles = [
            Line2D([], [], linestyle="none", **plain(k), label=f"{method} (a, b)") for method, k in SHOWN.items()
        ]
        handles += [Line2D([], [], color="0.3", linestyle=LINES[place], label=f"{graph} (b)")
                    for place, graph in enumerate(dict.fromkeys(points["graph"]))]  # fmt: skip
        fig.legend(handles=handles, loc="outside lower center", ncols=5, columnspacing=1.2)
        return style.save(fig, out / "theory_selection")


if __name__ == "__main__":
    sys.exit(script("theory_selection", draw))
