"""One process: the skeleton beside plain PyTorch. See ``python -m experiments.bench --help``."""

import argparse
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from aldsgd import models
from aldsgd.graphs import paper_graph, ring
from aldsgd.leaders import ALDSGD
from aldsgd.network import LocalNetwork
from aldsgd.settings import Settings
from aldsgd.workers import initial_model
from baselines.dpsgd import DPSGD
from experiments.bench.common import BATCH, Steps, medians, place, plain_steps, row, save, show

LR, DECAY = 0.1, 5e-4
SGD = Settings(lr=LR, weight_decay=DECAY)
NESTEROV = Settings(lr=LR, weight_decay=DECAY, momentum=0.9, nesterov=True)


def mixing(repeats: int) -> list[dict]:
    """Mixing 8 x 11.2 M float32 against copying it."""
    source = torch.randn(8, 11_200_000)
    target, network = torch.empty_like(source), LocalNetwork(8)
    rows = []
    for name, algorithm in (("D-PSGD", DPSGD(paper_graph(100))), ("AL-DSGD", ALDSGD(DPSGD(paper_graph(100))))):
        (exchange,) = algorithm.step(0).after
        hood = network.neighbourhood(exchange.links)
        losses = torch.rand(8)[hood.col]
        found = medians(
            {
                "mix": lambda e=exchange, h=hood, x=losses: network.mix(source, e.rule.rows(h, x, LR), h),
                "copy": lambda: target.copy_(source),
            },
            repeats,
        )
        rows.append(row(f"mixing 8 x 11.2 M, {name} / copying it", found["mix"], found["copy"], 2.5))
    return rows


def eight(model: str, classes: int, settings: Settings = SGD) -> tuple[Steps, Callable[[], None], Callable[[], None]]:
    """Steps of 8 workers on fixed random images, the mixing alone, and eight plain PyTorch steps on the same."""
    torch.manual_seed(0)
    images, labels = torch.randn(8, BATCH, 3, 32, 32), torch.randint(classes, (8, BATCH))
    build = partial(models.build, model, classes, (3, 32, 32))
    steps = Steps(build, ALDSGD(DPSGD(paper_graph(100))), images, labels, settings)
    (exchange,) = steps.algorithm.step(0).after

    def mix():
        hood = steps.network.neighbourhood(exchange.links)
        steps.network.mix(steps.state.x, exchange.rule.rows(hood, steps.losses[hood.col], LR), hood)

    options = dict(lr=LR, weight_decay=DECAY, momentum=settings.momentum, nesterov=settings.nesterov)
    return steps, mix, plain_steps(build, images, labels, partial(torch.optim.SGD, **options))


def training(repeats: int, quick: bool) -> list[dict]:
    """Mixing as a share of a step, and the step against plain PyTorch."""
    rows = []
    for name, settings in (("SGD", SGD), ("Nesterov", NESTEROV)):
        step, mix, plain = eight("resnet50_narrow", 10, settings)
        found = medians({"step": step, "plain": plain, "mix": mix}, repeats)
        rows.append(row(f"step of 8 narrow ResNet-50 / eight plain steps, {name}", found["step"], found["plain"], 1.10))
    rows.append(row("mixing / step, narrow ResNet-50", found["mix"], found["step"], 0.02))
    if not quick:
        step, mix, _ = eight("wrn28_10", 100)
        found = medians({"step": step, "mix": mix}, 5)
        rows.append(row("mixing / step, WRN-28-10", found["mix"], found["step"], 0.02))
    return rows


def scaling(repeats: int) -> list[dict]:
    """Cost per worker of a step of MLP 64-128-10 on a ring, n = 64 and n = 1024."""
    rows = []
    for engine in ("vmap", "loop"):
        functions = {}
        for n in (64, 1024):
            images, labels = torch.randn(n, BATCH, 1, 8, 8), torch.randint(10, (n, BATCH))
            functions[n] = Steps(lambda: models.mlp(10), DPSGD(ring(n)), images, labels, SGD, engine=engine)
        found = {n: seconds / n for n, seconds in medians(functions, repeats).items()}
        what = f"MLP on a ring, {engine}: a worker at n = 1024 / at n = 64"
        rows.append(row(what, found[1024], found[64], 2.0, "us"))
    return rows


def memory() -> list[dict]:
    """Peak resident memory of 8 workers over that of the bare process, beside the count; only Linux tells the peak."""
    rows = []
    if not Path("/proc/self/clear_refs").exists():
        return rows
    for model, classes in (("resnet50_narrow", 10), ("mlp", 10)):
        output = subprocess.run(
            [sys.executable, "-m", "experiments.bench.cpu", model, str(classes)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        peak, count = map(float, output.split())
        rows.append(row(f"peak memory of 8 x {model} / the count", peak, count, unit="MB"))
    return rows


def peak(model: str, classes: int) -> None:
    """Print measured peak bytes, and the count: (parameters, gradients, one receive row) x 8 + activations of one."""
    status = Path("/proc/self/status")

    def resident(line: str) -> int:
        return int(status.read_text().split(f"{line}:")[1].split()[0]) * 1024

    warm = initial_model(lambda: models.mlp(10, (3, 32, 32)), 0, 0)
    cross_entropy(warm(torch.randn(2, 3, 32, 32)), torch.zeros(2, dtype=torch.long)).backward()
    torch.optim.SGD(warm.parameters(), lr=0.1).step()  # the first optimizer of a process loads much of torch
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here on
    before, (bench, _, _) = resident("VmRSS"), eight(model, classes)
    for _ in range(3):
        bench()
    measured = resident("VmHWM") - before
    saved = {}

    def keep(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    module = initial_model(partial(models.build, model, classes, (3, 32, 32)), 0, 0)
    parameters = {p.untyped_storage().data_ptr() for p in module.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        cross_entropy(module(bench.images[0]), bench.labels[0])
    activations = sum(size for pointer, size in saved.items() if pointer not in parameters)
    row_bytes = bench.workers.parameters[0].numel() * 4
    print(measured, 3 * 8 * row_bytes + activations)


def run(options: argparse.Namespace) -> None:
    """All parts; prints the table and writes ``bench/cpu.csv``. ``options``: repeats, quick, results."""
    path, rows = place(options.results, "cpu.csv", options.quick), []
    for part in (
        lambda: mixing(options.repeats),
        lambda: scaling(options.repeats),
        lambda: training(options.repeats, options.quick),
        memory,
    ):
        new = part()
        show(new)
        rows += new
    save(rows, path)


if __name__ == "__main__":
    peak(sys.argv[1], int(sys.argv[2]))
