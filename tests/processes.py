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
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from torch import nn

from aldsgd.algorithm import Algorithm
from aldsgd.codecs import Sparse
from aldsgd.datasets import load
from aldsgd.distributed import ProcessNetwork
from aldsgd.errors import ConfigError
from aldsgd.graphs import complete, line, paper_set, ring, star
from aldsgd.leaders import ALDSGD, Averaging, Following, Force
from aldsgd.links import Arcs, Broadcast, Pairs, Reduce
from aldsgd.network import LocalNetwork
from aldsgd.selections import best_worker, maximum_degree_worker
from aldsgd.step import Exchange, Gossip, Step
from aldsgd.stepper import Acting
from aldsgd.training import Trainer
from aldsgd.world import World, join
from baselines.allreduce import AllReduce
from baselines.dpsgd import DPSGD
from experiments.command import command
from experiments.configuration import RunConfig
from tests.peer_jobs import peers, peers_resumed
from tests.stepping import rule, state_of, take

ROOT = Path(__file__).resolve().parents[1]
# 8 workers, batch 16, 10 steps an epoch.
BASE = RunConfig(model="logistic", lr=0.05, batch=16, epochs=5, eval_every=5, precision="float64", train_images=1280,
                 test_images=100, graph="paper:53.8", method="aldsgd")  # fmt: skip
METHODS = {
    "dpsgd": BASE.but(method="dpsgd"),
    "dpsgd_cwa": BASE.but(method="dpsgd_cwa"),
    "dpsgd_cwa_rotating": BASE.but(method="dpsgd_cwa", graphs=3),
    "matcha": BASE.but(method="matcha"),
    "allreduce": BASE.but(method="allreduce"),
    "released_dpsgd": BASE,
    "released_matcha": BASE.but(core="matcha"),
    "printed_dpsgd": BASE.but(order="printed"),
    "printed_matcha": BASE.but(core="matcha", order="printed", force_scale="lr"),
    "rotating": BASE.but(graphs=3, period=2),
    "nesterov": BASE.but(momentum=0.9, nesterov=True, schedule="cosine", warmup=0.5),
    "printed_adam": BASE.but(optimizer="adam", lr=0.01, order="printed", force_scale="lr"),
    "rates": BASE.but(lr=tuple(0.01 * k for k in range(1, 9)), momentum=0.5),
}
# What their exchanges and states need: broadcasts in groups from the best by scores, workers that wait, a centre, a
# weighted reduction, one number for each tensor.
LEADERS = {
    "lsgd_released": BASE.but(method="lsgd_released", groups=2, tau=4, tau_local=2, slow_workers=3, momentum=0.9),
    "eamsgd": BASE.but(method="eamsgd", tau=2),
    "wasgd_plus": BASE.but(method="wasgd_plus", tau=2, sharpness=5.0),
    "lgrawa": BASE.but(method="lgrawa", tau=3, norms="batch"),
}
# Two rows before the move; an all-reduce first; a number that is kept; a row that is replaced; packed rows, drawn and
# not; numbers beside rows; outer steps; pairs that change; leaders over weighted edges; arcs.
GOSSIP = {
    "gt": BASE.but(method="gt", graphs=2),
    "mt": BASE.but(method="mt"),
    "dsgd_ac": BASE.but(method="dsgd_ac", schedule="cosine", warmup=0.5, start_epoch=1),
    "decentlam": BASE.but(method="decentlam"),
    "choco_qsgd": BASE.but(method="choco", compressor="qsgd"),
    "choco_topk": BASE.but(method="choco", core="qg"),
    "choco_sign": BASE.but(method="choco", compressor="sign"),
    "sgp": BASE.but(method="sgp"),
    "slowmo": BASE.but(method="slowmo", inner="qg", tau=7),
    "noloco": BASE.but(method="noloco", tau=4),
    "led_momentum": BASE.but(core="qg", graph="base:4"),
    "one_peer": BASE.but(method="dpsgd", graph="one_peer"),
}
# Rows that are no numbers, over links and to all; false rows, lies and a cap; defences; a false leader.
FAULTS = {
    "nan": BASE.but(fault="nan", faulty=(1, 6), fault_from=5, epochs=2, eval_every=2),
    "nan_to_all": BASE.but(method="allreduce", fault="nan", faulty=(3,), fault_from=5, epochs=2, eval_every=2),
    "noise_clip_cap": BASE.but(fault="noise", faulty=(1,), lies=True, defence="clip", lead_cap=3),
    "old_trimmed": BASE.but(method="gt", fault="old", faulty=(1, 4), defence="trimmed", graph="complete"),
    "random_leader": BASE.but(method="lsgd", tau=2, fault="random", faulty=(5,), lies=True, defence="median"),
}
# Models that are read before they are mixed, over several rounds; a number that the move leaves, and steps by the rate.
PARTS = {
    "receiver": BASE.but(judge="receiver", selection="soft", sharpness=3.0, graphs=2),
    "gradient": BASE.but(judge="gradient", selection="rank", shift=0.2, schedule="cosine", timing="rate"),
}
CONFIGURATIONS = {
    **METHODS,
    **PARTS,
    **LEADERS,
    **GOSSIP,
    **FAULTS,
    **{f"{name}_float32": c.but(precision="float32", epochs=1, eval_every=1) for name, c in METHODS.items()},
    # BatchNorm: running statistics differ between workers, and are needed for the averaged model. So do labels, and
    # what each worker is tested on.
    "statistics": BASE.but(
        model="resnet_small",
        train_images=256,
        epochs=2,
        eval_every=1,
        bn_images=64,
        split="dirichlet",
        dirichlet_alpha=1.0,
        personalised=True,
    ),
}


def trained(config: RunConfig, world: World) -> dict:
    """Train one configuration; on rank 0, what must not depend on the number of processes."""
    data = load(config.dataset).subset(config.train_images, config.test_images)
    algorithm = config.algorithm(10)
    leaders, selected = [], {}
    for kind in (Averaging, Force, Following):
        selected[kind] = kind.rows

        def logged(self, hood, losses, lr, rows=kind.rows):
            found = best_worker(hood, losses), maximum_degree_worker(hood, losses)
            leaders.append(torch.stack([hood.col[entry] for entry in found]))
            return rows(self, hood, losses, lr)

        kind.rows = logged
    n, centres = algorithm.n, algorithm.centres
    hosting = ProcessNetwork(n, world, centres) if world.size > 1 else LocalNetwork(n, centres=centres)
    build = config.build(data)
    trainer = Trainer(algorithm, build, data, config.settings(), hosting=hosting)
    result = trainer.run()
    for kind, rows in selected.items():
        kind.rows = rows
    parameters = [hosting.bring(i, [trainer._tensors(i)["x"]])[0].clone() for i in range(n + centres)]
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

    def step(self, t):
        return Step(after=Exchange(Pairs(self.schedule(t)), Gossip(0.2)))


class Everything(Algorithm):
    """No method: every kind of link in turn, on models, a row, and a number for each worker, with two centres."""

    n, centres, state = 8, 2, {"y": "row", "w": "number"}

    def begin(self, state):
        state.y.copy_(state.x)
        state.w.fill_(1.0)

    def step(self, t):
        far = tuple(((i, (i + 2 ** (t % 3)) % 8)) for i in range(8))
        groups = ((0, 1, 2, 3), (4, 5, 6, 7)) if t % 2 else (tuple(range(8)),)
        return (
            Step(after=Exchange(Arcs((far,)), Gossip(0.5), ("x", "w"))),
            Step(before=Exchange(Pairs(ring(8).matchings), Gossip(0.3), ("y",)), acting=(0, 3, 5)),
            Step(after=Exchange(Broadcast(groups, tuple(group[t % 4] for group in groups)), Gossip(0.2))),
            Step(after=Exchange(Broadcast(groups), Gossip(0.4)), losses="all"),
            Step(after=Exchange(Reduce(groups, tuple(group[t % 4] for group in groups)), Gossip(0.1), ("x", "y"))),
            Step(after=Exchange(Pairs(tuple(((i, 8),) for i in range(8))), Gossip(0.05)), losses="links"),
            Step(after=Exchange(Broadcast(((*range(8), 9),), (9,)), Gossip(0.1))),
            Step(after=Exchange(Pairs(paper_set(100, 1)[0].matchings), Gossip(0.2), ("y",), Sparse(5))),
        )[t % 8]

    def settle(self, step, state, local):
        kept = state.y.abs().topk(5, dim=1)
        state.y.copy_(torch.zeros_like(state.y).scatter_(1, kept.indices, state.y.gather(1, kept.indices)) + 0.0)


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
    if name == "everything":
        return Everything()
    if name == "disconnected":
        return ALDSGD(DPSGD(paper_set(38.5, 3)[0], allow_disconnected=True))
    return ALDSGD(Scheduled(8, {"sometimes_none": sometimes, "random": random_matchings}[name]))


def walk(name: str, hosting: LocalNetwork) -> np.ndarray:
    """Steps toward one point per worker, with losses that make leaders change; all models (8 + c, 33) on rank 0."""
    algorithm, hosted, data = graph_algorithm(name), list(hosting.hosted), len(hosting.workers)
    rng = np.random.default_rng(0)
    start, goal = (torch.tensor(rng.normal(size=(8 + algorithm.centres, 33)))[hosted] for _ in range(2))
    models, delays = start.clone(), np.random.default_rng(hosting.rank)
    state, local = (
        state_of(algorithm, models),
        rule(models, hosting, 0.1, momentum=0.5 if name == "everything" else 0.0),
    )
    for t in range(500 if name == "random" else 60):
        hosting.step = t
        if hosting.size > 1 and delays.random() < 0.1:
            time.sleep(0.002)
        losses = (models - goal)[:data].square().sum(dim=1)
        acting = algorithm.step(t).acting
        if acting is None:
            take(algorithm, t, hosting, models, (models - goal)[:data], 0.1, losses, state, local)
        else:
            places = [i for i, worker in enumerate(hosting.workers) if worker in acting]
            some = Acting(local, places)
            take(algorithm, t, hosting, models, (models - goal)[:data], 0.1, losses, state, some)
    found = [torch.cat([getattr(state, name) for name in ("x", *algorithm.state)], dim=1)]
    rows = range(8 + algorithm.centres)
    return torch.stack([hosting.bring(w, [found[0][w - hosted[0] if w in hosted else 0]])[0] for w in rows]).numpy()


def graphs(world: World, folder: Path, names: str) -> None:
    for name in names.split(","):
        models = walk(name, ProcessNetwork(8, world, graph_algorithm(name).centres))
        if world.rank == 0:
            np.save(folder / f"{name}.npy", models)


def zoo(world: World, folder: Path) -> None:
    """Every model of the zoo, its workers spread over the processes."""
    from tests import zoo

    for name in zoo.MODELS:
        hosting = ProcessNetwork(zoo.WORKERS, world)
        trainer, rows = zoo.trained(name, hosting=hosting)
        parameters = [hosting.bring(i, [trainer._tensors(i)["x"]])[0].clone() for i in range(zoo.WORKERS)]
        if world.rank == 0:
            np.savez(folder / f"{name}.npz", parameters=torch.stack(parameters).numpy(), numbers=zoo.numbers(rows))


def unlike(world: World, folder: Path) -> None:
    """A builder that gives another model in each process."""
    hosting, data = ProcessNetwork(8, world), load("digits").subset(64, 10)
    Trainer(DPSGD(ring(8)), lambda: scaled(world.rank + 1), data, RunConfig().settings(), hosting=hosting)


def scaled(factor: float) -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    model[1].weight.data.mul_(factor)
    return model


def lost(world: World, folder: Path, how: str, method: str) -> None:
    """Rank 2 is stopped or killed at step 5."""
    hosting = ProcessNetwork(8, world)
    algorithm = AllReduce(8) if method == "allreduce" else DPSGD(ring(8))
    models = torch.zeros(len(hosting.workers), 1000)
    for t in range(10):
        hosting.step = t
        if t == 5 and world.rank == 2:
            os.kill(os.getpid(), {"stop": signal.SIGSTOP, "kill": signal.SIGKILL}[how])
        take(algorithm, t, hosting, models, models.clone(), 0.1, torch.zeros(len(models)))


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
        take(DPSGD(ring(8)), t, hosting, models, models.clone(), 0.1, torch.zeros(len(models)))


def uneven(world: World, folder: Path) -> None:
    world.together(lambda: ProcessNetwork(8, world))


def apart(world: World, folder: Path) -> None:
    """The processes do not get as far as this."""


JOBS = {
    "equality": equality,
    "graphs": graphs,
    "lost": lost,
    "peers": peers,
    "peers_resumed": peers_resumed,
    "wrong": wrong,
    "uneven": uneven,
    "apart": apart,
    "zoo": zoo,
    "unlike": unlike,
}


def launch(job: str, size: int, folder: Path, limit: float = 60, **extra: str) -> subprocess.CompletedProcess:
    """Run a job in a fresh interpreter that forks ``size`` processes, with ``extra`` in their environment."""
    command = [sys.executable, "-m", "tests.processes", job, str(size), str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR", **extra}
    return subprocess.run(command, cwd=ROOT, env=environment, timeout=limit, capture_output=True, text=True)


def prepare_once() -> None:
    """What every process would otherwise solve and load for itself."""
    for config in CONFIGURATIONS.values():
        load(config.dataset).subset(config.train_images, config.test_images)
        config.algorithm(10)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def work(job: str, session, timeout: float, folder: Path, arguments: list[str]) -> None:
    with join("cpu", timeout) as session.world:
        JOBS[job](session.world, folder, *arguments)


def main() -> None:
    (job, *arguments), size, folder = sys.argv[1].split(":"), int(sys.argv[2]), Path(sys.argv[3])
    os.environ |= {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    timeout = 4.0 if job == "lost" or arguments[1:] == ["killed"] else 40.0
    import_module("torch._dynamo")  # torch's first optimizer loads it
    if job == "equality":
        prepare_once()
    children = {}
    for rank in range(size):
        child = os.fork()
        if child == 0:
            os.environ["RANK"] = str(rank)
            warnings.simplefilter("ignore")
            command(lambda session: work(job, session, timeout, folder, arguments))
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
