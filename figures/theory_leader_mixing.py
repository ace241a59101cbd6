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


def ticks(axes: Axes, shown) -> None:
    axes.set_xticks(range(len(shown)))
    axes.set_xticklabels([title(case) for case in shown], rotation=60, ha="right")
    axes.set_xlim(-0.6, len(shown) - 0.4)
    axes.grid(False, axis="x")


def values(rows, shown, column: str) -> np.ndarray:
    table = rows.assign(level=rows["level"].astype(str)).set_index(["level", "graphs"])[column]
    return np.array([table.get(case, np.nan) for case in shown], dtype=float)


def decides(axes: Axes, rows, shown) -> None:
    panel_letter(axes, "a", "what decides (D-PSGD core)")
    own = rows[(rows["core"] == "dpsgd") & (rows["leaders"] == "random ranks")]
    readme, alone = own[own["coefficients"] == "README"], own[own["coefficients"] == "core alone"]
    worst = rows[rows["leaders"] == "adversarial"]
    x = np.arange(len(shown))
    low, high = values(worst, shown, "low"), values(worst, shown, "high")
    known = np.isfinite(high)
    axes.vlines(
        x[known], low[known], high[known], color="#D55E00", linewidth=5, alpha=0.35, label="worst leaders, between"
    )
    axes.plot(x[~known], low[~known], "_", color="#D55E00", markersize=8, markeredgecolor="#D55E00",
              label="worst leaders, at least")  # fmt: skip
    axes.plot(x, values(readme, shown, "one_step"), "x", color="0.3", markersize=4.5, markeredgecolor="0.3",
              label="one-step norm")  # fmt: skip
    axes.plot(x, values(alone, shown, "low"), "o", color="#0072B2", label="core alone", markersize=4.5)
    axes.plot(x, values(readme, shown, "low"), "D", color="#D55E00", label="random ranks", markersize=4.5)
    axes.axhline(1, color="0.4", linewidth=0.8, linestyle=":")
    axes.set_ylabel("per-step rate (squared)")
    ticks(axes, shown)


def averaged(axes: Axes, rows, shown) -> None:
    panel_letter(axes, "b", "workers averaged by consensus")
    own = rows[(rows["leaders"] == "random ranks") & (rows["coefficients"] == "README")]
    for core, method in LEADERS.items():
        look = style.look(method)
        axes.plot(range(len(shown)), values(own[own["core"] == core], shown, "averaged"), linestyle="none",
                  marker=look.marker, color=look.color, markersize=look.markersize)  # fmt: skip
    eight = [case for case in shown if not case[0].startswith("matcha")]
    axes.hlines(8, -0.5, len(eight) - 0.5, color="0.4", linewidth=0.8, linestyle=":")
    axes.set_ylabel("workers (of 8)")
    axes.set_ylim(0, 8.6)
    ticks(axes, shown)


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
            axes.annotate(title((level, count)), (model, rate.mean), (4, -7), textcoords="offset points", fontsize=6,
                          color="0.3")  # fmt: skip
    ends = (0.3, 1.0)
    axes.plot(ends, ends, color="0.4", linewidth=0.8, linestyle=":", zorder=0)
    axes.set(xlabel="rate, random ranks", ylabel="rate of the product that occurred")


def draw(results: Path, out: Path) -> list[Path]:
    tables = frames(results, "theory_leader_mixing")
    rows = tables["leader_mixing"]
    shown = cases(rows[rows["core"] == "dpsgd"])
    with style.sheet():
        fig, (left, middle, right) = style.figure(columns=3, height=3.1)
        decides(left, rows, shown)
        averaged(middle, rows, [case for case in shown if case[0][0].isdigit()])
        observed(right, rows, tables["leader_runs"])
        handles, labels = left.get_legend_handles_labels()
        for method in LEADERS.values():
            look = style.look(method)
            handles += middle.plot([], [], linestyle="none", marker=look.marker, color=look.color,
                                   markersize=look.markersize)  # fmt: skip
            labels.append(f"{method} (b, c)")
        fig.legend(handles, labels, loc="outside lower center", ncols=4, columnspacing=1.5)
        return style.save(fig, out / "theory_leader_mixing")


if __name__ == "__main__":
    sys.exit(script("theory_leader_mixing", draw))
