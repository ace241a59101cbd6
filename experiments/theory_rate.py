"""Claim: D-PSGD obeys its bound with every constant known, at the predicted slopes; AL-DSGD stops at a floor instead.

What:     quadratics with a common Hessian and chosen L, mu, sigma and zeta (1 and 0), and non-convex logistic
          regression with bounds on its constants; eta = c sqrt(n/K). Measured: (1/K) sum ||grad F(mean)||^2 for n = 1
          to 64 and a range of K, its slope in K and in n, the bound of aldsgd.theory.bounds.rate_bound. D-PSGD, MATCHA
          and AL-DSGD on exponential graphs and on the paper's 53.8 % graph; AL-DSGD also with leaders by the losses of
          a second, independent draw, which the method does not take. The floor at which AL-DSGD stops on complete
          graphs, against aldsgd.theory.selection.selection_floor. Exact moments against simulation, step by step.
Command:  python -m experiments.theory_rate
Hardware: two CPU cores. Time: about five minutes.
Expect:   slopes near -1/2 in K and in n for D-PSGD, the bound never exceeded by D-PSGD and MATCHA. AL-DSGD's slope in K
          goes to zero: the draw that elects a leader also makes its gradient, and lucky draws mislead. With losses of a
          second draw and equal objectives the slope returns. Exact and simulated moments agree.
"""

import math

import numpy as np
import pandas as pd

from aldsgd.graphs import Topology, complete, exponential, paper_graph, paper_set
from aldsgd.mixing import matcha_weights
from aldsgd.statistics import mean_interval
from aldsgd.theory.bounds import largest_step, rate_bound
from aldsgd.theory.leaders import README, GossipStep, dpsgd_schedule, matcha_schedule
from aldsgd.theory.orders import CORE, Leading, period_moments
from aldsgd.theory.quadratics import (
    Logistic,
    Quadratics,
    exact_trajectory,
    gossip_mixer,
    leader_mixer,
    simulate,
)
from aldsgd.theory.selection import selection_floor
from aldsgd.theory.spectra import fastest_rho, spectrum
from experiments.command import command
from experiments.theory_common import parser, run

WORKERS = {"smoke": (1, 4), "cpu": (1, 2, 4, 8, 16, 32, 64)}
STEPS = {"smoke": (256, 512), "cpu": (1024, 2048, 4096)}
# The theorem's condition on the step needs more of them on a sparse graph.
PAPER_STEPS = (4096, 16384)
FLOORS = {"smoke": ((2,), (0.1,)), "cpu": ((2, 4, 8, 16, 32), (0.1, 0.03, 0.01))}
CONSTANTS = {"smoothness": 1.0, "mu": 0.1, "sigma2": 4.0, "zeta2": 1.0}
DIMENSIONS = 10
FACTOR = 0.4  # c of eta = c sqrt(n/K), in units of 1/L
LEADING = Leading.released(*README)
TRAJECTORY = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377)


def problems(n: int) -> dict:
    return {
        "quadratics": Quadratics.random(n, DIMENSIONS, **CONSTANTS),
        "quadratics, zeta = 0": Quadratics.random(n, DIMENSIONS, **CONSTANTS | {"zeta2": 0.0}),
        "logistic": Logistic.random(n, DIMENSIONS),
    }


def start_of(name: str) -> np.ndarray:
    """Where start and noise weigh about the same on the quadratics; at zero, as is usual, for logistic regression."""
    return np.full(DIMENSIONS, 0.0 if name == "logistic" else 0.5)


def methods(graph: Topology, spec: str) -> dict:
    """(mixer, rho or NaN where no bound is claimed, what leaders are judged by) by name."""
    (step,) = schedule = dpsgd_schedule([graph])
    rho = fastest_rho(spectrum(graph)) if graph.n > 1 else 0.0
    found = {"D-PSGD": (gossip_mixer([step.gossip(graph.matchings)]), rho, "own")}
    if spec.startswith("paper"):
        found["MATCHA"] = (
            leader_mixer(matcha_schedule([graph], 0.5), CORE),
            matcha_weights(graph, 0.5).rho,
            "own",
        )
        found["AL-DSGD on MATCHA"] = (leader_mixer(matcha_schedule([graph], 0.5), LEADING), math.nan, "own")
    if graph.n > 1:
        found["AL-DSGD on D-PSGD"] = (leader_mixer(schedule, LEADING), math.nan, "own")
        found["AL-DSGD, losses of a second draw"] = (leader_mixer(schedule, LEADING), math.nan, "second")
    return found


def rates(options) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(one line per problem, graph, method, n, K with the interval over runs, the single runs)."""
    rows, single = [], []
    graphs = [("exponential", exponential(n)) for n in WORKERS[options.preset]]
    if options.preset != "smoke":
        graphs.append(("paper:53.8", paper_graph(53.8)))
    for spec, graph in graphs:
        for problem_name, problem in problems(graph.n).items():
            smoothness = problem.smoothness
            # One scale for every n, so that n alone changes from line to line.
            scale = FACTOR / problems(max(WORKERS[options.preset]))[problem_name].smoothness
            start = start_of(problem_name)
            for method, (mixer, rho, judge) in methods(graph, spec).items():
                for steps in PAPER_STEPS if spec.startswith("paper") else STEPS[options.preset]:
                    eta = scale * math.sqrt(graph.n / steps)
                    own_rho = rho if math.isfinite(rho) else fastest_rho(spectrum(graph))
                    if method == "AL-DSGD on MATCHA":
                        own_rho = matcha_weights(graph, 0.5).rho
                    # Beyond it the theorem is silent; a run there would test nothing.
                    proved = eta <= largest_step(smoothness, own_rho)
                    result = simulate(problem, mixer, eta, steps, len(options.seeds), start, options.seeds, judge)
                    values = result["gradient"].mean(axis=1)
                    interval = mean_interval(values)
                    bound = math.nan
                    if proved:
                        gap = float(problem.gap(start))
                        bound = rate_bound(gap, eta, steps, smoothness, problem.sigma2, problem.zeta2, graph.n, own_rho)
                    label = {"problem": problem_name, "graph": spec, "method": method, "n": graph.n, "K": steps}
                    rows.append(
                        {
                            **label, "eta": eta, "L": smoothness, "sigma2": problem.sigma2, "zeta2": problem.zeta2,
                            "rho": own_rho, "claimed": math.isfinite(rho), "mean": interval.mean, "low": interval.low,
                            "high": interval.high, "bound": bound, "consensus": result["consensus"].mean(),
                            "exact": mean_exact(problem, eta, steps, start) if math.isfinite(rho) else math.nan,
                        }
                    )  # fmt: skip
                    single += [{**label, "seed": s, "value": v} for s, v in zip(options.seeds, values, strict=True)]
            print(f"  {spec}, n = {graph.n}, {problem_name}: done", flush=True)
    return pd.DataFrame(rows), pd.DataFrame(single)


def mean_exact(problem, eta: float, steps: int, start: np.ndarray) -> float:
    """(1/K) sum E||grad F(mean)||^2 on the quadratics when C_t keeps the mean: that of SGD with n-fold batches.

    With a common Hessian the mean's gradient is the mean of the gradients, so the graph does not appear at all.
    """
    if not isinstance(problem, Quadratics):
        return math.nan
    h, total = problem.hessian, 0.0
    offset2 = np.square(start - problem.centres.mean(axis=0))
    for _ in range(steps):
        total += float(h**2 @ offset2)
        offset2 = (1 - eta * h) ** 2 * offset2 + eta**2 * problem.sigma2 / (len(h) * problem.n)
    return total / steps


def slopes(rows: pd.DataFrame, single: pd.DataFrame) -> pd.DataFrame:
    """Log-log slopes per run with their interval, in K for each n and in n for each K, beside the exact ones."""
    found = []
    for fixed, along in (("n", "K"), ("K", "n")):
        chosen = single[single["graph"] == "exponential"]
        for (problem, method, value), group in chosen.groupby(["problem", "method", fixed], sort=False):
            table = group.pivot(index=along, columns="seed", values="value")
            # One worker alone has no graph, and the smallest n of leaders is 2: the same n for all methods.
            table = table[table.index > 1] if along == "n" else table
            if len(table) < 2:
                continue
            x = np.log(table.index.to_numpy(dtype=float))
            interval = mean_interval(np.polyfit(x, np.log(table.to_numpy()), 1)[0])
            line = rows[(rows["graph"] == "exponential") & (rows["problem"] == problem)
                        & (rows["method"] == method) & (rows[fixed] == value)].set_index(along)  # fmt: skip
            exact = line["exact"].loc[table.index]
            predicted = np.polyfit(x, np.log(exact), 1)[0] if exact.notna().all() else math.nan
            found.append({"problem": problem, "method": method, "along": along, "fixed": fixed, "at": value,
                          "slope": interval.mean, "low": interval.low, "high": interval.high,
                          "exact": predicted})  # fmt: skip
    return pd.DataFrame(found)


def exact_against_simulated(options) -> pd.DataFrame:
    """E||grad F(mean)||^2 and consensus distance: recursion beside the interval of the simulated mean."""
    problem = Quadratics.random(8, DIMENSIONS, **CONSTANTS)
    start, eta = start_of("quadratics"), 0.1
    runs = 200 if options.preset == "smoke" else 2000
    steps = max(k for k in TRAJECTORY if options.preset != "smoke" or k < 60)
    cases: dict[str, tuple[list[GossipStep], Leading]] = {
        "D-PSGD": (dpsgd_schedule([paper_graph(53.8)]), CORE),
        "MATCHA": (matcha_schedule([paper_graph(53.8)], 0.5), CORE),
        "AL-DSGD on D-PSGD": (dpsgd_schedule([paper_graph(53.8)]), LEADING),
        "AL-DSGD, three graphs": (dpsgd_schedule(paper_set(53.8)), LEADING),
        "AL-DSGD on MATCHA": (matcha_schedule([paper_graph(53.8)], 0.5), LEADING),
    }
    rows = []
    for method, (schedule, leading) in cases.items():
        exact = exact_trajectory(problem, period_moments(schedule, leading), eta, steps, start)
        mixer = leader_mixer(schedule, leading)
        result = simulate(problem, mixer, eta, steps + 1, runs, start, options.seeds, "random")
        for name, values in zip(("gradient", "consensus"), exact, strict=True):
            for k in TRAJECTORY:
                if k <= steps:
                    seen = mean_interval(result[name][:, k])
                    rows.append({"method": method, "quantity": name, "step": k, "exact": values[k],
                                 "simulated": seen.mean, "low": seen.low, "high": seen.high, "runs": runs})  # fmt: skip
    return pd.DataFrame(rows)


def floors(options) -> pd.DataFrame:
    """Where AL-DSGD settles on complete graphs with equal objectives, H = I, for smaller and smaller steps."""
    rows, (workers, etas) = [], FLOORS[options.preset]
    for n in workers:
        problem = Quadratics(np.ones(DIMENSIONS), np.zeros((n, DIMENSIONS)), CONSTANTS["sigma2"])
        mixer = leader_mixer(dpsgd_schedule([complete(n)]), LEADING)
        floor = selection_floor({n: LEADING.weights[1]}, DIMENSIONS, CONSTANTS["sigma2"])
        for eta in etas:
            settled = round(10 / eta)
            for judge in ("own", "second"):
                start = np.full(DIMENSIONS, math.sqrt(floor / DIMENSIONS))
                result = simulate(problem, mixer, eta, 4 * settled, len(options.seeds), start, options.seeds, judge)
                seen = mean_interval(result["gradient"][:, settled:].mean(axis=1))
                rows.append({"n": n, "eta": eta, "second_draw": judge == "second", "mean": seen.mean, "low": seen.low,
                             "high": seen.high, "floor": floor})  # fmt: skip
    return pd.DataFrame(rows)


def tables(options) -> dict[str, pd.DataFrame]:
    rows, single = rates(options)
    return {
        "rate": rows,
        "rate_slopes": slopes(rows, single),
        "rate_floor": floors(options),
        "rate_exact": exact_against_simulated(options),
    }


def main(_session) -> None:
    run("theory_rate", parser(__doc__, seeds=tuple(range(20))), tables)


if __name__ == "__main__":
    command(main)
