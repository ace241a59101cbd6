"""One table per experiment, from its complete runs; a table of some of its runs says so."""

from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pandas as pd

from aldsgd.graphs import Topology, parse, parse_set
from aldsgd.records import Run
from aldsgd.statistics import mean_interval
from tables.base import (
    METHODS,
    REFERENCE,
    Table,
    available,
    average,
    caption,
    counterpart,
    final_values,
    gap,
    number,
    percent,
    points,
    split_label,
)  # fmt: skip
from tables.links import BANDWIDTHS, LATENCIES, first_reached, modelled_seconds

RELEASED = "D-PSGD (released schedule)"
WORDS = (
    "Test accuracy at the last epoch in percent, mean ± half-width of the 95 % Student-t interval over seeds. "
    "Differences are in percentage points, paired by seed; better and worse need 5 seeds and an interval without zero."
)


def shown(values: pd.DataFrame, label: str, column: str) -> str:
    interval = average(values, label, column)
    return "not measured" if interval is None else percent(interval)


def labels_of(entries) -> list[str]:
    return list(dict.fromkeys(label for label, _, _ in entries))


def compare(
    root: Path,
    name: str,
    reference: Callable[[str], str] = counterpart,
    against: str = "D-PSGD",
    extra: Callable[[list[tuple[str, int, Run]]], dict[str, dict[str, str]]] = lambda entries: {},
    note: str = "",
) -> Table:
    """One row a label: worst, mean and averaged model, and the differences to ``reference(label)``.

    ``extra`` gives further columns, as title -> label -> text.
    """
    entries, listed = available(root, name)
    values, more = final_values(entries), extra(entries)
    rows = [
        {
            name: label,
            "seeds": str(len(values.loc[label])),
            "worst worker": shown(values, label, "worst"),
            "mean worker": shown(values, label, "mean"),
            "averaged model": shown(values, label, "averaged"),
            f"worst, less {against}'s": points(gap(values, label, reference(label), "worst")),
            f"averaged, less {against}'s": points(gap(values, label, reference(label), "averaged")),
            **{title: column.get(label, "") for title, column in more.items()},
        }
        for label in labels_of(entries)
    ]
    return Table(caption(root, name, entries, listed, note, WORDS), pd.DataFrame(rows, dtype=str))


def best_and_released(entries) -> dict[str, dict[str, str]]:
    """Columns of ``final_accuracy``: the best worker, and differences to the released schedule."""
    values, columns = final_values(entries), {"best worker": {}}
    for column in ("worst", "averaged"):
        columns[f"{column}, less released schedule's"] = {
            label: points(gap(values, label, counterpart(label, RELEASED), column)) for label in labels_of(entries)
        }
    columns["best worker"] = {label: shown(values, label, "best") for label in labels_of(entries)}
    return columns


def area(run: Run) -> float:
    """Mean over the tested epochs of the mean worker's accuracy: higher when a run learns sooner."""
    return float(run.network["mean_accuracy"].mean())


def convergence(root: Path) -> Table:
    """How soon: the mean over tested epochs of the mean worker's accuracy, against D-PSGD and against MATCHA."""
    entries, listed = available(root, "convergence")
    values = final_values(entries)
    values["area"] = [area(run) for _, _, run in entries]
    values["loss"] = [run.network["train_loss"].iloc[-1] for _, _, run in entries]
    rows = [
        {
            "convergence": label,
            "seeds": str(len(values.loc[label])),
            "accuracy over epochs": shown(values, label, "area"),
            "less D-PSGD's": points(gap(values, label, REFERENCE, "area")),
            "less MATCHA's": points(gap(values, label, "MATCHA", "area")),
            "last mean worker": shown(values, label, "mean"),
            "last training loss": number(values.loc[label, "loss"].mean()),
            "logical MB": number(values.loc[label, "megabytes"].mean()),
            "modelled s": number(values.loc[label, "seconds"].mean()),
        }
        for label in labels_of(entries)
    ]
    note = "Accuracy over epochs: the mean worker's test accuracy, averaged over the tested epochs."
    return Table(caption(root, "convergence", entries, listed, note, WORDS), pd.DataFrame(rows, dtype=str))


def cell_label(method: str, graphs: int, level: str) -> str:
    return f"{method}, {graphs} graph{'s' * (graphs > 1)}, {level} %"


def sparsity(root: Path) -> Table:
    """Leaders (same graphs) and rotation (same method) told apart, at each level."""
    entries, listed = available(root, "sparsity")
    values = final_values(entries)
    rows = []
    for level in dict.fromkeys(run.config["graph"].removeprefix("paper:") for _, _, run in entries):
        alone = cell_label("D-PSGD", 1, level)
        for graphs in (1, 2, 3):
            plain, matcha, ours, on_matcha = (
                cell_label(method, graphs, level)
                for method in ("D-PSGD", "MATCHA", "AL-DSGD on D-PSGD", "AL-DSGD on MATCHA")
            )
            rows.append(
                {
                    "level": f"{level} %",
                    "graphs": str(graphs),
                    "D-PSGD": shown(values, plain, "worst"),
                    "MATCHA": shown(values, matcha, "worst"),
                    "AL-DSGD on D-PSGD": shown(values, ours, "worst"),
                    "AL-DSGD on MATCHA": shown(values, on_matcha, "worst"),
                    "leaders, on D-PSGD": points(gap(values, ours, plain, "worst")),
                    "leaders, on MATCHA": points(gap(values, on_matcha, matcha, "worst")),
                    "rotation alone": points(gap(values, plain, alone, "worst")),
                    "both": points(gap(values, ours, alone, "worst")),
                    "D-PSGD's MB": megabytes(values, plain),
                    "AL-DSGD's MB": megabytes(values, ours),
                }
            )
    note = (
        "Accuracy of the worst worker. Leaders: AL-DSGD less its core on the same graphs; rotation: D-PSGD less D-PSGD "
        "on one graph; both: AL-DSGD less D-PSGD on one graph."
    )
    return Table(caption(root, "sparsity", entries, listed, note, WORDS), pd.DataFrame(rows, dtype=str))


def megabytes(values: pd.DataFrame, label: str) -> str:
    interval = average(values, label, "megabytes")
    return "" if interval is None else number(interval.mean)


@lru_cache(maxsize=64)
def degrees(graph: str, workers: int) -> np.ndarray:
    """Degree of each worker in the base graph, (n,)."""
    return parse(graph, workers).degrees


def by_degree(run: Run) -> pd.DataFrame:
    """``worker``, ``degree`` in graph A and final ``accuracy`` of a run's workers."""
    last = run.workers[run.workers["epoch"] == run.workers["epoch"].max()]
    own = degrees(run.config["graph"], run.config["workers"])[last["worker"].to_numpy()]
    return pd.DataFrame({"worker": last["worker"], "degree": own, "accuracy": last["test_accuracy"]})


def degree_slope(run: Run) -> float:
    """Accuracy (fraction) per neighbour: least-squares slope over the workers of one run."""
    frame = by_degree(run)
    return float(np.polyfit(frame["degree"], frame["accuracy"], 1)[0])


def degree_effect(root: Path) -> Table:
    """Points of accuracy per neighbour, one slope per run."""
    entries, listed = available(root, "degree_effect")
    rows = []
    for label in labels_of(entries):
        runs = [run for other, _, run in entries if other == label]
        frames = pd.concat([by_degree(run) for run in runs])
        means = 100 * frames.groupby("degree")["accuracy"].mean()
        rows.append(
            {
                "degree_effect": label,
                "seeds": str(len(runs)),
                "points per neighbour": percent(mean_interval([degree_slope(run) for run in runs])),
                **{f"degree {d}": f"{means[d]:.2f}" if d in means else "" for d in range(1, 6)},
            }
        )
    note = (
        "Least-squares slope of a worker's accuracy over its degree in graph A, one slope per run, in percentage "
        "points; then the mean accuracy of the workers of each degree. It counts where its interval excludes 0."
    )
    return Table(caption(root, "degree_effect", entries, listed, note, WORDS), pd.DataFrame(rows, dtype=str))


def islands(config: dict) -> list[list[int]]:
    """Groups of workers between which nothing ever passes, under the schedule of a run's gossip method."""
    graphs = parse_set(config["graph"], config["graphs"], config["workers"])
    gossip = config["core"] if config["method"] == "aldsgd" else config["method"]
    used = 2 if gossip == "dpsgd_released" else None
    edges = {edge for graph in graphs for matching in graph.matchings[:used] for edge in matching}
    return Topology.from_edges(config["workers"], sorted(edges)).components()


def cut_off(entries) -> dict[str, dict[str, str]]:
    """Column of ``baseline_audit``: the groups of workers that are cut off from each other."""
    found = {}
    for label, _, run in entries:
        groups = islands(run.config)
        found[label] = " ".join(f"{{{','.join(map(str, g))}}}" for g in groups) if len(groups) > 1 else "all connected"
    return {"groups": found}


def lr_grid(entries) -> dict[str, dict[float, dict[int, float]]]:
    """method -> learning rate -> seed -> mean worker accuracy, of the runs of ``sensitivity`` over rates."""
    grid: dict[str, dict[float, dict[int, float]]] = {}
    for label, seed, run in entries:
        method, rest = split_label(label)
        if method and rest.startswith("lr "):
            accuracy = run.network["mean_accuracy"].iloc[-1]
            grid.setdefault(method, {}).setdefault(run.config["lr"], {})[seed] = accuracy
    return grid


def best_rate(rates: dict[float, dict[int, float]]) -> float:
    """The rate with the largest mean over seeds; runs that diverged to nan count as zero."""
    return max(rates, key=lambda rate: np.mean(np.nan_to_num(list(rates[rate].values()))))


def sensitivity(root: Path) -> Table:
    """Mean worker accuracy over learning rates; each method against D-PSGD, both at their own best rate."""
    entries, listed = available(root, "sensitivity")
    grid = lr_grid(entries)
    best = {(m, seed): value for m, rates in grid.items() for seed, value in rates[best_rate(rates)].items()}
    values = pd.DataFrame(
        {"best": list(best.values())}, index=pd.MultiIndex.from_tuples(list(best), names=["label", "seed"])
    )
    every = sorted({rate for rates in grid.values() for rate in rates})
    rows = [
        {
            "sensitivity": method,
            "seeds": str(max(map(len, grid[method].values()))),
            **{
                f"lr {rate:g}": percent(mean_interval(list(grid[method][rate].values())))
                if rate in grid[method]
                else ""
                for rate in every
            },
            "own best lr": f"{best_rate(grid[method]):g}",
            "less D-PSGD's, each at its best": points(gap(values, method, REFERENCE, "best")),
        }
        for method in METHODS
        if method in grid
    ]
    note = (
        "Mean worker over the learning rate. The best rate is chosen on the same runs, which favours a method with a "
        "flat optimum. The maps of the coefficients are in the figure."
    )
    return Table(caption(root, "sensitivity", entries, listed, note, WORDS), pd.DataFrame(rows, dtype=str))


def target_of(label: str, entries) -> float:
    """95 % of the final mean accuracy of D-PSGD on the same graph, mean over its seeds."""
    graph = "D-PSGD, ring" if label.endswith(", ring") else "D-PSGD"
    finals = [run.network["mean_accuracy"].iloc[-1] for other, _, run in entries if other == graph]
    return 0.95 * float(np.mean(finals)) if finals else float("nan")


def communication(root: Path) -> Table:
    """Models per step, bytes and modelled time to the target, on several links."""
    entries, listed = available(root, "communication")
    links = [(gigabits, 50e-6) for gigabits in BANDWIDTHS] + [
        (10, latency) for latency in LATENCIES if latency != 50e-6
    ]
    rows = []
    for label in labels_of(entries):
        runs = [run for other, _, run in entries if other == label]
        target = target_of(label, entries)
        reached = [(run, first_reached(run, target)) for run in runs]
        done = [(run, at) for run, at in reached if at is not None]
        whole = len(done) == len(runs) and runs

        def mean(function, done=done, whole=whole) -> str:
            return number(float(np.mean([function(run, at) for run, at in done]))) if whole else "-"

        last = runs[0].network.iloc[-1]
        rows.append(
            {
                "communication": label,
                "seeds": str(len(runs)),
                "models per step": f"{np.mean([models_per_step(run) for run in runs]):.2f}",
                "exchanges per step": f"{last['rounds'] / last['step']:.2f}",
                "target (%)": f"{100 * target:.1f}",
                "reach it": f"{len(done)} of {len(runs)}",
                "epochs": mean(lambda run, at: run.network["epoch"].iloc[at]),
                "MB": mean(lambda run, at: run.network["logical_bytes"].iloc[at] / 1e6),
                **{
                    f"s at {gigabits} Gb/s, {1e6 * latency:.0f} us": mean(
                        lambda run, at, g=gigabits, d=latency: modelled_seconds(run, g, d).iloc[at]
                    )
                    for gigabits, latency in links
                },
            }
        )
    note = (
        "Models per step: logical bytes in units of one model, all workers together; ring all-reduce sends 2(n - 1) = "
        "14 and gossip on a ring of 8 sends 16, slightly more. Target: 95 % of D-PSGD's final mean accuracy on the "
        "same graph; then epochs, logical MB and modelled seconds to the first test at which the mean worker reaches "
        "it, mean over seeds, - where a seed does not. Modelled computation: 10 ms a step."
    )
    return Table(caption(root, "communication", entries, listed, note), pd.DataFrame(rows, dtype=str))


def models_per_step(run: Run) -> float:
    """Models sent by all workers in a step, from the logical bytes."""
    last = run.network.iloc[-1]
    model = run.meta["extra"]["parameters"] * (8 if run.config["precision"] == "float64" else 4)
    return last["logical_bytes"] / last["step"] / model


def tuning(root: Path) -> Table:
    """D-PSGD over learning rates, one seed; the best of each data set is marked."""
    entries, listed = available(root, "tuning")
    finals = {label: run.network["mean_accuracy"].iloc[-1] for label, _, run in entries}
    best = {
        max((label for label, _, run in entries if run.config["dataset"] == dataset), key=finals.get)
        for dataset in {run.config["dataset"] for _, _, run in entries}
    }
    rows = [
        {"tuning": label, "mean worker": f"{100 * finals[label]:.2f}", "chosen": "chosen" * (label in best)}
        for label in labels_of(entries)
    ]
    return Table(
        caption(root, "tuning", entries, listed, "D-PSGD, test accuracy in percent."), pd.DataFrame(rows, dtype=str)
    )


TABLES: dict[str, Callable[[Path], Table]] = {
    "convergence": convergence,
    "final_accuracy": partial(compare, name="final_accuracy", extra=best_and_released),
    "sparsity": sparsity,
    "degree_effect": degree_effect,
    "ablation": partial(compare, name="ablation", reference=lambda label: REFERENCE),
    "sensitivity": sensitivity,
    "sixteen_workers": partial(compare, name="sixteen_workers"),
    "baseline_audit": partial(
        compare, name="baseline_audit", extra=cut_off,
        note="Groups: workers between which nothing ever passes under the schedule.",
    ),
    "communication": communication,
    "non_iid": partial(compare, name="non_iid"),
    "starts": partial(compare, name="starts"),
    "heterogeneous": partial(compare, name="heterogeneous"),
    "tuning": tuning,
}  # fmt: skip
