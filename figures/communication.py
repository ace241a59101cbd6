"""Accuracy against traffic, and modelled time to the target on several links. python -m figures.communication"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from aldsgd.statistics import mean_interval
from experiments.scales import TWICE
from figures import style
from figures.common import band, curves, ends, finish, script, tested_on, within_percent
from tables.experiments import target_of
from tables.links import BANDWIDTHS, LATENCIES, first_reached, modelled_seconds
from tables.query import Experiment, Runs


def draw(results: Path, out: Path, width: float = style.PAGE_WIDTH) -> list[Path]:
    """Draw the figure from the store; returns the files written. Raises ConfigError when no run is complete."""
    experiment = Experiment(results, "communication")
    shown = experiment.select(condition=0)  # the ring is in the table
    with style.sheet(width):
        fig, (panels,) = style.grid(1, 3, 3.1, 1.9)
        panels[2].sharey(panels[1])
        notes = [*traffic(panels[0], experiment, shown), *times(panels[1:], experiment, shown)]
        notes += [told] if (told := tested_on(entry.run for entry in experiment)) else []
        return finish(fig, experiment, shown.variants, out, note="; ".join(notes))


def traffic(axes: Axes, experiment: Experiment, shown: Runs) -> list[str]:
    """Panel (a): accuracy against the megabytes sent, of twice the epochs dotted; returns what the reader must know."""
    labels, longer = shown.variants, experiment.under(TWICE)
    dotted = {label: again for label in labels if (again := longer.select(variant=label))}
    for place, label in enumerate(labels):
        sent(axes, place, label, shown.select(variant=label), of=len(labels))
        if label in dotted:
            sent(axes, place, label, dotted[label], of=len(labels), linestyle=":")
    target = 100 * target_of(experiment, shown.labels[0]) if shown else np.nan
    if np.isfinite(target):
        axes.axhline(target, color="0.4", linewidth=0.6)
        # At the end of the curves, which by then have passed it.
        axes.annotate(f"target: {target:.1f} %", (0.98, target), (0, -2), xycoords=("axes fraction", "data"),
                      textcoords="offset points", ha="right", va="top", fontsize=style.SMALLEST,
                      color="0.4")  # fmt: skip
    axes.set(xlabel="sent by all workers (MB)", ylabel="mean worker's test accuracy (%)")
    axes.set_title("(a) accuracy against traffic")
    within_percent(axes)
    return ["(a) dotted: twice the epochs"] * bool(dotted)


def sent(axes: Axes, place: int, label: str, runs: Runs, **other) -> None:
    """The mean worker's accuracy of one method against the megabytes sent, means over the seeds; ``other`` as in
    ``style.curve``."""
    own = [entry.run for entry in runs]
    megabytes = curves(own, "logical_bytes").mean(axis=1).to_numpy() / 1e6
    style.curve(axes, place, label, megabytes, *band(100 * curves(own, "mean_accuracy")), **other)


def times(panels: Sequence[Axes], experiment: Experiment, shown: Runs) -> list[str]:
    """Panels (b, c): modelled time to the target on links and latencies; returns what the reader must know."""
    links = (
        ("link (Gb/s), 50 us a message", [(gigabits, 50e-6) for gigabits in BANDWIDTHS], BANDWIDTHS),
        ("latency (us), 10 Gb/s", [(10, latency) for latency in LATENCIES], [1e6 * latency for latency in LATENCIES]),
    )
    labels, unreached, equal = shown.variants, False, False
    for place, label in enumerate(labels):
        own = shown.select(variant=label)
        runs, target = [entry.run for entry in own], target_of(experiment, own[0].label)
        reached = [first_reached(run, target) for run in runs]
        if None in reached:
            unreached = True
            continue
        for axes, (_, speeds, x) in zip(panels, links, strict=True):
            seconds = [
                mean_interval([modelled_seconds(r, *speed).iloc[at] for r, at in zip(runs, reached, strict=True)])
                for speed in speeds
            ]
            mean, half = ends(seconds, scale=1)
            equal |= len(runs) > 1 and not half.all()
            style.curve(axes, place, label, x, mean, mean - half, mean + half, of=len(labels))
    for axes, letter, (name, _, _) in zip(panels, "bc", links, strict=True):
        axes.set(xlabel=name, ylabel="modelled time (s)", title=f"({letter}) time to the target")
        style.plain_log(axes)
        axes.set_ylim(bottom=0)
    notes = ["(b, c) methods of which every seed reached the target"] * unreached
    return notes + ["no bar: all seeds reached it at the same test"] * equal


if __name__ == "__main__":
    sys.exit(script("communication", draw))
