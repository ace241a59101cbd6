"""The quickstart's figure: the worst worker, the price of accuracy, and how far the workers stand apart.

    python -m figures.quickstart --results results --out figures

Reads the runs that ``results/experiments/quickstart.json`` lists; writes ``quickstart.pdf`` and its PNG.
Lines are means over seeds, shades their 95 % Student-t intervals. torch is never imported.
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from aldsgd.runs import Run
from figures import style
from figures.common import band, curves, script
from tables.query import Experiment


def worst_against_epoch(axes: Axes, methods: dict[str, list[Run]]) -> None:
    axes.set_title("(a) the worst worker")
    style.epoch_axis(axes)
    style.accuracy_axis(axes, "worst test accuracy (%)")
    for place, (label, runs) in enumerate(methods.items()):
        values = 100 * curves(runs, "worst_accuracy")
        style.curve(axes, place, label, values.index, *band(values))


def mean_against_bytes(axes: Axes, methods: dict[str, list[Run]]) -> None:
    axes.set(title="(b) accuracy against traffic", xlabel="sent by all workers (MB)", xscale="log")
    axes.xaxis.set_major_formatter("{x:g}")
    style.accuracy_axis(axes, "mean test accuracy (%)")
    for place, (label, runs) in enumerate(methods.items()):
        values = 100 * curves(runs, "mean_accuracy")
        megabytes = curves(runs, "logical_bytes").loc[values.index].mean(axis=1).to_numpy() / 1e6
        if megabytes[-1] > 0:
            style.curve(axes, place, label, megabytes, *band(values))
        else:
            # No place on a logarithmic axis: a level to compare with, where it ended.
            level, look, named = band(values)[0][-1], style.look(label), style.verbatim(label)
            axes.axhline(level, color=look.color, linestyle=look.linestyle)
            axes.text(0.98, 0.03, f"dotted: where\n{named}\n(0 MB) ended", transform=axes.transAxes, ha="right",
                      color=look.color, fontsize=style.SMALLEST)  # fmt: skip


def consensus_against_epoch(axes: Axes, methods: dict[str, list[Run]]) -> None:
    style.epoch_axis(axes)
    axes.set(yscale="log", ylabel=r"consensus $\|X-JX\|^2/n$")
    absent = []
    for place, (label, runs) in enumerate(methods.items()):
        values = curves(runs, "consensus_distance")
        values = values[(values > 0).all(axis=1)]
        if values.empty:
            absent.append(style.verbatim(label))
            continue
        # Interval of the logarithm: on this axis it is as wide above as below, and never reaches zero.
        style.curve(axes, place, label, values.index, *(10**ends for ends in band(np.log10(values))))
    axes.set_title("(c) disagreement" + (f" ({', '.join(absent)}: 0)" if absent else ""))


def draw(results: Path, out: Path, width: float = style.PAGE_WIDTH) -> list[Path]:
    """Draw the figure from the store; returns the files written. Raises ConfigError when runs are missing."""
    runs = Experiment(results, "quickstart", whole=True)
    methods = {label: [entry.run for entry in runs.of(label)] for label in runs.labels}
    counts, config = sorted({len(own) for own in methods.values()}), runs[0].run.config
    with style.sheet(width):
        fig, (panels,) = style.grid(1, 3, 2.9, 1.8)
        for panel, axes in zip((worst_against_epoch, mean_against_bytes, consensus_against_epoch), panels, strict=True):
            panel(axes, methods)
        style.heading(
            fig,
            f"{style.verbatim(config['dataset'])}, {config['workers']} workers, preset {runs.preset}: mean of "
            f"n = {' to '.join(map(str, counts))} seeds, 95 % interval shaded",
        )
        style.legend(fig, list(methods))
        return style.save(fig, out / "quickstart")


def main(arguments: list[str] | None = None) -> int:
    return script("quickstart", draw, arguments)


if __name__ == "__main__":
    sys.exit(main())
