"""Claim: a worker that lies about its loss gains influence over its neighbours, by a factor that can be worked out.

What:     on each of the paper's graphs, for every worker as the attacker: by what share of its deviation it moves the
          honest mean in one step, with D-PSGD and with AL-DSGD that it tells the truth or a lie, derived in
          aldsgd/theory/lies.py and measured with steps of the library; how many steps an attacker that always sends
          the same row needs to draw the honest half the way, and to reach everybody; how many faulty neighbours each
          defence withstands there.
Command:  python -m experiments.theory_lies
Hardware: one CPU core. Time: under a minute.
Expect:   the lie is worth more than the truth everywhere, and more than D-PSGD where B + C s > (1 - A) alpha.
"""

import numpy as np
import pandas as pd
import torch

from aldsgd.algorithm import advance, started
from aldsgd.defences import Defence, breakdown
from aldsgd.distrust import Distrust
from aldsgd.faults import Fault
from aldsgd.graphs import Topology, paper_graph
from aldsgd.leaders import ALDSGD
from aldsgd.local import LocalRule
from aldsgd.network import LocalNetwork
from aldsgd.settings import Settings
from aldsgd.theory.leaders import README, pulls
from aldsgd.theory.lies import WAYS, factor, hops, mean_matrix, share, stubborn
from baselines.dpsgd import DPSGD
from experiments.command import command
from experiments.theory_common import parser, run

LEVELS = {"smoke": ("53.8",), "cpu": ("100", "84.6", "69.2", "53.8")}
#: Steps from which the share is measured, each with losses drawn anew, where the attacker tells the truth.
DRAWS = {"smoke": 20, "cpu": 100}
DEFENCES = ("none", "trimmed", "median", "clip")


def walked(graph: Topology, attacker: int, way: str, steps: int, seed: int, again: bool) -> np.ndarray:
    """Models (steps, n, 1) of the library after each step without gradients, from agreement at 0, where the attacker
    always sends 1; ``again``: from agreement before each step."""
    core = DPSGD(graph)
    algorithm = core if way == "D-PSGD" else ALDSGD(core, *README)
    network, found = LocalNetwork(graph.n), []
    state = started(algorithm, torch.zeros(graph.n, 1, dtype=torch.float64), (1,))
    fault = Fault("stopped", (attacker,), lies=way == "AL-DSGD, lie")
    distrust = Distrust(network, state, ["x"], fault, Defence(), seed)
    distrust.kept["x"][attacker], distrust.when["x"][attacker] = 1.0, 0.0
    local = LocalRule(state.x, network.workers, Settings(lr=0.0), steps=1)
    losses = np.random.default_rng(seed).random((steps, graph.n)) + 0.1
    for t in range(steps):
        network.step = t
        if again:
            state.x.zero_()
        step = algorithm.step(t)
        advance(algorithm, step, distrust, state, torch.zeros_like(state.x), local, torch.from_numpy(losses[t]))
        found.append(state.x.numpy().copy())
    return np.stack(found)


def attacks(options) -> pd.DataFrame:
    """One row for each graph, attacker and way to be heard."""
    weights, rows = pulls(*README), []
    for level in LEVELS[options.preset]:
        graph = paper_graph(level)
        for attacker in range(graph.n):
            honest = np.delete(np.arange(graph.n), attacker)
            for way in WAYS:
                matrix = mean_matrix(graph, attacker, way, weights)
                draws = DRAWS[options.preset] if way == "AL-DSGD, truth" else 1  # else nothing depends on them
                moved = [
                    walked(graph, attacker, way, draws, seed, again=True)[:, honest, 0].mean() for seed in options.seeds
                ]
                rate, half = stubborn(matrix, attacker)
                walk = walked(graph, attacker, way, 2 * half + 20, options.seeds[0], again=False)[:, honest, 0]
                arrived = (walk > 0).argmax(axis=0) + 1
                rows.append(
                    {
                        "level": level, "attacker": attacker, "degree": int(graph.degrees[attacker]), "way": way,
                        "share": share(matrix, attacker), "measured": float(np.mean(moved)),
                        "factor": factor(graph, attacker, weights) if way == "AL-DSGD, lie" else np.nan,
                        "rate": rate, "half": half, "half_measured": int((walk.mean(axis=1) >= 0.5).argmax()) + 1,
                        "hops": int(hops(graph, attacker).max()), "hops_measured": int(arrived.max()),
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


def breakdowns(options) -> pd.DataFrame:
    """One row for each graph and defence: how many workers withstand so many faulty neighbours, or hear nobody."""
    rows = []
    for level in LEVELS[options.preset]:
        degrees = paper_graph(level).degrees.tolist()
        for kind in DEFENCES:
            points = [breakdown(kind, degree) for degree in degrees]
            rows.append(
                {
                    "level": level, "defence": kind, "workers": len(degrees),
                    "withstand_1": sum(point >= 1 for point in points),
                    "withstand_2": sum(point >= min(2, d) for point, d in zip(points, degrees, strict=True)),
                    "alone": sum(kind == "trimmed" and degree <= 2 for degree in degrees),
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def tables(options) -> dict[str, pd.DataFrame]:
    return {"lies_attacks": attacks(options), "lies_breakdown": breakdowns(options)}


def main(_session) -> None:
    run("theory_lies", parser(__doc__, seeds=(0, 1, 2, 3, 4)), tables)


if __name__ == "__main__":
    command(main)
