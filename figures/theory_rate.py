"""Rates, bounds and the floor of AL-DSGD, on problems whose constants are known.

python -m figures.theory_rate --results results --out figures

(a-c) Exponential graphs, eta = c sqrt(n/K): average squared gradient norm at the mean against K; grey: the bound at
n = 8, where it is proved. (d) Against n at the largest K (quadratics, zeta = 0), with the slope of a linear speed-up.
(e) Where AL-DSGD settles on complete graphs, over the predicted floor, against the step. (f) Exact consensus distance
(lines) and simulation (markers).
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures import style
from figures.common import script
from figures.theory_common import frames, panel_letter, plain

COMPARED = {
    "D-PSGD": "-",
    "AL-DSGD on D-PSGD": "--",
    "AL-DSGD, losses of a second draw": ":",
}
TITLES = {
    "quadratics": r"quadratics, $\zeta = 1$",
    "quadratics, zeta = 0": r"quadratics, $\zeta = 0$",
    "logistic": "non-convex logistic",
}


def against_steps(axes: Axes, rows, workers: list[int]) -> None:
    axes.set(xscale="log", yscale="log", xlabel="K")
    for k, n in enumerate(workers):
        for method, line in COMPARED.items():
            own = rows[(rows["n"] == n) & (rows["method"] == method)]
            axes.errorbar(own["K"], own["mean"], [own["mean"] - own["low"], own["high"] - own["mean"]], linestyle=line,
                          elinewidth=0.6, **plain(k))  # fmt: skip
    own = rows[(rows["n"] == 8) & (rows["method"] == "D-PSGD")]
    axes.plot(own["K"], own["bound"], color="0.6", linewidth=1)
    axes.set_xticks(sorted(rows["K"].unique()))
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.minorticks_off()


def against_workers(axes: Axes, rows) -> None:
    panel_letter(axes, "d", r"speed-up with n, $\zeta = 0$")
    axes.set(xscale="log", yscale="log", xlabel="n", ylabel=r"mean $\|\nabla F(\bar x)\|^2$, n = 1 is 1")
    last = rows[(rows["K"] == rows["K"].max()) & (rows["problem"] == "quadratics, zeta = 0")]
    one = last[(last["n"] == 1) & (last["method"] == "D-PSGD")]["mean"].iloc[0]
    for method, line in COMPARED.items():
        part, look = last[last["method"] == method], style.look("AL-DSGD on D-PSGD" if "AL" in method else method)
        axes.plot(part["n"], part["mean"] / one, **look._asdict() | {"linestyle": line})
    n = np.array(sorted(last["n"].unique()), dtype=float)
    axes.plot(n, n**-0.5, color="0.5", linewidth=0.8)
    axes.annotate(r"$n^{-1/2}$", (4, 0.5), (-24, -12), textcoords="offset points", color="0.4", fontsize=7)
    axes.set_xticks(n)
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.minorticks_off()


def floor(axes: Axes, rows) -> None:
    panel_letter(axes, "e", "the floor, complete graphs")
    axes.set(xscale="log", yscale="log", xlabel=r"$\eta$", ylabel=r"$\|\nabla F\|^2$ / predicted floor")
    for k, (_, own) in enumerate(rows.groupby("n")):
        for second, part in own.groupby("second_draw"):
            axes.plot(part["eta"], part["mean"] / part["floor"], linestyle=":" if second else "--", **plain(k))
    axes.axhline(1, color="0.4", linewidth=0.8)
    handles = [Line2D([], [], **plain(k), linestyle="none", label=f"n = {n}") for k, n in enumerate(rows["n"].unique())]
    axes.legend(handles=handles, loc="lower center", ncols=3, columnspacing=0.6, handletextpad=0)
    axes.set_ylim(bottom=0.002)


def moments(axes: Axes, rows) -> None:
    panel_letter(axes, "f", "exact moments, simulation")
    axes.set(xscale="log", yscale="log", xlabel="step", ylabel=r"$E\|(I-J)X\|^2/n$")
    for method, own in rows[rows["quantity"] == "consensus"].groupby("method", sort=False):
        look = style.look(method)
        axes.plot(own["step"], own["exact"], color=look.color, linestyle=look.linestyle)
        axes.plot(own["step"], own["simulated"], color=look.color, marker=look.marker, markersize=look.markersize,
                  linestyle="none")  # fmt: skip


def draw(results: Path, out: Path) -> list[Path]:
    tables = frames(results, "theory_rate")
    rows = tables["rate"][tables["rate"]["graph"] == "exponential"]
    present = sorted(rows["n"].unique())
    workers = [n for n in present if n in (1, 8, 64)] if 8 in present else present
    with style.sheet():
        fig = Figure(figsize=(style.PAGE_WIDTH, 5.4), layout="constrained")
        FigureCanvasAgg(fig)
        upper, (four, five, six) = fig.subplots(2, 3)
        for axes, letter, (problem, title) in zip(upper, "abc", TITLES.items(), strict=True):
            panel_letter(axes, letter, title)
            against_steps(axes, rows[rows["problem"] == problem], workers)
        upper[0].set_ylabel(r"mean $\|\nabla F(\bar x)\|^2$")
        against_workers(four, rows)
        floor(five, tables["rate_floor"])
        moments(six, tables["rate_exact"])
        handles = [Line2D([], [], **plain(k), linestyle="none", label=f"n = {n} (a-c)") for k, n in enumerate(workers)]
        handles.append(Line2D([], [], color="0.6", label="bound, n = 8 (a-c)"))
        handles += [
            Line2D([], [], color="0.3", linestyle=line, label=f"{method} (a-e)") for method, line in COMPARED.items()
        ]
        handles += [Line2D([], [], **style.look(method)._asdict(), label=f"{method} (f)")
                    for method in dict.fromkeys(tables["rate_exact"]["method"])]  # fmt: skip
        fig.legend(handles=handles, loc="outside lower center", ncols=4, columnspacing=1.2)
        return style.save(fig, out / "theory_rate")


if __name__ == "__main__":
    sys.exit(script("theory_rate", draw))
