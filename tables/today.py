"""Tables of the experiments on gossip as it is done today, and whether AL-DSGD adds anything to it at equal bytes."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from aldsgd.statistics import Interval, corrected, verdict
from tables.base import (
    PERCENT,
    REFERENCE,
    Cell,
    Estimate,
    Table,
    Unit,
    caption,
    largest,
    mean_only,
    number,
    plus_minus,
    scaled,
    table,
    words,
)
from tables.compared import ends
from tables.query import Experiment, Runs, Unmeasured, experiment

#: Methods that are no corrector of drift.
PLAIN = ("dpsgd", "aldsgd", "allreduce")
#: Bytes that differ by less count as equal: epochs are whole numbers.
NEARLY = 0.03


def compare_today(root: Path, name: str) -> Table:
    """One row a label: where it ends, less D-PSGD and its core under the same condition, its rate and its bytes."""
    runs = Experiment(root, name)
    unit, rows = Unit.of(runs), []
    for label in runs.labels:
        own = runs.of(label)
        here, config = runs.select(condition=own[0].condition), own[0].run.config
        other = first(here.select(method="dpsgd"))
        found = {
            name: label,
            "seeds": Cell(len(own)),
            **ends(own, unit),
            f"mean, less {REFERENCE}'s": unit.gain(own.less(other, "mean")),
            f"averaged, less {REFERENCE}'s": unit.gain(own.less(other, "averaged")),
        }
        if runs.field("core") != [None]:
            core = first(here.select(method=config["core"])) if config["method"] == "aldsgd" else Runs(())
            found["mean, less its core's"] = unit.gain(own.less(core, "mean"))
        rows.append(found | {
            "learning rate": Cell(config["lr"], "{:g}".format),
            "epochs": Cell(config["epochs"]),
            "logical MB": mean_only(own.interval("megabytes")),
        })  # fmt: skip
    note = f"Differences are to {REFERENCE}, or to what a method wraps, under the same condition."
    return table(caption(runs, note, words(unit)), rows)


def first(runs: Runs) -> Runs:
    """Those of the first label."""
    return runs.select(label=runs[0].label) if runs else runs


class Comparison(NamedTuple):
    """One difference at equal bytes that a question asks for: ours less theirs, both of one condition."""

    question: str
    where: str
    ours: Runs
    theirs: Runs


def comparisons(root: Path) -> Iterator[Comparison]:
    """What was written down before the runs: does AL-DSGD add anything (a) on a hypercube, (b) under momentum, (c) to
    DSGD-AC, (d) against the best drift corrector under skew?"""
    schedules, skew = experiment(root, "schedules"), experiment(root, "skew")
    for place in names(schedules):
        here, moving = schedules.under(place), place.endswith("momentum")
        pair = here.select(method="aldsgd", core="dpsgd"), here.select(method="dpsgd")
        if place.startswith("hypercube") and not moving:
            yield Comparison("(a) on a hypercube", place, *pair)
        if moving:
            yield Comparison("(b) under momentum", place, *pair)
        annealed = here.select(method="aldsgd", core="dsgd_ac"), here.select(method="dsgd_ac")
        if all(annealed):
            yield Comparison("(c) to DSGD-AC", place, *annealed)
    for place in names(skew):
        here = skew.under(place)
        ours = here.select(method="aldsgd")
        rivals = [other for other in correctors(here) if ours and same_bytes(ours, other)]
        if rivals:
            by_label = {other[0].label: other for other in rivals}
            rival = by_label[largest({label: other.interval("mean").mean for label, other in by_label.items()})]
            yield Comparison(f"(d) against the best drift corrector, {rival[0].variant}", place, ours, rival)


def names(runs: Experiment | Unmeasured) -> list[str]:
    """Names of the conditions, in order."""
    return list(dict.fromkeys(entry.named for entry in runs if entry.named))


def correctors(here: Runs) -> list[Runs]:
    """The runs of each label of a method that corrects drift."""
    found = [here.select(label=label) for label in here.labels]
    return [runs for runs in found if runs[0].run.config["method"] not in PLAIN]


def same_bytes(ours: Runs, theirs: Runs) -> bool:
    """Whether both send as much, nearly."""
    sent = [runs.interval("megabytes").mean for runs in (ours, theirs)]
    return abs(sent[1] / sent[0] - 1) < NEARLY


def leaders_today(root: Path) -> Table:
    """One row a comparison: the mean worker decides; the averaged model and the worst worker stand beside it."""
    found = sorted(
        (c for c in comparisons(root) if c.ours.less(c.theirs, "mean") is not None), key=lambda c: c.question[:3]
    )
    p = corrected({str(i): c.ours.less(c.theirs, "mean") for i, c in enumerate(found)})
    rows = [
        {
            "does AL-DSGD add anything": f"{c.question}: {c.where}",
            **{
                f"{column}, difference": Estimate(scaled(c.ours.less(c.theirs, which), 100), signed)
                for which, column in (
                    ("mean", "mean worker"),
                    ("averaged", "averaged model"),
                    ("worst", "worst worker"),
                )
            },
            "rates": " and ".join(f"{runs[0].run.config['lr']:g}" for runs in (c.ours, c.theirs)),
            "p of the mean, Holm": Cell(p.get(str(i)), number),
            "answer": answer(c.ours.less(c.theirs, "mean")),
        }
        for i, c in enumerate(found)
    ]
    note = (
        "AL-DSGD less the same without leaders, or less the drift corrector whose mean worker ends best among those "
        "that send as much, chosen on the same runs, which favours it. Each at its own rate, found with one seed; "
        "where rates differ, part of a difference may be theirs. Equal bytes to 3 %. "
    )
    shown = next((run.preset for run in (experiment(root, "schedules"), experiment(root, "skew")) if run), "none")
    return table(f"leaders_today: preset {shown}. {note}{words(PERCENT)}", rows)


def signed(difference: Interval) -> str:
    return plus_minus(difference, "+")


def answer(difference: Interval) -> str:
    """By the criterion of the scripts: yes, it costs, or no difference shown."""
    return {"better": "yes", "worse": "no, it costs"}.get(verdict(difference), "no difference shown")
