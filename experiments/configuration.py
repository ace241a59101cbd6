"""A run by name: the flat configuration that keys the store of runs, and what is built from it."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial

from torch import nn

from aldsgd import models
from aldsgd.algorithm import Algorithm
from aldsgd.communication import Link
from aldsgd.data import DATASETS, SPLITS, Data, split
from aldsgd.differences import label_noise, scaled
from aldsgd.errors import ConfigError
from aldsgd.evaluation import POLICIES
from aldsgd.graphs import Rotation, parse_set
from aldsgd.leaders import ALDSGD, CANDIDATES, FORCE_SCALES, ORDERS
from aldsgd.precision import PRECISIONS
from aldsgd.training import Settings
from aldsgd.workers import STARTS
from baselines.allreduce import AllReduce
from baselines.dpsgd import DPSGD, WEIGHTS, ReleasedDPSGD
from baselines.matcha import MATCHA
from baselines.single import Single

# Fields added after runs had been recorded: at these values they are left out of the record, so that keys stay.
NEUTRAL = {"start_scaled": False, "label_noise": 0.0, "noisy_workers": 0}
ROTATIONS = ("uniform", "released")
METHODS = ("single", "dpsgd", "dpsgd_cwa", "dpsgd_released", "matcha", "allreduce", "aldsgd")
CORES = ("dpsgd", "matcha", "dpsgd_released")


def option(default, help: str, choices: tuple[str, ...] | None = None):
    """A field with the sentence that ``--help`` prints for it."""
    return field(default=default, metadata={"help": help, "choices": choices})


@dataclass(frozen=True)
class RunConfig:
    """Everything that fixes the numbers of one run; clocks, threads and hosting are not among it."""

    dataset: str = option("digits", "data set", DATASETS)
    model: str = option("mlp", "network of each worker", models.NAMES)
    train_images: int | None = option(None, "training images used, class-balanced; none for all")
    test_images: int | None = option(None, "test images used, class-balanced; none for all")
    augment: bool = option(False, "random crop and horizontal flip")
    workers: int = option(8, "number of workers n")
    split: str = option("iid", "how the training set is dealt to the workers", SPLITS)
    dirichlet_alpha: float | None = option(None, "concentration of the dirichlet split; small is skewed")
    min_shard: int = option(1, "least number of images of a worker")
    graph: str | None = option("paper:53.8", "communication graph by name, or file:PATH with one edge a line")
    graphs: int = option(1, "number of graphs used in turn, made from the first")
    graph_order: str = option("uniform", "order of the graphs; released: by the batch of the epoch", ROTATIONS)
    disconnected: bool = option(False, "allow graphs on which the workers cannot agree")
    method: str = option("aldsgd", "method", METHODS)
    core: str | None = option("dpsgd", "gossip method under AL-DSGD", CORES)
    budget: float | None = option(0.5, "MATCHA's communication budget c_b in (0, 1]")
    weights: str | None = option("equal", "gossip weights of D-PSGD", WEIGHTS)
    c1: float | None = option(0.3, "averaging weight of the best neighbour (w_N)")
    c2: float | None = option(0.1, "averaging weight of the maximum-degree neighbour (w_tau)")
    p1: float | None = option(0.2, "force toward the best neighbour (lambda_N)")
    p2: float | None = option(0.2, "force toward the maximum-degree neighbour (lambda_tau)")
    order: str | None = option("released", "order of AL-DSGD's update", ORDERS)
    force_scale: str | None = option("one", "scaling of the force in the printed order", FORCE_SCALES)
    period: int | None = option(1, "leaders act at every period-th batch of an epoch")
    candidates: str | None = option("closed", "who may lead; closed: the worker itself too", CANDIDATES)
    batch: int = option(16, "images per worker and step")
    lr: float | tuple[float, ...] = option(0.4, "learning rate eta; one number, or one per worker")
    lr_drops: tuple[tuple[int, float], ...] = option((), "EPOCH:FACTOR, applied from that epoch on")
    epochs: int = option(10, "epochs")
    weight_decay: float = option(5e-4, "weight decay, on every parameter")
    start: str = option("different", "initial models", STARTS)
    start_scaled: bool = option(False, "scale each tensor of a worker's initial model by its own U(0, 2)")
    label_noise: float = option(0.0, "share of wrong labels of a noisy worker")
    noisy_workers: int = option(0, "number of workers with wrong labels, chosen by the seed")
    batchnorm: str = option("reestimated", "BatchNorm statistics of tested models", POLICIES)
    bn_images: int = option(2048, "training images for re-estimated statistics")
    eval_every: int = option(1, "epochs between tests; the last is always tested")
    precision: str = option("float32", "arithmetic; tf32 and bf16 as in aldsgd/precision.py", tuple(PRECISIONS))
    latency: float = option(50e-6, "modelled seconds per message")
    bandwidth: float = option(1.25e9, "modelled bytes per second of a link")
    compute_seconds: float = option(0.01, "modelled seconds of computation per step")
    seed: int = option(0, "seed of everything random")

    def resolved(self) -> "RunConfig":
        """The same run with every field that has no effect set to None, so that equal runs share one key.

        Raises ConfigError for an unknown method or core.
        """
        if self.method not in METHODS:
            raise ConfigError(f"unknown method '{self.method}'; choose one of: {', '.join(METHODS)}")
        leaders = self.method == "aldsgd"
        if leaders and self.core not in CORES:
            raise ConfigError(f"unknown core '{self.core}'; choose one of: {', '.join(CORES)}")
        gossip = self.core if leaders else self.method
        unused = set()
        if not leaders:
            unused |= {"core", "c1", "c2", "p1", "p2", "order", "force_scale", "period", "candidates"}
        elif self.order == "released":
            unused.add("force_scale")
        if gossip != "matcha":
            unused.add("budget")
        if gossip not in ("dpsgd", "dpsgd_cwa"):
            unused.add("weights")
        if gossip in ("single", "allreduce"):
            unused.add("graph")
        single_graph = {"graph_order": "uniform"} if self.graphs == 1 or "graph" in unused else {}
        no_graph = {"graphs": 1, "disconnected": False} if "graph" in unused else {}
        all_clean = {} if self.label_noise and self.noisy_workers else {"label_noise": 0.0, "noisy_workers": 0}
        return replace(self, **dict.fromkeys(unused), **single_graph, **no_graph, **all_clean)

    def record(self) -> dict:
        """The resolved configuration as a flat dictionary that JSON can hold."""
        return {name: value for name, value in asdict(self.resolved()).items() if NEUTRAL.get(name, self) != value}

    def build(self, data: Data) -> Callable[[], nn.Module]:
        """What makes one worker's initial model for ``data``."""
        build = partial(models.build, self.model, data.classes, data.shape)
        return scaled(build) if self.start_scaled else build

    def taught(self, data: Data) -> Data:
        """``data`` as the workers see it: with the wrong labels of the noisy ones.

        Raises ConfigError for a share outside 0..1, more noisy workers than workers, or shards made from labels.
        """
        if not (self.label_noise and self.noisy_workers):
            return data
        if self.split not in ("iid", "unequal"):
            raise ConfigError(f"label noise would change the {self.split} split itself: use iid or unequal shards")
        shards = split(data.train_labels, self.workers, self.split, self.seed, None, self.min_shard)
        return label_noise(data, shards, self.noisy_workers, self.label_noise, self.seed)

    def settings(self, device: str = "cpu") -> Settings:
        """What the trainer needs of it."""
        own = {field.name for field in fields(Settings)} & {field.name for field in fields(self)}
        return Settings(
            **{name: getattr(self, name) for name in own},
            link=Link(self.latency, self.bandwidth),
            device=device,
        )

    def algorithm(self, steps_per_epoch: int) -> Algorithm:
        """The method, on its graphs. Raises ConfigError as graphs, weights and methods do."""
        config = self.resolved()
        if config.method == "single":
            return Single(config.workers)
        if config.method == "allreduce":
            return AllReduce(config.workers)
        graphs = parse_set(config.graph, config.graphs, config.workers)
        rotation = Rotation(len(graphs), config.graph_order, steps_per_epoch)
        gossip = config.core if config.method == "aldsgd" else config.method
        if gossip == "dpsgd_released":
            core = ReleasedDPSGD(graphs, rotation)
        elif gossip == "matcha":
            core = MATCHA(graphs, config.budget, config.seed, rotation, allow_disconnected=config.disconnected)
        else:
            form = "combine_while_adapt" if gossip == "dpsgd_cwa" else "adapt_then_combine"
            core = DPSGD(graphs, rotation, form, config.weights, allow_disconnected=config.disconnected)
        if config.method != "aldsgd":
            return core
        return ALDSGD(
            core,
            config.c1,
            config.c2,
            config.p1,
            config.p2,
            order=config.order,
            force_scale=config.force_scale or "one",
            period=config.period,
            steps_per_epoch=steps_per_epoch,
            candidates=config.candidates,
        )
