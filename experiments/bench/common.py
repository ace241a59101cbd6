"""What the benches share: steps on fixed batches, medians in alternating order, and tables of ratios."""

import csv
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from aldsgd.algorithm import Algorithm, started
from aldsgd.cache import replace_file
from aldsgd.environment import environment
from aldsgd.errors import ConfigError
from aldsgd.local import LocalRule
from aldsgd.network import LocalNetwork
from aldsgd.precision import Arithmetic
from aldsgd.records import check_folder
from aldsgd.settings import Settings
from aldsgd.stepper import Stepper
from aldsgd.workers import Workers, initial_model

BATCH = 16


class Steps(Stepper):
    """Training steps of a method as a trainer takes them, on fixed batches in place of data.

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
        network = network or LocalNetwork(algorithm.n)
        workers = Workers(build, network.workers, algorithm.n, **options)
        local = LocalRule(workers.parameters, network.workers, settings, steps=100)
        sizes = [p.numel() for p in workers.modules[0].parameters() if p.requires_grad]
        super().__init__(workers, algorithm, network, None, started(algorithm, workers.rows, sizes), local)
        self.images, self.labels, self.t = images, labels, 0

    def fetch(self, plan, position) -> tuple[Tensor, Tensor]:
        """The batches, every time."""
        return self.images, self.labels

    def __call__(self) -> float:
        """A whole step; the mean loss."""
        self.run(self.algorithm.step(self.t), self.t)
        self.t += 1
        return self.losses.mean().item()


def plain_steps(build, images: Tensor, labels: Tensor, optimizer: Callable, precision="float32") -> Callable[[], None]:
    """One ordinary PyTorch step of each of n models, in turn, on fixed batches (n, b, ...), on their device.

    optimizer: makes a model's from its parameters.
    """
    arithmetic = Arithmetic(precision, images.device)
    modules = [initial_model(build, 0, i).to(images.device) for i in range(len(images))]
    optimizers = [optimizer(module.parameters()) for module in modules]

    def run():
        with arithmetic.flags():
            for module, own, x, y in zip(modules, optimizers, images, labels, strict=True):
                own.zero_grad()
                with arithmetic.forward():
                    scores = module(x)
                cross_entropy(scores.float(), y).backward()
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
    so. Raises ConfigError where it cannot be written.
    """
    if results == "":
        raise ConfigError("--results is empty; name a folder, or leave it out")
    root = Path(results or ("my_results" if part else "results"))
    path = root / "bench" / name
    check_folder(path.parent, root)
    if path.is_dir():
        raise ConfigError(f"{path} is a folder where a table belongs: move it away, or choose another --results")
    return path


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
    print(f"{len(rows)} rows in {path}")
