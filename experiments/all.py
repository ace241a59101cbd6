"""Every experiment, or some of them, with one command: trains what the store lacks and says what is left.

What:     the runs of all experiments of a preset, each once however many experiments share it, in several processes.
          Ctrl-C, a crash or a power cut lose only the runs that were in work; the same command goes on with the rest. A
          run that fails is reported at the end and does not stop the others.
Command:  python -m experiments.all --preset cpu --jobs 2 --data DIR
          python -m experiments.all --preset cpu --list        what is complete, what is left, and for how long
          python -m experiments.all --preset cpu --only sparsity ablation
Hardware: two CPU cores. Time: smoke 1 minute, cpu about 1.5 hours. The paper preset is GPU years; choose with --only.
Expect:   tables and figures afterwards: python paper_tables.py, python -m figures.all, python paper_tables.py --claims.
"""

import argparse
import contextlib
import importlib
import multiprocessing
import signal
import sys
import time
from collections.abc import Iterable
from multiprocessing.connection import wait
from typing import NamedTuple

import numpy as np
import torch

from aldsgd.cache import cache_dir
from aldsgd.data import load
from aldsgd.errors import ConfigError
from aldsgd.listings import write_experiment
from aldsgd.records import RunStore
from experiments import tuning
from experiments.common import command, linked, parser, prepare, train_into
from experiments.configuration import RunConfig
from experiments.scales import SEEDS

#: In the order in which they are run: those that answer most, and share most, come first.
EXPERIMENTS = (
    "tuning", "convergence", "baseline_audit", "sparsity", "communication", "degree_effect", "final_accuracy",
    "ablation", "heterogeneous", "non_iid", "sixteen_workers", "sensitivity", "starts",
)  # fmt: skip
OWN_SEEDS = {"tuning": tuning.SEEDS}
#: Training images per second on one quiet core, for the estimate before any run of the kind is in the store.
RATES = {"resnet_small": 2000, "cnn": 4000, "mlp": 40000, "logistic": 40000, "resnet50_narrow": 120, "wrn28_10": 5}


class Task(NamedTuple):
    """One run to train, under the name by which it is reported."""

    name: str
    config: RunConfig


def plan(names: Iterable[str], options: argparse.Namespace) -> dict[str, list[tuple[str, int, RunConfig]]]:
    """(label, seed, configuration) of every run of each experiment, seeds outermost."""
    entries = {}
    for name in names:
        module = importlib.import_module(f"experiments.{name}")
        seeds = options.seeds or OWN_SEEDS.get(name, SEEDS)[options.preset]
        entries[name] = [
            (label, seed, linked(config, options))
            for seed in seeds
            for label, config in module.configurations(options.preset, seed)
        ]
    return entries


def missing(entries: dict[str, list[tuple[str, int, RunConfig]]], store: RunStore) -> list[Task]:
    """Every run that the store lacks, once, under the first experiment that wants it."""
    tasks = {}
    for name, runs in entries.items():
        for label, seed, config in runs:
            stem = store.stem(config.record())
            if stem not in tasks and store.load(config.record()) is None:
                tasks[stem] = Task(f"{name}: {label}, seed {seed}", config)
    return list(tasks.values())


class Clock:
    """Seconds that a run will take: the median of complete runs of its kind, or a rate until there is one."""

    def __init__(self, store: RunStore):
        self.known: dict[tuple, list[float]] = {}
        for run in store.runs():
            if seconds := run.meta.get("extra", {}).get("seconds_total"):
                self.add(run.config, seconds)

    @staticmethod
    def kind(config: dict) -> tuple:
        names = ("dataset", "model", "train_images", "test_images", "epochs", "eval_every", "workers", "batch")
        return tuple(config.get(name) for name in names)

    def add(self, config: dict, seconds: float) -> None:
        self.known.setdefault(self.kind(config), []).append(seconds)

    def __call__(self, config: RunConfig) -> float:
        if known := self.known.get(self.kind(config.record())):
            return float(np.median(known))
        train = config.train_images or (1437 if config.dataset == "digits" else 50000)
        test = (config.test_images or 10000) * (config.workers + 1) / 3  # no backward pass
        tests = -(-config.epochs // config.eval_every)
        return (config.epochs * train + tests * test) / RATES.get(config.model, 1000)


def duration(seconds: float) -> str:
    """ "3 h 05 min", "12 min" or "40 s"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def work(connection, options: argparse.Namespace) -> None:
    """What a worker process does: train one configuration after another, until told to stop or left alone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the runner ends its workers
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    torch.set_num_threads(options.threads or 1)
    store = RunStore(options.results)
    while True:
        try:
            config = connection.recv()
        except EOFError:
            return
        if config is None:
            return
        started, error = time.perf_counter(), None
        try:
            train_into(store, config, options)
        except Exception as caught:
            error = f"{type(caught).__name__}: {str(caught).splitlines()[0] if str(caught) else ''}".strip()
        connection.send((time.perf_counter() - started, error))


class Pool:
    """``jobs`` worker processes, each with its own connection, so that it is known which run a lost one had."""

    def __init__(self, jobs: int, options: argparse.Namespace):
        self.context, self.options = multiprocessing.get_context("spawn"), options
        self.workers = [self._start() for _ in range(jobs)]

    def _start(self):
        ours, theirs = self.context.Pipe()
        process = self.context.Process(target=work, args=(theirs, self.options), daemon=True)
        process.start()
        theirs.close()
        return ours, process

    def run(self, tasks: list[Task]):
        """Train ``tasks``, in order; yields (task, seconds, error or None) as each ends."""
        waiting, busy = list(reversed(tasks)), {}
        idle = list(range(len(self.workers)))
        while waiting or busy:
            while waiting and idle:
                place = idle.pop(0)
                busy[place] = waiting.pop()
                try:
                    self.workers[place][0].send(busy[place].config)
                except ConnectionError:  # it was lost while it had nothing to do
                    self.workers[place] = self._start()
                    self.workers[place][0].send(busy[place].config)
            ready = set(wait([self.workers[place][0] for place in busy]))
            for place in [place for place in busy if self.workers[place][0] in ready]:
                connection, process = self.workers[place]
                task = busy.pop(place)
                try:
                    seconds, error = connection.recv()
                except (EOFError, ConnectionError):
                    process.join()
                    seconds, error = 0.0, f"its process ended with exit code {process.exitcode}"
                    self.workers[place] = self._start()
                idle.append(place)
                yield task, seconds, error

    def close(self, patience: float) -> None:
        """Let every worker process end, and end it after ``patience`` seconds."""
        for connection, _ in self.workers:
            with contextlib.suppress(OSError):
                connection.send(None)
        for connection, process in self.workers:
            process.join(patience)
            process.terminate()
            process.join()
            connection.close()


def summary(entries, store: RunStore, clock: Clock, jobs: int) -> str:
    """A line per experiment, runs complete and left, and the time that the runs not yet counted will take."""
    lines, counted = [], set()
    for name, runs in entries.items():
        left = [config for _, _, config in runs if store.load(config.record()) is None]
        new = {store.stem(config.record()): config for config in left}
        seconds = sum(clock(config) for stem, config in new.items() if stem not in counted)
        counted |= set(new)
        share = f"{len(runs) - len(left)} of {len(runs)} runs"
        lines.append(f"  {name:16s} {share:>20s}   " + (f"{duration(seconds / jobs):>10s} to go" if left else ""))
    return "\n".join(line.rstrip() for line in lines)


def main() -> None:
    p = parser(__doc__, SEEDS["cpu"])
    p.set_defaults(seeds=None, results=None)
    p.add_argument("--only", nargs="+", choices=EXPERIMENTS, default=EXPERIMENTS, metavar="EXPERIMENT",
                   help=f"some of: {', '.join(EXPERIMENTS)} (default: all)")  # fmt: skip
    p.add_argument("--jobs", type=int, default=1, metavar="J", help="worker processes (default: 1)")
    p.add_argument("--list", action="store_true", help="say what is complete and what is left, and train nothing")
    options = p.parse_args()
    if options.jobs < 1:
        raise ConfigError(f"--jobs {options.jobs} must be 1 or more")
    if options.seeds and min(options.seeds) < 0:
        raise ConfigError(f"--seeds {min(options.seeds)} must not be negative")
    # Smoke runs would take the place of real ones in the lists of the experiments.
    options.results = options.results or (cache_dir() / "smoke" if options.preset == "smoke" else "results")
    options.quiet = True
    store = RunStore(options.results)
    entries = plan([name for name in EXPERIMENTS if name in options.only], options)
    clock = Clock(store)
    print(f"preset {options.preset}, results in {options.results}\n{summary(entries, store, clock, options.jobs)}")
    tasks = missing(entries, store)
    left = sum(clock(task.config) for task in tasks)
    print(
        f"{len(tasks)} runs to train, about {duration(left / options.jobs)} in {options.jobs} process(es)", flush=True
    )
    if options.list:
        return
    store.check_writable()
    for task in {task.config.dataset: task for task in tasks}.values():
        load(task.config.dataset, options.data, options.download)
        prepare(task.config, options)
    try:
        failures = train(tasks, clock, options)
    finally:
        write_lists(entries, store, options)
    if failures:
        raise ConfigError(
            f"{len(failures)} of {len(tasks)} runs failed; first {failures[0]}. All others are complete; the same "
            "command tries these again"
        )


def write_lists(entries, store: RunStore, options: argparse.Namespace) -> None:
    """List the runs of every experiment that has a complete one, so that its table and figure can be made."""
    for name, runs in entries.items():
        if any(store.load(config.record()) is not None for _, _, config in runs):
            listing = [(label, seed, config.record()) for label, seed, config in runs]
            write_experiment(options.results, name, options.preset, listing)


def train(tasks: list[Task], clock: Clock, options: argparse.Namespace) -> list[str]:
    """Train ``tasks`` in worker processes, reporting each; returns what failed, one line each."""
    if not tasks:
        return []
    failures, pool = [], Pool(min(options.jobs, len(tasks)), options)
    remaining = {id(task): task for task in tasks}
    try:
        for done, (task, seconds, error) in enumerate(pool.run(tasks), 1):
            del remaining[id(task)]
            if error is None:
                clock.add(task.config.record(), seconds)
            else:
                failures.append(f"{task.name} ({error})")
            left = sum(clock(other.config) for other in remaining.values()) / options.jobs
            said = f"{seconds:.1f} s" if error is None else f"FAILED: {error}"
            print(
                f"[{done}/{len(tasks)}] {task.name} ({said}); {len(remaining)} left, about {duration(left)}", flush=True
            )
        pool.close(patience=30)
    except BaseException:
        pool.close(patience=0)
        raise
    return failures


if __name__ == "__main__":
    command(main)
