"""Leaders' mixing matrices: what decides agreement, what leaders cost, and what happened in real runs.

python -m figures.theory_leader_mixing --results results --out figures

README coefficients. (a) One-step norm and rate under random loss ranks, and the interval that encloses the worst
leaders, D-PSGD core; (b) how many workers' noise the consensus averages; (c) the rate of
real runs against that of random ranks.
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from aldsgd.statistics import mean_interval
from figures import style
from figures.common import script
from figures.theory_common import LEADERS, frames, panel_letter


def cases(rows) -> list[tuple[str, int]]:
    """Levels on one graph, then on three, in the order of the table."""
    found = dict.fromkeys((str(level), int(count)) for level, count in zip(rows["level"], rows["graphs"], strict=True))
    return sorted(found, key=lambda case: case[1])


def title(case: tuple[str, int]) -> str:
    level, count = case
    name = f"{level} %" if level[0].isdigit() else level
    return f"{name} ×{count}" if count > 1 else name


def rows_of(axes: Axes, shown) -> None:
    axes.set_yticks(range(len(shown)), [title(case) for case in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)


def values(rows, shown, column: str) -> np.ndarray:
    table = rows.assign(level=rows["level"].astype(str)).set_index(["level", "graphs"])[column]
    return np.array([table.get(case, np.nan) for case in shown], dtype=float)


def decides(axes: Axes, rows, shown) -> None:
    panel_letter(axes, "a", "what decides (D-PSGD core)")
    own = rows[(rows["core"] == "dpsgd") & (rows["leaders"] == "random ranks")]
    readme, alone = own[own["coefficients"] == "README"], own[own["coefficients"] == "core alone"]
    worst = rows[rows["leaders"] == "adversarial"]
    y = np.arange(len(shown))
    low, high = values(worst, shown, "low"), values(worst, shown, "high")
    known, color = np.isfinite(high), style.look(LEADERS["dpsgd"]).color
    axes.hlines(y[known], low[known], high[known], color=color, linewidth=4, alpha=0.35)
    axes.plot(low[~known], y[~known], "|", color=color, markersize=7, markeredgecolor=color)
    axes.plot(values(readme, shown, "one_step"), y, "x", color="0.3", markersize=4, markeredgecolor="0.3")
    for method, own in (("D-PSGD", alone), (LEADERS["dpsgd"], readme)):
        look = style.look(method)
        axes.plot(values(own, shown, "low"), y, look.marker, color=look.color, markersize=4)
    axes.axvline(1, color="0.4", linewidth=0.8, linestyle=":")
    axes.set_xlabel("per-step rate (squared)")
    rows_of(axes, shown)


def averaged(axes: Axes, rows, shown) -> None:
    panel_letter(axes, "b", "workers averaged by consensus")
    own = rows[(rows["leaders"] == "random ranks") & (rows["coefficients"] == "README")]
    for (core, method), up in zip(LEADERS.items(), (-0.15, 0.15), strict=True):
        look = style.look(method)
        axes.plot(values(own[own["core"] == core], shown, "averaged"), np.arange(len(shown)) + up, linestyle="none",
                  marker=look.marker, color=look.color, markersize=4)  # fmt: skip
    axes.axvline(8, color="0.4", linewidth=0.8, linestyle=":")
    axes.set(xlabel="workers (of 8)", xlim=(0, 8.6), ylabel="level, ×3: three graphs in turn")
    rows_of(axes, shown)


def observed(axes: Axes, rows, runs) -> None:
    panel_letter(axes, "c", "real runs against the model")
    readme = rows[(rows["leaders"] == "random ranks") & (rows["coefficients"] == "README")]
    for core, method in LEADERS.items():
        own = runs[runs["core"] == core].assign(level=lambda frame: frame["level"].astype(str))
        look = style.look(method)
        for (level, count), group in own.groupby(["level", "graphs"], sort=False):
            model = values(readme[readme["core"] == core], [(level, count)], "low")[0]
            rate = mean_interval(group["rate"])
            axes.errorbar(model, rate.mean, np.nan_to_num(rate.half_width), color=look.color, marker=look.marker,
                          markersize=look.markersize, linewidth=0.8, capsize=2)  # fmt: skip
            axes.annotate(title((level, count)), (model, rate.mean), (4, -8), textcoords="offset points",
                          fontsize=style.SMALLEST, color="0.3")  # fmt: skip
    ends = (0.3, 1.0)
    axes.plot(ends, ends, color="0.4", linewidth=0.8, linestyle=":", zorder=0)
    axes.set(xlabel="rate, random ranks", ylabel="rate of the product that occurred")


def draw(results: Path, out: Path, width: float = style.PAGE_WIDTH) -> list[Path]:
    tables = frames(results, "theory_leader_mixing")
    rows = tables["leader_mixing"]
    shown = cases(rows[rows["core"] == "dpsgd"])
    with style.sheet(width):
        fig, ((left, middle, right),) = style.grid(1, 3, 3.1, 2.0)
        decides(left, rows, shown)
        averaged(middle, rows, [case for case in shown if case[0][0].isdigit()])
        observed(right, rows, tables["leader_runs"])
        looks = {method: style.look(method) for method in ("D-PSGD", *LEADERS.values())}
        shared = {"linestyle": "none", "markersize": 4.5}
        worst = looks[LEADERS["dpsgd"]].color
        handles = [
            Line2D([], [], color=worst, linewidth=4, alpha=0.35, label="worst leaders, between (a)"),
            Line2D(
                [], [], color=worst, marker="|", markeredgecolor=worst, label="worst leaders, at least (a)", **shared
            ),
            Line2D([], [], color="0.3", marker="x", markeredgecolor="0.3", label="one-step norm (a)", **shared),
        ]
        names = ("core alone: D-PSGD (a)", "random ranks: AL-DSGD on D-PSGD", "random ranks: AL-DSGD on MATCHA (b, c)")
        handles += [Line2D([], [], color=look.color, marker=look.marker, label=name, **shared)
                    for look, name in zip(looks.values(), names, strict=True)]  # fmt: skip
        style.key(fig, handles, 3)
        return style.save(fig, out / "theory_leader_mixing")


if __name__ == "__main__":
    sys.exit(script("theory_leader_mixing", draw))
