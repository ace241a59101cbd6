"""One table per experiment, from its complete runs; a table of some of its runs says so."""

from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pandas as pd

from aldsgd.graphs import Topology, parse, parse_set
from aldsgd.runs import Run
from aldsgd.statistics import mean_interval
from tables import virtual
from tables.base import (
    LED,
    PERCENT,
    REFERENCE,
    UNKNOWN,
    Cell,
    Table,
    Unit,
    caption,
    mean_only,
    methods,
    number,
    table,
    words,
)
from tables.compared import (
    EQUAL,
    RELEASED,
    UNEQUAL,
    at_rates,
    compare,
    core_of,
    final_accuracy,
    less_other_judges,
    less_released,
    over_conditions,
)
from tables.faults import faults
from tables.field import field
from tables.links import BANDWIDTHS, LATENCIES, first_reached, model_bytes, modelled_seconds
from tables.query import Experiment, Runs
from tables.rates import sensitivity, tuning
from tables.today import compare_today


def convergence(root: Path, name: str) -> Table:
    """How soon: the mean over tested epochs of the mean worker's accuracy, against D-PSGD and MATCHA on one graph, and
    against what a method wraps, on its own graphs."""
    runs = Experiment(root, name)
    unit, rows = Unit.of(runs), []
    shown = f"{unit.metric} over epochs"
    for label in runs.labels:
        own = runs.of(label)
        rows.append(
            {
                name: label,
                "seeds": Cell(len(own)),
                shown: unit.show(own.interval("area")),
                **{
                    f"less {other}'s": unit.gain(own.less(runs.counterpart(label, other, graphs=1), "area"))
                    for other in (REFERENCE, "MATCHA")
                },
                "less its core's on the same graphs": unit.gain(own.less(core_of(runs, label), "area")),
                "last mean worker": unit.show(own.interval("mean")),
                "last training loss": mean_only(own.interval("loss")),
                "logical MB": mean_only(own.interval("megabytes")),
                "modelled s": mean_only(own.interval("seconds")),
            }
        )
    note = f"{shown.capitalize()}: the mean worker's test {unit.metric}, averaged over the tested epochs."
    return table(caption(runs, note, words(unit)), rows)


def sparsity(root: Path, name: str) -> Table:
    """Leaders (same graphs) and rotation (same method) told apart, at each level."""
    runs = Experiment(root, name)
    unit, rows = Unit.of(runs), []
    for graph in runs.field("graph"):
        level = runs.select(graph=graph)
        alone = level.select(family=REFERENCE, graphs=1)
        for graphs in sorted(runs.field("graphs")):
            cells = {family: level.select(family=family, graphs=graphs) for family in runs.families}
            plain, ours = cells.get(REFERENCE, Runs(())), cells.get(LED, Runs(()))
            rows.append(
                {
                    "level": f"{graph.removeprefix('paper:')} %",
                    "graphs": Cell(graphs),
                    **{family: unit.show(cell.interval("worst"), UNKNOWN) for family, cell in cells.items()},
                    **{
                        f"leaders, on {core}": unit.gain(cells[family].less(cells.get(core, Runs(())), "worst"))
                        for family, core in runs.cores.items()
                    },
                    "rotation alone": unit.gain(plain.less(alone, "worst")),
                    "both": unit.gain(ours.less(alone, "worst")),
                    f"{REFERENCE}'s MB": mean_only(plain.interval("megabytes")),
                    "AL-DSGD's MB": mean_only(ours.interval("megabytes")),
                }
            )
    note = (
        "Accuracy of the worst worker. Leaders: AL-DSGD less its core on the same graphs; rotation: D-PSGD less D-PSGD "
        "on one graph; both: AL-DSGD less D-PSGD on one graph."
    )
    return table(caption(runs, note, words(unit)), rows)


@lru_cache(maxsize=64)
def degrees(graph: str, workers: int) -> np.ndarray:
    """Degree of each worker in the base graph, (n,)."""
    return parse(graph, workers).degrees


def by_degree(run: Run) -> pd.DataFrame:
    """``worker``, ``degree`` in graph A and final ``accuracy`` of a run's workers."""
    last = run.final_workers
    own = degrees(run.config["graph"], run.config["workers"])[last["worker"].to_numpy()]
    return pd.DataFrame({"worker": last["worker"], "degree": own, "accuracy": last[f"test_{run.metrics[0]}"]})


def degree_slope(run: Run) -> float:
    """Accuracy (fraction) per neighbour: least-squares slope over the workers of one run."""
    frame = by_degree(run)
    return float(np.polyfit(frame["degree"], frame["accuracy"], 1)[0])


def degree_effect(root: Path, name: str) -> Table:
    """Points of accuracy per neighbour, one slope per run."""
    experiment = Experiment(root, name)
    means, slopes = {}, {}
    for label in experiment.labels:
        runs = [entry.run for entry in experiment.of(label)]
        means[label] = 100 * pd.concat(map(by_degree, runs)).groupby("degree")["accuracy"].mean()
        slopes[label] = mean_interval(list(map(degree_slope, runs)))
    most = max(int(mean.index.max()) for mean in means.values())
    rows = [
        {
            name: label,
            "seeds": Cell(len(experiment.of(label))),
            "points per neighbour": PERCENT.show(slopes[label]),
            **{f"degree {d}": Cell(mean.get(d), "{:.2f}".format) for d in range(1, most + 1)},
        }
        for label, mean in means.items()
    ]
    note = (
        "Least-squares slope of a worker's accuracy over its degree in graph A, one slope per run, in percentage "
        "points; then the mean accuracy of the workers of each degree. It counts where its interval excludes 0."
    )
    return table(caption(experiment, note, words(PERCENT)), rows)


def islands(config: dict) -> list[list[int]]:
    """Groups of workers between which nothing ever passes, under the schedule of a run's gossip method."""
    graphs = parse_set(config["graph"], config["graphs"], config["workers"])
    gossip = config["core"] if config["method"] == "aldsgd" else config["method"]
    used = 2 if gossip == "dpsgd_released" else None
    edges = {edge for graph in graphs for matching in graph.matchings[:used] for edge in matching}
    return Topology.from_edges(config["workers"], sorted(edges)).components()


def audited(runs: Experiment, label: str) -> dict[str, Cell | str]:
    """Columns of ``baseline_audit``: differences to the released schedule, bytes, and groups of workers cut off.

    The mean worker's too: a worker alone is the worst with leaders and without, and the same.
    """
    own, unit = runs.of(label), Unit.of(runs)
    groups = islands(own[0].run.config)
    text = " ".join(f"{{{','.join(map(str, group))}}}" for group in groups)
    return less_released(runs, label) | {
        "mean, less released schedule's": unit.gain(own.less(runs.counterpart(label, RELEASED), "mean")),
        "logical MB": mean_only(own.interval("megabytes")),
        "groups": text if len(groups) > 1 else "all connected",
    }


def target_of(runs: Experiment, label: str) -> float:
    """95 % of what the mean worker's curve of D-PSGD on the same graph ends at, mean over its seeds; NaN where it was
    not run.

    Of the curve, since that is what shall reach it, and the last test may be on other samples. One graph, however many
    a method uses in turn, and under another condition where D-PSGD was not run under this: what is compared must share
    its target.
    """
    on_it = runs.select(variant=REFERENCE, graph=runs.of(label)[0].run.config.get("graph"))
    interval = (runs.counterpart(label, REFERENCE, graphs=1) or on_it).interval("curve_end")
    return float("nan") if interval is None else 0.95 * interval.mean


def communication(root: Path, name: str) -> Table:
    """Models per step, bytes and modelled time to the target, on several links."""
    experiment = Experiment(root, name)
    links = [(gigabits, 50e-6) for gigabits in BANDWIDTHS] + [
        (10, latency) for latency in LATENCIES if latency != 50e-6
    ]
    rows = []
    for label in experiment.labels:
        runs = [entry.run for entry in experiment.of(label)]
        target = target_of(experiment, label)
        reached = [(run, first_reached(run, target)) for run in runs]
        done = [(run, at) for run, at in reached if at is not None]
        whole = len(done) == len(runs)

        def mean(function, done=done, whole=whole) -> Cell:
            value = float(np.mean([function(run, at) for run, at in done])) if whole else None
            return Cell(value, number, missing="-")

        rows.append(
            {
                name: label,
                "seeds": Cell(len(runs)),
                "models per step": Cell(float(np.mean([models_per_step(run) for run in runs])), "{:.2f}".format),
                "exchanges per step": Cell(float(np.mean([rounds_per_step(run) for run in runs])), "{:.2f}".format),
                "target (%)": Cell(100 * target, "{:.1f}".format),
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
        "14 and gossip on a ring of 8 sends 16, slightly more. Target: 95 % of what D-PSGD's mean worker comes to on "
        "the same graph, on the samples of the tests during training; then epochs, logical MB and modelled seconds to "
        "the first test at which the mean worker reaches it, mean over seeds, - where a seed does not. Modelled "
        "computation: 10 ms a step."
    )
    return table(caption(experiment, note), rows)


def models_per_step(run: Run) -> float:
    """Models sent by all workers in a step, from the logical bytes."""
    return run.final["logical_bytes"] / run.final["step"] / model_bytes(run)


def rounds_per_step(run: Run) -> float:
    """Exchanges that wait for one another in a step, mean over the run."""
    return run.final["rounds"] / run.final["step"]


#: The tables of experiments, in the order in which they are printed; one that is not here has ``methods``.
TABLES: dict[str, Callable[[Path, str], Table]] = {
    "quickstart": methods,
    "cifar10_short": methods,
    "convergence": convergence,
    "final_accuracy": final_accuracy,
    "sparsity": sparsity,
    "degree_effect": degree_effect,
    "ablation": partial(compare, graphs=1),
    "sensitivity": sensitivity,
    "sixteen_workers": compare,
    "baseline_audit": partial(
        compare,
        extra=audited,
        note="Groups: workers between which nothing ever passes under the schedule. Logical MB: 10⁶ bytes sent by all "
        "workers together in the whole run.",
    ),
    **dict.fromkeys(("groupnorm", "momentum", "alone", "half_rates"), partial(compare, extra=at_rates, graphs=1)),
    "communication": communication,
    "non_iid": compare,
    "starts": compare,
    "heterogeneous": compare,
    "tuning": tuning,
    "own_rates": tuning,
    "faults": faults,
    "field_rates": tuning,
    **dict.fromkeys(("schedules", "skew", "compression", "local_steps"), compare_today),
    "field": field,
    "judges": partial(compare, extra=less_other_judges),
    "stragglers": virtual.stragglers,
    "losses": virtual.losses,
    "staleness": virtual.staleness,
    "async_scale": virtual.scale,
    "leader_rates": tuning,
    "who_leads": partial(compare, extra=over_conditions, note=UNEQUAL),
    **dict.fromkeys(("leaders", "leaders_cifar10", "proposal"), partial(compare, extra=over_conditions, note=UNEQUAL)),
    "equal_time": partial(compare, extra=over_conditions, note=EQUAL),
}
