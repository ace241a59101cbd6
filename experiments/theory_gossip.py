"""Claim: what today's schedules and drift correctors promise, with and without leaders.

What:     exact agreement after finitely many steps (hypercube, one peer, Base-(k+1)), how fast every schedule agrees
          for each model that a worker sends, and what AL-DSGD's leaders leave of that; 8, 12 and 16 workers. Where
          drift correctors, momentum on gossip and AL-DSGD rest at a constant rate without noise: quadratics whose
          workers differ in minima and curvatures, on the paper's 53.8 % graph and a ring, equal and Metropolis weights.
          Every step is the library's own, in float64.
Command:  python -m experiments.theory_gossip
Hardware: one CPU core. Time: about a minute.
Expect:   exact averaging where the schedule's paper says so, from the start of its period for Base-(k+1); leaders undo
          it. Gradient tracking, exact diffusion, D2 and momentum tracking rest at the minimiser; no other does.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from aldsgd.errors import ConfigError
from aldsgd.graphs import Topology, paper_graph, parse, ring
from aldsgd.leaders import ALDSGD
from aldsgd.links import LINKS
from aldsgd.schedules import Schedule, base, equidyn, hypercube, one_peer, random_matching
from aldsgd.step import Meter
from aldsgd.theory.gossip import Unlike, left, moved, products, rest
from aldsgd.theory.spectra import disagreement_part, period_contraction
from baselines.allreduce import AllReduce
from baselines.d2 import D2
from baselines.decentlam import DecentLaM
from baselines.dpsgd import DPSGD, WEIGHTS
from baselines.exact_diffusion import ExactDiffusion
from baselines.gradient_tracking import GradientTracking
from baselines.momentum_tracking import MomentumTracking
from baselines.quasi_global import QuasiGlobal
from experiments.command import command
from experiments.theory_common import parser, run

WORKERS = {"smoke": (8,), "cpu": (8, 12, 16)}
GRAPHS = {8: "paper:53.8", 12: "ring", 16: "torus:4x4"}
#: Steps over which what random schedules leave is averaged.
DRAWS = {"smoke": 200, "cpu": 4000}
#: L and mu of the quadratics, in so many dimensions.
SMOOTHNESS, MU, DIMENSIONS = 1.0, 0.2, 6
ETAS = {"smoke": (0.1,), "cpu": (0.1, 0.03)}
MOST = {"smoke": 2000, "cpu": 6000}

METHODS: dict[str, Callable] = {
    "D-PSGD": lambda core: core,
    "AL-DSGD": ALDSGD,
    "AL-DSGD, printed order": lambda core: ALDSGD(core, order="printed"),
    "QG-DSGDm": QuasiGlobal,
    "DecentLaM": DecentLaM,
    "gradient tracking": GradientTracking,
    "gradient tracking, adapt then combine": lambda core: GradientTracking(core, "adapt_then_combine"),
    "exact diffusion": ExactDiffusion,
    "exact diffusion with momentum": lambda core: ExactDiffusion(core, 0.9),
    "D2": D2,
    "momentum tracking": MomentumTracking,
    "all-reduce": lambda core: AllReduce(core.n),
}


def schedules(n: int) -> Iterator[tuple[str, Topology | Schedule]]:
    """The paper's kind of graph, and every schedule that n workers can have."""
    yield GRAPHS[n], parse(GRAPHS[n], n)
    if n & (n - 1) == 0:
        yield "hypercube", hypercube(n)
    yield "one_peer", one_peer(n)
    yield "base:2", base(n)
    yield "base:3", base(n, 2)
    yield "equidyn", equidyn(n)
    yield "matching", random_matching(n)


def models_sent(core: DPSGD, steps: int) -> float:
    """Models that a worker sends at a step, the mean over workers and steps."""
    meter = Meter({"x": (1, 1)}, core.n, LINKS["10gbe"])
    for t in range(steps):
        meter.count(core.step(t))
    return meter.bytes / core.n / steps


def agreement(preset: str) -> list[dict]:
    """How each schedule agrees: over a period, from its start and from any other step; of a random one in the mean."""
    rows = []
    for n in WORKERS[preset]:
        for name, graph in schedules(n):
            core, draws = DPSGD(graph), DRAWS[preset]
            period = graph.period if isinstance(graph, Schedule) else 1
            row = {"schedule": name, "workers": n, "period": period or 0}
            row["models"] = models_sent(core, period or draws)
            if period:
                steps = matrices(core, 2 * period)
                windows = [period_contraction(steps[k : k + period]) for k in range(period)]
                row |= {"start": windows[0]["norm"], "worst": max(w["norm"] for w in windows),
                        "rate": windows[0]["radius"]}  # fmt: skip
            else:
                mean = sum(w.T @ w for w in matrices(core, draws)) / draws
                row |= {"start": np.nan, "worst": np.nan, "rate": float(np.linalg.norm(disagreement_part(mean), 2))}
            rows.append(row)
    return rows


def matrices(core: DPSGD, steps: int) -> list[np.ndarray]:
    """W_t of each step."""
    made = []
    for t in range(steps):
        (one,) = products(_Only(core, t), 1)
        made.append(one)
    return made


class _Only(DPSGD):
    """A method that takes one step of another's again and again."""

    def __init__(self, core: DPSGD, t: int):
        self.n, self.alphas, self.only = core.n, [], core.step(t)

    def step(self, t):
        return self.only


def led(preset: str, seeds) -> list[dict]:
    """What AL-DSGD leaves of disagreement, and how far it moves the mean, after a period and after four, leaders by
    random losses; a random schedule or a graph over as many steps as a hypercube has."""
    rows = []
    for n in WORKERS[preset]:
        for name, graph in schedules(n):
            steps = (isinstance(graph, Schedule) and graph.period) or (n - 1).bit_length()
            for method in ("D-PSGD", "AL-DSGD"):
                for seed in seeds if method == "AL-DSGD" or name in ("equidyn", "matching") else seeds[:1]:
                    found = products(METHODS[method](DPSGD(reseeded(name, n, seed) or graph)), 4 * steps, seed)
                    rows.append(
                        {"schedule": name, "workers": n, "method": method, "seed": seed, "steps": steps,
                         "left": left(found[steps - 1]), "left_4": left(found[-1]), "moved": moved(found[steps - 1])}
                    )  # fmt: skip
    return rows


def reseeded(name: str, n: int, seed: int) -> Schedule | None:
    """A random schedule with another seed."""
    return {"equidyn": equidyn, "matching": random_matching}[name](n, seed) if name in ("equidyn", "matching") else None


def correctors(preset: str, seeds) -> list[dict]:
    """Where every method rests."""
    rows = []
    for graph, topology in (("paper:53.8", paper_graph(53.8)), ("ring", ring(8))):
        for weights in WEIGHTS:
            for eta in ETAS[preset]:
                for seed in seeds:
                    problem = Unlike.random(8, DIMENSIONS, SMOOTHNESS, MU, seed)
                    for method, wrapped in METHODS.items():
                        place = {"graph": graph, "weights": weights, "eta": eta, "seed": seed, "method": method}
                        try:
                            found = rest(wrapped(DPSGD(topology, weights=weights)), problem, eta, MOST[preset])
                        except ConfigError:  # D2 refuses a W with eigenvalues down to -1/3
                            rows.append(place | {"refused": True})
                            continue
                        rows.append(place | {"refused": False, **found._asdict()})
    return rows


def tables(options) -> dict[str, pd.DataFrame]:
    return {
        "gossip_agreement": pd.DataFrame(agreement(options.preset)),
        "gossip_led": pd.DataFrame(led(options.preset, options.seeds)),
        "gossip_rest": pd.DataFrame(correctors(options.preset, options.seeds)),
    }


def main(_session) -> None:
    run("theory_gossip", parser(__doc__, seeds=(0, 1, 2, 3, 4)), tables)


if __name__ == "__main__":
    command(main)
