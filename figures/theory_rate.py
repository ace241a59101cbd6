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
from matplotlib.lines import Line2D

from figures import style
from figures.common import script
from figures.theory_common import frames, panel_letter, plain

COMPARED = {
    "D-PSGD": "--",
    "AL-DSGD on D-PSGD": "-",
    "AL-DSGD, losses of a second draw": ":",
}
#: How a comparison calls them.
NAMES = {"AL-DSGD, losses of a second draw": "AL-DSGD, second draw"}
#: Those of (a-c) first, whose looks are furthest apart.
WORKERS = (1, 8, 64, 2, 4, 16, 32)
TITLES = {
    "quadratics": r"quadratics, $\zeta = 1$",
    "quadratics, zeta = 0": r"quadratics, $\zeta = 0$",
    "logistic": "non-convex logistic",
}


def numbered(n: int) -> dict:
    """Colour and marker of a number of workers, the same in every panel."""
    return plain(WORKERS.index(n) if n in WORKERS else len(WORKERS))


def against_steps(axes: Axes, rows, workers: list[int]) -> None:
    axes.set(xscale="log", yscale="log", xlabel="K", ylabel=r"mean $\|\nabla F(\bar x)\|^2$")
    for n in workers:
        for method, line in COMPARED.items():
            own = rows[(rows["n"] == n) & (rows["method"] == method)]
            axes.errorbar(own["K"], own["mean"], [own["mean"] - own["low"], own["high"] - own["mean"]], linestyle=line,
                          elinewidth=0.6, **numbered(n))  # fmt: skip
    own = rows[(rows["n"] == 8) & (rows["method"] == "D-PSGD")]
    axes.plot(own["K"], own["bound"], color="0.6", linewidth=1)
    axes.set_xticks(sorted(rows["K"].unique()))
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.xaxis.minorticks_off()


def against_workers(axes: Axes, rows) -> None:
    panel_letter(axes, "d", r"speed-up with n, $\zeta = 0$")
    axes.set(xscale="log", xlabel="n", ylabel=r"$\|\nabla F(\bar x)\|^2$, n = 1 is 1")
    last = rows[(rows["K"] == rows["K"].max()) & (rows["problem"] == "quadratics, zeta = 0")]
    one = last[(last["n"] == 1) & (last["method"] == "D-PSGD")]["mean"].iloc[0]
    for method, line in COMPARED.items():
        part, look = last[last["method"] == method], style.look(NAMES.get(method, method))
        axes.plot(part["n"], part["mean"] / one, **look._asdict() | {"linestyle": line})
    n = np.array(sorted(last["n"].unique()), dtype=float)
    axes.plot(n, n**-0.5, color="0.5", linewidth=0.8)
    style.plain_log(axes, "y")
    axes.annotate(r"$n^{-1/2}$", (n[len(n) // 3], n[len(n) // 3] ** -0.5), (-22, -14), textcoords="offset points",
                  color="0.4", fontsize=7)  # fmt: skip
    axes.set_xticks(n)
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.xaxis.minorticks_off()


def floor(axes: Axes, rows) -> None:
    panel_letter(axes, "e", "the floor, complete graphs")
    axes.set(xscale="log", yscale="log", xlabel=r"$\eta$", ylabel=r"$\|\nabla F\|^2$ / predicted floor")
    for n, own in rows.groupby("n"):
        for second, part in own.groupby("second_draw"):
            axes.plot(part["eta"], part["mean"] / part["floor"], linestyle=":" if second else "-", **numbered(n))
    axes.axhline(1, color="0.4", linewidth=0.8)
    axes.set_xticks(sorted(rows["eta"].unique()))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.minorticks_off()


def moments(axes: Axes, rows) -> None:
    panel_letter(axes, "f", "exact moments, simulation")
    axes.set(xscale="log", xlabel="step", ylabel=r"$E\|(I-J)X\|^2/n$")
    for method, own in rows[rows["quantity"] == "consensus"].groupby("method", sort=False):
        look = style.look(method)
        axes.plot(own["step"], own["exact"], color=look.color, linestyle=look.linestyle)
        axes.plot(own["step"], own["simulated"], color=look.color, marker=look.marker, markersize=look.markersize,
                  linestyle="none")  # fmt: skip
    style.plain_log(axes, "y")


def draw(results: Path, out: Path, width: float = style.PAGE_WIDTH) -> list[Path]:
    tables = frames(results, "theory_rate")
    rows = tables["rate"][tables["rate"]["graph"] == "exponential"]
    present = sorted(rows["n"].unique())
    workers = [n for n in present if n in (1, 8, 64)] if 8 in present else present
    with style.sheet(width):
        fig, (upper, (four, five, six)) = style.grid(2, 3, 5.6, 1.7, across=2)
        for axes, letter, (problem, title) in zip(upper, "abc", TITLES.items(), strict=True):
            if axes is not upper[0]:
                axes.sharey(upper[0])
            panel_letter(axes, letter, title)
            against_steps(axes, rows[rows["problem"] == problem], workers)
        against_workers(four, rows)
        floor(five, tables["rate_floor"])
        moments(six, tables["rate_exact"])
        shown = sorted({*workers, *tables["rate_floor"]["n"]})
        handles = [Line2D([], [], **numbered(n), linestyle="none", label=f"n = {n}") for n in shown]
        handles.append(Line2D([], [], color="0.6", label="bound, n = 8 (a-c)"))
        handles += [Line2D([], [], color="0.3", linestyle=line, label=f"{NAMES.get(method, method)} (a-c, e)")
                    for method, line in COMPARED.items()]  # fmt: skip
        second = NAMES["AL-DSGD, losses of a second draw"]
        where = dict.fromkeys(tables["rate_exact"]["method"], "f")
        where |= {"D-PSGD": "d, f", "AL-DSGD on D-PSGD": "d, f", second: "d"}
        handles += [Line2D([], [], **style.look(method)._asdict(), label=f"{style.brief(method)} ({panels})")
                    for method, panels in where.items()]  # fmt: skip
        style.key(fig, handles, 5, handlelength=2.4)
        return style.save(fig, out / "theory_rate")


if __name__ == "__main__":
    sys.exit(script("theory_rate", draw))
