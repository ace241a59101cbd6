"""What the benches share: steps on fixed batches, medians in alternating order, and tables of ratios."""

import csv
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from aldsgd.algorithm import Algorithm, advance
from aldsgd.cache import replace_file
from aldsgd.environment import environment
from aldsgd.errors import ConfigError
from aldsgd.local import LocalRule
from aldsgd.network import LocalNetwork
from aldsgd.records import check_folder
from aldsgd.settings import Settings
from aldsgd.workers import Workers, initial_model

BATCH = 16


class Steps:
    """Training steps of a method on fixed batches, as a trainer takes them, without its data and records.

    images, labels: (w, b, ...), of the hosted workers. options: of ``Workers``.
    """

    def __init__(
        self,
        build: Callable[[], nn.Module],
        algorithm: Algorithm,
        images: Tensor,
        labels: Tensor,
        settings: Settings,
        network: LocalNetwork | None = None,
        **options,
    ):
        self.algorithm, self.images, self.labels = algorithm, images, labels
        self.network = network or LocalNetwork(algorithm.n)
        self.workers = Workers(build, self.network.workers, algorithm.n, **options)
        self.state = SimpleNamespace(x=self.workers.rows)
        self.local = LocalRule(self.workers.parameters, self.network.workers, settings, steps=1)
        self.losses, self.t = torch.zeros(len(self.network.workers)), 0

    def gradients(self) -> None:
        """Losses and gradients, with weight decay."""
        workers = self.workers
        self.losses = workers.compute_gradients(self.images, self.labels, self.t)
        workers.gradients.add_(workers.parameters, alpha=self.local.decay)

    def update(self) -> None:
        """Move and mix."""
        step = self.algorithm.step(self.t)
        advance(self.algorithm, step, self.network, self.state, self.workers.gradients, self.local, self.losses)
        self.t += 1

    def __call__(self) -> float:
        """A whole step; the mean loss."""
        ahead = self.algorithm.step(self.t).ahead
        if ahead is not None:
            self.network.post(self.state.x, self.network.neighbourhood(ahead.links))
        self.gradients()
        self.update()
        return self.losses.mean().item()


def plain_steps(build, images: Tensor, labels: Tensor, optimizer: Callable) -> Callable[[], None]:
    """One ordinary PyTorch step of each of n models; ``optimizer`` makes theirs from parameters."""
    modules = [initial_model(build, 0, i) for i in range(len(images))]
    optimizers = [optimizer(module.parameters()) for module in modules]

    def run():
        for module, own, x, y in zip(modules, optimizers, images, labels, strict=True):
            own.zero_grad()
            cross_entropy(module(x), y).backward()
            own.step()

    return run


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


def show(rows: list[dict]) -> None:
    """Print the table."""
    for r in rows:
        reference = "" if r["reference"] is None else f"{r['reference']:12.3f}"
        ratio = "" if r["ratio"] is None else f"{r['ratio']:8.4f}"
        bar = "" if r["bar"] is None else f"  bar {r['bar']:g}: {'met' if r['met'] else 'MISSED'}"
        print(f"{r['what']:58s} {r['value']:12.3f} {reference} {r['unit']} {ratio}{bar}", flush=True)


def place(results: str | None, name: str, part: bool) -> Path:
    """Where the table ``name`` goes, checked before anything is measured.

    part: of some of the cases only, or measured in haste: that replaces the committed one only where ``results`` says
    so. Raises ConfigError where the folder cannot be written.
    """
    root = Path(results or ("my_results" if part else "results"))
    check_folder(root / "bench", root)
    return root / "bench" / name


def write(rows: list[dict], path: Path) -> None:
    """Write rows as CSV in one piece. Raises ConfigError where that cannot be done."""

    def written(temporary):
        with open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    try:
        replace_file(path, written)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}); choose another --results") from None


def save(rows: list[dict], path: Path) -> None:
    """Write the rows with the machine they were measured on."""
    made = environment(None, torch.get_num_threads())
    context = {"cpu": made["hardware"]["cpu"], "threads": made["hardware"]["threads"], "commit": made["commit"]}
    write([{**r, **context, "torch": made["versions"]["torch"]} for r in rows], path)
