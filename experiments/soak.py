"""Many short runs of every kind, killed at random: no record is lost or doubled, nothing hangs, every number is right.

What:     runs that differ in method, graph, number of workers, optimizer, faults, defences and number of processes R,
          all drawn from a seed; each is started as its command line would, some are killed (SIGKILL, SIGTERM, SIGINT)
          after a random while and started again until they are complete. Then every record is read: it is there once,
          its rows are those of its epochs and workers, its sum fits, nothing of a checkpoint is left. A part of the
          runs is made once more without any kill, in one process, and must have the same rows: bit for bit where R was
          1, within rounding where it was more.
Command:  python -m experiments.soak --runs 500 --results DIR
Hardware: two CPU cores. Each run is on 64 digits and takes a second or less.
Expect:   0 lost, 0 doubled, 0 hangs, 0 wrong.
"""

import argparse
import csv
import json
import os
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections import Counter
from importlib import import_module
from pathlib import Path

import numpy as np

from aldsgd.cache import replace_file
from aldsgd.environment import environment
from aldsgd.errors import ConfigError
from aldsgd.records import CLOCK_COLUMNS, RunStore, check_folder
from aldsgd.streams import rng
from experiments import run as single
from experiments.command import Session, command
from experiments.configuration import RunConfig
from experiments.options import Parser, positive

BASE = RunConfig(
    model="logistic", train_images=64, test_images=16, batch=4, lr=0.05, epochs=3, precision="float64", bn_images=16
)
METHODS = (
    {"method": "dpsgd"}, {"method": "matcha"}, {"method": "allreduce"}, {"method": "single"}, {"method": "aldsgd"},
    {"method": "aldsgd", "core": "matcha"}, {"method": "aldsgd", "order": "printed"}, {"method": "gt"},
    {"method": "aldsgd", "judge": "average"}, {"method": "lsgd", "tau": 2}, {"method": "easgd", "tau": 2},
    {"method": "qg"}, {"method": "choco", "compressor": "qsgd"}, {"method": "sgp"},
)  # fmt: skip
GRAPHS = ("ring", "line", "complete", "star")
WORKERS = (4, 6, 8)
OPTIMIZERS = ({}, {"momentum": 0.9, "nesterov": True}, {"optimizer": "adam", "lr": 0.005}, {"schedule": "cosine"})
FAULTS = ({}, {}, {}, {"fault": "nan", "faulty": (0,)}, {"fault": "noise", "faulty": (1,), "lies": True})
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
#: Seconds after which a run counts as one that hangs.
HANG = 300
#: Latest seconds at which a start is killed.
LATEST = 0.7
#: One of so many runs is made once more without a kill.
AGAIN = 10
#: What is counted beside the records that are wrong.
COUNTED = ("R = 1", "R = 2", "starts", "kills", "failed", "hangs", "compared")


def drawn(seed: int, number: int) -> tuple[RunConfig, int]:
    """(configuration, number of processes R) of a run; its seed is its number, so that all differ."""
    draws = rng("soak", seed, number)
    pick = lambda among: among[int(draws.integers(len(among)))]  # noqa: E731
    workers = pick(WORKERS)
    config = BASE.but(seed=number, workers=workers, **pick(METHODS), **pick(OPTIMIZERS), **pick(FAULTS))
    if config.uses_graph:
        config = config.but(graph=pick(GRAPHS))
    return config, 1 if draws.random() < 0.8 else 2


def words(config: RunConfig, results: Path) -> list[str]:
    """The command line that makes a run."""
    found = ["--quiet", "--results", str(results), "--checkpoint-every", "1", "--threads", "1",
             "--seeds", str(config.seed)]  # fmt: skip
    base = RunConfig()
    named = {name: getattr(config, name) for name in config.record() if hasattr(config, name)}
    for name, value in {**named, **config.options}.items():
        if name in ("seed", "options") or name in config.unused or value == getattr(base, name, ...):
            continue
        if name in ("graph", "graphs", "disconnected") and not config.uses_graph:
            continue
        option = f"--{name.replace('_', '-')}"
        if value is True:
            found.append(option)
        else:
            found += [option, *map(str, value if isinstance(value, tuple) else (value,))]
    return found


class Start:
    """A run begun as the command line would, in processes forked from this one, which has all modules."""

    def __init__(self, config: RunConfig, processes: int, results: Path):
        self.said = tempfile.TemporaryFile("w+")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        argv = ["experiments.run", *words(config, results)]
        self.left = [self._fork(argv, rank, processes, port) for rank in range(processes)]
        self.codes: list[int] = []

    def _fork(self, argv: list[str], rank: int, processes: int, port: int) -> int:
        sys.stdout.flush()
        if pid := os.fork():
            return pid
        try:  # nothing of this process's own may run on in the child
            os.dup2(self.said.fileno(), 1)
            os.dup2(self.said.fileno(), 2)
            if processes > 1:
                os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes),
                               "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}  # fmt: skip
            for sign in (signal.SIGINT, signal.SIGTERM):
                signal.signal(sign, signal.default_int_handler if sign == signal.SIGINT else signal.SIG_DFL)
            sys.argv = argv
            command(single.main)
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        os._exit(code)

    def wait(self, seconds: float) -> bool:
        """Whether all its processes have ended within so many seconds."""
        until = time.monotonic() + seconds
        while self.left and time.monotonic() < until:
            for pid in list(self.left):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    self.left.remove(pid)
                    self.codes.append(os.waitstatus_to_exitcode(status))
            time.sleep(0.01)
        return not self.left

    def kill(self, sign: int) -> None:
        """Send a signal to all its processes that are left."""
        for pid in self.left:
            os.kill(pid, sign)

    def text(self) -> str:
        """What it has said."""
        self.said.seek(0)
        return self.said.read()


def trained(config: RunConfig, processes: int, results: Path, kills: list[tuple[float, int]], counts: Counter) -> None:
    """Start a run until one start ends by itself; each of ``kills``, (seconds, signal), ends a start if it comes in
    time. One killed after its record was complete is started again too: that clears away what it had no time to."""
    for delay, sign in [*kills, (None, None)]:
        start = Start(config, processes, results)
        counts["starts"] += 1
        ended = start.wait(HANG if delay is None else delay)
        if not ended:
            counts["hangs" if delay is None else "kills"] += 1
            start.kill(signal.SIGKILL if delay is None else sign)
            if not start.wait(HANG):
                counts["hangs"] += 1
                start.kill(signal.SIGKILL)
                start.wait(HANG)
        elif any(start.codes):
            counts["failed"] += 1
            print(f"run {config.seed}: exit codes {start.codes}: {start.text()[-300:]}", flush=True)
        start.said.close()
        if ended and RunStore(results).load(config.record()) is not None:
            return


def rows(path: Path) -> list[dict]:
    """The rows of a run without its clocks."""
    with open(path, newline="", encoding="utf-8") as file:
        return [{k: v for k, v in row.items() if k not in CLOCK_COLUMNS} for row in csv.DictReader(file)]


def wrong(config: RunConfig, results: Path) -> str | None:
    """What is wrong with the record of a run, None where it is as it should be."""
    run = RunStore(results).load(config.record())
    if run is None:
        return "lost"
    if len(list((results / "runs").glob(f"*{config.key}.json"))) != 1:
        return "doubled"
    workers = [row for row in rows(run.csv) if row["worker"] and int(row["worker"]) < config.workers]
    found = Counter((int(row["epoch"]), int(row["worker"])) for row in workers)
    expected = {(epoch, worker) for epoch in range(1, config.epochs + 1) for worker in range(config.workers)}
    if set(found) != expected or set(found.values()) != {1}:
        return "rows"
    return "left over" if list(results.glob(f"checkpoints/*{config.key}*")) else None


def differs(config: RunConfig, processes: int, results: Path, again: Path) -> bool:
    """Whether a run that nobody killed, in one process, has other rows."""
    one, other = (rows(RunStore(root).load(config.record()).csv) for root in (results, again))
    if processes == 1 and "choco" != config.method:
        return one != other
    values = [[float(v or "nan") for row in table for v in row.values()] for table in (one, other)]
    return len(one) != len(other) or not np.allclose(*values, rtol=1e-6, atol=1e-9, equal_nan=True)


def main(_session: Session) -> None:
    p = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--runs", type=positive, default=500, help="how many (default: 500)")
    p.add_argument("--seed", type=int, default=0, help="of all that is drawn (default: 0)")
    p.add_argument("--results", required=True, metavar="DIR", help="an empty folder for the runs and soak.json")
    options = p.parse_args()
    root = Path(options.results)
    check_folder(root / "runs", root)
    if any((root / "runs").iterdir()):
        raise ConfigError(f"{root} holds runs already; name an empty folder")
    # What every run would load, before anything is forked; torch's first optimizer loads torch's compiler.
    for name in ("experiments.runner", "sklearn.datasets", "torch._dynamo"):
        import_module(name)
    made_with = environment()
    counts, bad, began = Counter(), Counter(), time.perf_counter()
    for number in range(options.runs):
        (config, processes), draws = drawn(options.seed, number), rng("soak", options.seed, number, 1)
        kills = [
            (float(draws.uniform(0.05, LATEST)), SIGNALS[int(draws.integers(3))]) for _ in range(draws.integers(0, 3))
        ]
        trained(config, processes, root, kills, counts)
        counts[f"R = {processes}"] += 1
        fault = wrong(config, root)
        if fault is None and number % AGAIN == 0:
            trained(config, 1, root / "again", [], counts)
            counts["compared"] += 1
            fault = "differs" if differs(config, processes, root, root / "again") else None
        if fault:
            bad[fault] += 1
            print(f"run {number}: {fault}: {' '.join(words(config, root))}", flush=True)
        if (number + 1) % 25 == 0 or number + 1 == options.runs:
            found = {
                "runs": number + 1,
                "seed": options.seed,
                **dict.fromkeys(COUNTED, 0),
                **counts,
                "wrong": dict(bad),
            }
            found |= {"minutes": round((time.perf_counter() - began) / 60, 1), "environment": made_with}
            text = json.dumps(found, indent=1) + "\n"
            replace_file(root / "soak.json", lambda path, text=text: path.write_text(text, encoding="utf-8"))
            print(json.dumps({k: v for k, v in found.items() if k != "environment"}), flush=True)
    if bad or counts["hangs"]:
        raise ConfigError(f"{sum(bad.values())} records are wrong, {counts['hangs']} starts hung; see the lines above")


if __name__ == "__main__":
    command(main)
