"""Budgets, schedules and effective neighbours.

python -m figures.theory_spectrum --results results --out figures

(a) MATCHA's rho against its budget; (b) the per-step rate of D-PSGD and of the released schedule on one and on three
rotating graphs of every level, one at the top meaning that workers never agree; (c) how many workers' noise a worker
averages (decay 0.9) against rho: the same rho can average different numbers.
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from figures import style
from figures.common import script
from figures.theory_common import CORES, frames, panel_letter, plain

SHOWN = ("paper:100", "paper:69.2", "paper:53.8", "matcha:1", "matcha:3", "ring")
SCHEDULES = (
    ("dpsgd", 1, "D-PSGD, 1 graph", "D-PSGD", "o"),
    ("dpsgd", 3, "D-PSGD, 3 graphs", "D-PSGD, three graphs", "^"),
    ("dpsgd_released", 1, "released, 1 graph", CORES["dpsgd_released"], "o"),
    ("dpsgd_released", 2, "released, 2 graphs", CORES["dpsgd_released"], "s"),
    ("dpsgd_released", 3, "released, 3 graphs", CORES["dpsgd_released"], "^"),
)


# Names beside points that lie together (points).
OFFSETS = {
    "paper:100": (3, 4),
    "paper:84.6": (3, -8),
    "paper:69.2": (-1, -8),
    "ring": (-4, 2),
    "line": (4, -7),
    "torus:4x4": (-4, 1),
    "complete": (3, 4),
    "paper:53.8": (4, 2),
}


def name(graph: str) -> str:
    return f"{graph.removeprefix('paper:')} %" if graph.startswith("paper:") else graph


def budgets(axes: Axes, rows) -> None:
    panel_letter(axes, "a", "MATCHA: budget and rate")
    axes.set(xlabel="budget", ylabel=r"$\rho$")
    for k, graph in enumerate(graph for graph in SHOWN if (rows["graph"] == graph).any()):
        own = rows[rows["graph"] == graph].sort_values("budget")
        axes.plot(own["budget"], own["rho"], **plain(k), label=name(graph))


def schedules(axes: Axes, rows) -> None:
    panel_letter(axes, "b", "per-step rate of schedules")
    levels = [graph for graph in dict.fromkeys(rows["graph"]) if graph.startswith("paper:")]
    axes.set(ylabel=r"rate ($\rho$ for one graph)", xticks=range(len(levels)), xlim=(-0.5, len(levels) - 0.5))
    axes.set_xticklabels([graph.removeprefix("paper:") for graph in levels])
    axes.set_xlabel("level (%)")
    axes.grid(False, axis="x")
    for k, (method, count, label, known, marker) in enumerate(SCHEDULES):
        color = style.look(known).color
        own = rows[(rows["method"] == method) & (rows["graphs"] == count) & (rows["order"] == "uniform")]
        own = own.set_index("graph").reindex(levels)
        axes.plot(
            np.arange(len(levels)) + (k - 2) * 0.14, own["rho"], color=color, marker=marker, linestyle="none",
            markersize=4.5, fillstyle="full" if count > 1 else "none", markeredgecolor=color, label=label,
        )  # fmt: skip
    axes.axhline(1, color="0.4", linewidth=0.8, linestyle=":")
    axes.set_ylim(top=1.05)


def neighbours(axes: Axes, rows) -> None:
    panel_letter(axes, "c", "workers averaged")
    own = rows[(rows["method"] == "dpsgd") & (rows["graphs"] == 1)]
    axes.set(xlabel=r"$\rho$", ylabel="effective neighbours (decay 0.9)")
    for k, workers in enumerate(sorted(own["workers"].unique())):
        group = own[own["workers"] == workers]
        axes.plot(group["rho"], group["neighbours"], linestyle="none", **plain(k), label=f"n = {workers}")
        for _, row in group.iterrows():
            offset = OFFSETS.get(row["graph"], (4, -2))
            axes.annotate(name(row["graph"]), (row["rho"], row["neighbours"]), offset, textcoords="offset points",
                          ha="right" if offset[0] < 0 else "left", fontsize=style.SMALLEST, color="0.3")  # fmt: skip
    axes.set_xlim(-0.08, 1.25)


def draw(results: Path, out: Path, width: float = style.PAGE_WIDTH) -> list[Path]:
    tables = frames(results, "theory_spectrum")
    with style.sheet(width):
        fig, ((left, middle, right),) = style.grid(1, 3, 3.3, 1.9)
        budgets(left, tables["spectrum_budgets"])
        schedules(middle, tables["spectrum_schedules"])
        neighbours(right, tables["spectrum_schedules"])
        handles = []
        for axes, letter in ((left, "a"), (middle, "b"), (right, "c")):
            for handle in axes.get_legend_handles_labels()[0]:
                handle.set_label(f"{handle.get_label()} ({letter})")
                handles.append(handle)
        style.key(fig, handles, 5, handlelength=1.8)
        return style.save(fig, out / "theory_spectrum")


if __name__ == "__main__":
    sys.exit(script("theory_spectrum", draw))
