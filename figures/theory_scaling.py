"""Many workers: iterations to agree and to learn, consensus distance, and the cost of an exchange.

python -m figures.theory_scaling --results results --out figures

Means over seeds. Broken lines: D-PSGD, full: AL-DSGD, Metropolis weights. Hollow markers at K_max: censored, the
target was not reached by every seed. (d) Exchanging 32 parameters a worker, against the n + 2 edges entries of C_t.
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from figures import style
from figures.common import script
from figures.theory_common import frames, panel_letter, plain

METHODS = (("D-PSGD", "--"), ("AL-DSGD on D-PSGD", "-"))


def iterations(axes: Axes, rows, graphs: list[str]) -> None:
    k_max = rows["k_max"].max()
    axes.set(xscale="log", yscale="log", xlabel="n", ylabel="iterations")
    axes.axhline(k_max, color="0.4", linewidth=0.8, linestyle=":")
    axes.set_ylim(1, 1.6 * k_max)
    workers_axis(axes, rows)
    hidden = [graph for graph in graphs if rows[rows["graph"] == graph]["censored"].any()]
    for k, graph in enumerate(graphs):
        for method, line in METHODS:
            own = rows[(rows["graph"] == graph) & (rows["method"] == method)].groupby("n")
            x = np.array(list(own.groups), dtype=float)
            censored = own["censored"].any().to_numpy()
            y = np.where(censored, k_max, own["iterations"].mean().to_numpy())
            look = plain(k)
            axes.plot(x, y, color=look["color"], linestyle=line)
            axes.plot(x[~censored], y[~censored], linestyle="none", **look)
            # A little apart, so that the graphs do not hide each other.
            apart = x[censored] * 1.09 ** (hidden.index(graph) - (len(hidden) - 1) / 2) if censored.any() else []
            axes.plot(apart, y[censored], linestyle="none", **look, fillstyle="none", markeredgecolor=look["color"],
                      markeredgewidth=0.8)  # fmt: skip


def workers_axis(axes: Axes, rows) -> None:
    ticks = []
    for n in sorted(rows["n"].unique()):
        if not ticks or n >= 4 * ticks[-1]:  # room for each
            ticks.append(n)
    axes.set_xticks(ticks)
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.minorticks_off()


def consensus(axes: Axes, rows, graphs: list[str]) -> None:
    panel_letter(axes, "c", "consensus distance, noisy quadratics")
    axes.set(xscale="log", yscale="log", xlabel="n", ylabel=r"$\|(I-J)X\|^2/n$")
    workers_axis(axes, rows)
    for k, graph in enumerate(graphs):
        for method, line in METHODS:
            own = rows[(rows["graph"] == graph) & (rows["method"] == method)].groupby("n")["consensus"].mean()
            axes.plot(own.index, own, linestyle=line, **plain(k))


def cost(axes: Axes, rows, graphs: list[str]) -> None:
    panel_letter(axes, "d", "cost of an exchange")
    axes.set(xscale="log", yscale="log", xlabel=r"entries of $C_t$", ylabel="time (ms)")
    for k, graph in enumerate(graphs):
        for method, line in METHODS:
            own = rows[(rows["graph"] == graph) & (rows["method"] == method)].sort_values("entries")
            axes.plot(own["entries"], 1000 * own["seconds"], linestyle=line, **plain(k))
    last = rows.loc[rows["entries"].idxmax()]
    x = np.array([last["entries"] / 100, last["entries"]])
    axes.plot(x, 1000 * last["seconds"] * 0.4 * x / x[1], color="0.5", linewidth=0.8)
    axes.annotate("slope 1", (x[0] * 3, 1000 * last["seconds"] * 0.4 * 3 / 100), (4, -8), textcoords="offset points",
                  color="0.4", fontsize=7)  # fmt: skip


def draw(results: Path, out: Path, width: float = style.PAGE_WIDTH) -> list[Path]:
    tables = frames(results, "theory_scaling")
    rows = tables["scaling"]
    graphs = list(dict.fromkeys(rows["graph"]))
    with style.sheet(width):
        fig, ((one, two), (three, four)) = style.grid(2, 2, 4.8, 1.7, across=2)
        for axes in (two, three):
            axes.sharex(one)
        panel_letter(one, "a", "agreement to 1\xa0%, exchanges alone")
        iterations(one, rows[rows["problem"] == "agreement"], graphs)
        panel_letter(two, "b", "excess loss of 1\xa0%, noisy quadratics")
        iterations(two, rows[rows["problem"] == "quadratics"], graphs)
        consensus(three, rows[rows["problem"] == "quadratics"], graphs)
        cost(four, tables["scaling_cost"], graphs)
        handles = [Line2D([], [], **plain(k), linestyle="none", label=graph.partition(",")[0].replace("_", "-"))
                   for k, graph in enumerate(graphs)]  # fmt: skip
        handles += [Line2D([], [], color="0.3", linestyle=line, label=method) for method, line in METHODS]
        handles.append(Line2D([], [], color="0.3", marker="o", linestyle="none", fillstyle="none",
                              markeredgecolor="0.3", markeredgewidth=0.8, label="censored"))  # fmt: skip
        style.key(fig, handles, len(handles), columnspacing=1)
        return style.save(fig, out / "theory_scaling")


if __name__ == "__main__":
    sys.exit(script("theory_scaling", draw))
