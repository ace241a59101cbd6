"""Rows of tables: what runs ended at, intervals over seeds, differences paired by seed, and the words for them."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from aldsgd.errors import ConfigError
from aldsgd.listings import load_experiment, read_experiment
from aldsgd.records import Run, RunStore
from aldsgd.statistics import MIN_PAIRS, Interval, mean_interval, paired_by_seed, verdict

REFERENCE = "D-PSGD"
PRESETS = {
    "smoke": "Preset smoke only shows that the code runs; no conclusion may be drawn from it.",
    "cpu": "Preset cpu is scaled down from the paper's setting: it says nothing about the paper's numbers.",
    "paper": "Preset paper uses the paper's setting.",
}
DIGITS = "Digits are a small stand-in for the paper's data: this says nothing about the paper's numbers."


class Table(NamedTuple):
    """``caption``: one paragraph; ``rows``: a frame of text, one line of the table each."""

    caption: str
    rows: pd.DataFrame


def final_values(entries: Iterable[tuple[str, int, Run]]) -> pd.DataFrame:
    """What each run had reached at its last epoch: one row per run, indexed by (label, seed).

    Columns: worst, mean, best, averaged (test accuracy, fractions), consensus (||X - JX||^2/n), megabytes
    (logical bytes / 10^6) and seconds (modelled computation plus communication).
    """
    values = {}
    for label, seed, run in entries:
        last = run.network.iloc[-1]
        values[label, seed] = {
            "worst": last["worst_accuracy"],
            "mean": last["mean_accuracy"],
            "best": last["best_accuracy"],
            "averaged": last["averaged_accuracy"],
            "consensus": last["consensus_distance"],
            "megabytes": last["logical_bytes"] / 1e6,
            "seconds": last["modelled_compute_s"] + last["modelled_communication_s"],
        }
    return pd.DataFrame.from_dict(values, orient="index").rename_axis(index=["label", "seed"])


def methods(root: Path, name: str) -> Table:
    """One row a method: accuracy at the last epoch, paired differences to D-PSGD, disagreement and cost."""
    entries = load_experiment(root, name)
    values = final_values(entries)
    rows = []
    for label in dict.fromkeys(label for label, _, _ in entries):
        own = values.loc[label]
        rows.append(
            {
                "method": label,
                "seeds": str(len(own)),
                "worst worker (%)": percent(mean_interval(own["worst"])),
                "mean worker (%)": percent(mean_interval(own["mean"])),
                "averaged model (%)": percent(mean_interval(own["averaged"])),
                f"worst, less {REFERENCE}'s": difference(values, label, "worst"),
                f"averaged, less {REFERENCE}'s": difference(values, label, "averaged"),
                "consensus distance": number(mean_interval(own["consensus"]).mean),
                "logical MB": number(mean_interval(own["megabytes"]).mean),
                "modelled s": number(mean_interval(own["seconds"]).mean),
            }
        )
    return Table(f"{name}: {setting(root, name, entries)} {LEGEND}", pd.DataFrame(rows, dtype=str))


LEGEND = (
    "Test accuracy at the last epoch, mean ± half-width of the 95 % Student-t interval over the seeds. "
    f"Differences to {REFERENCE} are in percentage points, paired by seed; the words better and worse need "
    f"at least {MIN_PAIRS} seeds and an interval that excludes zero. Consensus distance: ||X - JX||²/n. "
    "Logical MB: 10⁶ bytes sent by all workers together in the whole run. Modelled s: computation plus "
    "communication under the cost model in the runs' configurations."
)


def setting(root: Path, name: str, entries: list[tuple[str, int, Run]]) -> str:
    """The sentences of a caption that say on what an experiment was run, and how far its preset carries."""
    preset = read_experiment(root, name)["preset"]

    def shared(field: str) -> str:
        found = dict.fromkeys(run.config.get(field) for _, _, run in entries)
        return " and ".join(str(value) for value in found if value is not None)

    digits = preset == "paper" and shared("dataset") == "digits"
    seeds = sorted({seed for _, seed, _ in entries})
    return (
        f"preset {preset}, {shared('dataset')}, model {shared('model')}, {shared('workers')} workers, "
        f"graph {shared('graph')}, {shared('epochs')} epochs, "
        f"{len(seeds)} {'seed' if len(seeds) == 1 else 'seeds'} ({', '.join(map(str, seeds))}). "
        + (DIGITS if digits else PRESETS.get(preset, "This preset is not the paper's setting."))
    )


def percent(interval: Interval) -> str:
    """An interval of fractions in percent, as "mean ± half-width"; a single value stands alone."""
    return plus_minus(interval, "")


def difference(values: pd.DataFrame, label: str, column: str) -> str:
    """Paired difference to the reference method, in percentage points, with the verdict if there is one."""
    return points(gap(values, label, REFERENCE, column))


def plus_minus(interval: Interval, sign: str) -> str:
    mean = f"{100 * interval.mean:{sign}z.2f}"
    return mean if math.isnan(interval.half_width) else f"{mean} ± {100 * interval.half_width:.2f}"


def number(value: float) -> str:
    """Three significant digits, and every digit before the point."""
    return f"{value:.0f}" if 100 <= abs(value) < 1e6 else f"{value:.3g}"


#: Every method by the label that tables, figures and experiments share.
METHODS = (
    "no exchange", "D-PSGD (released schedule)", "D-PSGD", "MATCHA", "all-reduce", "AL-DSGD on released schedule",
    "AL-DSGD on D-PSGD", "AL-DSGD on MATCHA", "AL-DSGD, three graphs", "AL-DSGD on MATCHA, three graphs",
)  # fmt: skip


def split_label(label: str) -> tuple[str, str]:
    """("MATCHA", "graph 2") of "MATCHA, graph 2": the method, and what follows; ("", label) where there is none."""
    for name in sorted(METHODS, key=len, reverse=True):
        if label == name or label.startswith(f"{name}, "):
            return name, label[len(name) + 2 :]
    return "", label


def counterpart(label: str, method: str = REFERENCE) -> str:
    """The label of another method under the same condition: "D-PSGD, graph 2" for "MATCHA, graph 2"."""
    rest = split_label(label)[1]
    return f"{method}, {rest}" if rest else method


def available(root: Path, name: str) -> tuple[list[tuple[str, int, Run]], int]:
    """(label, seed, run) of the complete runs of an experiment, in its order, and how many it lists.

    Raises ConfigError, naming the command, where it was never started or no run is complete.
    """
    listing, store = read_experiment(root, name), RunStore(root)
    found = [(entry["label"], int(entry["seed"]), store.find(entry["key"])) for entry in listing["runs"]]
    complete = [entry for entry in found if entry[2] is not None]
    if not complete:
        raise ConfigError(
            f"none of the {len(found)} runs of {name} is complete in {store.folder}: make them with "
            f"python -m experiments.{name} --preset {listing['preset']}"
        )
    return complete, len(found)


def caption(root: Path, name: str, entries: list[tuple[str, int, Run]], listed: int, *sentences: str) -> str:
    """The caption of a table that may be of some of its runs only."""
    partial = (
        "" if len(entries) == listed else f"{len(entries)} of {listed} runs are complete; the rest is not measured."
    )
    return " ".join(part for part in (f"{name}: {setting(root, name, entries)}", partial, *sentences) if part)


def gap(values: pd.DataFrame, label: str, reference: str, column: str) -> Interval | None:
    """Interval of a difference between two labels over the seeds that both have; None where one has none."""
    known = values.index.get_level_values("label")
    if label == reference or label not in known or reference not in known:
        return None
    return paired_by_seed(values.loc[label, column].to_dict(), values.loc[reference, column].to_dict())


def points(interval: Interval | None, sign: str = "+") -> str:
    """A difference of fractions in percentage points with its verdict; blank for none."""
    if interval is None:
        return ""
    return f"{plus_minus(interval, sign)} {verdict(interval)}".rstrip()


def average(values: pd.DataFrame, label: str, column: str) -> Interval | None:
    """Interval of one label's mean over seeds; None where it has no run."""
    if label not in values.index.get_level_values("label"):
        return None
    return mean_interval(values.loc[label, column])
