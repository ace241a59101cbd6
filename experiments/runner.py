"""The one runner: trains what the store lacks, in this process, in a pool, or spread over the processes of torchrun."""

import contextlib
import json
import signal
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch

from aldsgd import distrust
from aldsgd.algorithm import checked
from aldsgd.checkpoint import Checkpoints
from aldsgd.clocks import ComputeTimes
from aldsgd.data import shards_of, steps_per_epoch
from aldsgd.datasets import Data, content_hash, load
from aldsgd.distributed import ProcessNetwork
from aldsgd.environment import environment
from aldsgd.errors import ConfigError
from aldsgd.faults import taught
from aldsgd.graphs import worker_count
from aldsgd.listings import check_experiment, write_experiment
from aldsgd.own_names import own_data
from aldsgd.precision import prepare_device
from aldsgd.records import AlreadyComplete, Run, RunStore, check_folder
from aldsgd.rows import checked_model
from aldsgd.tasks import personalised, task_of
from aldsgd.trainers import trainer_for
from aldsgd.training import Trainer
from aldsgd.watching import Lines, TensorBoard, bar, everyone
from aldsgd.world import World, join
from baselines import registry
from experiments.command import Session, plain_warnings
from experiments.configuration import RunConfig
from experiments.options import Execution
from experiments.pool import Pool

#: One run of an experiment: the label of its curve or table row, its seed, and its configuration.
Entry = tuple[str, int, RunConfig]


def run_experiment(
    session: Session,
    name: str,
    entries: list[Entry],
    execution: Execution,
    preset: str,
    conditions: Mapping[str, str] | None = None,
) -> RunStore:
    """Train what the store lacks of ``entries``, and list the runs for tables; the store then has all.

    Between processes the ranks above 0 end here, because the tables that follow are rank 0's.
    Raises ConfigError before any training where a configuration, the data or the results folder cannot be used.
    """
    store = train_missing(session, name, entries, execution, preset)
    listed = [(label, seed, config.record()) for label, seed, config in entries]
    write_experiment(execution.results, name, preset, listed, conditions)
    return store


def train_missing(
    session: Session, name: str, entries: list[Entry], execution: Execution, preset: str | None = None
) -> RunStore:
    """Train every entry that the store lacks; returns the store, which then has all. See ``run_experiment``.

    preset: of the list that will be written of them, None where none will.
    """
    store = RunStore(execution.results)

    def lacking() -> str:
        if preset is not None:
            check_experiment(execution.results, name, preset)
        return json.dumps(absent(store, entries, execution))

    with join(execution.device, execution.timeout) as world:
        session.world = world
        world.together(lambda: prepare_process(execution, world))
        missing = [entries[i] for i in json.loads(world.first(lacking))]
        world.together(lambda: [check(config, execution) for _, _, config in missing])
        print(f"{name}: {len(entries)} runs, {len(entries) - len(missing)} already complete in {execution.results}")
        if not missing:
            print("nothing is trained, what follows is recorded; --results DIR names a folder to train them into")
        sys.stdout.flush()
        if execution.jobs > 1 and world.size == 1:
            refuse_failed([(entry, error) for entry, _, error in pooled(missing, execution)])
        else:
            shown = world.rank == 0 and not execution.quiet and sys.stderr.isatty()
            with bar(len(missing), "run", shown and len(missing) > 1) as runs:
                for i, entry in enumerate(missing, 1):
                    runs.write(f"[{i}/{len(missing)}] {named(entry)}")
                    sys.stdout.flush()
                    train_run(store, entry[2], execution, world, session.started, shown)
                    runs.update()
    if world.rank > 0:
        session.end(0)
    return store


def named(entry: Entry) -> str:
    """ "D-PSGD, seed 0"."""
    return f"{entry[0]}, seed {entry[1]}"


def refuse_failed(ended: list[tuple[Entry, str | None]]) -> None:
    """Raise ConfigError where one of the runs that ended has an error."""
    failed = [f"{named(entry)} ({error})" for entry, error in ended if error]
    if failed:
        raise ConfigError(
            f"{len(failed)} of {len(ended)} runs failed; first {failed[0]}. All others are complete; the same command "
            "tries these again"
        )


def absent(store: RunStore, entries: list[Entry], execution: Execution) -> list[int]:
    """Which entries the store lacks; what is left of checkpoints of the others is dropped.

    Raises ConfigError where a complete run was trained on other data than there is now, as far as both are known.
    """
    todo = []
    for i, (_, _, config) in enumerate(entries):
        run = store.load(config.record())
        if run is None:
            todo.append(i)
            continue
        known = run.meta.get("extra", {}).get("content", {}).get("data")
        now = known and content(config, execution)
        if now and now != known:
            raise ConfigError(
                f"{run.csv} was trained on other data than {config.dataset} is now (content {known}, now {now}); name "
                "another folder with --results, or the data of that run with --data"
            )
        checkpoints_of(store, config).remove()
    if todo:
        store.check_writable()
        for name, folder in (("save-models", execution.save_models), ("tensorboard", execution.tensorboard)):
            if folder:
                check_folder(Path(folder), Path(folder), name)
    return todo


def content(config: RunConfig, execution: Execution) -> str | None:
    """Hash of the samples that a run trains on now, None where they are not at hand."""
    # All that wrong labels follow from, so that a data set without them is read and hashed once.
    shards = config.workers, config.split, config.dirichlet_alpha, config.min_shard, config.seed, config.shards_seed
    noise = *shards, config.noisy_workers, config.label_noise
    flipped = *shards, config.fault == "flipped" and config.faulty
    place = (execution.data, *samples_key(config), all(noise[-2:]) and noise, flipped[-1] and flipped)
    if place not in _CONTENTS:
        try:
            data = config.taught(samples_of(config, replace(execution, download=False)))
            _CONTENTS[place] = content_hash(taught(data, config.workers, config.settings()))
        except ConfigError:
            _CONTENTS[place] = None
    return _CONTENTS[place]


_CONTENTS: dict[tuple, str | None] = {}


def pooled(entries: list[Entry], execution: Execution):
    """Train ``entries`` in worker processes; yields (entry, seconds, error or None) as each ends."""
    pool = Pool(min(execution.jobs, len(entries)) or 1, work, execution)
    try:
        for entry, seconds, error in pool.run(entries):
            print(f"{named(entry)} ({f'FAILED: {error}' if error else f'{seconds:.1f} s'})", flush=True)
            yield entry, seconds, error
        pool.close(patience=30)
    except BaseException:
        pool.close(patience=0)
        raise


def work(connection, execution: Execution) -> None:
    """What a process of the pool does: train one entry after another, until told to stop or left alone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the runner ends its workers
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    plain_warnings()
    torch.set_num_threads(execution.threads or 1)
    prepare_device(execution.device, execution.deterministic)
    execution, store = replace(execution, quiet=True), RunStore(execution.results)
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        if task is None:
            return
        started, error = time.perf_counter(), None
        try:
            train_run(store, task[2], execution)
        except Exception as caught:
            error = f"{type(caught).__name__}: {str(caught).splitlines()[0] if str(caught) else ''}".strip()
        connection.send((time.perf_counter() - started, error))


def prepare_process(execution: Execution, world: World) -> None:
    """Set the device and the threads. Raises ConfigError for what torch cannot use."""
    try:
        torch.zeros(1, device=world.device).item()
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {world.device} cannot be used ({str(error).splitlines()[0]})") from None
    if execution.threads is not None:
        torch.set_num_threads(execution.threads)
    prepare_device(world.device, execution.deterministic)


def parts(config: RunConfig, execution: Execution) -> tuple[Callable, object, object]:
    """(builder of a model, data, method) of a run, each of which has been checked."""
    data = samples_of(config, execution)
    samples = len(data.train_inputs)
    for name, value in (("workers", worker_count(config.workers)), ("samples in a batch", config.batch)):
        if value > samples:
            raise ConfigError(f"{value} {name} but only {samples} training samples; use fewer")
    data = config.taught(data)
    with registry.of_the_user(f"--method {config.method} cannot be made"):
        algorithm = config.algorithm(steps_per_epoch(samples, config.workers, config.batch))
    return config.build(data), data, algorithm


def check(config: RunConfig, execution: Execution) -> None:
    """Raise ConfigError for what ``prepare`` would, without building models; a user's own builder is called once."""
    settings = config.settings(engine=execution.engine)
    samples_of(config, execution)
    with warnings.catch_warnings():
        # Made again where the run is trained, the method warns then.
        warnings.simplefilter("ignore")
        build, data, algorithm = parts(config, execution)
    own = ":" in config.model
    with (
        torch.random.fork_rng(devices=[]),
        torch.device("cpu" if own else "meta"),
        registry.of_the_user(f"--model {config.model} fails on {config.dataset}"),
    ):
        checked_model(build())
    checked(algorithm)
    distrust.checked(algorithm, settings)
    shards, data = shards_of(data.train_targets, algorithm.n, settings), taught(data, algorithm.n, settings)
    if config.in_virtual_time:
        ComputeTimes(config.settings().clock, config.workers, config.seed, 1, config.compute_seconds)
    if config.personalised:
        personalised(task_of(data), data.subset(test_limit=config.interim_images), shards)
    if config.augment and data.train_inputs.ndim != 4:
        raise ConfigError("--augment needs images (N, C, H, W), and these are none; leave it out")
    if isinstance(config.lr, tuple) and len(config.lr) != algorithm.n:
        raise ConfigError(f"{len(config.lr)} learning rates for {algorithm.n} workers; give one, or one per worker")


def prepare(config: RunConfig, execution: Execution, world: World | None = None) -> Trainer:
    """The run of ``config``, ready to train."""
    build, data, algorithm = parts(config, execution)
    if world is None or world.size == 1:
        return trainer_for(algorithm, build, data, config.settings(execution.device, execution.engine))
    network = ProcessNetwork(config.workers, world, algorithm.centres)
    return trainer_for(algorithm, build, data, config.settings(world.device, execution.engine), hosting=network)


def train_run(
    store: RunStore,
    config: RunConfig,
    execution: Execution,
    world: World | None = None,
    started: float | None = None,
    bars: bool = False,
) -> Run | None:
    """Train one configuration and keep its records; a complete run is returned as it is. None on ranks above 0.

    A run that was cut off goes on from its newest checkpoint. ``started``: from which ``time_limit`` counts. ``bars``:
    show a bar; without one, each tested epoch is a line, unless it shall be quiet.
    """
    world, record = world or World(execution.device), config.record()
    complete = store.load(record) if world.size == 1 else None
    if complete is not None:
        return complete
    trainer = prepare(config, execution, world)
    device = torch.cuda.get_device_name(world.device) if world.device.startswith("cuda") else None
    made = environment(device, torch.get_num_threads())
    limit = None if execution.time_limit is None or started is None else started + execution.time_limit
    with contextlib.ExitStack() as stack:
        writers = []

        def opened() -> str:
            # Another process may have completed the run since the store was asked.
            with contextlib.suppress(AlreadyComplete):
                shown = tuple(trainer.task.metrics), config.also, config.in_virtual_time
                writer = store.writer(record, made, *shown)
                writers.append(stack.enter_context(writer))
            return json.dumps(bool(writers))

        if not json.loads(world.first(opened)):
            return store.load(record)
        writer = writers[0] if writers else None
        watchers = [writer.append if writer else None]
        if not (bars or execution.quiet):
            watchers.append(Lines(config.epochs, lambda: trainer.begun))
        if execution.tensorboard and writer:
            board = TensorBoard(Path(execution.tensorboard) / store.stem(record))
            watchers.append(stack.enter_context(contextlib.closing(board)))
        began = time.perf_counter()
        result = trainer.run(
            everyone(*watchers),
            progress=bars,
            place=1,
            checkpoints=checkpoints_of(store, config).folder,
            checkpoint_every=execution.checkpoint_every,
            deadline=limit,
        )
        if execution.save_models:
            result.about["model"] = None if ":" in config.model else config.model
            result.save(Path(execution.save_models) / store.stem(record))
        wire_bytes = trainer.hosting.total_wire_bytes()
        faults = distrust.report(trainer.distrust, result.rows, next(iter(trainer.task.metrics)))
        if writer is None:
            return None
        run = writer.finish(
            {
                "engine": trainer.workers.engine,
                "engine_reason": trainer.workers.engine_reason,
                "captured": trainer.stepper.captured,
                "deterministic": execution.deterministic or not world.device.startswith("cuda"),
                "parameters": trainer.workers.parameters.shape[1],
                "more_is_better": dict(trainer.task.metrics),
                "steps_per_epoch": trainer.steps,
                "mixing": trainer.algorithm.description(),
                "content": {"data": content_hash(trainer.data), "exchanges": trainer.identity()["exchanges"]},
                "diverged": trainer.diverged,
                **trainer.account(),
                **({"unsound": trainer.unsound} if trainer.unsound else {}),
                **({"faults": faults} if faults else {}),
                "processes": world.size,
                "wire_bytes": wire_bytes,
                "seconds_total": time.perf_counter() - began,
            }
        )
        checkpoints_of(store, config).remove()
        return run


def checkpoints_of(store: RunStore, config: RunConfig) -> Checkpoints:
    """Where a run that is not complete is kept."""
    record = config.record()
    return Checkpoints(store.root / "checkpoints" / store.stem(record), record)


def samples_of(config: RunConfig, execution: Execution) -> Data:
    """The data of a run, without the wrong labels of noisy workers."""
    return chosen(execution.data, execution.download, *samples_key(config))


def samples_key(config: RunConfig) -> tuple:
    """What, of a run, fixes its samples."""
    limits = config.train_images, config.test_images
    return config.dataset, config.validation, *limits, config.seed if config.resample and any(limits) else None


@lru_cache(maxsize=2)
def chosen(root, download, name: str, validation: int | None, train: int | None, test: int | None, seed: int | None):
    """The samples of a run, chosen once for all runs that have the same."""
    data = dataset(name, root, download)
    return (data if validation is None else data.held_out(validation)).subset(train, test, seed)


@lru_cache(maxsize=2)
def dataset(name: str, root: str | None, download: bool) -> Data:
    """A whole data set, loaded once for all runs of a script."""
    if ":" in name and not own_data(name):
        with registry.of_the_user(f"--data {name} fails"):
            data = registry.imported(name)()
        if not isinstance(data, Data):
            raise ConfigError(f"--data {name} gives a {type(data).__name__}; return a Data, as of Data.from_arrays")
    else:
        data = load(name, root, download)
    return data
