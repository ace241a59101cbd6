"""Claim: what the theory says of the released order, at every step, holds for the printed order and for longer periods.

What:     both orders (the printed one with its force as it is and times eta = 0.1), leaders at every, every second and
          every fortieth step (the released code's default), on the paper's graphs and every core: agreement, drift of
          the mean and the noise averaged, exact under random loss ranks. The same of real runs on the digits, with how
          far the leaders are, over which the force pulls. Slopes in K and the bound, quadratics with additive noise and
          non-convex logistic regression, own losses and a second draw. Where they stop with additive noise, on complete
          graphs and on the paper's 53.8 % graph. Exact moments against simulation.
Command:  python -m experiments.theory_orders
Hardware: one CPU core. Time: about a minute.
Expect:   all agree where their core does; with the force times eta or a long period nearly as the core alone. The floor
          follows the weight of the best worker in C: c1 in the printed order, a k-th of it with period k.
"""

import math

import numpy as np
import pandas as pd

from aldsgd.graphs import complete, exponential, paper_graph, parse_set
from aldsgd.statistics import mean_interval
from aldsgd.theory.bounds import largest_step, rate_bound
from aldsgd.theory.leaders import (
    README,
    column_moments,
    compress,
    dpsgd_schedule,
    mean_square_radius,
    one_step_norm,
    operator,
    period_norm,
)
from aldsgd.theory.orders import Leading, noise_influence, period_moments
from aldsgd.theory.quadratics import Logistic, Quadratics, exact_trajectory, leader_mixer, simulate
from aldsgd.theory.selection import selection_floor, selection_weights
from aldsgd.theory.spectra import fastest_rho, spectrum
from experiments.command import command
from experiments.theory_common import parser, run
from experiments.theory_leader_mixing import CORES, LEVELS
from experiments.theory_observed import observe

ETA = 0.1
#: (order, what the force is multiplied by, leaders at every k-th step) by name.
WAYS = {
    "released": ("released", 1.0, 1),
    "printed": ("printed", 1.0, 1),
    "printed, force times eta": ("printed", ETA, 1),
    "released, every 2nd": ("released", 1.0, 2),
    "printed, every 2nd": ("printed", 1.0, 2),
    "released, every 40th": ("released", 1.0, 40),
    "printed, every 40th": ("printed", 1.0, 40),
}
SHORT = ("printed", "printed, force times eta", "released, every 2nd", "printed, every 2nd")
COMPARED = ("printed", "released, every 2nd")  # whose rates are simulated
STEPS = {"smoke": (64, 128), "cpu": (1024, 2048, 4096)}
CONSTANTS = {"smoothness": 1.0, "mu": 0.1, "sigma2": 4.0}
DIMENSIONS = 10
FLOORS = {"smoke": (0.4, 0.2), "cpu": (0.02, 0.01)}


def leading(name: str, eta: float = ETA) -> Leading:
    """The way of this name; a force times eta with this one."""
    order, scale, period = WAYS[name]
    if order == "released":
        return Leading.released(*README, period=period)
    return Leading.printed(*README, scale=1.0 if scale == 1 else eta, period=period)


def mixing(options) -> list[dict]:
    """Agreement, drift and averaging, exact."""
    rows, smoke = [], options.preset == "smoke"
    for level in LEVELS[options.preset]:
        for count in (1,) if smoke else (1, 3):
            graphs = parse_set(f"paper:{level}", count, 8)
            for core, schedule_of in CORES.items():
                schedule = schedule_of(graphs)
                for way in WAYS:
                    moments = period_moments(schedule, leading(way))
                    small = [compress(moment.state) for moment in moments]
                    operators = [operator(moment) for moment in small]
                    rate = mean_square_radius(operators)
                    led = [column_moments(moment.state, moment.mean) for moment in moments]
                    entry = [column_moments(moment.noise, moment.entry) for moment in moments]
                    rows.append(
                        {
                            "core": core, "level": level, "graphs": count, "way": way, "period": len(moments),
                            "rate": rate, "one_step": max(map(one_step_norm, small)), "period_norm":
                            period_norm(operators), "drift": max(found["drift"] for found in led),
                            "entry_rms": max(found["column_rms"] for found in entry),
                            "averaged": 1 / noise_influence(moments) if rate < 1 - 1e-9 else math.nan,
                        }
                    )  # fmt: skip
            print(f"  {level} %, {count} graphs: done", flush=True)
    return rows


def observed(options) -> list[dict]:
    """Real runs on the digits."""
    rows, epochs = [], 2 if options.preset == "smoke" else 20
    for way in ("released", *SHORT):
        order, scale, period = WAYS[way]
        settings = {"order": order, "force_scale": "one" if scale == 1 else "lr", "period": period}
        for seed in options.seeds:
            found, distances = observe("53.8", 1, "dpsgd", README, seed, epochs, **settings)
            # The first quarter starts from strangers.
            _, early, _, late = np.array_split(distances, 4)
            rows.append({"level": "53.8", "graphs": 1, "way": way, "seed": seed, **found,
                         "distance_early": early.max(), "distance_late": late.max()})  # fmt: skip
        print(f"  runs, {way}: done", flush=True)
    return rows


def rates(options) -> list[dict]:
    """(1/K) sum ||grad F(mean)||^2 of every run."""
    rows = []
    n, graph = 8, exponential(8)
    schedule, rho = dpsgd_schedule([graph]), fastest_rho(spectrum(graph))
    problems = {
        "quadratics": (Quadratics.random(n, DIMENSIONS, zeta2=0.0, **CONSTANTS), np.full(DIMENSIONS, 0.5)),
        "logistic": (Logistic.random(n, DIMENSIONS), np.zeros(DIMENSIONS)),
    }
    for problem_name, (problem, start) in problems.items():
        for way in COMPARED:
            for judge in ("own", "second"):
                for steps in STEPS[options.preset]:
                    eta = 0.4 / problem.smoothness * math.sqrt(n / steps)
                    mixer = leader_mixer(schedule, leading(way, eta))
                    seen = simulate(problem, mixer, eta, steps, len(options.seeds), start, options.seeds, judge)
                    bound = math.nan
                    if eta <= largest_step(problem.smoothness, rho):
                        constants = (problem.smoothness, problem.sigma2, problem.zeta2, n, rho)
                        bound = rate_bound(float(problem.gap(start)), eta, steps, *constants)
                    for seed, value in zip(options.seeds, seen["gradient"].mean(axis=1), strict=True):
                        rows.append({"problem": problem_name, "n": n, "way": way, "judge": judge, "K": steps,
                                     "eta": eta, "seed": seed, "value": value, "bound": bound})  # fmt: skip
    return rows


def floors(options) -> list[dict]:
    """Squared gradient once settled, additive noise, equal objectives, H = I, for two steps, of every run."""
    rows = []
    for name, graph in {"complete": complete(8), "53.8": paper_graph(53.8)}.items():
        schedule = dpsgd_schedule([graph])
        problem = Quadratics(np.ones(DIMENSIONS), np.zeros((8, DIMENSIONS)), CONSTANTS["sigma2"])
        for way in ("released", *SHORT):
            floor = selection_floor(selection_weights(schedule, leading(way, 0.0)), DIMENSIONS, CONSTANTS["sigma2"])
            start = np.full(DIMENSIONS, math.sqrt(floor / DIMENSIONS))
            for eta in FLOORS[options.preset]:
                settled = round(10 / eta)
                mixer = leader_mixer(schedule, leading(way, eta))
                seen = simulate(problem, mixer, eta, 4 * settled, len(options.seeds), start, options.seeds)
                for seed, value in zip(options.seeds, seen["gradient"][:, settled:].mean(axis=1), strict=True):
                    rows.append({"graph": name, "way": way, "eta": eta, "seed": seed, "value": value,
                                 "floor": floor})  # fmt: skip
    return rows


def exact_against_simulated(options) -> list[dict]:
    """E||grad F(mean)||^2 and consensus distance: recursion beside the interval of the simulated mean."""
    problem, start, rows = Quadratics.random(8, DIMENSIONS, zeta2=1.0, **CONSTANTS), np.full(DIMENSIONS, 0.5), []
    schedule, runs = dpsgd_schedule([paper_graph(53.8)]), 100 if options.preset == "smoke" else 1000
    steps = (1, 2, 5, 13, 34, 89)
    for way in SHORT:
        exact = exact_trajectory(problem, period_moments(schedule, leading(way)), ETA, max(steps), start)
        mixer = leader_mixer(schedule, leading(way))
        result = simulate(problem, mixer, ETA, max(steps) + 1, runs, start, options.seeds, "random")
        for name, values in zip(("gradient", "consensus"), exact, strict=True):
            for k in steps:
                seen = mean_interval(result[name][:, k])
                rows.append({"way": way, "quantity": name, "step": k, "exact": values[k], "simulated": seen.mean,
                             "low": seen.low, "high": seen.high, "runs": runs})  # fmt: skip
    return rows


def tables(options) -> dict[str, pd.DataFrame]:
    made = {"mixing": mixing, "runs": observed, "rate": rates, "floor": floors, "exact": exact_against_simulated}
    return {f"orders_{name}": pd.DataFrame(make(options)) for name, make in made.items()}


def main(_session) -> None:
    run("theory_orders", parser(__doc__, seeds=(0, 1, 2, 3, 4)), tables)


if __name__ == "__main__":
    command(main)
