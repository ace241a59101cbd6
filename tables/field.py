"""Every method at equal epochs, equal bytes, and in equal modelled time on three links; and which to use on which."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from aldsgd.links import COUNTED, Link
from aldsgd.runs import Run
from aldsgd.statistics import Interval, mean_interval, paired_by_seed
from tables.base import REFERENCE, Cell, Table, Unit, caption, largest, mean_only, table
from tables.links import mean_at
from tables.query import Experiment, Runs

#: Links by what they are called; 50 us a message.
LINKS = {f"{gigabits:g} Gb/s": Link(50e-6, gigabits * 1e9 / 8) for gigabits in (1, 0.1, 0.01)}
#: Share of what the reference spends in a run.
BUDGET = 0.5


def counted(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """(messages one after another, their bytes) by each tested epoch, of a run recorded on ``COUNTED``."""
    seconds = run.network["modelled_communication_s"].to_numpy()
    messages = np.floor(seconds)
    return messages, np.rint((seconds - messages) * COUNTED.bandwidth)


def seconds_on(run: Run, link: Link) -> np.ndarray:
    """Modelled seconds, computation and communication, by each tested epoch on a link."""
    messages, sent = counted(run)
    return run.network["modelled_compute_s"].to_numpy() + messages * link.latency + sent / link.bandwidth


def spent_by(along: str) -> Callable[[Run], np.ndarray]:
    """What a run has spent by each tested epoch: "bytes", or seconds on a link of this name."""
    if along == "bytes":
        return lambda run: run.network["logical_bytes"].to_numpy(dtype=float)
    return lambda run: seconds_on(run, LINKS[along])


def reference(runs: Experiment) -> Runs:
    """The runs of D-PSGD as it is: on one graph, without momentum."""
    found = runs.select(method="dpsgd", graphs=1)
    plain = [label for label in found.labels if not found.select(label=label)[0].run.config.get("momentum")]
    return found.select(label=plain[0]) if plain else Runs(())


def budget_of(runs: Experiment, along: str) -> float:
    """Half of what D-PSGD spends, mean over its seeds; NaN where it has not been run."""
    own = [spent_by(along)(entry.run)[-1] for entry in reference(runs)]
    return BUDGET * float(np.mean(own)) if own else float("nan")


def at_budget(runs: Experiment, label: str, along: str) -> dict[int, float]:
    """seed -> the mean worker when the budget is spent; who has ended before stands there with its end."""
    budget = budget_of(runs, along)
    return {entry.seed: mean_at(entry.run, spent_by(along)(entry.run), budget) for entry in runs.of(label)}


def field(root: Path, name: str) -> Table:
    """One row a method; the caption says which to use on which link."""
    runs = Experiment(root, name)
    unit, rows = Unit.of(runs), []
    for label in runs.labels:
        own = runs.of(label)
        rows.append({
            name: label,
            "seeds": Cell(len(own)),
            "equal epochs": unit.show(own.interval("mean")),
            "averaged model": unit.show(own.interval("averaged")),
            f"less {REFERENCE}'s": unit.gain(own.less(reference(runs), "mean")),
            **{
                f"equal {'bytes' if along == 'bytes' else f'time, {along}'}": unit.show(
                    mean_interval(list(at_budget(runs, label, along).values()))
                )
                for along in ("bytes", *LINKS)
            },
            "learning rate": Cell(own[0].run.config["lr"], "{:g}".format),
            "logical MB": mean_only(own.interval("megabytes")),
        })  # fmt: skip
    note = (
        f"Mean worker's test {unit.metric}, in percent, at the end of every run; at half of the bytes that {REFERENCE} "
        "sends in all; and in half of the time that it takes on a link, 50 us a message and 10 ms of computation a "
        "step. Between two tests on the line that joins them; who has ended before stands there with its end; nan: not "
        "tested by then. Mean ± half-width of the 95 % Student-t interval over seeds; differences are paired by seed."
    )
    return table(caption(runs, note, *sentences(runs)), rows)


def choice(runs: Experiment, along: str) -> tuple[str, Interval, list[str]]:
    """The label whose mean is largest in equal time on a link, its interval, and those that cannot be told from it:
    their difference to it, paired by seed, has an interval that holds zero."""
    values = {label: at_budget(runs, label, along) for label in runs.labels}
    means = {label: mean_interval(list(own.values())) for label, own in values.items()}
    most = largest({label: interval.mean for label, interval in means.items()})
    gaps = {label: paired_by_seed(values[label], values[most]) for label in means if label != most}
    return most, means[most], [label for label, gap in gaps.items() if gap and gap.low <= 0 <= gap.high]


def sentences(runs: Experiment) -> list[str]:
    """Which to use at which bandwidth: one sentence a link."""
    found = []
    for along in LINKS:
        best, interval, alike = choice(runs, along)
        ours = sum("AL-DSGD" in entry_variant(runs, label) for label in alike)
        shown = f"{100 * interval.mean:.1f} ± {100 * interval.half_width:.1f} %"
        others = f"{len(alike)} of {len(runs.labels) - 1} others cannot be told from it, {ours} of them with leaders"
        found.append(f"At {along} {best} reaches most, {shown}; {others}.")
    return found


def entry_variant(runs: Experiment, label: str) -> str:
    """The variant of a row."""
    return runs.of(label)[0].variant
