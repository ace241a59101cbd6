"""Claim: the shared skeleton costs next to nothing beside plain PyTorch.

What:     (1) mixing 8 models of 11.2 M parameters against copying the same matrix; (2) mixing as a share of a training
          step; (3) a training step of 8 workers against eight plain PyTorch SGD steps on the same batches; (4) cost per
          worker of a large ring; (5) peak memory beside the count. ``--network``: between processes. ``--gpu``: a GPU.
Command:  python -m experiments.bench
Hardware: two CPU cores, otherwise idle. Time: about 10 minutes (``--quick`` leaves out WRN-28-10: 2 minutes).
Expect:   ratios of at most 2.5, 0.02, 1.10 and 2. Medians of at least 5 repeats, the order alternated.
"""

import argparse
import csv
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from aldsgd import models
from aldsgd.algorithm import iterate
from aldsgd.cache import replace_file
from aldsgd.environment import environment
from aldsgd.errors import ConfigError
from aldsgd.graphs import paper_graph, ring
from aldsgd.leaders import ALDSGD
from aldsgd.network import LocalNetwork
from aldsgd.workers import Workers, initial_model
from baselines.dpsgd import DPSGD
from experiments.common import command

LR, DECAY, BATCH = 0.1, 5e-4, 16


def medians(functions: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Median seconds of each function; every round calls all of them, in an order that alternates."""
    seconds = {name: [] for name in functions}
    for function in functions.values():
        function()
    for i in range(repeats):
        for name in list(functions)[:: 1 if i % 2 else -1]:
            started = time.perf_counter()
            functions[name]()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def row(what: str, value: float, reference: float | None = None, bar: float | None = None, unit: str = "ms") -> dict:
    """One line of the table: a measured value, what it is compared with, their ratio and the bar on it."""
    scale = {"ms": 1e3, "us": 1e6, "MB": 1e-6}[unit]
    ratio = None if reference is None else value / reference
    return {
        "what": what,
        "value": value * scale,
        "reference": None if reference is None else reference * scale,
        "unit": unit,
        "ratio": ratio,
        "bar": bar,
        "met": None if bar is None else ratio <= bar,
    }


def mixing(repeats: int) -> list[dict]:
    """Mixing 8 x 11.2 M float32 against copying it."""
    source = torch.randn(8, 11_200_000)
    target, network = torch.empty_like(source), LocalNetwork(8)
    rows = []
    for name, algorithm in (("D-PSGD", DPSGD(paper_graph(100))), ("AL-DSGD", ALDSGD(DPSGD(paper_graph(100))))):
        hood = network.neighbourhood(algorithm.matchings(0))
        hood.loss = torch.rand(8)[hood.col]
        found = medians(
            {
                "mix": lambda a=algorithm, h=hood: network.mix(source, a.after(0, h), h),
                "copy": lambda: target.copy_(source),
            },
            repeats,
        )
        rows.append(row(f"mixing 8 x 11.2 M, {name} / copying it", found["mix"], found["copy"], 2.5))
    return rows


class Step:
    """A training step of 8 workers on fixed random images, and eight plain PyTorch steps on the same."""

    def __init__(self, model: str, classes: int):
        torch.manual_seed(0)
        self.images = torch.randn(8, BATCH, 3, 32, 32)
        self.labels = torch.randint(classes, (8, BATCH))
        self.algorithm, self.network = ALDSGD(DPSGD(paper_graph(100))), LocalNetwork(8)
        self.build = lambda: models.build(model, classes, (3, 32, 32))
        self.workers = Workers(self.build, range(8), 8)
        self.losses = torch.zeros(8)

    def gradients(self) -> None:
        self.losses = self.workers.compute_gradients(self.images, self.labels, 0)

    def mix(self) -> None:
        hood = self.network.neighbourhood(self.algorithm.matchings(0))
        hood.loss = self.losses[hood.col]
        self.network.mix(self.workers.parameters, self.algorithm.after(0, hood), hood)

    def step(self) -> None:
        self.gradients()
        self.workers.gradients.add_(self.workers.parameters, alpha=DECAY)
        parameters, gradients = self.workers.parameters, self.workers.gradients
        iterate(self.algorithm, 0, self.network, parameters, gradients, LR, self.losses)

    def plain(self) -> Callable[[], None]:
        modules = [initial_model(self.build, 0, i) for i in range(8)]
        optimizers = [torch.optim.SGD(m.parameters(), lr=LR, weight_decay=DECAY) for m in modules]

        def run():
            for module, optimizer, x, y in zip(modules, optimizers, self.images, self.labels, strict=True):
                optimizer.zero_grad()
                cross_entropy(module(x), y).backward()
                optimizer.step()

        return run


def steps(repeats: int, quick: bool) -> list[dict]:
    """Mixing as a share of a step, and the step against plain PyTorch."""
    narrow = Step("resnet50_narrow", 10)
    found = medians({"step": narrow.step, "plain": narrow.plain(), "mix": narrow.mix}, repeats)
    rows = [
        row("step of 8 narrow ResNet-50 / eight plain steps", found["step"], found["plain"], 1.10),
        row("mixing / step, narrow ResNet-50", found["mix"], found["step"], 0.02),
    ]
    if not quick:
        wide = Step("wrn28_10", 100)
        found = medians({"step": wide.step, "mix": wide.mix}, 5)
        rows.append(row("mixing / step, WRN-28-10", found["mix"], found["step"], 0.02))
    return rows


def scaling(repeats: int) -> list[dict]:
    """Cost per worker of a step of MLP 64-128-10 on a ring, n = 64 and n = 1024."""
    rows = []
    for engine in ("vmap", "loop"):
        functions = {}
        for n in (64, 1024):
            workers = Workers(lambda: models.mlp(10), range(n), n, engine=engine)
            functions[n] = ring_step(workers, DPSGD(ring(n)), LocalNetwork(n))
        found = {n: seconds / n for n, seconds in medians(functions, repeats).items()}
        what = f"MLP on a ring, {engine}: a worker at n = 1024 / at n = 64"
        rows.append(row(what, found[1024], found[64], 2.0, "us"))
    return rows


def ring_step(workers: Workers, algorithm, network) -> Callable[[], None]:
    """One training step on fixed random digits."""
    images, labels = torch.randn(workers.n, BATCH, 1, 8, 8), torch.randint(10, (workers.n, BATCH))

    def step():
        losses = workers.compute_gradients(images, labels, 0)
        workers.gradients.add_(workers.parameters, alpha=DECAY)
        iterate(algorithm, 0, network, workers.parameters, workers.gradients, LR, losses)

    return step


def memory() -> list[dict]:
    """Peak resident memory of 8 workers over that of the bare process, beside the count; only Linux tells the peak."""
    rows = []
    if not Path("/proc/self/clear_refs").exists():
        return rows
    for model, classes in (("resnet50_narrow", 10), ("mlp", 10)):
        output = subprocess.run(
            [sys.executable, "-m", "experiments.bench", "--peak", model, str(classes)],
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
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here on
    before, bench = resident("VmRSS"), Step(model, classes)
    for _ in range(3):
        bench.step()
    measured = resident("VmHWM") - before
    saved = {}

    def keep(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    module = initial_model(bench.build, 0, 0)
    parameters = {p.untyped_storage().data_ptr() for p in module.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        cross_entropy(module(bench.images[0]), bench.labels[0])
    activations = sum(size for pointer, size in saved.items() if pointer not in parameters)
    row_bytes = bench.workers.parameters[0].numel() * 4
    print(measured, 3 * 8 * row_bytes + activations)


def show(rows: list[dict]) -> None:
    """Print the table."""
    for r in rows:
        reference = "" if r["reference"] is None else f"{r['reference']:12.3f}"
        ratio = "" if r["ratio"] is None else f"{r['ratio']:8.4f}"
        bar = "" if r["bar"] is None else f"  bar {r['bar']:g}: {'met' if r['met'] else 'MISSED'}"
        print(f"{r['what']:58s} {r['value']:12.3f} {reference} {r['unit']} {ratio}{bar}", flush=True)


def save(rows: list[dict], path: Path) -> None:
    """Write the rows with the machine they were measured on."""
    made = environment(None, torch.get_num_threads())
    context = {"cpu": made["hardware"]["cpu"], "threads": made["hardware"]["threads"], "commit": made["commit"]}
    context["torch"] = made["versions"]["torch"]

    def write(temporary):
        with open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, [*rows[0], *context])
            writer.writeheader()
            writer.writerows({**r, **context} for r in rows)

    try:
        replace_file(path, write)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}); choose another --results") from None


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--repeats", type=int, default=7, help="rounds; the median is reported (default: 7)")
    p.add_argument("--quick", action="store_true", help="leave out WRN-28-10")
    p.add_argument("--network", action="store_true", help="the exchange between processes instead")
    p.add_argument("--gpu", action="store_true", help="every engine and precision on a GPU instead")
    p.add_argument("--results", default="results", metavar="DIR", help="where the CSV goes (default: results)")
    p.add_argument("--peak", nargs=2, metavar=("MODEL", "CLASSES"), help=argparse.SUPPRESS)
    options = p.parse_args()
    if options.peak:
        return peak(options.peak[0], int(options.peak[1]))
    if options.gpu:
        from experiments import bench_gpu

        return bench_gpu.run(options)
    if options.repeats < 5:
        raise ConfigError(f"--repeats {options.repeats} is too few for a median; give 5 or more")
    if options.network:
        from experiments import bench_network

        return bench_network.run(options)
    rows = []
    for part in (
        lambda: mixing(options.repeats),
        lambda: scaling(options.repeats),
        lambda: steps(options.repeats, options.quick),
        memory,
    ):
        new = part()
        show(new)
        rows += new
    save(rows, Path(options.results) / "bench" / "cpu.csv")


if __name__ == "__main__":
    command(main)
