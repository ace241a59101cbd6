"""Claim: AL-DSGD's mixing matrices bring the workers together although their columns do not sum to one.

What:     for the paper's graphs, on every core: column sums, one-step norm, the per-step rate that decides, the norm
          over a period, drift of the mean, and how many workers' noise the consensus averages, by three models of who
          leads. Random loss ranks: exact, in closed form. Adversarial: all 8! loss orders, with certified bounds
          from both sides (n = 16: a sample of orders, and marked). Observed: the leaders of real runs on digits.
          Then a map of the rate over the weight on both leaders and alpha.
Command:  python -m experiments.theory_leader_mixing
Hardware: two CPU cores. Time: about three minutes, most of it certifying the adversarial bounds.
Expect:   columns up to several times one, one-step norms above one on sparse graphs, yet rates below one wherever the
          edges of a period connect all workers, even against an adversary; consensus averages fewer workers than n.
"""

import numpy as np
import pandas as pd

from aldsgd.graphs import parse_set
from aldsgd.mixing import metropolis_matrix
from aldsgd.theory.adversary import (
    ellipsoid_rate,
    fixed_order_rate,
    greedy_rate,
    guaranteed_rate,
    loss_orders,
    reachable_matrices,
    worst_one_step,
)
from aldsgd.theory.leaders import (
    README,
    GossipStep,
    column_moments,
    combine,
    compress,
    degree_leaders,
    dpsgd_schedule,
    influence,
    matcha_schedule,
    mean_matrix,
    mean_square_radius,
    one_step_norm,
    operator,
    period_norm,
    pulls,
    released_schedule,
    step_terms,
)
from experiments.command import command
from experiments.theory_common import parser, run
from experiments.theory_observed import observe

LEVELS = {"smoke": ("53.8",), "cpu": ("100", "84.6", "69.2", "53.8", "38.5")}
COEFFICIENTS = {
    "core alone": (0.0, 0.0, 0.0, 0.0),
    "README": README,
    "argparse": (0.3, 0.1, 0.1, 0.1),
    "no degree, no force": (0.3, 0.0, 0.0, 0.0),
    "earlier commit": (0.4, 0.1, 0.0, 0.0),
}
CORES = {
    "dpsgd": dpsgd_schedule,
    "matcha": lambda graphs: matcha_schedule(graphs, 0.5),
    "dpsgd_released": released_schedule,
}
ALPHAS = {"smoke": (1.0,), "cpu": (0.5, 1.0, 1.5, 2.0)}  # times the core's own alpha
GRID = {"smoke": 5, "cpu": 10}  # cells per side of the map
RUNS = {"smoke": (("53.8", 1, "dpsgd"),),
        "cpu": tuple((level, count, core) for core in ("dpsgd", "matcha")
                     for level, count in (("100", 1), ("53.8", 1), ("38.5", 3)))}  # fmt: skip
MOST_PAIRS = 400_000


def degree_leads(schedule: list[GossipStep]) -> float:
    """Expected share of workers whose maximum-degree leader is another worker."""
    shares = [
        chance * (degree_leaders(step.n, active) != np.arange(step.n)).mean()
        for step in schedule
        for chance, active in step.events
    ]
    return float(sum(shares) / len(schedule))


def random_ranks(level: str, count: int, core: str, schedule: list[GossipStep], terms) -> list[dict]:
    """One line for each set of coefficients, exact."""
    rows = []
    for name, coefficients in COEFFICIENTS.items():
        weights = pulls(*coefficients)
        full = [combine(own, step.alpha, weights) for own, step in zip(terms, schedule, strict=True)]
        small = [compress(moment) for moment in full]
        operators = [operator(moment) for moment in small]
        columns = [column_moments(z, mean_matrix(step, weights)) for z, step in zip(full, schedule, strict=True)]
        rate = mean_square_radius(operators)
        agreed = influence([operator(moment) for moment in full]) if rate < 1 - 1e-9 else np.nan
        rows.append(
            {
                "core": core, "level": level, "graphs": count, "workers": schedule[0].n, "coefficients": name,
                "gossip": weights[0], "best": weights[1], "degree": weights[2], "leaders": "random ranks",
                "how": "closed form", "period": len(schedule), "column_rms": max(c["column_rms"] for c in columns),
                "drift": max(c["drift"] for c in columns), "one_step": max(map(one_step_norm, small)),
                "period_norm": period_norm(operators),
                "norm_12": period_norm(operators * (12 // len(operators))), "degree_leads": degree_leads(schedule),
                "low": rate, "high": rate, "averaged": 1 / agreed,
            }
        )  # fmt: skip
    return rows


def adversarial(level: str, schedule: list[GossipStep], graphs: int, sample: int, most_pairs: int) -> dict:
    """Bounds on the rate of the worst leaders on the D-PSGD core."""
    weights = pulls(*COEFFICIENTS["README"])
    n = schedule[0].n
    orders, exhaustive = loss_orders(n, sample)
    steps = [reachable_matrices(step, weights, orders) for step in schedule]
    low = greedy_rate(steps)
    how = f"{len(steps[0])} matrices from all {len(orders)} orders" if exhaustive else f"{len(orders)} sampled orders"
    if len(steps) == 1:
        low = max(low, fixed_order_rate(steps[0][:, None]))
    crude, high = max(map(worst_one_step, steps)), np.nan
    connected = low < 1 - 1e-9
    if connected and exhaustive:
        high = ellipsoid_rate(steps)
        if high >= 1 and len(steps) == 1 and len(steps[0]) ** 2 <= most_pairs:
            pairs = (steps[0][:, None] @ steps[0][None]).reshape(-1, n, n)
            high = min(high, float(np.sqrt(ellipsoid_rate([pairs]))))
            how += ", in pairs"
    sums = np.concatenate([matrices.sum(axis=1) for matrices in steps])
    shift = np.linalg.norm(sums - 1, axis=1).max() / np.sqrt(n)
    return {
        "core": "dpsgd", "level": level, "graphs": graphs, "workers": n, "coefficients": "README", "gossip": weights[0],
        "best": weights[1], "degree": weights[2], "leaders": "adversarial", "how": how, "period": len(steps),
        "column_rms": shift, "drift": shift, "one_step": crude, "low": low, "high": high,
    }  # fmt: skip


def any_leaders(level: str, graphs) -> dict:
    """The bound that needs no assumption on losses, for a core with nonnegative (Metropolis) weights."""
    weights = pulls(*COEFFICIENTS["README"])
    high = guaranteed_rate([metropolis_matrix(graph) for graph in graphs], weights[0])
    return {
        "core": "dpsgd, Metropolis weights", "level": level, "graphs": len(graphs), "workers": graphs[0].n,
        "coefficients": "README", "gossip": weights[0], "best": weights[1], "degree": weights[2], "leaders": "any",
        "how": "bound by nonnegativity", "period": len(graphs), "high": high,
    }  # fmt: skip


def map_rows(level: str, count: int, core: str, schedule, terms, alphas, cells: int) -> list[dict]:
    """The rate under random ranks over the triangle best + degree <= 1."""
    small = [compress(own) for own in terms]
    rows = []
    for factor in alphas:
        for i in range(cells + 1):
            for j in range(cells + 1 - i):
                weights = (1 - (i + j) / cells, i / cells, j / cells)
                operators = [
                    operator(combine(own, factor * step.alpha, weights))
                    for own, step in zip(small, schedule, strict=True)
                ]
                rows.append(
                    {
                        "core": core, "level": level, "graphs": count, "alpha_factor": factor,
                        "best": weights[1], "degree": weights[2], "rate": round(mean_square_radius(operators), 6),
                    }
                )  # fmt: skip
    return rows


def tables(options) -> dict[str, pd.DataFrame]:
    preset = options.preset
    smoke = preset == "smoke"
    rows, cells = [], []
    sample, pairs = (200, 0) if smoke else (2000, MOST_PAIRS)
    for level in LEVELS[preset]:
        for count in (1,) if smoke else (1, 3):
            graphs = parse_set(f"paper:{level}", count, 8)
            for core, schedule_of in CORES.items():
                schedule = schedule_of(graphs)
                terms = [step_terms(step) for step in schedule]
                rows += random_ranks(level, count, core, schedule, terms)
                if core != "dpsgd_released":
                    cells += map_rows(level, count, core, schedule, terms, ALPHAS[preset], GRID[preset])
            rows.append(adversarial(level, dpsgd_schedule(graphs), count, sample, pairs))
            rows.append(any_leaders(level, graphs))
            print(f"  level {level}, {count} graphs: done", flush=True)
    for spec, workers in (("ring", 8), ("matcha:1", 16)) if not smoke else ():
        graphs = parse_set(spec, 1, workers)
        schedule = dpsgd_schedule(graphs)
        rows += random_ranks(spec, 1, "dpsgd", schedule, [step_terms(step) for step in schedule])
        rows.append(adversarial(spec, schedule, 1, sample, pairs))
        rows.append(any_leaders(spec, graphs))
    observed = []
    for level, count, core in RUNS[preset]:
        for seed in options.seeds:
            found, _ = observe(level, count, core, COEFFICIENTS["README"], seed, epochs=2 if smoke else 20)
            observed.append({"core": core, "level": level, "graphs": count, "seed": seed, **found})
    return {
        "leader_mixing": pd.DataFrame(rows),
        "leader_map": pd.DataFrame(cells),
        "leader_runs": pd.DataFrame(observed),
    }


def main(_session) -> None:
    run("theory_leader_mixing", parser(__doc__, seeds=(0, 1, 2, 3, 4)), tables)


if __name__ == "__main__":
    command(main)
