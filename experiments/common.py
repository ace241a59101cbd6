"""What every experiment script shares: its command line, its errors, and training what is missing from the store."""

import argparse
import contextlib
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import lru_cache

import torch

from aldsgd.checkpoint import Checkpoints
from aldsgd.communication import LINKS
from aldsgd.data import load, steps_per_epoch
from aldsgd.distributed import ProcessNetwork
from aldsgd.engines import ENGINES
from aldsgd.environment import environment
from aldsgd.errors import ConfigError
from aldsgd.listings import write_experiment
from aldsgd.precision import prepare_device
from aldsgd.records import Run, RunStore
from aldsgd.training import TimeUp, Trainer
from aldsgd.world import TIMEOUT, PeerError, World, join, launched
from experiments.configuration import RunConfig

#: When this process began to count ``--time-limit``.
STARTED = time.perf_counter()
PRESETS = ("smoke", "cpu", "paper")
#: One run of an experiment: the label of its curve or table row, and its configuration.
Entry = tuple[str, RunConfig]


def parser(description: str, seeds: Sequence[int], preset: str = "cpu") -> argparse.ArgumentParser:
    """The options that every experiment script understands."""
    p = argparse.ArgumentParser(description=description.strip(), formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--preset", choices=PRESETS, default=preset,
                   help="smoke: seconds, to see that it runs; cpu: scaled down to two CPU cores; paper: the paper's "
                        f"settings, for a GPU (default: {preset})")  # fmt: skip
    p.add_argument("--seeds", type=int, nargs="+", default=list(seeds), metavar="SEED",
                   help=f"one run of every configuration per seed (default: {' '.join(map(str, seeds))})")  # fmt: skip
    p.add_argument(
        "--device",
        default="cpu",
        help="where to train: cpu, cuda, cuda:1, ...; under torchrun cuda is one GPU per process (default: cpu)",
    )
    p.add_argument("--data", default=None, metavar="DIR",
                   help="folder of the data sets (default: $ALDSGD_DATA, else data); digits needs none")  # fmt: skip
    p.add_argument("--download", action="store_true", help="let torchvision download a data set that is missing")
    p.add_argument("--results", default="results", metavar="DIR", help="where runs are kept (default: results)")
    p.add_argument("--threads", type=int, default=None, metavar="T", help="CPU threads (default: torch's choice)")
    p.add_argument("--timeout", type=float, default=TIMEOUT, metavar="S",
                   help="under torchrun: seconds after which a process that does not answer ends the job "
                        f"(default: {TIMEOUT:g})")  # fmt: skip
    p.add_argument("--checkpoint-every", type=int, default=10, metavar="K",
                   help="epochs between checkpoints, from which a run that was cut off goes on; 0: none "
                        "(default: 10)")  # fmt: skip
    p.add_argument("--time-limit", type=float, default=None, metavar="S",
                   help="stop at a checkpoint before S seconds are over; the same command goes on from there, and the "
                        "exit code is 3 as long as something is left (default: none)")  # fmt: skip
    p.add_argument("--engine", choices=ENGINES, default="auto",
                   help="how the workers of a process run, which changes rounding alone: see aldsgd/engines.py "
                        "(default: auto)")  # fmt: skip
    p.add_argument("--deterministic", action="store_true",
                   help="on a GPU: the same bits each time, also after going on from a checkpoint, but slower; a CPU "
                        "always gives them")  # fmt: skip
    p.add_argument("--link", choices=LINKS, default=None,
                   help="link between workers that the modelled clock assumes (default: 10gbe, or the "
                        "experiment's own)")  # fmt: skip
    p.add_argument("--quiet", action="store_true", help="no progress bars")
    return p


def run_experiment(name: str, configurations: Callable[[str, int], list[Entry]], options: argparse.Namespace) -> None:
    """Train what the store lacks of ``configurations(preset, seed)`` for every seed, and list the runs for tables.

    Raises ConfigError before any training where a configuration, the data or the results folder cannot be used.
    """
    entries = [
        (label, seed, linked(config, options))
        for seed in options.seeds
        for label, config in configurations(options.preset, seed)
    ]
    train_missing(name, entries, options)
    write_experiment(
        options.results, name, options.preset, [(label, seed, config.record()) for label, seed, config in entries]
    )


def train_missing(name: str, entries: list[tuple[str, int, RunConfig]], options: argparse.Namespace) -> RunStore:
    """Train every (label, seed, configuration) that the store lacks; returns the store, which then has all.

    Under a launcher such as torchrun every process calls this. Rank 0 keeps the records, and the other processes end
    here, because the tables that follow are rank 0's: a script calls it once.
    """
    world = join(options.device, options.timeout)
    world.together(lambda: check_options(options, world))
    store = RunStore(options.results)

    def absent() -> str:
        store.check_writable()
        todo = []
        for i, (_, _, config) in enumerate(entries):
            if store.load(config.record()) is None:
                todo.append(i)
            else:
                checkpoints_of(store, config).remove()
        return json.dumps(todo)

    missing = [entries[i] for i in json.loads(world.first(absent))]

    def check() -> None:
        for _, _, config in missing:
            prepare(config, options, world)

    world.together(check)
    print(f"{name}: {len(entries)} runs, {len(entries) - len(missing)} already complete", flush=True)
    for i, (label, seed, config) in enumerate(missing, 1):
        print(f"[{i}/{len(missing)}] {label}, seed {seed}", flush=True)
        train_into(store, config, options, world)
    world.leave()
    if world.rank > 0:
        end(0)
    return store


def check_options(options: argparse.Namespace, world: World) -> None:
    """Raise ConfigError for an option that makes no sense; set the number of CPU threads."""
    check_device(world.device)
    if options.threads is not None:
        if options.threads < 1:
            raise ConfigError(f"--threads {options.threads} must be 1 or more")
        torch.set_num_threads(options.threads)
    prepare_device(world.device, chosen(options, "deterministic", False))
    limit = chosen(options, "time_limit", None)
    if limit is not None and not (limit > 0 and options.checkpoint_every):
        raise ConfigError("--time-limit needs a positive number of seconds, and checkpoints to stop at")
    if options.checkpoint_every < 0:
        raise ConfigError(f"--checkpoint-every {options.checkpoint_every} must be a number of epochs, or 0 for never")
    for seed in options.seeds:
        if seed < 0:
            raise ConfigError(f"--seeds {seed} must not be negative")


def chosen(options: argparse.Namespace, name: str, default):
    """An option that callers without a command line, such as a notebook, may leave out."""
    return getattr(options, name, default)


def linked(config: RunConfig, options: argparse.Namespace) -> RunConfig:
    """The configuration with the modelled link of the command line, where one is given."""
    return replace(config, **asdict(LINKS[options.link])) if options.link else config


def prepare(config: RunConfig, options: argparse.Namespace, world: World | None = None) -> Trainer:
    """The run of ``config``, ready to train; every check of its parts has passed."""
    data = dataset(config.dataset, options.data, options.download, config.train_images, config.test_images)
    data, build = config.taught(data), config.build(data)
    algorithm = config.algorithm(steps_per_epoch(len(data.train_labels), config.workers, config.batch))
    alone = world is None or world.size == 1
    settings = replace(
        config.settings(options.device if alone else world.device), engine=chosen(options, "engine", "auto")
    )
    if alone:
        return Trainer(algorithm, build, data, settings)
    return Trainer(algorithm, build, data, settings, hosting=ProcessNetwork(config.workers, world))


def train_into(
    store: RunStore, config: RunConfig, options: argparse.Namespace, world: World | None = None
) -> Run | None:
    """Train one configuration and keep its records; a complete run is returned as it is. None on ranks above 0.

    A run that was cut off goes on from its newest checkpoint.
    """
    world, record = world or World(options.device), config.record()
    complete = store.load(record) if world.size == 1 else None
    if complete is not None:
        return complete
    trainer = prepare(config, options, world)
    device = torch.cuda.get_device_name(world.device) if world.device.startswith("cuda") else None
    checkpoints, limit = checkpoints_of(store, config), chosen(options, "time_limit", None)
    with contextlib.ExitStack() as stack:
        writer = world.together(
            lambda: (
                stack.enter_context(store.writer(record, environment(device, torch.get_num_threads())))
                if world.rank == 0
                else None
            )
        )
        started = time.perf_counter()
        trainer.run(
            on_record=writer.append if writer else lambda rows: None,
            progress=world.rank == 0 and not options.quiet and sys.stderr.isatty(),
            checkpoints=checkpoints if options.checkpoint_every else None,
            checkpoint_every=options.checkpoint_every,
            deadline=None if limit is None else STARTED + limit,
        )
        wire_bytes = trainer.hosting.total_wire_bytes()
        if writer is None:
            return None
        run = writer.finish(
            {
                "engine": trainer.workers.engine,
                "engine_reason": trainer.workers.engine_reason,
                "captured": trainer.step.captured,
                "deterministic": chosen(options, "deterministic", False) or not world.device.startswith("cuda"),
                "parameters": trainer.workers.parameters.shape[1],
                "steps_per_epoch": trainer.steps,
                "mixing": trainer.algorithm.description(),
                "processes": world.size,
                "wire_bytes": wire_bytes,
                "seconds_total": time.perf_counter() - started,
            }
        )
        checkpoints.remove()
        return run


def checkpoints_of(store: RunStore, config: RunConfig) -> Checkpoints:
    """Where a run that is not complete is kept."""
    return Checkpoints(store.root / "checkpoints" / store.stem(config.record()))


@lru_cache(maxsize=2)
def dataset(name: str, root: str | None, download: bool, train_images: int | None, test_images: int | None):
    """A data set, loaded once for all runs of a script."""
    return load(name, root, download).subset(train_images, test_images)


def check_device(device: str) -> None:
    """Raise ConfigError unless torch can use ``device``."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {device} cannot be used ({str(error).splitlines()[0]})") from None


def command(main: Callable[[], None]) -> None:
    """Run a script's ``main``; what the user got wrong is one line on stderr and exit code 2.

    Under a launcher rank 0 alone prints, except that every rank says which other rank it waited for in vain, and ends
    with exit code 1.
    """
    errors = sys.stderr
    if launched()[0] > 0:
        sys.stdout = sys.stderr = open(os.devnull, "w")
    warnings.showwarning = lambda message, *_args, **_kwargs: print(f"warning: {message}", file=sys.stderr)
    try:
        main()
        if World.current.size > 1:
            end(0)
    except ConfigError as error:
        alone = World.current.size > 1 and not getattr(error, "on_all_ranks", False)
        print(f"error: {error}", file=errors if alone else sys.stderr)
        end(2)
    except PeerError as error:
        if World.current.stopped():
            end(2)
        # One piece, because several processes may write at once.
        errors.write(f"error: {error}\n")
        end(1)
    except TimeUp as reached:
        print(f"{reached}; the same command goes on from there", flush=True)
        end(3 if World.current.size == 1 else 0)
    except KeyboardInterrupt:
        print("stopped; complete runs are kept, the same command goes on with the rest", file=sys.stderr)
        end(130)
    except Exception:
        sys.stderr = errors
        raise


def end(code: int) -> None:
    """Leave the script; between processes without tearing down connections, which could wait for a lost process, and
    without ending the interpreter, which aborts where a thread of torch is still at work."""
    if World.current.size == 1:
        sys.exit(code)
    if code == 2:
        World.current.stop()
    for stream in (sys.stdout, sys.stderr, sys.__stderr__):
        stream.flush()
    World.current.abandon()
    os._exit(code)
