"""Start R processes on this machine for one job: ``python -m tests.processes JOB R FOLDER``.

The processes are forked from one that has imported torch, which is much faster than R launches. Rank 0 leaves arrays
in FOLDER. Exit codes of all ranks are written to FOLDER/codes.json.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from aldsgd import models
from aldsgd.algorithm import Algorithm, iterate
from aldsgd.data import load
from aldsgd.distributed import ProcessNetwork
from aldsgd.errors import ConfigError
from aldsgd.graphs import complete, line, paper_set, ring, star
from aldsgd.leaders import ALDSGD
from aldsgd.network import LocalNetwork
from aldsgd.training import Trainer
from aldsgd.world import World, join
from baselines.allreduce import AllReduce
from baselines.dpsgd import DPSGD
from experiments import common
from experiments.configuration import RunConfig

ROOT = Path(__file__).resolve().parents[1]
# 8 workers, batch 16, 10 steps an epoch.
BASE = RunConfig(model="logistic", lr=0.05, batch=16, epochs=5, eval_every=5, precision="float64", train_images=1280,
                 test_images=100, graph="paper:53.8", method="aldsgd", core="dpsgd")  # fmt: skip
METHODS = {
    "dpsgd": replace(BASE, method="dpsgd"),
    "dpsgd_cwa": replace(BASE, method="dpsgd_cwa"),
    "dpsgd_cwa_rotating": replace(BASE, method="dpsgd_cwa", graphs=3),
    "matcha": replace(BASE, method="matcha"),
    "allreduce": replace(BASE, method="allreduce"),
    "released_dpsgd": BASE,
    "released_matcha": replace(BASE, core="matcha"),
    "printed_dpsgd": replace(BASE, order="printed"),
    "printed_matcha": replace(BASE, core="matcha", order="printed", force_scale="lr"),
    "rotating": replace(BASE, graphs=3, period=2),
}
CONFIGURATIONS = {
    **METHODS,
    **{f"{name}_float32": replace(c, precision="float32", epochs=1, eval_every=1) for name, c in METHODS.items()},
    # BatchNorm: running statistics differ between workers, and are needed for the averaged model.
    "statistics": replace(BASE, model="resnet_small", train_images=256, epochs=2, eval_every=1, bn_images=64),
}


def trained(config: RunConfig, world: World) -> dict:
    """Train one configuration; on rank 0, what must not depend on the number of processes."""
    data = load(config.dataset).subset(config.train_images, config.test_images)
    algorithm = config.algorithm(10)
    leaders = []
    if isinstance(algorithm, ALDSGD):
        selection = algorithm.leaders

        def logged(hood):
            best, largest = selection(hood)
            leaders.append(torch.stack([hood.col[best > 0], hood.col[largest > 0]]))
            return best, largest

        algorithm.leaders = logged
    hosting = ProcessNetwork(config.workers, world) if world.size > 1 else LocalNetwork(config.workers)
    build = partial(models.build, config.model, data.classes, data.shape)
    trainer = Trainer(algorithm, build, data, config.settings(), hosting=hosting)
    result = trainer.run()
    parameters = [hosting.bring(i, [trainer._tensors(i)["parameters"]])[0].clone() for i in range(config.workers)]
    found = {"parameters": torch.stack(parameters).numpy(), "wire_bytes": hosting.total_wire_bytes()}
    if leaders:
        log = torch.stack(leaders)
        first = hosting.workers.start
        log = [log[:, :, i - first if i in hosting.workers else 0] for i in range(config.workers)]
        found["leaders"] = torch.stack([hosting.bring(i, [log[i]])[0] for i in range(config.workers)]).numpy()
    for row in (row for row in result.rows if row["worker"] is None):
        found |= {k: np.append(found.get(k, []), v) for k, v in row.items() if v is not None and "seconds" not in k}
    return found


def equality(world: World, folder: Path) -> None:
    for name, config in CONFIGURATIONS.items():
        found = trained(config, world)
        if world.rank == 0:
            np.savez(folder / f"{name}.npz", **found)


@dataclass
class Scheduled(Algorithm):
    """Plain gossip over a schedule: a function of the step."""

    n: int
    schedule: object

    def matchings(self, t):
        return self.schedule(t)

    def after(self, t, hood):
        return hood.gossip(0.2)


def sometimes(t):
    return paper_set(100, 1)[0].matchings[t % 3 : t % 3 + 2] if t % 3 else ()


def random_matchings(t):
    rng = np.random.default_rng([7, t])
    matchings = []
    for _ in range(rng.integers(0, 4)):
        order = rng.permutation(8)
        matchings.append(tuple((int(a), int(b)) for a, b in order[: 2 * rng.integers(0, 5)].reshape(-1, 2)))
    seen, kept = set(), []
    for matching in matchings:
        fresh = tuple(edge for edge in matching if tuple(sorted(edge)) not in seen)
        seen |= {tuple(sorted(edge)) for edge in fresh}
        kept.append(fresh)
    return tuple(kept)


def graph_algorithm(name: str) -> Algorithm:
    graphs = {"ring": ring(8), "line": line(8), "star": star(8), "complete": complete(8)}
    if name in graphs:
        return ALDSGD(DPSGD(graphs[name]), order="printed" if name == "complete" else "released")
    if name == "disconnected":
        return ALDSGD(DPSGD(paper_set(38.5, 3)[0], allow_disconnected=True))
    return ALDSGD(Scheduled(8, {"sometimes_none": sometimes, "random": random_matchings}[name]))


def walk(name: str, hosting: LocalNetwork) -> np.ndarray:
    """Steps toward one point per worker, with losses that make leaders change; all models (8, 33) on rank 0."""
    algorithm, hosted = graph_algorithm(name), list(hosting.workers)
    rng = np.random.default_rng(0)
    start, goal = (torch.tensor(rng.normal(size=(8, 33)))[hosted] for _ in range(2))
    models, delays = start.clone(), np.random.default_rng(hosting.rank)
    for t in range(500 if name == "random" else 60):
        hosting.step = t
        if hosting.size > 1 and delays.random() < 0.1:
            time.sleep(0.002)
        losses = (models - goal).square().sum(dim=1)
        iterate(algorithm, t, hosting, models, models - goal, 0.1, losses)
    return torch.stack([hosting.bring(w, [models[w - hosted[0] if w in hosted else 0]])[0] for w in range(8)]).numpy()


def graph(world: World, folder: Path, name: str) -> None:
    models = walk(name, ProcessNetwork(8, world))
    if world.rank == 0:
        np.savez(folder / "models.npz", models=models)


def lost(world: World, folder: Path, how: str, method: str) -> None:
    """Rank 2 is stopped or killed at step 5."""
    hosting = ProcessNetwork(8, world)
    algorithm = AllReduce(8) if method == "allreduce" else DPSGD(ring(8))
    models = torch.zeros(len(hosting.workers), 1000)
    for t in range(10):
        hosting.step = t
        if t == 5 and world.rank == 2:
            os.kill(os.getpid(), {"stop": signal.SIGSTOP, "kill": signal.SIGKILL}[how])
        iterate(algorithm, t, hosting, models, models, 0.1, torch.zeros(len(models)))


def wrong(world: World, folder: Path, when: str) -> None:
    """Rank 1 alone finds a mistake of the user: before training, or in its midst."""

    def check():
        if world.rank == 1:
            raise ConfigError("this cannot be done; do that")

    if when == "before":
        world.together(check)
    hosting = ProcessNetwork(8, world)
    models = torch.zeros(len(hosting.workers), 1000)
    for t in range(10):
        if t == 5:
            check()
        iterate(DPSGD(ring(8)), t, hosting, models, models, 0.1, torch.zeros(len(models)))


def uneven(world: World, folder: Path) -> None:
    world.together(lambda: ProcessNetwork(8, world))


def apart(world: World, folder: Path) -> None:
    """The processes do not get as far as this."""


JOBS = {"equality": equality, "graph": graph, "lost": lost, "wrong": wrong, "uneven": uneven, "apart": apart}


def launch(job: str, size: int, folder: Path, limit: float = 60, **extra: str) -> subprocess.CompletedProcess:
    """Run a job in a fresh interpreter that forks ``size`` processes, with ``extra`` in their environment."""
    command = [sys.executable, "-m", "tests.processes", job, str(size), str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR", **extra}
    return subprocess.run(command, cwd=ROOT, env=environment, timeout=limit, capture_output=True, text=True)


def prepare_once() -> None:
    """What every process would otherwise import, solve and load for itself."""
    import torch._dynamo  # noqa: F401

    for config in CONFIGURATIONS.values():
        load(config.dataset).subset(config.train_images, config.test_images)
        config.algorithm(10)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def work(job: str, timeout: float, folder: Path, arguments: list[str]) -> None:
    with join("cpu", timeout) as world:
        JOBS[job](world, folder, *arguments)


def main() -> None:
    (job, *arguments), size, folder = sys.argv[1].split(":"), int(sys.argv[2]), Path(sys.argv[3])
    os.environ |= {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    timeout = 4.0 if job == "lost" else 40.0
    if job == "equality":
        prepare_once()
    children = {}
    for rank in range(size):
        child = os.fork()
        if child == 0:
            os.environ["RANK"] = str(rank)
            warnings.simplefilter("ignore")
            common.command(lambda: work(job, timeout, folder, arguments))
            sys.exit(0)
        children[child] = rank
    codes = {}
    while children:
        child, status = os.waitpid(-1, 0)
        codes[children.pop(child)] = os.waitstatus_to_exitcode(status)
        # A stopped process never ends by itself.
        if arguments[:1] == ["stop"] and list(children.values()) == [2]:
            os.kill(next(iter(children)), signal.SIGKILL)
    (folder / "codes.json").write_text(json.dumps([codes[rank] for rank in range(size)]))


if __name__ == "__main__":
    main()
