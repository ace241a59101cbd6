"""What the processes of tests/processes.py do for test_peers.py: asynchronous methods in real time."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np

from aldsgd.datasets import load
from aldsgd.distributed import ProcessNetwork
from aldsgd.topology import Topology
from aldsgd.trainers import trainer_for
from aldsgd.world import World
from baselines.adpsgd import ADPSGD
from baselines.async_server import AsynchronousServer
from experiments.configuration import RunConfig
from tests.crashing import crash

BASE = RunConfig(model="logistic", batch=16, precision="float64", train_images=640, test_images=100)


def peers(world: World, folder: Path, method: str, killed: str = "") -> None:
    """Real asynchrony on random connected graphs, one worker a process; killed: rank 2 is, at its fifth gradient."""
    found = []
    for seed in range(1 if killed else 3):
        draws = np.random.default_rng(seed)
        edges = {(int(draws.integers(i)), i) for i in range(1, world.size)}
        edges |= {(i, j) for j in range(world.size) for i in range(j) if draws.random() < 0.3}
        graph = Topology.from_edges(world.size, sorted(edges))
        algorithm = ADPSGD(graph, seed) if method == "pairs" else AsynchronousServer(world.size)
        config, hosting = BASE, ProcessNetwork(world.size, world, algorithm.centres)
        settings = replace(config.settings(), real=True, lr=0.0 if method == "pairs" else 0.5, epochs=2)
        data = load(config.dataset).subset(config.train_images, config.test_images)
        trainer = trainer_for(algorithm, config.build(data), data, settings, hosting=hosting)
        if killed and world.rank == 2:
            compute = trainer.workers.compute_gradients

            def deadly(inputs, targets, step, compute=compute):
                if step == 4:
                    os.kill(os.getpid(), signal.SIGKILL)
                return compute(inputs, targets, step)

            trainer.workers.compute_gradients = deadly
        before = hosting.mean_row(trainer.state.x[:1])
        rows = trainer.run().rows
        drift = (hosting.mean_row(trainer.state.x[:1]) - before).abs().max().item()
        if world.rank == 0:
            last = [rows[-1][name] for name in ("consensus_distance", "train_loss", "logical_bytes")]
            found.append([drift, trainer.met, trainer.refused, *last])
    if world.rank == 0:
        np.save(folder / f"peers_{method}.npy", np.array(found, dtype=float))


def peers_resumed(world: World, folder: Path) -> None:
    """A server whose learning rate is zero from the second epoch on, cut off after two of three: its losses."""
    data = load(BASE.dataset).subset(BASE.train_images, BASE.test_images)
    settings = replace(BASE.settings(), real=True, lr=0.5, lr_drops=((1, 0.0),), epochs=3)

    def trainer():
        algorithm = AsynchronousServer(world.size)
        hosting = ProcessNetwork(world.size, world, algorithm.centres)
        return trainer_for(algorithm, BASE.build(data), data, settings, hosting=hosting)

    crash(trainer(), folder / "run", 2)
    rows = trainer().run(checkpoints=folder / "run").rows
    if world.rank == 0:
        np.save(folder / "peers_resumed.npy", [row["test_loss"] for row in rows if row["worker"] == world.size])
