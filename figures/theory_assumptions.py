"""Assumptions along real training: curvature, noise and dissimilarity, and whether a mini-batch loss can judge.

python -m figures.theory_assumptions --results results --out figures

AL-DSGD runs; means over seeds with 95 % intervals. Full lines: IID shards; broken: Dirichlet. (e) Share of workers
whose leader is the truly best candidate: by the mini-batch loss, by degree, and the chance of a blind choice.
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from aldsgd.statistics import mean_interval
from figures import style
from figures.common import script
from figures.theory_common import frames, panel_letter, plain

KINDS = ["dataset", "model"]


def lines(axes: Axes, rows, column: str, length, log: bool = False) -> None:
    """One line per model and split; length (key of the model to its epochs) puts runs of any length on one axis.

    log: intervals of the logarithm, as wide above as below on this axis.
    """
    axes.set_xlabel("share of the run")
    if log:
        axes.set_yscale("log")
    for k, (key, model) in enumerate(rows.groupby(KINDS, sort=False)):
        for j, (split, own) in enumerate(model.groupby("split", sort=False)):
            groups = [(epoch, group[column].to_numpy()) for epoch, group in own.groupby("epoch")]
            # A little apart, so that intervals do not hide each other.
            x = [epoch / length[key] + 0.012 * (2 * k + j) for epoch, _ in groups]
            points = [mean_interval(np.log(values) if log else values) for _, values in groups]
            ends = np.array([[p.mean, *((p.low, p.high) if p.n > 1 else (p.mean, p.mean))] for p in points]).T
            mean, low, high = np.exp(ends) if log else ends
            axes.errorbar(x, mean, [mean - low, high - mean], linestyle="-" if split == "iid" else "--", capsize=1.5,
                          elinewidth=0.6, **plain(k))  # fmt: skip


def binned(probes, length, bins: int = 6):
    """Probes with their epoch replaced by the middle of one of a few equal bins of each run's length."""
    last = np.array([length[key] for key in zip(probes["dataset"], probes["model"], strict=True)])
    index = np.minimum((probes["epoch"] / last * bins).astype(int), bins - 1)
    means = probes.assign(epoch=(index + 0.5) / bins * last)
    return means.groupby([*KINDS, "split", "seed", "epoch"], sort=False).mean(numeric_only=True).reset_index()


def hits(axes: Axes, probes) -> None:
    panel_letter(axes, "e", "the leader is truly the best")
    names, position = [], 0
    later = probes[probes["step"] > 0]
    for key, own in later.groupby([*KINDS, "split"], sort=False):
        seeds = own.groupby("seed").mean(numeric_only=True)
        for offset, column, color, marker in (
            (-0.15, "best_hits", "#D55E00", "D"),
            (0.15, "degree_hits", "#0072B2", "s"),
        ):
            value = mean_interval(seeds[column])
            axes.errorbar(position + offset, value.mean, np.nan_to_num(value.half_width), color=color, marker=marker,
                          markersize=4, capsize=2, elinewidth=0.8)  # fmt: skip
        axes.plot([position - 0.35, position + 0.35], [seeds["chance"].mean()] * 2, color="0.3", linewidth=1)
        names.append(f"{key[1].partition('_')[0]}, {'IID' if key[2] == 'iid' else 'Dir.'}")
        position += 1
    axes.set_xticks(range(position))
    axes.set_xticklabels(names, rotation=40, ha="right")
    axes.set(ylabel="share of workers", ylim=(0, 1.15))
    axes.grid(False, axis="x")
    axes.legend(
        handles=[
            Line2D([], [], color="#D55E00", marker="D", linestyle="none", label="by mini-batch loss"),
            Line2D([], [], color="#0072B2", marker="s", linestyle="none", label="by degree"),
            Line2D([], [], color="0.3", label="chance"),
        ],
        loc="upper right",
    )


def draw(results: Path, out: Path) -> list[Path]:
    tables = frames(results, "theory_assumptions")
    rows, probes = tables["assumptions"], tables["assumptions_leaders"]
    length = rows.groupby(KINDS)["epoch"].max()
    with style.sheet():
        fig = Figure(figsize=(style.PAGE_WIDTH, 4.8), layout="constrained")
        FigureCanvasAgg(fig)
        (one, two, three), (four, five, six) = fig.subplots(2, 3)
        panel_letter(one, "a", r"smoothness: curvature of $F$")
        lines(one, rows, "curvature", length, log=True)
        panel_letter(two, "b", "mini-batch gradient variance")
        lines(two, rows, "variance", length, log=True)
        panel_letter(three, "c", r"dissimilarity $\zeta^2$")
        lines(three, rows, "zeta2", length, log=True)
        smooth = binned(probes, length)
        panel_letter(four, "d", "rank correlation of 16 and all")
        lines(four, smooth, "with_loss", length)
        four.axhline(0, color="0.4", linewidth=0.8, linestyle=":")
        four.set_ylim(-0.5, 1)
        hits(five, probes)
        panel_letter(six, "f", "spread of true losses")
        lines(six, smooth, "spread", length, log=True)
        handles = [Line2D([], [], **plain(k), label=" ".join(map(str, key)))
                   for k, (key, _) in enumerate(rows.groupby(KINDS, sort=False))]  # fmt: skip
        handles += [Line2D([], [], color="0.3", label="IID"), Line2D([], [], color="0.3", linestyle="--",
                                                                    label="Dirichlet 0.1")]  # fmt: skip
        fig.legend(handles=handles, loc="outside lower center", ncols=len(handles))
        return style.save(fig, out / "theory_assumptions")


if __name__ == "__main__":
    sys.exit(script("theory_assumptions", draw))
