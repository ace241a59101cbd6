"""Tables in which every label has a row, beside D-PSGD under the same condition."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from aldsgd.statistics import Interval, over_seeds
from tables.base import REFERENCE, Cell, Table, Unit, caption, mean_only, on_own_labels, table, words
from tables.query import Experiment, Runs
from tables.rates import rate_of

RELEASED = "D-PSGD (released schedule)"

#: What captions say of time, which judges spend.
UNEQUAL = (
    "Epochs are equal, time is not: modelled s, and how many times D-PSGD's under the same condition, stand beside the "
    "accuracies, which were tested at the end alone. What the time of leaders that judge would gain otherwise: "
    "equal_time."
)
EQUAL = (
    "D-PSGD, all-reduce and the paper's rule have twice the epochs, and twice the bytes: about the modelled time that "
    "the repository's own rule spends on its judges."
)

#: Further columns of ``compare``: (experiment, label) -> title -> cell.
Extra = Callable[[Experiment, str], dict[str, Cell | str]]


def compare(root: Path, name: str, extra: Extra = lambda runs, label: {}, note: str = "", **reference) -> Table:
    """One row a label: worst, mean and averaged model, and the differences to D-PSGD under the same condition.

    ``reference`` holds further fields that the D-PSGD runs must have.
    """
    runs = Experiment(root, name)
    unit, rows = Unit.of(runs), []
    for label in runs.labels:
        own, other = runs.of(label), runs.counterpart(label, REFERENCE, **reference)
        rows.append(
            {
                name: label,
                "seeds": Cell(len(own)),
                **ends(own, unit),
                f"worst, less {REFERENCE}'s": unit.gain(own.less(other, "worst")),
                f"averaged, less {REFERENCE}'s": unit.gain(own.less(other, "averaged")),
                **on_own_labels(runs, own),
                **extra(runs, label),
            }
        )
    return table(caption(runs, note, words(unit)), rows)


def ends(own: Runs, unit: Unit) -> dict[str, Cell]:
    """Where the runs of a label end."""
    titles = {"worst": "worst worker", "mean": "mean worker", "averaged": "averaged model"}
    return {title: unit.show(own.interval(column)) for column, title in titles.items()}


def less_released(runs: Experiment, label: str) -> dict[str, Cell]:
    """Columns: differences to the released schedule under the same condition."""
    own, released, unit = runs.of(label), runs.counterpart(label, RELEASED), Unit.of(runs)
    return {
        f"{column}, less released schedule's": unit.gain(own.less(released, column)) for column in ("worst", "averaged")
    }


def best_and_released(runs: Experiment, label: str) -> dict[str, Cell]:
    """Columns of ``final_accuracy``: the best worker, and differences to the released schedule."""
    return {"best worker": Unit.of(runs).show(runs.of(label).interval("best"))} | less_released(runs, label)


def core_of(runs: Experiment, label: str) -> Runs:
    """The runs of what a method wraps, on as many graphs, under the same condition."""
    own = runs.of(label)[0]
    core = runs.cores.get(own.family)
    return runs.counterpart(label, core, graphs=own.run.config.get("graphs")) if core else Runs(())


def at_rates(runs: Experiment, label: str) -> dict[str, Cell]:
    """Columns of an experiment of preset mid: the rate, the gain over the core on the same graphs where a method has
    one, and what each policy of BatchNorm finds."""
    if runs.preset != "mid":
        return {}
    own, unit = runs.of(label), Unit.of(runs)
    found = {"learning rate": Cell(own[0].run.config["lr"], "{:g}".format)}
    if any(core_of(runs, other) for other in runs.labels):
        gain = own.less(core_of(runs, label), "worst")
        found["worst, less its core's on the same graphs"] = unit.gain(gain)
    for column, title in (
        ("fresh_worst", "worst worker, statistics anew"),
        ("fresh_mean", "mean worker, statistics anew"),
        ("own_averaged", "averaged model, mean of the workers' statistics"),
    ):
        interval = own.interval(column)
        if not np.isnan(interval.mean):
            found[title] = unit.show(interval)
    return found


def final_accuracy(root: Path, name: str) -> Table:
    """The end of every run, against D-PSGD on one graph and against the released schedule."""

    def extra(runs: Experiment, label: str) -> dict[str, Cell]:
        return best_and_released(runs, label) | at_rates(runs, label)

    return compare(root, name, extra, graphs=1)


def less_other_judges(runs: Experiment, label: str) -> dict[str, Cell]:
    """Columns of ``judges``: differences to leaders told by a second draw, and by chance."""
    own, unit = runs.of(label), Unit.of(runs)
    others = {"second draw": "AL-DSGD, second draw", "chance": "AL-DSGD, random leader"}
    named = {word: runs.select(variant=variant, condition=own[0].condition) for word, variant in others.items()}
    return {
        f"{column}, less {word}'s": unit.gain(own.less(other, column))
        for column in ("worst", "mean")
        for word, other in named.items()
    }


def over_conditions(runs: Experiment, label: str) -> dict[str, Cell]:
    """Columns of ``who_leads`` and its kin: the rate, in the geometric mean, what it costs, and the gain in the mean
    over the conditions."""
    own, unit = runs.of(label), Unit.of(runs)
    return {
        "learning rate": Cell(rate_of(own[0].run), "{:g}".format),
        **({"epochs": Cell(own[0].run.config["epochs"])} if len(runs.field("epochs")) > 1 else {}),
        "logical MB": mean_only(own.interval("megabytes")),
        "modelled s": mean_only(own.interval("seconds")),
        f"times {REFERENCE}'s": Cell(times(own, runs.counterpart(label, REFERENCE)), "{:.2f}".format),
        **(
            {f"worst, less {REFERENCE}'s, mean over conditions": unit.gain(mean_gain(runs, own[0].variant, REFERENCE))}
            if len(runs.conditions) > 1
            else {}
        ),
    }


def times(own: Runs, other: Runs) -> float | None:
    """The modelled time of runs over that of others, paired by seed; None where they share none."""
    ours, theirs = own.values("seconds"), other.values("seconds")
    seeds = set(ours) & set(theirs)
    return sum(ours[seed] for seed in seeds) / sum(theirs[seed] for seed in seeds) if seeds else None


def mean_gain(runs: Runs, ours: str, theirs: str) -> Interval | None:
    """The worst worker's gain of one method over another: mean over the conditions for each seed, then over seeds.

    None where a condition or all seeds in common are missing.
    """
    gains = []
    for number in runs.conditions:
        a, b = (runs.select(variant=name, condition=number).values("worst") for name in (ours, theirs))
        gains.append({seed: a[seed] - b[seed] for seed in set(a) & set(b)})
    seeds = set.intersection(*map(set, gains)) if gains and ours != theirs else set()
    means = {seed: float(np.mean([gain[seed] for gain in gains])) for seed in sorted(seeds)}
    return over_seeds(means)
