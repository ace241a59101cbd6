"""The exchange between processes on loopback: beside bare sends, decent-dp, DistributedDataParallel (see __main__.py).

What:     (1) one edge both ways against a bare pair of isend and irecv of the same bytes, and against pickled
          objects; (2) a training step of ring D-PSGD against decent-dp, and of all-reduce against
          DistributedDataParallel, on the same model, batches, processes and final loss; (3) 8 workers in one process
          against 8 processes.
Command:  python -m experiments.bench --network   (decent-dp: pip install decent-dp)
Hardware: two CPU cores, otherwise idle, one thread a process. Time: about 5 minutes (``--quick``: 2).
Expect:   ratios of at most 1.15 (11.2 M and 23.5 M parameters) and 1.05. Medians of at least 5, order alternated.
"""

import argparse
import cProfile
import importlib.util
import io
import json
import os
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy

from aldsgd import models
from aldsgd.algorithm import Algorithm
from aldsgd.distributed import ProcessNetwork
from aldsgd.errors import ConfigError
from aldsgd.graphs import ring
from aldsgd.links import Pairs
from aldsgd.network import LocalNetwork
from aldsgd.settings import Settings
from aldsgd.step import Exchange, Gossip, Step
from aldsgd.workers import initial_model
from aldsgd.world import World, join
from baselines.allreduce import AllReduce
from baselines.dpsgd import DPSGD
from experiments.bench.common import BATCH, Steps, place, row, save, show

LR, DECAY = 0.01, 5e-4
PROCESSES = 4
STEPS = {False: 10, True: 5}
# Rounding grows fiftyfold a step in a fresh narrow ResNet-50; after these steps two runs of one method still agree.
COMPARED = 3
SIZES = {11_200_000: 1.15, 23_500_000: 1.15, 545_930: None}
MODELS = {"narrow ResNet-50 (0.55 M)": "resnet50_narrow", "MLP (11.0 M)": "wide_mlp"}


def wide_mlp() -> nn.Module:
    """11.0 M parameters and little arithmetic, so that the exchange shows."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(3072, 2816), nn.ReLU(), nn.Linear(2816, 800), nn.ReLU(), nn.Linear(800, 10)
    )


def built(name: str) -> nn.Module:
    return wide_mlp() if name == "wide_mlp" else models.build(name, 10, (3, 32, 32))


class OnePeerRing(Algorithm):
    """The ring of decent-dp: one matching a step, in turn, W = 1/2 and 1/2, mixed while the gradient is computed."""

    def __init__(self, n: int):
        matchings = ring(n).matchings
        self.n, self.halves = n, [Step(before=Exchange(Pairs((half,)), Gossip(0.5))) for half in matchings]

    def step(self, t):
        # decent-dp counts its second step twice.
        return self.halves[(t + (t > 1)) % 2]


def batches(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Fixed random images (n, b, 3, 32, 32) and labels (n, b), the same in every process."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(n, BATCH, 3, 32, 32, generator=generator)
    return images, torch.randint(10, (n, BATCH), generator=generator)


def ours(model: str, algorithm: Algorithm, world: World) -> Steps:
    """Steps of this repository, as the trainer takes them."""
    network = ProcessNetwork(algorithm.n, world) if world.size > 1 else LocalNetwork(algorithm.n)
    images, labels = (part[list(network.workers)] for part in batches(algorithm.n))
    settings = Settings(lr=LR, weight_decay=DECAY)
    return Steps(lambda: built(model), algorithm, images, labels, settings, network, start="same", engine="loop")


class Plain:
    """Steps of a wrapped PyTorch module: DistributedDataParallel, or decent-dp, which steps in its backward hooks."""

    def __init__(self, model: str, world: World, wrap: Callable[[nn.Module], nn.Module], own_step: bool):
        module = initial_model(lambda: built(model), 0, 0)
        self.module = wrap(module)
        self.optimizer = torch.optim.SGD(module.parameters(), lr=LR, weight_decay=DECAY) if own_step else None
        self.images, self.labels = (part[world.rank] for part in batches(world.size))

    def __call__(self) -> float:
        if self.optimizer:
            self.optimizer.zero_grad()
        loss = cross_entropy(self.module(self.images), self.labels)
        loss.backward()
        if self.optimizer:
            self.optimizer.step()
        return loss.item()


def decent_dp(module: nn.Module) -> nn.Module:
    from decent_dp.ddp import DecentralizedDataParallel

    def optimizer(named):
        return torch.optim.SGD([parameter for _, parameter in named], lr=LR, weight_decay=DECAY)

    return DecentralizedDataParallel(module, optimizer, topology="ring", _local_world_size=dist.get_world_size())


def distributed_data_parallel(module: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # newer versions of PyTorch rename the argument
        # Running statistics are not sent by the others either.
        return nn.parallel.DistributedDataParallel(module, broadcast_buffers=False)


def alternate(functions: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Median seconds of each function; all processes start it together, in an order that alternates."""
    seconds = {name: [] for name in functions}
    for i in range(repeats + 1):
        for name in list(functions)[:: 1 if i % 2 else -1]:
            dist.barrier()
            started = time.perf_counter()
            functions[name]()
            dist.barrier()
            if i:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def transfer(world: World, repeats: int) -> list[dict]:
    """One edge, both ways, between two processes."""
    found, network = [], ProcessNetwork(2, world)
    hood, peer = network.neighbourhood(Pairs((((0, 1),),))), 1 - world.rank
    for size, bar in SIZES.items():
        mine, theirs = torch.randn(1, size), torch.empty(size)
        (crossing,) = hood.crossings

        def sent(mine=mine, crossing=crossing):
            network._wait(network._send(crossing, mine, network._buffer("receive", 1, mine)))

        def mixed(mine=mine):
            network.mix(mine, hood.gossip(0.5), hood)

        def bare(mine=mine, theirs=theirs):
            works = [dist.isend(mine[0], peer), dist.irecv(theirs, peer)]
            for work in works:
                work.wait()

        def pickled(mine=mine):
            incoming = [None]
            for sender in (0, 1):
                if sender == world.rank:
                    dist.send_object_list([mine[0]], peer)
                else:
                    dist.recv_object_list(incoming, peer)

        seconds = alternate({"ours": sent, "mixed": mixed, "bare": bare, "pickled": pickled}, repeats)
        name = f"{size / 1e6:.2f} M float32"
        found += [
            {"what": f"edge both ways, {name} / bare isend, irecv", "value": seconds["ours"],
             "reference": seconds["bare"], "bar": bar},
            {"what": f"edge and mixing, {name} / bare", "value": seconds["mixed"], "reference": seconds["bare"]},
            {"what": f"send_object_list, {name} / bare", "value": seconds["pickled"], "reference": seconds["bare"]},
        ]  # fmt: skip
    return found


def steps(world: World, repeats: int, quick: bool) -> list[dict]:
    """Training steps beside decent-dp and DistributedDataParallel."""
    found, count, n = [], STEPS[quick], world.size
    pairs = {
        "ring D-PSGD / decent-dp": (
            lambda m: ours(m, OnePeerRing(n), world),
            lambda m: Plain(m, world, decent_dp, False),
        ),
        "all-reduce / DDP": (
            lambda m: ours(m, AllReduce(n), world),
            lambda m: Plain(m, world, distributed_data_parallel, True),
        ),
    }
    if importlib.util.find_spec("decent_dp") is None:
        if world.rank == 0:
            print(
                "decent-dp is not installed, its rows are left out; install it with: pip install decent-dp", flush=True
            )
        del pairs["ring D-PSGD / decent-dp"]
    for model_name, model in MODELS.items():
        for name, (make_ours, make_theirs) in pairs.items():
            runners = {"ours": make_ours(model), "theirs": make_theirs(model)}

            def several(which, runners=runners, count=count):
                for _ in range(count):
                    loss = runners[which]()
                return loss

            losses = torch.tensor([several(which, count=COMPARED) for which in runners])
            dist.all_reduce(losses)
            seconds = alternate({which: lambda w=which: several(w) for which in runners}, repeats)
            final = torch.tensor([several(which) for which in runners])
            dist.all_reduce(final)
            measured = {"what": f"step, {name}, {model_name}", "value": seconds["ours"] / count, "bar": 1.05,
                   "reference": seconds["theirs"] / count, "losses": (losses / n).tolist(),
                   "final": (final / n).tolist()}  # fmt: skip
            if measured["value"] > 1.05 * measured["reference"]:
                measured["profile"] = {which: profile(lambda w=which: several(w)) for which in runners}
            found.append(measured)
    return found


def hosting(world: World, repeats: int, quick: bool) -> list[dict]:
    """A step of 8 workers on the 8-ring, in this world's processes."""
    found, count = [], STEPS[quick]
    for model_name, model in MODELS.items():
        step = ours(model, DPSGD(ring(8)), world)
        step()
        seconds = []
        for _ in range(repeats):
            if world.size > 1:
                dist.barrier()
            started = time.perf_counter()
            for _ in range(count):
                step()
            if world.size > 1:
                dist.barrier()
            seconds.append((time.perf_counter() - started) / count)
        found.append({"what": model_name, "value": statistics.median(seconds)})
    return found


def profile(function: Callable[[], None], lines: int = 12) -> str:
    """Where the time of one call goes on this rank."""
    profiler = cProfile.Profile()
    dist.barrier()
    profiler.runcall(function)
    dist.barrier()
    text = io.StringIO()
    pstats.Stats(profiler, stream=text).sort_stats("tottime").print_stats(lines)
    return "\n".join(line for line in text.getvalue().splitlines() if line.strip())


PARTS = {
    "transfer": lambda world, o: transfer(world, o.repeats),
    "steps": lambda world, o: steps(world, o.repeats, o.quick),
    "hosting": lambda world, o: hosting(world, o.repeats, o.quick),
}


def processes(part: str, size: int, threads: int, options: argparse.Namespace) -> list[dict]:
    """Run a part on ``size`` processes of ``threads`` threads; what rank 0 found."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(size)]
        command += ["-m", "experiments.bench.network", part, str(out), "--repeats", str(options.repeats)]
        command += ["--quick"] if options.quick else []
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "LOGURU_LEVEL": "WARNING"}
        try:
            subprocess.run(command, check=True, env=environment)
        except subprocess.CalledProcessError:
            raise ConfigError(f"the part '{part}' of the bench failed on {size} processes; see above") from None
        return json.loads(out.read_text())


def run(options: argparse.Namespace) -> None:
    """All parts; prints the table and writes ``bench/network.csv``. ``options``: repeats, results, quick."""
    path, rows = place(options.results, "network.csv", options.quick), []

    def report(found: list[dict]) -> None:
        new = [row(f["what"], f["value"], f["reference"], f.get("bar")) for f in found]
        show(new)
        rows.extend(new)

    report(processes("transfer", 2, 1, options))
    found = processes("steps", PROCESSES, 1, options)
    report(found)
    for f in found:
        ours, theirs = f["losses"]
        print(f"loss after {COMPARED} steps, {f['what'].removeprefix('step, ')}: {ours:.6f} / {theirs:.6f}", flush=True)
        print("final loss: {:.4f} / {:.4f}".format(*f["final"]), flush=True)
        if abs(ours - theirs) > 1e-3 * abs(theirs):
            raise ConfigError(f"{f['what']}: the two do not compute the same, so their times do not compare")
        for which, text in f.get("profile", {}).items():
            print(f"\nprofile of {f['what']}, {which}:\n{text}\n")
    together, apart = processes("hosting", 1, 2, options), processes("hosting", 8, 1, options)
    report(
        [
            {
                "what": f"8 workers, one process / 8 processes, {one['what']}",
                "value": one["value"],
                "reference": many["value"],
            }
            for one, many in zip(together, apart, strict=True)
        ]
    )
    save(rows, path)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("part", choices=PARTS)
    p.add_argument("out", type=Path)
    p.add_argument("--repeats", type=int, default=7)
    p.add_argument("--quick", action="store_true")
    options = p.parse_args()
    with join("cpu", timeout=600.0) as world:
        found = PARTS[options.part](world, options)
        if world.rank == 0:
            options.out.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
