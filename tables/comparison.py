"""Any recorded runs side by side: at equal epochs, bytes or modelled time, with paired differences and intervals.

A selection of runs is named by a key, by fields of their configurations ("method=aldsgd,graph=ring"), or by a folder of
results, alone or with fields ("my_results:method=dpsgd"); "NAME@" before it is what it is called. All runs of a
selection must be one configuration but for the seed. Nothing of a method or metric is known but what the runs say.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aldsgd.errors import ConfigError
from aldsgd.records import RunStore
from aldsgd.runs import Run
from aldsgd.statistics import WHEN, by_seed, mean_interval, paired_by_seed
from baselines.registry import variant_of
from tables.base import Cell, Table, Unit, table

#: What is made equal -> the column of it, as a function of a run's rows, and its unit.
AXES = {
    "epochs": lambda rows: rows["epoch"].to_numpy(dtype=float),
    "bytes": lambda rows: rows["logical_bytes"].to_numpy(dtype=float),
    "time": lambda rows: (rows["modelled_compute_s"] + rows["modelled_communication_s"]).to_numpy(dtype=float),
}
UNITS = {"epochs": "epochs", "bytes": "logical bytes", "time": "modelled seconds"}


@dataclass(frozen=True)
class Selection:
    """Runs of one configuration: what they are called, and seed -> run."""

    name: str
    runs: Mapping[int, Run]

    @property
    def first(self) -> Run:
        return next(iter(self.runs.values()))


def select(root: Path, text: str) -> Selection:
    """The runs that a text names. Raises ConfigError where there are none, or of several configurations."""
    name, at, query = text.rpartition("@")
    folder, fields = Path(root), query
    if ":" in query and Path(query.partition(":")[0]).is_dir():
        folder, fields = Path(query.partition(":")[0]), query.partition(":")[2]
    elif query and Path(query).is_dir():
        folder, fields = Path(query), ""
    store = RunStore(folder)
    if re.fullmatch(r"[0-9a-f]{12}", fields):
        run = store.find(fields)
        found = [run] if run else []
        if run:  # with its other seeds
            found = [other for other in store.runs() if same(other.config, run.config)]
    else:
        wanted = parsed(fields)
        found = [run for run in store.runs() if all(run.config.get(n) == value for n, value in wanted.items())]
    if not found:
        raise ConfigError(
            f"no complete run in {folder} fits {query!r}; name a key, fields such as method=dpsgd, or a folder"
        )
    if other := next((run for run in found if not same(run.config, found[0].config)), None):
        names = sorted(n for n in {*other.config, *found[0].config} if n != "seed" and
                       other.config.get(n) != found[0].config.get(n))  # fmt: skip
        shown = ", ".join(f"{n}={json.dumps(found[0].config.get(n))}" for n in names[:3])
        raise ConfigError(f"{query!r} fits runs that differ in {', '.join(names[:6])}; add fields, such as {shown}")
    runs = by_seed((run.config.get("seed", 0), run) for run in found)
    return Selection(name if at else variant_of(found[0].config), dict(sorted(runs.items())))


def same(a: Mapping, b: Mapping) -> bool:
    """Whether two configurations are one but for the seed."""
    return {**a, "seed": None} == {**b, "seed": None}


def parsed(fields: str) -> dict:
    """ "method=dpsgd,graphs=3" -> {"method": "dpsgd", "graphs": 3}. Raises ConfigError where it is no such text."""
    found = {}
    for part in re.split(r",(?=\s*\w+=)", fields) if fields else ():
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not name:
            raise ConfigError(f"{part!r} is no field=value; give such as method=dpsgd,graphs=3")
        try:
            found[name] = {"none": None, "true": True, "false": False}[value]
        except KeyError:
            try:
                found[name] = json.loads(value)
            except ValueError:
                found[name] = value
    return found


def distinct(selections: Sequence[Selection]) -> list[Selection]:
    """The same, with a number behind names that come twice."""
    names, found = [selection.name for selection in selections], []
    for i, selection in enumerate(selections):
        if names.count(selection.name) > 1:
            selection = Selection(f"{selection.name} ({names[: i + 1].count(selection.name)})", selection.runs)
        found.append(selection)
    return found


def columns_of(selections: Sequence[Selection], metric: str | None) -> list[str]:
    """The columns to show, "worst_accuracy" and so on. Raises ConfigError for a metric that not every run has."""
    known = [set(selection.first.metrics) for selection in selections]
    metric = metric or selections[0].first.metrics[0]
    if not all(metric in metrics for metrics in known):
        raise ConfigError(
            f"not every run has the metric {metric!r}; all have: {', '.join(sorted(set.intersection(*known)))}"
        )
    return [f"{which}_{metric}" for which in ("worst", "mean", "averaged")]


def common_end(selections: Sequence[Selection], axis: str) -> float:
    """The largest number of epochs, bytes or seconds that every run reached: at its end if all end there, else by the
    last test of its curve."""
    runs = [run for selection in selections for run in selection.runs.values()]
    ends = {float(AXES[axis](run.network)[-1]) for run in runs}
    return ends.pop() if len(ends) == 1 else min(float(AXES[axis](run.curve)[-1]) for run in runs)


def value_at(run: Run, column: str, axis: str, x: float) -> float:
    """A column at x: at the end of the run, or on the line between two tests of its curve; NaN before the first."""
    whole = x == AXES[axis](run.network)[-1]
    rows = run.network if whole else run.curve
    return float(np.interp(x, AXES[axis](rows), rows[column], left=np.nan))


def values_at(selection: Selection, column: str, axis: str, x: float) -> dict[int, float]:
    """seed -> a column at x."""
    return {seed: value_at(run, column, axis, x) for seed, run in selection.runs.items()}


def compared(selections: Sequence[Selection], axis: str = "epochs", metric: str | None = None) -> Table:
    """One row a selection; differences are to the first, paired by seed."""
    selections = distinct(selections)
    columns, x = columns_of(selections, metric), common_end(selections, axis)
    named, rows = columns[0].partition("_")[2], []
    higher = all(run.higher_is_better(named) for each in selections for run in each.runs.values())
    unit = Unit(named, higher, max(len(selection.runs) for selection in selections))
    for selection in selections:
        row: dict[str, Cell | str] = {"runs": selection.name, "seeds": Cell(len(selection.runs))}
        for column in columns:
            own = values_at(selection, column, axis, x)
            row[column.partition("_")[0]] = unit.show(mean_interval(list(own.values())))
        for column in columns if selection is not selections[0] else ():
            theirs = values_at(selections[0], column, axis, x)
            difference = paired_by_seed(values_at(selection, column, axis, x), theirs)
            row[f"{column.partition('_')[0]}, less {selections[0].name}'s"] = unit.gain(difference)
        rows.append(row)
    titles = list(dict.fromkeys(title for row in rows for title in row))
    rows = [{title: row.get(title, "") for title in titles} for row in rows]
    points = "in percent, differences in percentage points" if unit.scale == 100 else "as it is"
    caption = (
        f"Test {named} {points}, at {x:g} {UNITS[axis]}, the most that every run has reached, between two tests on the "
        "line that joins them; mean ± half-width of the 95 % Student-t interval over seeds. Differences are paired by "
        f"seed; {WHEN}."
    )
    return table(caption, rows)
