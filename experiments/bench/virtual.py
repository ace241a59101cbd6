"""What the engine of virtual time costs: a gradient beside a synchronous run's, many workers, and where it goes.

What:     (1) CPU time of a gradient of 8 workers under ADSGD, exponential times, beside the same workers under D-PSGD
          that combines while it adapts, trained in steps, on digits: cnn and mlp; the median of rounds in alternating
          order; (2) gradients a second of CPU time of 512 MLP workers on a ring under ADSGD, and the shares of it that
          gradients, mixing, the local rule, copies of rows and the heap of events have, in an epoch of its own, since
          measuring costs as well; (3) the most rows that were held at once, by the number of workers.
Command:  python -m experiments.bench.virtual
Hardware: one CPU core. Time: 2 minutes. CPU time, so that other programs count little; on a busy machine they share
          caches and memory all the same.
Expect:   (1) a ratio of at most 1.25 for cnn; (2) at least 5,000; (3) at most 4 rows a worker.
"""

import argparse
import heapq
import statistics
import time
from contextlib import ExitStack
from dataclasses import replace
from types import SimpleNamespace
from unittest import mock

import torch

from aldsgd import events
from aldsgd.data import steps_per_epoch
from aldsgd.datasets import load
from aldsgd.mailbox import Versions
from aldsgd.trainers import trainer_for
from experiments.bench.common import place, save
from experiments.command import Session, command
from experiments.configuration import RunConfig
from experiments.options import Parser, positive

BASE = RunConfig(graph="ring", lr=0.05, epochs=100, bn_images=16)
#: Of the committed table.
ROUNDS = 5


def trainer(config: RunConfig):
    """The run of a configuration on digits, which are repeated until each worker has ten batches."""
    data = load("digits")
    copies = -(-10 * config.workers * config.batch // len(data.train_inputs))
    inputs, targets = data.train_inputs, data.train_targets
    data = replace(data, train_inputs=inputs.repeat(copies, 1, 1, 1), train_targets=targets.repeat(copies))
    steps = steps_per_epoch(len(data.train_inputs), config.workers, config.batch)
    return trainer_for(config.algorithm(steps), config.build(data), data, config.settings())


def per_gradient(run, epoch: int) -> float:
    """CPU seconds of a gradient in one epoch."""
    before, began = finished(run, epoch), time.process_time()
    run.train_epoch(epoch)
    return (time.process_time() - began) / (finished(run, epoch + 1) - before)


def finished(run, epoch: int) -> int:
    """Gradients of all workers so far."""
    return sum(run.events.count) if hasattr(run, "events") else epoch * run.steps * run.algorithm.n


def shares(run, epoch: int) -> dict[str, float]:
    """Share of the CPU time of one epoch that each part of the engine takes, without what it calls of the others."""
    heap = SimpleNamespace(heappush=heapq.heappush, heappop=heapq.heappop)  # nobody else's is measured
    parts = {
        "gradients": [(run.events, "gradients")],
        "mixing": [(events.Events, "mix")],
        "the local rule": [(events.Events, "move")],
        "copies": [(events.Events, "compute"), (Versions, "new")],
        "the heap": [(events.Events, "_at"), (heap, "heappop")],
    }
    spent, stack, last = dict.fromkeys((*parts, "the rest"), 0.0), ["the rest"], [0.0]

    def charge() -> None:
        now = time.process_time()
        spent[stack[-1]] += now - last[0]
        last[0] = now

    def timed(part: str, function):
        def charged(*arguments, **named):
            charge()
            stack.append(part)
            try:
                return function(*arguments, **named)
            finally:
                charge()
                stack.pop()

        return charged

    with ExitStack() as patches:
        patches.enter_context(mock.patch.object(events, "heapq", heap))
        for part, places in parts.items():
            for owner, name in places:
                patches.enter_context(mock.patch.object(owner, name, timed(part, getattr(owner, name))))
        last[0] = time.process_time()
        run.train_epoch(epoch)
        charge()
    return {part: seconds / sum(spent.values()) for part, seconds in spent.items()}


def main(session: Session) -> None:
    p = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--results", help="folder of the table (default: results; of other rounds: my_results)")
    p.add_argument("--rounds", type=positive, default=ROUNDS, help=f"rounds of each comparison (default: {ROUNDS})")
    options = p.parse_args()
    path = place(options.results, "virtual.csv", part=options.rounds != ROUNDS)
    torch.set_num_threads(1)
    rows = []
    for model, bar in (("cnn", 1.25), ("mlp", None)):
        base = BASE.but(model=model)
        runs = [trainer(base.but(method="adsgd", times="exponential")), trainer(base.but(method="dpsgd_cwa"))]
        seconds = [[], []]
        for epoch in range(options.rounds + 1):  # the first is a warm-up
            for i in (0, 1) if epoch % 2 else (1, 0):
                seconds[i].append(per_gradient(runs[i], epoch))
        value, reference = (1e6 * statistics.median(s[1:]) for s in seconds)
        rows.append(line(f"{model}, 8 workers, ADSGD / in steps", value, reference, "us CPU a gradient", bar))
    many = trainer(BASE.but(model="mlp", method="adsgd", times="exponential", workers=512))
    rates = [1 / per_gradient(many, epoch) for epoch in range(3)]
    rows.append(line("mlp, 512 workers, ADSGD", statistics.median(rates[1:]), None, "gradients a CPU second", None))
    for part, share in shares(many, 3).items():
        rows.append(line(f"mlp, 512 workers: {part}", share, None, "of the CPU time", None))
    for run, n in ((runs[0], 8), (many, 512)):
        rows.append(line(f"rows of messages, {n} workers", run.events.versions.most, n, "rows", 4.0))
    save(rows, path)


def line(what: str, value: float, reference: float | None, unit: str, bar: float | None) -> dict:
    """One line of the table, which is printed."""
    ratio = None if reference is None else value / reference
    print(f"{what:40s} {value:10.4g} {unit}" + (f", {ratio:.3f} of {reference:.1f}" if ratio else ""), flush=True)
    met = None if bar is None else ratio <= bar
    return {"what": what, "value": value, "reference": reference, "unit": unit, "ratio": ratio, "bar": bar, "met": met}


if __name__ == "__main__":
    command(main)
