"""Claim: all workers of a run share one GPU at a speed near what their arithmetic and memory traffic allow.

What:     a whole training step of AL-DSGD on a ring (gather, augmentation, forward, backward, leaders, SGD, mixing) for
          n workers on every path, against n plain sequential PyTorch steps on ready batches; and the test of all
          workers. Milliseconds, images per second, the fraction of the floor, peak memory.
Command:  python -m experiments.bench --gpu    (``--quick``: a few small cases, also on a CPU, to try the script)
          python -m experiments.bench.gpu --models resnet50_narrow --workers 8    for some of the cases
Hardware: one CUDA device; nothing has been measured on one yet. A case whose floor is above a second is left out.
Expect:   8 x narrow ResNet-50 at batch 16: the best path at least 8 times as fast as the loop, 3.8 ms or less.

The floor is the larger of operations / rate and bytes / bandwidth, both measured first on the same device: the rate by
a large matrix product in the precision at hand, the bandwidth by a copy. Operations are those of convolutions and
products, forward and backward. Bytes count each layer's output five times (written and read forward; read, and its
gradient written and read, backward) and each parameter eleven times (read forward and backward, gradient written;
decay 3, SGD 3, mixing 2).
"""

import argparse
import csv
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from aldsgd import models
from aldsgd.data import Batches, split
from aldsgd.datasets import Data
from aldsgd.engines import BY_NAME
from aldsgd.environment import environment
from aldsgd.errors import ConfigError
from aldsgd.evaluation import Evaluator, mean_statistics
from aldsgd.graphs import line, ring
from aldsgd.leaders import ALDSGD
from aldsgd.local import LocalRule
from aldsgd.network import LocalNetwork
from aldsgd.precision import Arithmetic, prepare_device
from aldsgd.settings import Settings
from aldsgd.stepper import WARM_UP, Stepper
from aldsgd.tasks import task_of
from aldsgd.workers import Workers
from baselines.dpsgd import DPSGD
from baselines.single import Single
from experiments.bench.common import place, plain_steps, write
from experiments.command import command
from experiments.options import Parser, positive

LR, DECAY = 0.01, 5e-4
CLASSES = {"wrn28_10": 100}
SHAPE = (3, 32, 32)
#: name of a path: engine, whether the step is recorded as CUDA graphs. "plain" is what the others are compared with.
PATHS = {
    "plain": None,
    "loop": ("loop", False),
    "vmap": ("vmap", False),
    "stacked": ("stacked", False),
    "stacked, captured": ("stacked", True),
    "streams": ("streams", False),
    "streams, captured": ("streams", True),
}
MODELS = (
    "resnet50_narrow", "mlp", "mlp_narrow", "logistic", "cnn", "resnet_small", "resnet_small_gn", "vgg16_bn",
    "wrn28_10",
)  # fmt: skip
LONGEST_FLOOR = 1.0


def model_of(name: str) -> nn.Module:
    return models.build(name, CLASSES.get(name, 10), SHAPE)


def count(name: str) -> dict[str, float]:
    """For one image: operations of a training step and of a test, elements of all layers' outputs; and parameters."""
    with torch.device("meta"):
        model, images = model_of(name), torch.empty(2, *SHAPE)
        outputs: list[int] = []
        for layer in model.modules():
            if not list(layer.children()):
                layer.register_forward_hook(lambda _m, _i, out: outputs.append(out.numel()))
        with FlopCounterMode(display=False) as forward:
            scores = model(images)
        with FlopCounterMode(display=False) as backward:
            scores.sum().backward()
    parameters = sum(p.numel() for p in model.parameters())
    training = (forward.get_total_flops() + backward.get_total_flops()) / 2
    return {
        "train": training, "test": forward.get_total_flops() / 2, "outputs": sum(outputs) / 2, "parameters": parameters
    }  # fmt: skip


def floor_seconds(counted: dict, n: int, b: int, precision: str, rate: float, bandwidth: float) -> float:
    """The least time of a step of n workers with b images each, at ``rate`` (1/s) and ``bandwidth`` (bytes/s)."""
    width = 2 if precision == "bf16" else 4
    traffic = 5 * counted["outputs"] * n * b * width + 11 * counted["parameters"] * n * 4
    return max(counted["train"] * n * b / rate, traffic / bandwidth)


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def seconds_of(function: Callable[[], None], device: str, repeats: int) -> float:
    """Median seconds of ``function``, after one call that does not count."""
    found = []
    for _ in range(repeats + 1):
        synchronise(device)
        started = time.perf_counter()
        function()
        synchronise(device)
        found.append(time.perf_counter() - started)
    return statistics.median(found[1:])


def ceilings(device: str, precisions, quick: bool) -> tuple[dict[str, float], float]:
    """Measured operations per second of a matrix product in each precision, and bytes per second of a copy."""
    side, size = (512, 2**22) if quick else (8192, 2**28)
    a, b = torch.randn(side, side, device=device), torch.randn(side, side, device=device)
    rates = {}
    for precision in precisions:
        arithmetic = Arithmetic(precision, device)

        def product(arithmetic=arithmetic):
            with arithmetic.flags(), arithmetic.forward():
                for _ in range(10):
                    a @ b

        rates[precision] = 10 * 2 * side**3 / seconds_of(product, device, 5)
    source = torch.empty(size, device=device)
    target = torch.empty_like(source)
    return rates, 2 * 4 * size / seconds_of(lambda: target.copy_(source), device, 5)


def their_steps(name: str, n: int, b: int, precision: str, device: str, steps: int) -> Callable[[], None]:
    """``steps`` times n ordinary PyTorch steps one after another, on batches that lie ready."""
    images, labels = torch.randn(n, b, *SHAPE, device=device), torch.randint(10, (n, b), device=device)
    optimizer = partial(torch.optim.SGD, lr=LR, weight_decay=DECAY)
    step = plain_steps(lambda: model_of(name), images, labels, optimizer, precision)

    def run():
        for _ in range(steps):
            step()

    return run


def random_data(samples: int, tests: int, device: str) -> Data:
    """Random pixels on the device; their values do not change the work."""
    draw = torch.Generator().manual_seed(0)
    return Data.from_arrays(
        torch.randint(256, (samples, *SHAPE), dtype=torch.uint8, generator=draw), torch.arange(samples) % 10,
        torch.randint(256, (tests, *SHAPE), dtype=torch.uint8, generator=draw), torch.arange(tests) % 10,
    ).to(device)  # fmt: skip


def our_steps(path: str, name: str, n: int, b: int, precision: str, device: str, steps: int, data: Data):
    """(a function that takes ``steps`` whole steps, the workers) on one of ``PATHS``."""
    engine, capture = PATHS[path]
    workers = Workers(lambda: model_of(name), range(n), n, device=device, precision=precision, engine=engine)
    algorithm = Single(1) if n == 1 else ALDSGD(DPSGD(ring(n) if n > 2 else line(n)))
    local = LocalRule(workers.parameters, range(n), Settings(lr=LR, weight_decay=DECAY), steps)
    state = SimpleNamespace(x=workers.rows)
    stepper = Stepper(workers, algorithm, LocalNetwork(n, device), data, state, local, capture=capture)
    plan = Batches(split(data.train_targets, n), b, steps, seed=0, augment=True).epoch(0, range(n))

    def run():
        stepper.begin(plan)
        for t in range(steps):
            stepper.run(algorithm.step(t), t)
        stepper.finish()

    return run, workers


def measure(case: tuple, data: Data, device: str, least: float, repeats: int) -> dict:
    """Milliseconds of a step and peak bytes of one case; or what stopped it."""
    name, n, b, precision, path = case
    # The first call, which does not count, has room for the plain runs before a capture, and for the capture.
    steps = max(WARM_UP + 2, min(50, int(0.2 / max(least, 1e-6))))
    try:
        if device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        if path == "plain":
            run = their_steps(name, n, b, precision, device, steps)
        else:
            run, _ = our_steps(path, name, n, b, precision, device, steps, data)
        seconds = seconds_of(run, device, repeats) / steps
    except torch.cuda.OutOfMemoryError:
        return {"note": "out of memory"}
    return {
        "ms": 1e3 * seconds,
        "images_per_s": n * b / seconds,
        "floor_ms": 1e3 * least,
        "fraction_of_floor": least / seconds,
        "peak_MB": torch.cuda.max_memory_allocated() / 1e6 if device == "cuda" else None,
    }


def measure_test(case: tuple, data: Data, device: str, least: float, repeats: int) -> dict:
    """Milliseconds to test all workers on all test images."""
    name, n, _, precision, path = case
    try:
        _, workers = our_steps(path, name, n, 1, precision, device, 1, data)
        statistic, evaluator = mean_statistics(workers.modules), Evaluator(data, task_of(data), "own")
        seconds = seconds_of(lambda: evaluator.workers(workers, statistic), device, repeats)
    except torch.cuda.OutOfMemoryError:
        return {"note": "out of memory"}
    images = n * len(data.test_targets)
    return {
        "ms": 1e3 * seconds, "images_per_s": images / seconds, "floor_ms": 1e3 * least,
        "fraction_of_floor": least / seconds,
    }  # fmt: skip


COLUMNS = (
    "what", "model", "workers", "batch", "precision", "path", "ms", "images_per_s", "times_plain", "floor_ms",
    "fraction_of_floor", "peak_MB", "note",
)  # fmt: skip


def rows(options: argparse.Namespace, device: str) -> Iterator[dict]:
    """Every case that was asked for, printed as it is measured."""
    quick = options.quick
    rates, bandwidth = ceilings(device, options.precisions, quick)
    for precision, rate in rates.items():
        print(f"matrix product, {precision}: {rate / 1e12:.3g} TFLOP/s", flush=True)
    print(f"copy: {bandwidth / 1e9:.4g} GB/s", flush=True)
    plain: dict[tuple, float | None] = {}
    data = random_data(256 if quick else 16384, 64 if quick else 10000, device)
    order = itertools.product(options.models, options.workers, options.batches, options.precisions, options.paths)
    for case in order:
        name, n, b, precision, path = case
        if path != "plain" and BY_NAME[PATHS[path][0]].obstacle(model_of_meta(name)):
            continue
        if device != "cuda" and path.endswith("captured"):
            continue
        counted = count(name)
        least = floor_seconds(counted, n, b, precision, rates[precision], bandwidth)
        measured = (
            {"note": "left out: its floor is too long"}
            if least > LONGEST_FLOOR
            else measure(case, data, device, least, options.repeats)
        )
        if path == "plain":
            plain[case[:-1]] = measured.get("ms")
        reference = plain.get(case[:-1])
        if reference and "ms" in measured:
            measured["times_plain"] = reference / measured["ms"]
        yield show("step", case, measured)
        if b == options.batches[0] and path in ("loop", "stacked"):
            least = counted["test"] * n * len(data.test_targets) / rates[precision]
            if least < 5 * LONGEST_FLOOR:
                yield show("test", case, measure_test(case, data, device, least, options.repeats))


def model_of_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return model_of(name)


def show(what: str, case: tuple, measured: dict) -> dict:
    """One printed line, and the row of the CSV."""
    row = dict.fromkeys(COLUMNS) | dict(zip(COLUMNS, (what, *case), strict=False)) | measured
    if measured.get("note"):
        text = measured["note"]
    else:
        times = "" if row["times_plain"] is None else f"{row['times_plain']:6.2f} x plain"
        peak = "" if row["peak_MB"] is None else f"{row['peak_MB']:8.0f} MB"
        text = f"{row['ms']:10.3f} ms {row['images_per_s']:10.0f} img/s {row['fraction_of_floor']:6.3f} of floor "
        text += f"{times:>14s} {peak}"
    print(f"{what} {case[0]:16s} n {case[1]:<3d} b {case[2]:<4d} {case[3]:8s} {case[4]:18s} {text}", flush=True)
    return row


def save(row: dict, context: dict, path: Path) -> None:
    """Put one row into the CSV, in place of an earlier one of the same case on the same device."""
    row = {name: "" if value is None else str(value) for name, value in (row | context).items()}
    key = [*COLUMNS[:6], "device"]
    try:
        kept = list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}); choose another --results") from None
    write([*(old for old in kept if [old[k] for k in key] != [row[k] for k in key]), row], path)


#: What is measured unless the options say otherwise: in full, and with ``--quick``.
FULL = {
    "models": MODELS, "workers": (1, 8, 16, 64), "batches": (16, 128),
    "precisions": ("float32", "tf32", "bf16"), "paths": tuple(PATHS),
}  # fmt: skip
QUICK = {
    "models": ("mlp", "resnet_small"), "workers": (1, 2), "batches": (4,),
    "precisions": ("float32", "bf16"), "paths": tuple(PATHS),
}  # fmt: skip


def run(options: argparse.Namespace) -> None:
    """Measure and save. ``options``: quick, repeats, results; the lists of ``FULL`` where given.

    Raises ConfigError where there is no CUDA device, unless ``quick`` tries the script on the CPU.
    """
    available = torch.cuda.is_available()
    if not available and not options.quick:
        raise ConfigError("--gpu needs a CUDA device and torch finds none; --gpu --quick tries the script on the CPU")
    for name, default in (QUICK if options.quick else FULL).items():
        if getattr(options, name, None) is None:
            setattr(options, name, default)
    path = place(options.results, "gpu_quick.csv" if options.quick else "gpu.csv", options.quick)
    device = "cuda" if available else "cpu"
    prepare_device(device, deterministic=False)
    name = torch.cuda.get_device_name() if available else None
    made = environment(name, torch.get_num_threads())
    context = {"device": name or made["hardware"]["cpu"], "torch": made["versions"]["torch"], "commit": made["commit"]}
    for row in rows(options, device):
        save(row, context, path)
    print(f"in {path}")


def main(_session) -> None:
    p = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--quick", action="store_true", help="a few small cases, also on a CPU")
    p.add_argument("--repeats", type=positive, default=5, help="repeats; the median is reported (default: 5)")
    p.add_argument("--results", metavar="DIR", help="where the CSV goes (default: results; of a part: my_results)")
    p.add_argument("--models", nargs="+", choices=MODELS)
    p.add_argument("--workers", nargs="+", type=positive)
    p.add_argument("--batches", nargs="+", type=positive)
    p.add_argument("--precisions", nargs="+", choices=("float32", "tf32", "bf16"))
    p.add_argument("--paths", nargs="+", choices=PATHS)
    run(p.parse_args())


if __name__ == "__main__":
    command(main)
