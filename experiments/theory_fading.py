"""Claim: leaders whose coefficients follow the rate become their core, in contraction, in drift, and in where it rests.

What:     aldsgd/theory/fading.py. Exact rates under random loss ranks as coefficients are scaled by s from 1 to 0.001,
          on the paper's graphs (D-PSGD on one and on three, MATCHA), with the bound that is derived; by how much the
          mean moves. One run whose rate falls to 0.3, 0.1 and 0.03 of the first (float64, eight workers, batches of
          16): D-PSGD, AL-DSGD with constant coefficients and with fading ones, judged by its own batch and by the
          receiver, the same samples for all; on quadratics with additive noise, and on logistic regression with a rare
          class, where the leaders of ``experiments.theory_selection`` rest elsewhere than their core.
Command:  python -m experiments.theory_fading
Hardware: one CPU core. Time: two minutes.
Expect:   written before the run. The rate goes to the core's, but not always from one side. The force on the mean, over
          the rate, stays with constant coefficients and falls with s with fading ones. At the lowest rate AL-DSGD keeps
          more than half of its distance from where its core rests, fading leaders less than a quarter of it. If they
          keep more, or AL-DSGD's goes away by itself, fading is not what brings them there.
"""

import numpy as np
import pandas as pd

from aldsgd.graphs import Topology, complete, paper_graph, paper_set
from aldsgd.theory.fading import RULES, contraction_bound, drift_bound, faded, falling, safe_share, step_norms
from aldsgd.theory.leaders import (
    README,
    GossipStep,
    column_moments,
    combine,
    compress,
    dpsgd_schedule,
    matcha_schedule,
    mean_matrix,
    mean_square_radius,
    one_step_norm,
    operator,
    step_terms,
)
from aldsgd.theory.orders import Leading
from aldsgd.theory.quadratics import Quadratics
from aldsgd.theory.selection import RareClass, selection_floor, selection_weights
from experiments.command import command
from experiments.theory_common import parser, run

LEVELS = {"smoke": (53.8,), "cpu": (100, 84.6, 69.2, 53.8, 38.5)}
#: Scales of the coefficients; 0 is the core.
SCALES = (0.0, 0.001, *np.linspace(0.05, 1, 20).round(2).tolist())
#: Of the rate, one stage each.
SHARES = {"smoke": (1.0, 0.3), "cpu": (1.0, 0.3, 0.1, 0.03)}
GRAPHS = {"complete": complete(8), "53.8": paper_graph(53.8)}
#: Problem -> first rate, and how long a stage is in units of one over the rate.
FIRST = {"quadratics": 0.2, "rare class": 0.8}
UNITS = {"quadratics": {"smoke": 4, "cpu": 40}, "rare class": {"smoke": 8, "cpu": 200}}
RUNS = 4  # of each seed
GROUPS = {"smoke": 500, "cpu": 20_000}
REPEATS = 3  # independent samples of groups for a mixture's minimiser


def schedules(preset: str) -> dict[tuple[str, float, int], list[GossipStep]]:
    """(core, level, graphs) -> a period of steps."""
    found = {}
    for level in LEVELS[preset]:
        found["dpsgd", level, 1] = dpsgd_schedule([paper_graph(level)])
        found["dpsgd", level, 3] = dpsgd_schedule(paper_set(level, 3))
        found["matcha", level, 1] = matcha_schedule([paper_graph(level)], 0.5)
    return found


def mixing(preset: str) -> pd.DataFrame:
    """One row for each schedule and scale: the exact rate, the bound of one step, and what the mean drifts."""
    rows = []
    for (core, level, graphs), steps in schedules(preset).items():
        whole = [step_terms(step) for step in steps]
        terms = [compress(own) for own in whole]
        first, graph = steps[0], Topology(8, steps[0].events[-1][1])  # of MATCHA: with all edges, which is its worst
        for s in SCALES:
            weights = faded(README, s)
            moments = [combine(own, step.alpha, weights) for own, step in zip(terms, steps, strict=True)]
            lam, kappa = step_norms(terms[0], first.alpha, weights)
            drift = column_moments(combine(whole[0], first.alpha, weights), mean_matrix(first, weights))["drift"]
            rows.append({
                "core": core, "level": level, "graphs": graphs, "s": s,
                "rate": mean_square_radius([operator(own) for own in moments]),
                "one_step": one_step_norm(moments[0]),
                "bound": contraction_bound(lam, kappa, weights[0]), "lead": 1 - weights[0],
                "lam": lam, "kappa": kappa, "safe": safe_share(lam, kappa, README),
                "drift": drift, "drift_bound": drift_bound(graph, README, s),
            })  # fmt: skip
    return pd.DataFrame(rows)


def targets(preset: str, problem: RareClass) -> pd.DataFrame:
    """Where the mixture of each scale is least, as a share of the way from the minimiser of F to that at s = 1."""
    rows = []
    for graph, topology in GRAPHS.items():
        schedule = dpsgd_schedule([topology])
        for repeat in range(REPEATS):
            ends = [problem.mixture_minimiser(selection_weights(schedule, Leading(faded(README, s))), GROUPS[preset],
                                              repeat) for s in SHARES[preset]]  # fmt: skip
            ways = [end - problem.minimiser for end in ends]
            for s, way in zip(SHARES[preset], ways, strict=True):
                rows.append({"graph": graph, "s": s, "repeat": repeat,
                             "share": float(way @ ways[0] / (ways[0] @ ways[0])),
                             **dict(zip(("along", "across", "intercept"), ways[0], strict=True))})  # fmt: skip
    return pd.DataFrame(rows)


def rests(options, problems: dict[str, object], ways: dict[str, np.ndarray]) -> pd.DataFrame:
    """One row for each problem, graph, rule, stage and run: squared gradient, force, and the share of the way to the
    mixture at s = 1, from where the core is with the same samples."""
    rows, preset = [], options.preset
    for name, problem in problems.items():
        rare = name == "rare class"
        start = problem.minimiser if rare else np.zeros(len(problem.hessian))
        for graph, topology in GRAPHS.items():
            core = None
            for label, rule in RULES.items():
                found = falling(
                    problem, topology, README, rule, FIRST[name], SHARES[preset], UNITS[name][preset],
                    RUNS * len(options.seeds), start, options.seeds,
                )  # fmt: skip
                core = core or found
                for s, own, plain in zip(SHARES[preset], found, core, strict=True):
                    weights = selection_weights(dpsgd_schedule([topology]), Leading(faded(README, s)))
                    way = ways.get(graph) if rare else None
                    shares = (
                        (own["mean"] - plain["mean"]) @ way / (way @ way) if rare else np.full(len(own["mean"]), np.nan)
                    )
                    for k, share in enumerate(shares):
                        rows.append({
                            "problem": name, "graph": graph, "method": label, "s": s, "run": k, "share": share,
                            "gradient2": own["gradient"][k], "force": own["force"][k],
                            "consensus": own["consensus"][k], "largest": own["largest"],
                            "recall": recall(problem, own["mean"][k]) if rare else np.nan,
                            "floor": np.nan if rare else selection_floor(weights, len(start), problem.sigma2),
                        })  # fmt: skip
            print(f"  {name}, {graph}: done", flush=True)
    return pd.DataFrame(rows)


def recall(problem: RareClass, x: np.ndarray) -> float:
    """The share of the rare class that a model (p,) finds."""
    return float((problem.signed[problem.rare] @ x > 0).mean())


def tables(options) -> dict[str, pd.DataFrame]:
    rare = RareClass.random(8)
    problems = {"quadratics": Quadratics(np.ones(10), np.zeros((8, 10)), 10.0), "rare class": rare}
    aims = targets(options.preset, rare)
    ways = {graph: own[["along", "across", "intercept"]].mean().to_numpy()
            for graph, own in aims[aims["s"] == 1].groupby("graph")}  # fmt: skip
    return {
        "fading_mixing": mixing(options.preset),
        "fading_targets": aims,
        "fading_rest": rests(options, problems, ways),
    }


def main(_session) -> None:
    run("theory_fading", parser(__doc__, seeds=tuple(range(10))), tables)


if __name__ == "__main__":
    command(main)
