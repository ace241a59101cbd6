"""Claim: the worker-stacked path trains the same models as the plain one, whatever the network.

What:     AL-DSGD on a line of workers, random images; the largest difference between the parameters and the buffers of
          the two paths, and whether they chose the same leaders. "free": each path goes on from its own state, 20 steps
          in float64, 10 in float32, lr 0.05. "from the plain state": each of 20 steps in float64 starts both paths from
          the plain one's. A network that amplifies rounding parts freely from any other order of summation
          (tests/test_stacked.py shows it for the narrow ResNet-50 and the plain path itself). The second form then
          tells whether the paths agree.
Command:  python -m experiments.bench.agreement    (--models vgg16_bn for one)
Hardware: one CPU core, 5 GB. Time: 10 minutes, most of it WRN-28-10. Writes results/bench/engines.csv.
Expect:   below 1e-9 in float64 and 1e-4 in float32 where a network does not amplify rounding.
"""

import argparse
from collections.abc import Iterator

import torch
from torch import Tensor

from aldsgd import models
from aldsgd.graphs import line
from aldsgd.leaders import ALDSGD
from aldsgd.selections import best_worker, maximum_degree_worker
from aldsgd.settings import Settings
from aldsgd.workers import Workers
from baselines.dpsgd import DPSGD
from experiments.bench.common import Steps, place, save
from experiments.command import command
from experiments.options import Parser

#: model: workers, batch, shape of an image
SIZES = {
    "mlp": (4, 16, (1, 8, 8)),
    "logistic": (4, 16, (1, 8, 8)),
    "cnn": (4, 8, (3, 16, 16)),
    "resnet_small": (4, 8, (3, 16, 16)),
    "resnet50_narrow": (2, 8, (3, 16, 16)),
    "vgg16_bn": (2, 8, (3, 16, 16)),
    "wrn28_10": (2, 2, (3, 8, 8)),
}
LR, DECAY = 0.05, 5e-4
#: precision, whether each step starts from the plain path's state, steps, largest difference that is wanted
FORMS = (("float64", False, 20, 1e-9), ("float64", True, 20, 1e-9), ("float32", False, 10, 1e-4))


def random_batch(n: int, b: int, shape, seed: int, classes: int = 10, dtype=torch.float64) -> tuple[Tensor, Tensor]:
    """Random images (n, b, *shape) with a brightness of their own, and labels (n, b)."""
    draw = torch.Generator().manual_seed(seed)
    images = torch.randn(n, b, *shape, generator=draw, dtype=torch.float64)
    images += torch.randn(n, b, *[1] * len(shape), generator=draw, dtype=torch.float64)
    return images.to(dtype), torch.randint(classes, (n, b), generator=draw)


def difference(one: Workers, two: Workers) -> float:
    """Largest difference between parameters and buffers of two sets of workers."""
    found = [(one.parameters - two.parameters).abs().max()]
    for a, b in zip(one.modules, two.modules, strict=True):
        found += [(p.double() - q.double()).abs().max() for p, q in zip(a.buffers(), b.buffers(), strict=True)]
    return max(value.item() for value in found)


def take_step(steps: Steps, images: Tensor, labels: Tensor) -> tuple[list[int], list[int]]:
    """One step of AL-DSGD; returns the leaders (best, maximum-degree) that it followed."""
    steps.images, steps.labels = images, labels
    hood = steps.network.neighbourhood(steps.algorithm.step(steps.t).links)
    steps()
    losses = steps.losses[hood.col]
    return hood.col[best_worker(hood, losses)].tolist(), hood.col[maximum_degree_worker(hood, losses)].tolist()


def equalise(target: Workers, source: Workers) -> None:
    """Give ``target`` the parameters and buffers of ``source``."""
    target.parameters.copy_(source.parameters)
    for one, two in zip(target.modules, source.modules, strict=True):
        for buffer, value in zip(one.buffers(), two.buffers(), strict=True):
            buffer.copy_(value)


def side_by_side(name, n, b, shape, steps, lr=LR, precision="float64", synced=False) -> Iterator[tuple]:
    """After each step: difference of the paths, whether they followed the same leaders, how far the plain one moved.

    synced: each step starts from the plain workers' state.
    """
    settings, algorithm = Settings(lr=lr, weight_decay=DECAY), ALDSGD(DPSGD(line(n)))
    paths = [
        Steps(lambda: models.build(name, 10, shape), algorithm, None, None, settings, engine=e, precision=precision)
        for e in ("loop", "stacked")
    ]
    plain, stacked = (path.workers for path in paths)
    start = plain.parameters.clone()
    for t in range(steps):
        images, labels = random_batch(n, b, shape, t, dtype=plain.dtype)
        if synced:
            equalise(stacked, plain)
        leaders = [take_step(path, images, labels) for path in paths]
        moved = (plain.parameters - start).abs().max().item()
        yield difference(plain, stacked), leaders[0] == leaders[1], moved


def measure(name: str) -> list[dict]:
    """One row per form of the comparison of a model."""
    n, b, shape = SIZES[name]
    rows = []
    for precision, synced, steps, wanted in FORMS:
        differences, same, moved = zip(*side_by_side(name, n, b, shape, steps, LR, precision, synced), strict=True)
        rows.append(
            {
                "model": name, "workers": n, "batch": b, "image": "x".join(map(str, shape)), "precision": precision,
                "steps": steps, "start": "from the plain state" if synced else "free",
                "first_step": differences[0], "largest": max(differences),
                "moved": moved[-1], "same_leaders": sum(same), "wanted": wanted, "met": max(differences) <= wanted,
            }
        )  # fmt: skip
    return rows


def main(_session) -> None:
    p = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--models", nargs="+", choices=SIZES, default=list(SIZES), help="which (default: all)")
    p.add_argument("--results", metavar="DIR", help="where the CSV goes (default: results; of a part: my_results)")
    options = p.parse_args()
    path, rows = place(options.results, "engines.csv", set(options.models) != set(SIZES)), []
    for name in dict.fromkeys(options.models):
        for row in measure(name):
            print(
                f"{name:16s} {row['precision']} {row['start']:20s} {row['steps']:2d} steps: first "
                f"{row['first_step']:.1e}, largest {row['largest']:.1e} of a way of {row['moved']:.2g} (wanted "
                f"{row['wanted']:g}: {'met' if row['met'] else 'MISSED'}), same leaders at {row['same_leaders']}",
                flush=True,
            )
            rows.append(row)
    save(rows, path)


if __name__ == "__main__":
    command(main)
