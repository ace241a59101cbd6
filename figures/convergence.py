"""Accuracy and loss against epoch, traffic and modelled time, every method. python -m figures.convergence"""

import sys
from pathlib import Path

from figures import style
from figures.common import band, curves, finish, grid, plain_log, script, within_percent
from tables.query import Experiment

ROWS = (
    ("mean_accuracy", "mean worker's test accuracy (%)", 100),
    ("averaged_loss", "averaged model's test loss (nats)", 1),
)


def draw(results: Path, out: Path) -> list[Path]:
    """Draw the figure from the store; returns the files written. Raises ConfigError when no run is complete."""
    experiment = Experiment(results, "convergence")
    labels = experiment.variants
    with style.sheet():
        fig, panels = grid(2, 3, 4.9, sharey="row")
        for row, (column, name, scale) in zip(panels, ROWS, strict=True):
            for axes, horizontal in zip(row, ("epoch", "MB", "s"), strict=True):
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
                    style.curve(axes, place, label, x, *band(values))
            row[0].set_ylabel(name)
        for axes, text in zip(panels[1], ("epoch", "sent by all workers (MB)", "modelled time (s)"), strict=True):
            axes.set_xlabel(text)
        for axes in panels[:, 0]:
            style.epoch_axis(axes)
        for axes in panels[:, 1]:
            plain_log(axes)
        panels[0, 0].set_xlabel("")
        within_percent(panels[0, 0])
        return finish(fig, experiment, labels, out)


if __name__ == "__main__":
    sys.exit(script("convergence", draw))
