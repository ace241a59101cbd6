"""A run by name: the configuration that keys the store of runs, and what is built from it. Loads no torch."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from aldsgd.clocks import Clock
from aldsgd.errors import ConfigError
from aldsgd.graphs import parse
from aldsgd.links import LINKS, Link
from aldsgd.methods import Method, Options, Setting, option
from aldsgd.own_names import files_hash, own_data
from aldsgd.records import key
from baselines import registry

ROTATIONS = ("uniform", "released")
#: Method options that every record holds, None where they have no effect; others only stand where they do.
ALWAYS = ("core", "budget", "weights", "c1", "c2", "p1", "p2", "order", "force_scale", "period", "candidates")


@dataclass(frozen=True)
class RunConfig:
    """Everything that fixes the numbers of one run; clocks, threads and hosting are not among it.

    options: of the method and of the core that it wraps, by name; those left out have their defaults.
    """

    dataset: str = option(
        "digits",
        "text:PATH, folder:PATH, table:PATH[,TARGET], your own as module:function, or one by name",
        "aldsgd.datasets:DATASETS",
        more=True,
    )
    model: str = option(
        "mlp", "network of each worker, your own as module:function, or one by name", "aldsgd.models:NAMES", more=True
    )
    train_images: int | None = option(None, "training samples used, class-balanced; none for all")
    test_images: int | None = option(None, "test samples used, class-balanced; none for all")
    resample: bool = option(False, "choose these samples by the seed, instead of the same for all", recorded=False)
    validation: int | None = option(
        None, "training samples held out, spread over the classes, to test on instead of the test set", recorded=False
    )
    augment: bool = option(False, "random crop and horizontal flip")
    workers: int = option(8, "number of workers n")
    split: str = option("iid", "how the training set is dealt to the workers", "aldsgd.data:SPLITS")
    dirichlet_alpha: float | None = option(None, "concentration of the dirichlet split; small is skewed")
    min_shard: int = option(1, "least number of samples of a worker")
    split_seed: int | None = option(None, "seed of the shards; none: that of everything else", recorded=False)
    graph: str = option("paper:53.8", "communication graph by name, or file:PATH with one edge a line")
    graphs: int = option(1, "number of graphs used in turn, made from the first")
    graph_order: str = option("uniform", "order of the graphs; released: by the batch of the epoch", ROTATIONS)
    disconnected: bool = option(False, "allow graphs on which the workers cannot agree")
    method: str = option("aldsgd", "your own as module:Class, or one by name", tuple(registry.METHODS), more=True)
    batch: int = option(16, "samples per worker and step")
    lr: float | tuple[float, ...] = option(0.4, "learning rate eta; one number, or one per worker")
    lr_drops: tuple[tuple[int, float], ...] = option((), "EPOCH:FACTOR of schedule steps, applied from that epoch on")
    epochs: int = option(10, "epochs")
    weight_decay: float = option(5e-4, "weight decay, on every parameter")
    optimizer: str = option("sgd", "local rule", "aldsgd.local:OPTIMIZERS", recorded=False)
    momentum: float = option(0.0, "momentum of sgd", recorded=False)
    nesterov: bool = option(False, "Nesterov's form of the momentum", recorded=False)
    betas: tuple[float, float] = option((0.9, 0.999), "the two averages of adam and adamw", recorded=False)
    schedule: str = option("steps", "of the learning rate", "aldsgd.local:SCHEDULES", recorded=False)
    warmup: float = option(0.0, "epochs in which the rate grows to its value", recorded=False)
    init: str | None = option(None, "file of a saved model from which every worker starts", recorded=False)
    freeze: tuple[str, ...] = option((), "beginnings of names of parameters that are not trained", recorded=False)
    start: str = option("different", "initial models", "aldsgd.workers:STARTS")
    start_scaled: bool = option(
        False, "scale each tensor of a worker's initial model by its own U(0, 2)", recorded=False
    )
    label_noise: float = option(0.0, "share of wrong labels of a noisy worker", recorded=False)
    noisy_workers: int = option(0, "number of workers with wrong labels, chosen by the seed", recorded=False)
    fault: str | None = option(None, "what is wrong with the faulty workers", "aldsgd.faults:FAULTS", recorded=False)
    faulty: tuple[int, ...] = option((), "numbers of the faulty workers, from 0 on", recorded=False)
    lies: bool = option(False, "the faulty workers report losses of 0", recorded=False)
    fault_strength: float | None = option(None, "of a fault, as in aldsgd/faults.py; none: its own", recorded=False)
    fault_from: int = option(0, "step at which the fault begins", recorded=False)
    defence: str = option(
        "none", "how a worker combines what it hears, as in aldsgd/defences.py", "aldsgd.defences:DEFENCES",
        recorded=False,
    )  # fmt: skip
    radius: float = option(1.0, "length to which defence clip cuts a pull", recorded=False)
    trim: int = option(1, "largest and smallest numbers that defence trimmed leaves out, each", recorded=False)
    lead_cap: int | None = option(None, "steps on end that one neighbour may lead a worker", recorded=False)
    batchnorm: str = option("augmented", "BatchNorm statistics of tested models", "aldsgd.evaluation:POLICIES")
    also: tuple[str, ...] = option(
        (), "further policies for the last test, in columns of their own", "aldsgd.evaluation:POLICIES", recorded=False
    )
    personalised: bool = option(
        False, "test each worker also on test samples mixed as the labels of its own shard", recorded=False
    )
    bn_images: int = option(2048, "training samples for re-estimated statistics")
    eval_every: int = option(1, "epochs between tests; the last is always tested")
    interim_images: int | None = option(
        None, "test samples of the tests before the last, spread over the classes; none for all", recorded=False
    )
    precision: str = option("float32", "arithmetic, as in aldsgd/precision.py", "aldsgd.precision:PRECISIONS")
    latency: float = option(50e-6, "modelled seconds per message")
    bandwidth: float = option(1.25e9, "modelled bytes per second of a link")
    compute_seconds: float = option(0.01, "modelled seconds of computation per step")
    virtual: bool = option(
        False, "train a synchronous method in virtual time, as asynchronous ones always are", recorded=False
    )
    real: bool = option(
        False, "run an asynchronous method in real time, one process of torchrun for each worker", recorded=False
    )
    times: str = option(
        "constant",
        "time of a gradient in virtual time, in the mean as stated; trace:FILE, or one of",
        "aldsgd.clocks:TIMES",
        recorded=False,
        more=True,
    )
    time_shape: float | None = option(None, "sigma of lognormal times, exponent of pareto's", recorded=False)
    stragglers: int = option(0, "workers, chosen by the seed, that are slowdown times slower", recorded=False)
    slowdown: float = option(2.0, "how many times slower a straggler is", recorded=False)
    message_loss: float = option(0.0, "probability that a message is lost in virtual time", recorded=False)
    faults: tuple[str, ...] = option(
        (),
        "in virtual time: pause:WORKER:FROM:TO, leave:WORKER:FROM, return:WORKER:FROM:TO, in epochs; WORKER ?: any",
        recorded=False,
    )
    seed: int = option(0, "seed of everything random")
    options: Mapping[str, Any] = field(default_factory=dict)

    def but(self, **changes) -> "RunConfig":
        """The same run with other fields or options of its method. Raises ConfigError for a name that is neither."""
        own = {name: changes.pop(name) for name in list(changes) if name in NAMES}
        if unknown := set(changes) - option_names(own.get("method", self.method)):
            name = sorted(unknown)[0]
            raise ConfigError(f"{name!r} is no field of a run and no option of method {own.get('method', self.method)}")
        return replace(self, **own, options={**self.options, **changes})

    @property
    def parts(self) -> list[tuple[Method, Options]]:
        """The method, and those that it wraps if it does, from the outermost on, each with its options.

        Raises ConfigError for an unknown method or core.
        """
        entry, found = registry.method(self.method), []
        while entry is not None:
            chosen = entry.options(**{name: self.options[name] for name in entry.defaults if name in self.options})
            found.append((entry, chosen))
            entry = None
            for name, known in (("inner", registry.INNER), ("core", registry.CORES)):
                wrapped = getattr(chosen, name, None)
                if wrapped is not None and wrapped not in known:
                    raise ConfigError(f"unknown {name} '{wrapped}'; choose one of: {', '.join(known)}")
                entry = entry if wrapped is None else registry.method(wrapped)
        return found

    @property
    def uses_graph(self) -> bool:
        """Whether the communication graph has an effect."""
        return self.parts[-1][0].graph

    @property
    def shards_seed(self) -> int:
        """The seed that deals the samples to the workers."""
        return self.seed if self.split_seed is None else self.split_seed

    @property
    def unused(self) -> dict[str, str]:
        """Fields that have no effect -> what they would need."""
        found = {} if self.noisy_workers else {"label_noise": "--noisy-workers"}
        found |= {} if self.label_noise else {"noisy_workers": "--label-noise"}
        found |= {"betas": "--optimizer adam or adamw"} if self.optimizer == "sgd" else {}
        found |= {} if self.optimizer == "sgd" else dict.fromkeys(("momentum", "nesterov"), "--optimizer sgd")
        found |= {} if self.schedule == "steps" else {"lr_drops": "--schedule steps"}
        found |= {} if self.train_images or self.test_images else {"resample": "--train-images or --test-images"}
        faulty = ("faulty", "lies", "fault_strength", "fault_from")
        found |= {} if self.fault else dict.fromkeys(faulty, "--fault")
        found |= {} if self.defence == "clip" else {"radius": "--defence clip"}
        found |= {} if self.defence == "trimmed" else {"trim": "--defence trimmed"}
        found |= {} if self.eval_every < self.epochs else {"interim_images": "--eval-every below --epochs"}
        found |= {} if self.stragglers else {"slowdown": "--stragglers"}
        found |= {} if self.times in ("lognormal", "pareto") else {"time_shape": "--times lognormal or pareto"}
        if not self.uses_graph:
            found |= dict.fromkeys(("graph", "graphs", "graph_order", "disconnected"), "a method that uses a graph")
        elif self.graphs == 1:
            found["graph_order"] = "--graphs above 1"
        if not self.in_virtual_time:
            found |= dict.fromkeys((f.name for f in fields(Clock)), "--virtual or an asynchronous method")
        return found | (
            {"virtual": "a synchronous method"} if self.parts[0][0].asynchronous else {"real": "an asynchronous method"}
        )

    @property
    def in_virtual_time(self) -> bool:
        """Whether it trains in virtual time."""
        return self.virtual or self.parts[0][0].asynchronous and not self.real

    def record(self) -> dict:
        """The configuration as a flat dictionary that JSON can hold; equal runs have equal records.

        A field that has no effect is None or has its default; what a name stands for (a file of edges, a text, a source
        file) is in it as a hash. Raises ConfigError where a name stands for nothing.
        """
        found = {name: getattr(self, name) for name in NAMES}
        found |= dict.fromkeys(ALWAYS)
        for _, chosen in self.parts:
            found |= chosen.used()
        found |= {name: DEFAULTS[name] for name in self.unused}
        if not self.uses_graph:
            found["graph"] = None
        found = {name: value for name, value in found.items() if name not in SKIPPED or value != DEFAULTS[name]}
        return found | self.contents()

    def contents(self) -> dict[str, str]:
        """Hashes of what names stand for, where a name alone does not fix it."""
        found = {}
        if self.uses_graph and self.graph.startswith("file:"):
            found["graph_content"] = edges_hash(self.graph, self.workers)
        if self.dataset.startswith("text:"):
            found["data_content"] = file_hash(self.dataset.removeprefix("text:"))
        elif own_data(self.dataset):
            found["data_content"] = files_hash(self.dataset)
        if self.in_virtual_time and self.times.startswith("trace:"):
            found["times_content"] = file_hash(self.times.removeprefix("trace:"))
        if self.init is not None:
            found["init_content"] = file_hash(self.init)
        for name, value in (("method", self.method), ("model", self.model), ("data", self.dataset)):
            if ":" in value and not own_data(value):
                found[f"{name}_source"] = registry.source_hash(value)
        return found

    @property
    def key(self) -> str:
        """Under which the store keeps it."""
        return key(self.record())

    def build(self, data) -> Callable:
        """What makes one worker's initial model for ``data``."""
        from aldsgd import models, saving
        from aldsgd.differences import scaled

        if ":" in self.model:
            build = partial(registry.imported(self.model), data)
        else:
            build = partial(models.build, self.model, data.outputs, data.shape, data.task, data.vocabulary)
        if self.init is not None:
            build = saving.initialised(build, self.init)
        if self.freeze:
            build = saving.frozen(build, self.freeze)
        return scaled(build) if self.start_scaled else build

    def taught(self, data):
        """``data`` with the wrong labels of noisy workers; those of faulty ones are made where they train
        (``aldsgd.faults.taught``).

        Raises ConfigError for a share outside 0..1, more noisy workers than workers, or shards made from labels.
        """
        if not (self.label_noise and self.noisy_workers):
            return data
        from aldsgd.data import split
        from aldsgd.differences import label_noise

        if self.split not in ("iid", "unequal"):
            raise ConfigError(f"label noise would change the {self.split} split itself: use iid or unequal shards")
        shards = split(data.train_targets, self.workers, self.split, self.shards_seed, None, self.min_shard)
        return label_noise(data, shards, self.noisy_workers, self.label_noise, self.seed)

    def settings(self, device: str = "cpu", engine: str = "auto"):
        """What the trainer needs of it. Raises ConfigError for a value that makes no sense."""
        from aldsgd.settings import Settings

        own = {f.name for f in fields(Settings)} & set(NAMES)
        values = {name: getattr(self, name) for name in own}
        clock = None
        if self.in_virtual_time:
            used = {f.name for f in fields(Clock)} - set(self.unused)
            clock = Clock(**{name: getattr(self, name) for name in used})
        return Settings(**values, link=Link(self.latency, self.bandwidth), clock=clock, device=device, engine=engine)

    def algorithm(self, steps_per_epoch: int):
        """The method, on its graphs. Raises ConfigError as graphs, weights and methods do."""
        made = None
        for entry, chosen in reversed(self.parts):
            setting = Setting(
                self.workers,
                self.seed,
                steps_per_epoch,
                self.graph if self.uses_graph else None,
                self.graphs,
                self.graph_order,
                self.disconnected,
                self.epochs,
                core=lambda core=made: core,
                rate=lambda: self.rate(steps_per_epoch),
            )
            made = entry.build(chosen, setting)
        return made

    def rate(self, steps_per_epoch: int) -> Callable[[int], float]:
        """Step -> learning rate as a share of ``lr``."""
        from aldsgd.local import factor

        return partial(factor, self.settings(), steps_per_epoch)


def linked(config: RunConfig, link: str | None) -> RunConfig:
    """The configuration with a modelled link by name, where one is given."""
    return config.but(**asdict(LINKS[link])) if link else config


NAMES = tuple(f.name for f in fields(RunConfig) if f.name != "options")
DEFAULTS = {f.name: f.default for f in fields(RunConfig) if f.name != "options"}
SKIPPED = {f.name for f in fields(RunConfig) if f.metadata.get("recorded") is False}


def option_names(method: str) -> set[str]:
    """Options of every known method, and of a user's own."""
    entries = [*registry.METHODS.values(), registry.method(method)]
    return {name for entry in entries for name in entry.defaults}


def from_record(record: Mapping) -> RunConfig:
    """The configuration that a record describes; fields that had no effect have their defaults."""
    known = {name: value for name, value in record.items() if name in NAMES and value is not None}
    for name in ("lr", "lr_drops", "betas", "also", "freeze", "faulty", "faults"):
        if isinstance(known.get(name), list):
            known[name] = tuple(tuple(v) if isinstance(v, list) else v for v in known[name])
    names = option_names(record["method"])
    return RunConfig(**known, options={n: v for n, v in record.items() if n in names and v is not None})


def file_hash(path: str) -> str:
    """SHA-256, shortened, of a file's bytes. Raises ConfigError where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}); name another file") from None


def edges_hash(graph: str, workers: int) -> str:
    """SHA-256, shortened, of the matchings that a file of edges gives."""
    path = Path(graph.removeprefix("file:"))
    state = path.stat() if path.is_file() else None
    return _edges_hash(graph, workers, (state.st_mtime_ns, state.st_size) if state else None)


@lru_cache(maxsize=256)
def _edges_hash(graph: str, workers: int, _state) -> str:
    return hashlib.sha256(repr(parse(graph, workers).matchings).encode()).hexdigest()[:16]
