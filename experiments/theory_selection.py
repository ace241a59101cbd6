"""Claim: AL-DSGD minimises a mixture of F and of the expected smallest of the neighbours' batch losses, not F.

What:     logistic regression on two classes of which one is rare (float64, eight workers with the same samples, batches
          of 16): where the mean of the workers settles, against the minimiser of F and that of the mixture of
          aldsgd.theory.selection, on a complete graph, the paper's 53.8 % graph with D-PSGD and with MATCHA, and three
          rotating 38.5 % graphs; both orders, leaders at every second step; leaders judged by their own batch (the
          method), by a second one, by a running average (0.9), at random; for small and large steps. The mean's
          trajectory against SGD on the mixture and on F with the same batches. Least squares, where all minimisers are
          one.
Command:  python -m experiments.theory_selection
Hardware: one CPU core. Time: about a minute.
Expect:   AL-DSGD settles at the mixture's minimiser, where the rare class is found less often; with a second draw or
          random leaders at that of F; with a running average between the two. Least squares go to their minimum.
"""

import numpy as np
import pandas as pd

from aldsgd.graphs import complete, paper_graph, paper_set
from aldsgd.theory.leaders import README, dpsgd_schedule, matcha_schedule
from aldsgd.theory.orders import CORE, Leading, period_moments, perron_weights
from aldsgd.theory.quadratics import leader_mixer, simulate
from aldsgd.theory.selection import LeastSquares, RareClass, agreeing, selection_weights
from experiments.command import command
from experiments.theory_common import parser, run

GRAPHS = {
    "complete": lambda: dpsgd_schedule([complete(8)]),
    "53.8": lambda: dpsgd_schedule([paper_graph(53.8)]),
    "53.8, MATCHA": lambda: matcha_schedule([paper_graph(53.8)], 0.5),
    "38.5 x 3": lambda: dpsgd_schedule(paper_set(38.5)),
}
OWN = {"AL-DSGD": ("released", 1, "own"), "printed order": ("printed", 1, "own")}
OTHERS = {
    "printed order, force times eta": ("printed, eta", 1, "own"),
    "every second step": ("released", 2, "own"),
    "running average": ("released", 1, "running"),
    "second draw": ("released", 1, "second"),
    "random leaders": ("released", 1, "random"),
    "D-PSGD": ("none", 1, "own"),
}
ETAS = {"smoke": (0.4,), "cpu": (0.1, 0.4, 1.6)}
ONE = (0.4,)  # the step for what is only compared
EVERYWHERE = {"smoke": ("complete",), "cpu": tuple(GRAPHS)}
COMPARED = {"smoke": ("complete",), "cpu": ("complete", "53.8")}  # graphs for every way to judge
STEPS = {"smoke": 200, "cpu": 4_000}
GROUPS = {"smoke": 500, "cpu": 20_000}
REPEATS = 5  # independent samples of groups for the mixture's minimiser
RUNS = {"smoke": 20, "cpu": 200}  # of a trajectory
THINNED = 4
SQUARES = (0.1, 0.03, 0.01)


def leading_of(order: str, period: int, eta: float) -> Leading:
    if order == "none":
        return CORE
    if order == "released":
        return Leading.released(*README, period=period)
    return Leading.printed(*README, scale=eta if order.endswith("eta") else 1.0, period=period)


def described(problem: RareClass, x: np.ndarray) -> dict:
    """A model (3,): its parameters, the rare class's recall and mean loss, and ||grad F||^2."""
    rare = problem.rare
    names = ("along", "across", "intercept")
    return {
        **dict(zip(names, x, strict=True)), "recall": float((problem.signed[rare] @ x > 0).mean()),
        "rare_loss": float(problem.losses(x)[rare].mean()), "gradient2": float(problem.gradient_norm2(x)),
    }  # fmt: skip


def settled(options, problem: RareClass) -> tuple[list[dict], list[dict]]:
    """(where every run settles, the minimisers it is compared with)."""
    preset, seeds = options.preset, options.seeds
    points, targets = [], [{"graph": "", "method": "F", "repeat": 0, **described(problem, problem.minimiser)}]
    for graph in EVERYWHERE[preset]:
        schedule, ends = GRAPHS[graph](), {}
        for method, (order, period, judge) in {**OWN, **(OTHERS if graph in COMPARED[preset] else {})}.items():
            if judge == "own" and order != "none":
                weights = selection_weights(schedule, leading_of(order, period, 0.0))
                found = [problem.mixture_minimiser(weights, GROUPS[preset], k) for k in range(REPEATS)]
                ends[method] = np.mean(found, axis=0)
                shown = "; ".join(f"{size}: {weight:.4f}" for size, weight in weights.items())
                targets += [{"graph": graph, "method": method, "repeat": k, "weights": shown,
                             **described(problem, x)} for k, x in enumerate(found)]  # fmt: skip
            # What does not follow its own draw is measured on the way that the released order goes.
            way = ends.get(method, ends["AL-DSGD"]) - problem.minimiser
            for eta in ETAS[preset] if method in OWN else ONE:
                mixer, steps = leader_mixer(schedule, leading_of(order, period, eta)), STEPS[preset]
                result = simulate(problem, mixer, eta, steps, len(seeds), problem.minimiser, seeds, judge, THINNED)
                models = result["mean"][:, len(result["mean"][0]) // 4 :].mean(axis=1)
                for seed, x in zip(seeds, models, strict=True):
                    off = x - problem.minimiser
                    share = float(off @ way / (way @ way))
                    points.append({"graph": graph, "method": method, "judge": judge, "eta": eta, "seed": seed,
                                   "share": share, "off": float(np.linalg.norm(off - share * way)
                                                                / np.linalg.norm(way)),
                                   **described(problem, x)})  # fmt: skip
        print(f"  {graph}: done", flush=True)
    return points, targets


def trajectories(options, problem: RareClass, targets: pd.DataFrame) -> list[dict]:
    """Mean trajectories from zero: AL-DSGD, SGD on the mixture and on F, with the same batches; distances over that
    between the two minimisers."""
    rows, start = [], np.zeros(3)
    for graph in COMPARED[options.preset]:
        schedule, leading = GRAPHS[graph](), Leading.released(*README)
        own = targets[(targets["graph"] == graph) & (targets["method"] == "AL-DSGD")]
        end = own[["along", "across", "intercept"]].to_numpy().mean(axis=0)
        scale = np.linalg.norm(end - problem.minimiser)
        mixers = {
            "AL-DSGD": leader_mixer(schedule, leading),
            "mixture": agreeing(leader_mixer(schedule, leading), perron_weights(period_moments(schedule, leading))),
            "F": agreeing(leader_mixer(schedule, CORE), perron_weights(period_moments(schedule, CORE))),
        }
        for eta in ETAS[options.preset]:
            steps = round(40 / eta)
            found = {name: simulate(problem, mixer, eta, steps, RUNS[options.preset], start, options.seeds,
                                    every=max(1, steps // 50))["mean"].mean(axis=0)
                     for name, mixer in mixers.items()}  # fmt: skip
            for k in range(len(found["F"])):
                gap = {f"{a} to {b}": float(np.linalg.norm(found[a][k] - found[b][k]) / scale)
                       for a, b in (("AL-DSGD", "mixture"), ("AL-DSGD", "F"), ("mixture", "F"))}  # fmt: skip
                rows.append({"graph": graph, "eta": eta, "step": k * max(1, steps // 50), **gap})
    return rows


def squares(options) -> list[dict]:
    """||grad F||^2 of the mean on least squares, once settled, for smaller and smaller steps."""
    problem, rows = LeastSquares(8, 10, 4), []
    mixer = leader_mixer(dpsgd_schedule([complete(8)]), Leading.released(*README))
    for eta in SQUARES[: 1 if options.preset == "smoke" else None]:
        steps = round(40 / eta)
        for judge in ("own", "second"):
            seen = simulate(problem, mixer, eta, steps, len(options.seeds), np.zeros(10), options.seeds, judge)
            for seed, value in zip(options.seeds, seen["gradient"][:, steps // 4 :].mean(axis=1), strict=True):
                rows.append({"eta": eta, "judge": judge, "seed": seed, "gradient2": value})
    return rows


def tables(options) -> dict[str, pd.DataFrame]:
    problem = RareClass.random(8)
    points, targets = settled(options, problem)
    return {
        "selection_points": pd.DataFrame(points),
        "selection_targets": pd.DataFrame(targets),
        "selection_trajectory": pd.DataFrame(trajectories(options, problem, pd.DataFrame(targets))),
        "selection_squares": pd.DataFrame(squares(options)),
    }


def main(_session) -> None:
    run("theory_selection", parser(__doc__, seeds=tuple(range(10))), tables)


if __name__ == "__main__":
    command(main)
