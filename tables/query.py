"""An experiment's complete runs, found by the fields of their configurations; labels are only shown."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from aldsgd.listings import MissingRuns, load_experiment, read_experiment
from aldsgd.runs import Run
from aldsgd.statistics import Interval, by_seed, mean_interval, paired_by_seed
from baselines.registry import VARIANTS, method_fields, variant_of

#: What each run had reached at its last epoch, of the first metric of its task: fractions, ||X - JX||^2/n, logical
#: bytes / 10^6, modelled computation plus communication; area is the mean over the tested epochs of the mean worker,
#: curve_end what its curve ends at, on the samples of the curve;
#: under a further policy of BatchNorm, or on each worker's own labels, NaN where the run was not tested so.
VALUES = {
    **{which: lambda run, which=which: run.final[f"{which}_{run.metrics[0]}"]
       for which in ("worst", "mean", "best", "averaged")},
    "consensus": lambda run: run.final["consensus_distance"],
    "megabytes": lambda run: run.final["logical_bytes"] / 1e6,
    "seconds": lambda run: run.final["modelled_compute_s"] + run.final["modelled_communication_s"],
    "loss": lambda run: run.final["train_loss"],
    "curve_end": lambda run: float(run.curve[f"mean_{run.metrics[0]}"].iloc[-1]) if len(run.curve) else np.nan,
    "area": lambda run: float(run.network[f"mean_{run.metrics[0]}"].mean(skipna=False)),
    **{f"{policy}_{which}": lambda run, column=f"{policy}_{which}": run.final.get(f"{column}_{run.metrics[0]}", np.nan)
       for policy in ("own", "fresh") for which in ("worst", "mean", "best", "averaged")},
    **{f"personalised_{which}": lambda run, which=which: run.final.get(f"{which}_personalised_accuracy", np.nan)
       for which in ("worst", "mean", "best", "averaged")},
}  # fmt: skip


class Entry(NamedTuple):
    """One complete run: its label and seed in the listing, the variant of the method, and the number of the condition.

    ``family`` is the variant that the method would be on one graph. Runs of one condition agree in every field that is
    not the method's own; a method without a graph joins the first condition that agrees in the rest. ``named``: the
    name that the listing gives the condition, if it does.
    """

    label: str
    seed: int
    run: Run
    variant: str
    family: str
    condition: int
    named: str | None = None


class Runs(Sequence):
    """Some complete runs of an experiment, in its order."""

    def __init__(self, entries: Iterable[Entry]):
        self.entries = tuple(entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, place):
        return self.entries[place]

    @property
    def configs(self) -> Iterator[dict]:
        return (entry.run.config for entry in self)

    @property
    def labels(self) -> list[str]:
        return list(dict.fromkeys(entry.label for entry in self))

    @property
    def variants(self) -> list[str]:
        """Labels of the methods, in the order of the registry."""
        return _ordered(entry.variant for entry in self)

    @property
    def families(self) -> list[str]:
        """Labels of the methods on one graph each, in the order of the registry."""
        return _ordered(entry.family for entry in self)

    @property
    def cores(self) -> dict[str, str]:
        """Label of each method that wraps another -> the label of the wrapped one, families both."""
        wrapping = {e.family: e.run.config for e in self if e.run.config.get("core")}
        named = {label: variant_of({"method": config["core"], "graphs": 1}) for label, config in wrapping.items()}
        return {label: named[label] for label in _ordered(named)}

    @property
    def conditions(self) -> dict[int, dict]:
        """Number of a condition -> a configuration made under it, with a graph if any has one."""
        found: dict[int, dict] = {}
        for entry in self:
            if not found.get(entry.condition, {}).get("graph"):
                found[entry.condition] = entry.run.config
        return found

    @property
    def metric(self) -> str:
        """The metric that tables and figures show: the first of the task."""
        return self[0].run.metrics[0] if self else "accuracy"

    @property
    def higher_is_better(self) -> bool:
        """Whether more of ``metric`` is better."""
        return all(entry.run.higher_is_better(self.metric) for entry in self)

    def field(self, name: str) -> list:
        """The values of one field of the configurations, each once, in the order of the runs."""
        found = []
        for config in self.configs:
            if config.get(name) not in found:
                found.append(config.get(name))
        return found

    def select(self, **fields) -> "Runs":
        """Those runs in which every field has this value: ``label``, ``family``, ``condition``, or a recorded one."""

        def value(entry: Entry, name: str):
            return getattr(entry, name) if name in Entry._fields else entry.run.config.get(name)

        return Runs(e for e in self if all(value(e, name) == wanted for name, wanted in fields.items()))

    def under(self, condition: str) -> "Runs":
        """Those made under a condition of this name."""
        return Runs(entry for entry in self if entry.named == condition)

    @property
    def by_seed(self) -> dict[int, Run]:
        """seed -> run. Raises ConfigError where a seed has several."""
        return by_seed((entry.seed, entry.run) for entry in self)

    def values(self, column: str) -> dict[int, float]:
        """seed -> one of ``VALUES``, of the first label among these runs."""
        return (
            by_seed((entry.seed, VALUES[column](entry.run)) for entry in self.select(label=self[0].label))
            if self
            else {}
        )

    def interval(self, column: str) -> Interval | None:
        """Interval of the mean over seeds; None where there is no run."""
        return mean_interval(list(self.values(column).values())) if self else None

    def less(self, other: "Runs", column: str) -> Interval | None:
        """Interval of the difference, paired by seed; None where no seed is shared or both are the same runs."""
        if not self or not other or self[0].label == other[0].label:
            return None
        return paired_by_seed(self.values(column), other.values(column))

    @property
    def frame(self) -> pd.DataFrame:
        """A row per run: label, seed, key, variant, family, condition, every recorded field, and ``VALUES``."""
        return pd.DataFrame([
            {**e._asdict(), "run": e.run.key, **e.run.config, **{name: value(e.run) for name, value in VALUES.items()}}
            for e in self
        ]).rename(columns={"run": "key"})  # fmt: skip


class Experiment(Runs):
    """The complete runs of one experiment, and how many it lists. Raises ConfigError, naming the command, for none."""

    def __init__(self, root: Path, name: str, whole: bool = False):
        listing = read_experiment(root, name)
        self.name, self.preset, self.listed = name, listing["preset"], len(listing["runs"])
        found = load_experiment(root, name, partial=not whole)
        given = {entry["label"]: entry["condition"] for entry in listing["runs"] if entry["condition"] is not None}
        names, numbers, representatives = list(dict.fromkeys(given.values())), {}, []
        for label, _, run in found:
            if label not in numbers:
                numbers[label] = names.index(given[label]) if given else _condition(run.config, representatives)
        super().__init__(
            Entry(
                label,
                seed,
                run,
                variant_of(run.config),
                variant_of(run.config | {"graphs": 1}),
                numbers[label],
                given.get(label),
            )
            for label, seed, run in found
        )

    def named(self, condition: int) -> str | None:
        """The name of a condition in the listing, None where it has none."""
        return next((e.named for e in self if e.condition == condition), None)

    def of(self, label: str) -> Runs:
        return self._by_label.get(label, Runs(()))

    @cached_property
    def _by_label(self) -> dict[str, Runs]:
        grouped: dict[str, list[Entry]] = {}
        for entry in self:
            grouped.setdefault(entry.label, []).append(entry)
        return {label: Runs(entries) for label, entries in grouped.items()}

    def counterpart(self, label: str, variant: str, **fields) -> Runs:
        """The runs of another method under the condition of ``label``, on as many graphs where there are such runs."""
        own = self.of(label)[0]
        found = self.select(family=variant, condition=own.condition, **fields)
        found = found.select(graphs=own.run.config.get("graphs")) or found
        return self.of(found[0].label) if found else Runs(())


class Unmeasured(Runs):
    """What stands for an experiment of which no run is complete."""

    preset, listed = None, 0

    def __init__(self, name: str):
        super().__init__(())
        self.name = name


def experiment(root: Path, name: str) -> Experiment | Unmeasured:
    """The experiment, or what stands for one that was not run. Raises ConfigError where its list is damaged."""
    try:
        return Experiment(root, name)
    except MissingRuns:
        return Unmeasured(name)


def _ordered(labels: Iterable[str]) -> list[str]:
    """Each label once: those that the registry knows in its order, then others as they come."""
    found = dict.fromkeys(labels)
    return [label for label in VARIANTS if label in found] + [label for label in found if label not in VARIANTS]


def agree(a: Mapping, b: Mapping) -> bool:
    """Whether two configurations are one condition: equal in every field but the seed, the methods' own, and, where a
    method uses none, the graph."""
    own = method_fields(a) | method_fields(b) | {"seed"}
    if not (a.get("graph") and b.get("graph")):
        own |= {name for name in {*a, *b} if name.startswith("graph")}
    return all(a.get(name) == b.get(name) for name in {*a, *b} - own)


def _condition(config: dict, representatives: list[dict]) -> int:
    """The number of a configuration's condition; new ones are added to ``representatives``."""
    for number, other in enumerate(representatives):
        if agree(config, other):
            if not other.get("graph"):
                representatives[number] = config
            return number
    representatives.append(config)
    return len(representatives) - 1
