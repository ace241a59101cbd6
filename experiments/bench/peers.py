"""Whether averaging in pairs between real processes ever hangs, on random connected graphs.

What:     AD-PSGD in real time, one worker a process, 10 gradients each of logistic regression on digits at rate 0, on
          200 random connected graphs one after another: a random tree, and each other pair with probability 0.3.
          Seconds, averages asked for and refused (all processes), and how far the sum of the models moved.
Command:  torchrun --nproc_per_node 4 -m experiments.bench.peers
Hardware: two CPU cores, 4 processes. Time: 2 minutes.
Expect:   no graph takes 60 s, where a job would end with a sentence; the sum moves by rounding alone.
"""

import time
from dataclasses import replace

import numpy as np
import torch

from aldsgd.datasets import load
from aldsgd.distributed import ProcessNetwork
from aldsgd.errors import ConfigError
from aldsgd.topology import Topology
from aldsgd.trainers import trainer_for
from aldsgd.world import join
from baselines.adpsgd import ADPSGD
from experiments.bench.common import place, save
from experiments.command import Session, command
from experiments.configuration import RunConfig
from experiments.options import Parser, positive

LIMIT = 60.0


def random_graph(n: int, number: int) -> Topology:
    """A random tree of n workers, and each other pair with probability 0.3."""
    draws = np.random.default_rng(number)
    edges = {(int(draws.integers(i)), i) for i in range(1, n)}
    return Topology.from_edges(n, sorted(edges | {(i, j) for j in range(n) for i in range(j) if draws.random() < 0.3}))


def main(session: Session) -> None:
    p = Parser(description=__doc__.strip())
    p.add_argument("--results", help="folder of the table (default: results; of fewer graphs: my_results)")
    p.add_argument("--graphs", type=positive, default=200, help="how many graphs (default: 200)")
    options = p.parse_args()
    path = place(options.results, "peers.csv", part=options.graphs < 200)
    config = RunConfig(model="logistic", batch=16, precision="float64", test_images=100)
    rows = []
    with join("cpu", LIMIT) as session.world:
        world = session.world
        if world.size < 2:
            raise ConfigError("this measures several processes; start it with torchrun --nproc_per_node 4")
        data = load("digits").subset(160 * world.size, 100)
        settings = replace(config.settings(), real=True, lr=0.0)
        for number in range(options.graphs):
            graph, hosting = random_graph(world.size, number), ProcessNetwork(world.size, world)
            run = trainer_for(ADPSGD(graph, number), config.build(data), data, settings, hosting=hosting)
            before, began = hosting.mean_row(run.state.x), time.perf_counter()
            run.train_epoch(0)
            seconds = time.perf_counter() - began
            moved = (hosting.mean_row(run.state.x) - before).abs().max().item() * world.size
            counts = hosting.gather(torch.tensor([1000.0 * run.met + run.refused]))
            asked, refused = (sum(int(count) for count in part) for part in (counts // 1000, counts % 1000))
            edges = sum(map(len, graph.matchings))
            rows.append({"what": f"graph {number}", "processes": world.size, "edges": edges, "seconds": seconds,
                         "asked": asked, "refused": refused, "sum_moved": moved})  # fmt: skip
        if world.rank == 0:
            save(rows, path)
            slowest, refusals = max(row["seconds"] for row in rows), sum(row["refused"] for row in rows)
            print(f"{len(rows)} graphs, the slowest in {slowest:.2f} s; {refusals} of "
                  f"{sum(row['asked'] for row in rows)} averages refused; the sum of the models moved by "
                  f"{max(row['sum_moved'] for row in rows):.1e} at most")  # fmt: skip
    session.end(0)


if __name__ == "__main__":
    command(main)
