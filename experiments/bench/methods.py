"""Claim: momentum, drift correction and compression cost little beside a training step, and bytes are those of a count.

What:     a step of 8 narrow ResNet-50 with quasi-global momentum and with gradient tracking against the same step of
          D-PSGD; what a codec makes of 8 rows of 11.2 M float32 against copying them; bytes of a packed row against a
          count by hand: values, places and signs in as few bits as they need.
Command:  python -m experiments.bench.methods
Hardware: two CPU cores, otherwise idle. Time: about 4 minutes. Writes results/bench/methods.csv.
Expect:   at most 1.15 of D-PSGD's step; top-k of 1 % at most 6 copies, signs at most 4; bytes equal.
"""

import argparse
import math
from functools import partial

import torch

from aldsgd import models
from aldsgd.codecs import QSGD, RandomSparse, Sign, Sparse, largest, only_, uniform
from aldsgd.graphs import paper_graph
from aldsgd.settings import Settings
from baselines.dpsgd import DPSGD
from baselines.gradient_tracking import GradientTracking
from baselines.quasi_global import QuasiGlobal
from experiments.bench.common import BATCH, Steps, medians, place, row, save, show
from experiments.command import command
from experiments.options import Parser, positive

#: Rounds of the committed table.
REPEATS = 7
PARAMETERS = 11_200_000
PLACES = math.ceil(math.log2(PARAMETERS))
#: Name -> (codec, bits of a packed row counted by hand, bar on its copies).
CODECS = {
    "top-k, 1 %": (Sparse(0.01), PARAMETERS // 100 * (32 + PLACES), 6.0),
    "random-k, 1 %": (RandomSparse(0.01), PARAMETERS // 100 * (32 + PLACES), None),
    "sign": (Sign(), 32 + PARAMETERS, 4.0),
    "QSGD, 4 bits": (QSGD(4), 32 + 5 * PARAMETERS, None),
}
METHODS = {
    "QG-DSGDm": QuasiGlobal,
    "QG-DSGDm, Nesterov": partial(QuasiGlobal, form="nesterov"),
    "gradient tracking": GradientTracking,
    "gradient tracking, adapt then combine": partial(GradientTracking, form="adapt_then_combine"),
}


def training(repeats: int) -> list[dict]:
    """A step of 8 workers with each method against D-PSGD's."""
    torch.manual_seed(0)
    images, labels = torch.randn(8, BATCH, 3, 32, 32), torch.randint(10, (8, BATCH))
    build = partial(models.build, "resnet50_narrow", 10, (3, 32, 32))
    rows = []
    for name, method in METHODS.items():
        steps = {
            side: Steps(build, algorithm, images, labels, Settings(lr=0.1))
            for side, algorithm in (("plain", DPSGD(paper_graph(100))), ("own", method(DPSGD(paper_graph(100)))))
        }
        found = medians(steps, repeats)
        rows.append(row(f"step of 8 narrow ResNet-50, {name} / D-PSGD", found["own"], found["plain"], 1.15))
    return rows


def compression(repeats: int) -> list[dict]:
    """Compressing 8 x 11.2 M float32 in place, draws included, against copying it."""
    torch.manual_seed(0)
    source = torch.randn(8, PARAMETERS)
    target, rows, step = torch.empty_like(source), [], torch.tensor(3)
    for name, (codec, _, bar) in CODECS.items():

        def compress(codec=codec):
            target.copy_(source)
            for i, own in enumerate(target):
                codec.compress_(own, uniform(0, torch.tensor([i]), step, PARAMETERS) if codec.random else None)

        # What is compressed has to be brought there first; that copy is not the codec's.
        found = medians({"both": compress, "copy": lambda: target.copy_(source)}, repeats)
        rows.append(row(f"{name} of 8 x 11.2 M / copying it", found["both"] - found["copy"], found["copy"], bar))
    return rows


def parts_of_topk(repeats: int) -> list[dict]:
    """What top-k spends on 8 x 11.2 M: finding the places, and zeros but there; beside a whole ``torch.topk``."""
    torch.manual_seed(0)
    source, count = torch.randn(8, PARAMETERS), PARAMETERS // 100
    target, places = torch.empty_like(source), [largest(own, count) for own in source]
    found = medians(
        {
            "copy": lambda: target.copy_(source),
            "find": lambda: [largest(own, count) for own in source],
            "keep": lambda: [only_(own, at) for own, at in zip(target, places, strict=True)],
            "whole": lambda: [own.abs().topk(count, sorted=False) for own in source],
        },
        repeats,
    )
    named = {"find": "finding the places", "keep": "zeros but there", "whole": "a whole torch.topk instead"}
    return [row(f"top-k, 1 %: {name} / a copy", found[part], found["copy"]) for part, name in named.items()]


def wire() -> list[dict]:
    """Bytes of a packed row against a count by hand."""
    drawn = torch.randn(PARAMETERS, generator=torch.Generator().manual_seed(0))
    rows = []
    for name, (codec, bits, _) in CODECS.items():
        draw = uniform(0, torch.tensor([0]), torch.tensor([0]), PARAMETERS) if codec.random else None
        sent = len(codec.pack(codec(drawn, draw)))
        counted = math.ceil(bits / 8)
        rows.append(row(f"bytes of a row of 11.2 M, {name} / by hand", sent, counted, 1.0, "MB"))
    return rows


def run(options: argparse.Namespace) -> None:
    """All parts; prints the table and writes ``bench/methods.csv``."""
    path, rows = place(options.results, "methods.csv", options.repeats != REPEATS), []
    parts = (compression, parts_of_topk, training)
    for part in (wire, *(partial(part, options.repeats) for part in parts)):
        new = part()
        show(new)
        rows += new
    save(rows, path)


def main(_session) -> None:
    p = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--repeats", type=positive, default=REPEATS,
                   help=f"rounds; the median is reported (default: {REPEATS})")  # fmt: skip
    p.add_argument(
        "--results", metavar="DIR", help="where the CSV goes (default: results; of other rounds: my_results)"
    )
    run(p.parse_args())


if __name__ == "__main__":
    command(main)
