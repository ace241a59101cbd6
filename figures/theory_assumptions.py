"""Assumptions along real training: curvature, noise and dissimilarity, and whether a mini-batch loss can judge.

python -m figures.theory_assumptions --results results --out figures

AL-DSGD runs; means over seeds with 95 % intervals. Full lines: IID shards; broken: Dirichlet. (e) Share of workers
whose leader is the truly best candidate: by the mini-batch loss, by degree, and the chance of a blind choice.
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from aldsgd.statistics import mean_interval
from figures import style
from figures.common import script
from figures.theory_common import COLORS, frames, panel_letter, plain

KINDS = ["dataset", "model"]


def lines(axes: Axes, rows, column: str, label: str, length, log: bool = False) -> None:
    """One line per model and split; length (key of the model to its epochs) puts runs of any length on one axis.

    log: intervals of the logarithm, as wide above as below on this axis.
    """
    axes.set(xlabel="share of the run", ylabel=label, xlim=(-0.06, 1.14))
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


JUDGES = {"by mini-batch loss (e)": ("best_hits", COLORS[4], "P"), "by degree (e)": ("degree_hits", COLORS[5], "X")}


def hits(axes: Axes, probes) -> None:
    panel_letter(axes, "e", "the leader is truly the best")
    names = []
    later = probes[probes["step"] > 0]
    for place, (key, own) in enumerate(later.groupby([*KINDS, "split"], sort=False)):
        seeds = own.groupby("seed").mean(numeric_only=True)
        for offset, (column, color, marker) in zip((-0.17, 0.17), JUDGES.values(), strict=True):
            value = mean_interval(seeds[column])
            axes.errorbar(value.mean, place + offset, xerr=np.nan_to_num(value.half_width), color=color, marker=marker,
                          markersize=4.5, elinewidth=0.8)  # fmt: skip
        axes.plot([seeds["chance"].mean()] * 2, [place - 0.35, place + 0.35], color="0.3", linewidth=1)
        names.append(f"{key[1].partition('_')[0]}, {'IID' if key[2] == 'iid' else 'Dir.'}")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="share of workers", xlim=(0, 1), ylim=(len(names) - 0.5, -0.5))
    axes.grid(False, axis="y")


def draw(results: Path, out: Path, width: float = style.PAGE_WIDTH) -> list[Path]:
    tables = frames(results, "theory_assumptions")
    rows, probes = tables["assumptions"], tables["assumptions_leaders"]
    length = rows.groupby(KINDS)["epoch"].max()
    with style.sheet(width):
        fig, ((one, two, three), (four, five, six)) = style.grid(2, 3, 4.8, 1.7, across=2)
        panel_letter(one, "a", "smoothness")
        lines(one, rows, "curvature", "curvature of $F$", length, log=True)
        panel_letter(two, "b", "noise")
        lines(two, rows, "variance", "mini-batch gradient variance", length, log=True)
        panel_letter(three, "c", "dissimilarity")
        lines(three, rows, "zeta2", r"$\zeta^2$", length, log=True)
        smooth = binned(probes, length)
        panel_letter(four, "d", "losses on 16 and on all")
        lines(four, smooth, "with_loss", "rank correlation", length)
        four.axhline(0, color="0.4", linewidth=0.8, linestyle=":")
        low, high = four.get_ylim()
        four.set_ylim(max(low, -1.05), min(high, 1.05))
        hits(five, probes)
        panel_letter(six, "f", "true losses of workers")
        lines(six, smooth, "spread", "spread", length, log=True)
        handles = [Line2D([], [], **plain(k), label=" ".join(map(str, key)))
                   for k, (key, _) in enumerate(rows.groupby(KINDS, sort=False))]  # fmt: skip
        handles += [Line2D([], [], color="0.3", label="IID"), Line2D([], [], color="0.3", linestyle="--",
                                                                    label="Dirichlet 0.1")]  # fmt: skip
        handles += [Line2D([], [], color=color, marker=marker, linestyle="none", label=label)
                    for label, (_, color, marker) in JUDGES.items()]  # fmt: skip
        handles.append(Line2D([], [], color="0.3", marker="|", markeredgecolor="0.3", markersize=8, linestyle="none",
                              label="chance (e)"))  # fmt: skip
        style.key(fig, handles)
        return style.save(fig, out / "theory_assumptions")


if __name__ == "__main__":
    sys.exit(script("theory_assumptions", draw))
