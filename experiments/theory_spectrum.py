"""Claim: which graphs, schedules and budgets can agree at all, and how fast, from their spectra.

What:     Laplacian spectra of the paper's graphs, MATCHA's graphs and the usual ones; rho of D-PSGD, of the released
          two-matching schedule, of rotating sets over their period, and of MATCHA for budgets 0.1 to 1; effective
          number of neighbours. Where a schedule never agrees: which workers are cut off from which.
Command:  python -m experiments.theory_spectrum [--graph file:PATH --graph torus:4x4 ...]
Hardware: one CPU core. Time: ten seconds, most of it solving for MATCHA's probabilities.
Expect:   the released schedule on one graph never agrees; the paper's 38.5 % graphs only agree in rotation.
"""

import numpy as np
import pandas as pd

from aldsgd.errors import ConfigError
from aldsgd.graphs import Rotation, Topology, parse, parse_set
from aldsgd.mixing import MOST_WORKERS, check_gossip_matrix, matcha_weights
from aldsgd.theory.leaders import GossipStep, dpsgd_schedule, matcha_schedule, released_schedule
from aldsgd.theory.spectra import effective_neighbours, period_contraction, spectrum, union_components
from experiments.command import command
from experiments.theory_common import parser, run

LEVELS = ("100", "84.6", "69.2", "53.8", "38.5")
PAPER = tuple(f"paper:{level}" for level in LEVELS)
OTHERS = {"matcha:1": 16, "matcha:2": 16, "matcha:3": 16, "matcha:4": 16, "ring": 8, "line": 8, "star": 8,
          "complete": 8, "exponential": 8, "torus:4x4": 16}  # fmt: skip
BUDGETS = {"smoke": (0.5, 1.0), "cpu": tuple(round(0.1 * k, 1) for k in range(1, 11))}
DECAY = 0.9  # of the noise, in the effective number of neighbours
MOST_EVENTS = 10  # matchings whose subsets are all listed
MOST_NEIGHBOURS = 32  # workers whose effective neighbours, spectra of n^2 x n^2, are worth their time


def gossip_square(step: GossipStep) -> np.ndarray:
    """E[W (x) W] (n^2, n^2)."""
    total = 0
    for chance, active in step.events:
        w = step.gossip(active)
        total = total + chance * np.kron(w, w)
    return total


def period_row(method: str, spec: str, graphs, schedule: list[GossipStep], order: str = "uniform") -> dict:
    """One line for a periodic schedule with certain edges."""
    n = schedule[0].n
    matrices = [step.gossip(step.events[0][1]) for step in schedule]
    for w in matrices:
        check_gossip_matrix(w)
    parts = union_components(n, [matching for step in schedule for matching in step.events[0][1]])
    found = period_contraction(matrices)
    static = len(schedule) == 1
    return {
        "graph": spec, "method": method, "graphs": len(graphs), "order": order, "workers": n, "period": len(schedule),
        "edges_per_step": np.mean([sum(map(len, step.events[0][1])) for step in schedule]),
        "alpha": schedule[0].alpha, "smallest_entry": min(w.min() for w in matrices),
        "row_error": max(abs(w.sum(axis=0) - 1).max() for w in matrices),
        "norm": found["norm"], "rate": found["rate"], "rho": found["radius"],
        "neighbours": effective_neighbours(np.kron(matrices[0], matrices[0]), DECAY)
        if static and n <= MOST_NEIGHBOURS else np.nan,
        "cut_off": " | ".join(" ".join(map(str, part)) for part in parts) if len(parts) > 1 else "",
    }  # fmt: skip


def schedules(spec: str, workers: int) -> list[dict]:
    """Every schedule on one graph (and on its rotating set)."""
    base = parse(spec, workers)
    rows = [period_row("dpsgd", spec, [base], dpsgd_schedule([base]))]
    if not base.is_connected:
        rows.append(period_row("dpsgd, released alpha", spec, [base], dpsgd_schedule([base], rule="released")))
    if len(base.matchings) > 1:
        rows.append(period_row("dpsgd_released", spec, [base], released_schedule([base])))
    for count in (2, 3):
        graphs = parse_set(spec, count, workers)
        rows.append(period_row("dpsgd", spec, graphs, dpsgd_schedule(graphs)))
        if spec in PAPER:
            # The released order repeats after six batches; 2 and 3 divide six.
            released = dpsgd_schedule(graphs, Rotation(count, "released", 6), 6 if count == 3 else 2)
            rows.append(period_row("dpsgd", spec, graphs, released, "released"))
        if all(len(graph.matchings) > 1 for graph in graphs):
            rows.append(period_row("dpsgd_released", spec, graphs, released_schedule(graphs)))
    return rows


def budget_rows(spec: str, base: Topology, budgets) -> list[dict]:
    """MATCHA's curve from budget to rho; budgets too small for every worker to exchange are left out."""
    rows = []
    for budget in budgets:
        weights = matcha_weights(base, budget)
        events = len(base.matchings) <= MOST_EVENTS and base.n <= MOST_NEIGHBOURS
        square = gossip_square(matcha_schedule([base], budget)[0]) if events else None
        rows.append(
            {
                "graph": spec, "workers": base.n, "matchings": len(base.matchings), "budget": budget,
                "active": sum(weights.probabilities), "alpha": weights.alpha, "rho": weights.rho,
                "neighbours": np.nan if square is None else effective_neighbours(square, DECAY),
            }
        )  # fmt: skip
    return rows


def tables(options) -> dict[str, pd.DataFrame]:
    smoke = options.preset == "smoke"
    graphs = {"paper:53.8": 8, "ring": 8} if smoke else dict.fromkeys(PAPER, 8) | OTHERS
    graphs |= {spec: None for spec in options.graph if spec not in graphs}
    # All of them first, so that a graph that cannot be used is noticed before any work.
    bases = {spec: parse(spec, workers) for spec, workers in graphs.items()}
    for spec, base in bases.items():
        if not 2 <= base.n <= MOST_WORKERS or not base.edges:
            raise ConfigError(f"--graph {spec} must have an edge, and at most {MOST_WORKERS} workers")
    values, rows, budgets = [], [], []
    for spec, workers in graphs.items():
        base = bases[spec]
        for index, value in enumerate(spectrum(base)):
            values.append(
                {"graph": spec, "workers": base.n, "edges": len(base.edges), "index": index, "laplacian": value}
            )
        rows += schedules(spec, workers)
        budgets += budget_rows(spec, base, BUDGETS[options.preset])
    return {
        "spectrum_eigenvalues": pd.DataFrame(values),
        "spectrum_schedules": pd.DataFrame(rows),
        "spectrum_budgets": pd.DataFrame(budgets),
    }


def main(_session) -> None:
    p = parser(__doc__)
    p.add_argument("--graph", action="append", default=[], metavar="SPEC",
                   help="a graph of yours besides the built-in ones, such as file:edges.txt; repeatable")  # fmt: skip
    run("theory_spectrum", p, tables)


if __name__ == "__main__":
    command(main)
