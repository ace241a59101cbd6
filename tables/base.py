"""What a table is made of: cells that hold numbers and know how they are written, captions, and the generic tables."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from aldsgd.statistics import WHEN, Interval, verdict
from tables.query import Experiment, Runs

REFERENCE, LED = "D-PSGD", "AL-DSGD on D-PSGD"
UNKNOWN = "not measured"
PRESETS = {
    "smoke": "Preset smoke only shows that the code runs; no conclusion may be drawn from it.",
    "cpu": "Preset cpu is scaled down from the paper's setting: it says nothing about the paper's numbers.",
    "mid": "Preset mid: a small network, and fewer epochs than the paper's.",
    "paper": "Preset paper uses the paper's setting.",
}
DIGITS = "Digits are a small stand-in for the paper's data: this says nothing about the paper's numbers."


class Table(NamedTuple):
    """``caption``: one paragraph; ``rows``: a frame, one line of the table each, of text and of ``Cell``."""

    caption: str
    rows: pd.DataFrame

    @property
    def text(self) -> list[list[str]]:
        """The names of the columns, then each row as it is written."""
        return [list(self.rows.columns), *(list(map(str, row)) for row in self.rows.to_numpy().tolist())]


@dataclass(frozen=True)
class Cell:
    """A number or an interval in the unit of its column, and how it is written."""

    value: Interval | float | None
    form: Callable[[Any], str] = field(default=str, compare=False)
    missing: str = ""

    def __str__(self) -> str:
        return self.missing if self.value is None else self.form(self.value)


class Estimate(Cell):
    """A cell of an interval, or of none: mean, low, high and n where numbers are wanted."""


def table(caption: str, rows: list[dict]) -> Table:
    return Table(caption, pd.DataFrame(rows or [{"": UNKNOWN}], dtype=object))


def escaped(line: Iterable[str]) -> list[str]:
    """Cells as Markdown wants them, in which a bar ends one."""
    return [cell.replace("|", "\\|") for cell in line]


def markdown(lines: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table of text, the head first."""
    head, *rows = map(escaped, lines)
    return ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *rows)]


def number(value: float) -> str:
    """Three significant digits, and every digit before the point."""
    return f"{value:.0f}" if 100 <= abs(value) < 1e6 else f"{value:.3g}"


def largest(values: Mapping[Any, float]) -> Any:
    """The name of the largest value, the first of equal ones; NaN, as of runs that diverged, lies below all others."""
    return max(values, key=lambda name: -math.inf if math.isnan(values[name]) else values[name])


def mean_only(interval: Interval | None) -> Cell:
    """An interval of which the mean alone is written."""
    return Estimate(interval, lambda interval: number(interval.mean))


@dataclass(frozen=True)
class Unit:
    """How a metric is written: accuracies are fractions and shown in percent, others are plain numbers.

    seeds: the most that a row has; a difference over fewer says so.
    """

    metric: str = "accuracy"
    higher_is_better: bool = True
    seeds: int = field(default=0, compare=False)

    @classmethod
    def of(cls, runs: Runs) -> "Unit":
        counts = Counter(entry.label for entry in runs)
        return cls(runs.metric, runs.higher_is_better, max(counts.values(), default=0))

    @property
    def scale(self) -> int:
        return 100 if self.metric.endswith("accuracy") else 1

    def show(self, interval: Interval | None, missing: str = "") -> Cell:
        """An interval as "mean ± half-width"; a single value stands alone."""
        return Estimate(scaled(interval, self.scale), lambda i: self._text(i, ""), missing)

    def gain(self, interval: Interval | None) -> Cell:
        """A difference with its sign and its verdict; blank for none."""

        def text(i: Interval) -> str:
            few = f"(n = {i.n})" if i.n < self.seeds else ""
            return " ".join(filter(None, (self._text(i, "+"), verdict(i, self.higher_is_better), few)))

        return Estimate(scaled(interval, self.scale), text)

    def _text(self, interval: Interval, sign: str) -> str:
        if self.scale == 100:
            return plus_minus(interval, sign)
        mean = f"{interval.mean:{sign}z.3g}"
        return mean if math.isnan(interval.half_width) else f"{mean} ± {interval.half_width:.3g}"


PERCENT = Unit()


def scaled(interval: Interval | None, factor: float) -> Interval | None:
    if interval is None:
        return None
    return Interval(factor * interval.mean, factor * interval.half_width, interval.n, interval.level)


def plus_minus(interval: Interval, sign: str) -> str:
    """Mean and half-width with two decimals; sign: "" or "+", as in a format."""
    mean = f"{interval.mean:{sign}z.2f}"
    if interval.half_width < abs(interval.mean) < 0.005:  # a word is said of it, which a bare zero would belie
        return f"{interval.mean:{sign}.1g} ± {interval.half_width:.1g}"
    return mean if math.isnan(interval.half_width) else f"{mean} ± {interval.half_width:.2f}"


def methods(root: Path, name: str) -> Table:
    """One row a label: the metric at the last epoch, paired differences to D-PSGD, disagreement and cost."""
    runs = Experiment(root, name, whole=True)
    unit = Unit.of(runs)
    named = "%" if unit == PERCENT else unit.metric
    rows = []
    for label in runs.labels:
        own, reference = runs.of(label), runs.counterpart(label, REFERENCE)
        rows.append(
            {
                "method": label,
                "seeds": Cell(len(own)),
                f"worst worker ({named})": unit.show(own.interval("worst")),
                f"mean worker ({named})": unit.show(own.interval("mean")),
                f"averaged model ({named})": unit.show(own.interval("averaged")),
                f"worst, less {REFERENCE}'s": unit.gain(own.less(reference, "worst")),
                f"averaged, less {REFERENCE}'s": unit.gain(own.less(reference, "averaged")),
                **on_own_labels(runs, own),
                "consensus distance": mean_only(own.interval("consensus")),
                "logical MB": mean_only(own.interval("megabytes")),
                "modelled s": mean_only(own.interval("seconds")),
            }
        )
    return table(f"{name}: {setting(runs)} {legend(unit)}", rows)


def on_own_labels(runs: Runs, own: Runs) -> dict[str, Cell]:
    """Columns of an experiment whose runs test each worker also on the labels of its own shard."""
    columns = ("worst", "mean") if any(config.get("personalised") for config in runs.configs) else ()
    found = {which: own.interval(f"personalised_{which}") for which in columns}
    return {
        f"{which} worker, personalised": PERCENT.show(None if math.isnan(interval.mean) else interval)
        for which, interval in found.items()
    }


def legend(unit: Unit) -> str:
    return (
        f"Test {unit.metric} at the last epoch, mean ± half-width of the 95 % Student-t interval over the seeds. "
        f"Differences to {REFERENCE} are {'in percentage points, ' if unit == PERCENT else ''}paired by seed; "
        f"{WHEN}. "
        "Consensus distance: ||X - JX||²/n. Logical MB: 10⁶ bytes sent by all workers together in the whole run. "
        "Modelled s: computation plus communication under the cost model in the runs' configurations."
    )


def words(unit: Unit) -> str:
    """The sentences on what the tables of experiments show."""
    percent = unit.metric == "accuracy"
    return (
        f"Test {unit.metric} at the last epoch{' in percent' if percent else ''}, mean ± half-width of the 95 % "
        f"Student-t interval over seeds. Differences are {'in percentage points, ' if percent else ''}paired by seed; "
        f"{WHEN}."
    )


def setting(runs: Experiment) -> str:
    """The sentences of a caption that say on what an experiment was run, and how far its preset carries."""

    def shared(name: str) -> str:
        return " and ".join(str(value) for value in runs.field(name) if value is not None)

    digits = runs.preset == "paper" and shared("dataset") == "digits"
    seeds = sorted({entry.seed for entry in runs})
    workers = "one worker" if shared("workers") == "1" else f"{shared('workers')} workers"
    graph = f", graph {shared('graph')}" if shared("graph") else ""
    return (
        f"preset {runs.preset}, {shared('dataset')}, model {shared('model')}, {workers}{graph}, "
        f"{shared('epochs')} epochs, "
        f"{len(seeds)} {'seed' if len(seeds) == 1 else 'seeds'} ({', '.join(map(str, seeds))}). "
        + (DIGITS if digits else PRESETS.get(runs.preset, "This preset is not the paper's setting."))
    )


def caption(runs: Experiment, *sentences: str) -> str:
    """The caption of a table that may be of some of its runs only."""
    partial = (
        "" if len(runs) == runs.listed else f"{len(runs)} of {runs.listed} runs are complete; the rest is not measured."
    )
    return " ".join(part for part in (f"{runs.name}: {setting(runs)}", partial, *sentences) if part)
