"""Tables over grids of learning rates and coefficients, and which rate is the best of its grid."""

from pathlib import Path

import numpy as np

from aldsgd.runs import Run
from aldsgd.statistics import mean_interval, paired_by_seed
from experiments.rates import LONGER
from tables.base import REFERENCE, Cell, Table, Unit, caption, largest, table, words
from tables.query import Experiment, Runs


def coefficient_maps(runs: Runs) -> dict[str, Runs]:
    """The runs of ``sensitivity`` by what was swept: weights "c" or force "p" alone, or the learning rate "lr"."""
    leaders = runs.select(method="aldsgd")
    weights = leaders.select(order="released", p1=0.0, p2=0.0)
    force = leaders.select(order="printed", c1=0.0, c2=0.0)
    swept = {id(entry.run) for entry in (*weights, *force)}
    return {"c": weights, "p": force, "lr": Runs(entry for entry in runs if id(entry.run) not in swept)}


def lr_grid(runs: Runs) -> dict[str, dict[float, dict[int, float]]]:
    """method -> learning rate -> seed -> the mean worker, of the runs of ``sensitivity`` over rates."""
    rates = coefficient_maps(runs)["lr"]
    grid = {}
    for variant in rates.variants:
        own = rates.select(variant=variant)
        grid[variant] = {rate: own.select(lr=rate).values("mean") for rate in own.field("lr")}
    return grid


def best_rate(rates: dict[float, dict[int, float]]) -> float:
    """The rate with the largest mean over seeds; runs that diverged to nan count as zero."""
    return largest({rate: np.mean(np.nan_to_num(list(values.values()))) for rate, values in rates.items()})


def sensitivity(root: Path, name: str) -> Table:
    """Mean worker accuracy over learning rates; each method against D-PSGD, both at their own best rate."""
    runs = Experiment(root, name)
    grid, unit = lr_grid(runs), Unit.of(runs)
    best = {method: best_rate(rates) for method, rates in grid.items()}
    every = sorted({rate for rates in grid.values() for rate in rates})

    def gain(method: str) -> Cell:
        if method == REFERENCE or REFERENCE not in grid:
            return unit.gain(None)
        return unit.gain(paired_by_seed(*(grid[label][best[label]] for label in (method, REFERENCE))))

    rows = [
        {
            name: method,
            "seeds": Cell(max(map(len, rates.values()))),
            **{
                f"lr {rate:g}": unit.show(mean_interval(list(rates[rate].values())) if rate in rates else None)
                for rate in every
            },
            "own best lr": Cell(best[method], "{:g}".format),
            "less D-PSGD's, each at its best": gain(method),
        }
        for method, rates in grid.items()
    ]
    note = (
        "Mean worker over the learning rate. The best rate is chosen on the same runs, which favours a method with a "
        "flat optimum. The maps of the coefficients are in the figure."
    )
    return table(caption(runs, note, words(unit)), rows)


def chosen(runs: Experiment) -> dict[tuple[str, str], str]:
    """(condition or data set, method) -> label of the run with the best mean worker; of a condition that was tried
    again at all epochs, of these runs alone."""
    best: dict[tuple[str, str], tuple[float, str]] = {}
    for label in runs.labels:
        own = runs.of(label)
        place = own[0].named or own[0].run.config["dataset"], own[0].variant
        value = float(np.nan_to_num(own.interval("mean").mean))
        if place not in best or value > best[place][0]:
            best[place] = value, label
    return {(place, variant): label for (place, variant), (_, label) in best.items()
            if (place + LONGER, variant) not in best}  # fmt: skip


def rate_of(run: Run) -> float:
    """The rate of a run, of rates spread over the workers their geometric mean."""
    rate = run.config["lr"]
    return float(f"{np.exp(np.log(rate).mean()):.3g}") if isinstance(rate, list) else rate


def tuning(root: Path, name: str) -> Table:
    """Every method over its grid of learning rates, one seed; the best of each is marked."""
    runs = Experiment(root, name)
    best = set(chosen(runs).values())
    rows = [
        {
            name: label,
            "mean worker": Cell(100 * runs.of(label).interval("mean").mean, "{:.2f}".format),
            "chosen": "chosen" * (label in best),
        }
        for label in runs.labels
    ]
    images = "held-out images" if runs.field("validation") != [None] else "test images"
    return table(caption(runs, f"Accuracy in percent on {images}."), rows)
