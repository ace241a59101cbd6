"""Accuracy and loss against epoch, traffic and modelled time, every method. python -m figures.convergence"""

import sys
from pathlib import Path

from figures import style
from figures.common import band, curves, finish, script, tested_on, within_percent
from tables.query import Experiment

ROWS = (
    ("mean_accuracy", "mean worker's test accuracy (%)", 100),
    ("averaged_loss", "averaged model's test loss (nats)", 1),
)
AXES = {"epoch": "epoch", "MB": "sent by all workers (MB)", "s": "modelled time (s)"}


def draw(results: Path, out: Path, width: float = style.PAGE_WIDTH) -> list[Path]:
    """Draw the figure from the store; returns the files written. Raises ConfigError when no run is complete."""
    experiment = Experiment(results, "convergence")
    labels = experiment.variants
    with style.sheet(width):
        fig, panels = style.grid(2, 3, 4.9, 1.75, turned=True, sharex="col", sharey="row")
        for row, (column, name, scale) in zip(panels, ROWS, strict=True):
            for axes, (horizontal, text) in zip(row, AXES.items(), strict=True):
                axes.set(xlabel=text, ylabel=name)
                for place, label in enumerate(labels):
                    runs = [entry.run for entry in experiment.select(variant=label)]
                    values = scale * curves(runs, column)
                    x = values.index.to_numpy()
                    if horizontal == "MB":
                        x = curves(runs, "logical_bytes").mean(axis=1).to_numpy() / 1e6
                        if x[-1] == 0:
                            continue
                    elif horizontal == "s":
                        x = sum(curves(runs, f"modelled_{part}_s") for part in ("compute", "communication"))
                        x = x.mean(axis=1).to_numpy()
                    style.curve(axes, place, label, x, *band(values), of=len(labels))
        for axes in panels[:, 0]:
            style.epoch_axis(axes)
        for axes in panels[:, 1]:
            style.plain_log(axes)
        within_percent(panels[0, 0])
        tested = sorted({len(entry.run.network) for entry in experiment})
        few = "points at the same place stand side by side" if tested[-1] <= style.FEW else ""
        told = tested_on(entry.run for entry in experiment)
        return finish(fig, experiment, labels, out, note="; ".join(filter(None, (few, told))))


if __name__ == "__main__":
    sys.exit(script("convergence", draw))
