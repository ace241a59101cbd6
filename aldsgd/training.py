"""The training loop: the workers of one run, from the first step to the last, with its records."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from tqdm import tqdm

from aldsgd.algorithm import AVERAGE, Algorithm, Rows
from aldsgd.checkpoint import Checkpoints, Snapshot, check_progress, layout
from aldsgd.communication import Link, allreduce_cost, exchange_cost
from aldsgd.data import Batches, Data, split, steps_per_epoch
from aldsgd.errors import ConfigError
from aldsgd.evaluation import Evaluator, mean_statistics
from aldsgd.neighbourhood import Neighbourhood
from aldsgd.network import LocalNetwork
from aldsgd.precision import PRECISIONS
from aldsgd.step import Step
from aldsgd.workers import Loss, Workers

METERS = ("rounds", "bytes", "modelled", "seconds")


@dataclass(frozen=True)
class Settings:
    """How a run trains. Defaults are the paper's, except for the number of epochs.

    epochs; batch: images per worker and step; lr: one learning rate or one per worker; lr_drops: (epoch, factor)
    pairs, applied from that epoch on; weight_decay: on every parameter; seed: of models, shards, batches;
    start: initial models (``aldsgd.workers``); split, dirichlet_alpha, min_shard: shards (``aldsgd.data``);
    augment: crop and flip; batchnorm, bn_images: policy (``aldsgd.evaluation``); eval_every: epochs between tests, the
    last is always tested; precision: a name of ``aldsgd.precision``; link, compute_seconds: the modelled clock, with
    compute_seconds per step stated by the user; device; engine (``aldsgd.workers``).
    """

    epochs: int = 10
    batch: int = 16
    lr: float | Sequence[float] = 0.4
    lr_drops: Sequence[tuple[int, float]] = ()
    weight_decay: float = 5e-4
    seed: int = 0
    start: str = "different"
    split: str = "iid"
    dirichlet_alpha: float | None = None
    min_shard: int = 1
    augment: bool = False
    batchnorm: str = "reestimated"
    bn_images: int = 2048
    eval_every: int = 1
    precision: str = "float32"
    link: Link = field(default_factory=Link)
    compute_seconds: float = 0.01
    device: str = "cpu"
    engine: str = "auto"

    def __post_init__(self):
        for name in ("epochs", "batch", "eval_every", "bn_images"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)} must be 1 or more")
        if self.seed < 0:
            raise ConfigError(f"seed = {self.seed} must not be negative")
        rates = self.lr if isinstance(self.lr, Sequence) else (self.lr,)
        if not all(math.isfinite(rate) and rate >= 0 for rate in rates):
            raise ConfigError(f"lr = {self.lr} must be finite and not negative")
        if self.precision not in PRECISIONS:
            raise ConfigError(f"unknown precision '{self.precision}'; choose one of: {', '.join(PRECISIONS)}")


@dataclass
class Result:
    """What a run leaves: ``rows``, its records (``results/README.md``), and ``workers``, the trained models.

    Between processes rank 0 has the rows, and every rank the models that it hosts.
    """

    rows: list[dict]
    workers: Workers

    @property
    def final(self) -> dict:
        """The row of the whole network at the last epoch."""
        return next(row for row in reversed(self.rows) if row["worker"] is None)


class TimeUp(Exception):
    """A run stopped at a checkpoint because of its time limit; it goes on from there."""


class MeteredNetwork:
    """A network with its meters: every product counts rounds, logical bytes and modelled time, and is timed."""

    def __init__(self, network, row_bytes: int, link: Link):
        self.network, self.row_bytes, self.link = network, row_bytes, link
        self.rounds = self.bytes = 0
        self.modelled = self.seconds = 0.0
        self.losses_ahead = False

    def neighbourhood(self, matchings) -> Neighbourhood:
        return self.network.neighbourhood(matchings)

    def exchange_losses(self, losses, hood):
        started = time.perf_counter()
        received = self.network.exchange_losses(losses, hood)
        self.seconds += time.perf_counter() - started
        self.losses_ahead = True
        return received

    def post(self, models: Tensor, hood: Neighbourhood) -> None:
        started = time.perf_counter()
        self.network.post(models, hood)
        self.seconds += time.perf_counter() - started

    def mix(self, models: Tensor, rows: Rows, hood: Neighbourhood) -> None:
        started = time.perf_counter()
        self.network.mix(models, rows, hood)
        self.seconds += time.perf_counter() - started
        if rows is None:
            return
        if isinstance(rows, str) and rows == AVERAGE:
            sent, modelled = allreduce_cost(self.network.n, self.row_bytes, self.link)
        else:
            sent, modelled = exchange_cost(hood.matchings, self.row_bytes, self.link, self.losses_ahead)
            self.losses_ahead = False  # they travel once, also where models travel twice
        self.rounds += bool(sent)
        self.bytes += sent
        self.modelled += modelled


class Trainer:
    """One run: n workers of ``algorithm`` on ``data``.

    Args:
        algorithm: the method; its ``n`` is the number of workers. build: makes one model. data: data set.
        settings: see ``Settings``. loss: (outputs, targets) -> scalar.
        hosting: where the workers live; by default all in this process (``aldsgd.network``), else a
            ``ProcessNetwork``, on the device of ``settings``.

    Raises:
        ConfigError: as its parts do, and where ``lr`` has not one value per worker.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        build: Callable[[], nn.Module],
        data: Data,
        settings: Settings,
        loss: Loss = nn.functional.cross_entropy,
        hosting: LocalNetwork | None = None,
    ):
        self.algorithm, self.settings = algorithm, settings
        n = algorithm.n
        if settings.augment and data.train_images.ndim != 4:
            raise ConfigError("augment needs images (N, C, H, W), and these are feature vectors; leave it out")
        if isinstance(settings.lr, Sequence) and len(settings.lr) != n:
            raise ConfigError(f"{len(settings.lr)} learning rates for {n} workers; give one, or one per worker")
        self.data = data.to(settings.device)
        shards = split(
            data.train_labels, n, settings.split, settings.seed, settings.dirichlet_alpha, settings.min_shard
        )
        self.steps = steps_per_epoch(len(data.train_labels), n, settings.batch)
        self.batches = Batches(shards, settings.batch, self.steps, settings.seed, settings.augment)
        self.hosting = hosting or LocalNetwork(n, settings.device)
        self.workers = Workers(
            build,
            self.hosting.workers,
            n,
            settings.seed,
            settings.start,
            loss,
            settings.device,
            settings.precision,
            settings.engine,
        )
        parameters = self.workers.parameters
        self.network = MeteredNetwork(self.hosting, parameters.shape[1] * parameters.element_size(), settings.link)
        self.step = Step(
            self.workers,
            algorithm,
            self.network,
            self.data,
            settings.weight_decay,
            capture_update=self.hosting.size == 1,
        )
        self.evaluator = Evaluator(self.data, settings.batchnorm, settings.bn_images)
        self.seconds_compute = self.seconds_evaluation = 0.0

    def learning_rate(self, epoch: int) -> float | Tensor:
        """The rate of an epoch (counted from 0): a scalar, or (w,) where workers differ."""
        factor = math.prod(f for start, f in self.settings.lr_drops if epoch >= start)
        if isinstance(self.settings.lr, Sequence):
            return self.workers.parameters.new_tensor([self.settings.lr[i] * factor for i in self.workers.hosted])
        return self.settings.lr * factor

    def train_epoch(self, epoch: int, on_step: Callable[[int, Tensor], None] = lambda step, losses: None) -> Tensor:
        """Train one epoch (counted from 0). Returns each worker's mean training loss (w,), float64."""
        started, mixing = time.perf_counter(), self.network.seconds
        self.step.begin(self.batches.epoch(epoch, self.workers.hosted), self.learning_rate(epoch))
        for k in range(self.steps):
            t = epoch * self.steps + k
            self.hosting.step = t
            if self.algorithm.mixes_first:
                self.network.post(self.workers.parameters, self.network.neighbourhood(self.algorithm.matchings(t)))
            self.step.run(t)
            on_step(t, self.step.losses.clone())
        mean = self.step.finish()
        self.seconds_compute += time.perf_counter() - started - (self.network.seconds - mixing)
        return mean

    def record(self, epoch: int, train_loss: Tensor) -> list[dict]:
        """Rows of the epoch just finished (counted from 1): one per worker, then one for the network.

        Every process takes part; rank 0 gets the rows, the others none. ``train_loss``: (w,), hosted workers.
        """
        started = time.perf_counter()
        workers, hosting = self.workers, self.hosting
        stats = mean_statistics(workers.modules, hosting)
        mean = hosting.mean_row(workers.parameters)
        losses, accuracies = map(hosting.gather, self.evaluator.workers(workers, stats))
        train_loss = hosting.gather(train_loss)
        distance = hosting.consensus_distance(workers.parameters, mean)
        if hosting.rank > 0:
            return []
        averaged_loss, averaged_accuracy = self.evaluator.averaged(workers, mean, stats)
        self.seconds_evaluation += time.perf_counter() - started
        step, rows = epoch * self.steps, []
        for worker in range(self.algorithm.n):
            rows.append(
                {
                    "epoch": epoch,
                    "step": step,
                    "worker": worker,
                    "train_loss": train_loss[worker].item(),
                    "test_loss": losses[worker].item(),
                    "test_accuracy": accuracies[worker].item(),
                }
            )
        rows.append(
            {
                "epoch": epoch,
                "step": step,
                "worker": None,
                "train_loss": train_loss.mean().item(),
                "worst_accuracy": accuracies.min().item(),
                "mean_accuracy": accuracies.mean().item(),
                "best_accuracy": accuracies.max().item(),
                "averaged_accuracy": averaged_accuracy,
                "averaged_loss": averaged_loss,
                "consensus_distance": distance,
                "logical_bytes": self.network.bytes,
                "rounds": self.network.rounds,
                "modelled_compute_s": step * self.settings.compute_seconds,
                "modelled_communication_s": self.network.modelled,
                "seconds_compute": self.seconds_compute,
                "seconds_mixing": self.network.seconds,
                "seconds_evaluation": self.seconds_evaluation,
            }
        )
        return rows

    def run(
        self,
        on_record: Callable[[list[dict]], None] = lambda rows: None,
        progress: bool = False,
        checkpoints: Checkpoints | None = None,
        checkpoint_every: int = 10,
        deadline: float | None = None,
    ) -> Result:
        """Train all epochs; ``on_record`` gets the rows of each tested epoch as soon as they exist (rank 0 only).

        checkpoints: where to keep the run every ``checkpoint_every`` epochs, and to go on from what is there, with
        the rows of the epochs before; rank 0's decides, the other ranks pass any. None: never.
        deadline: a reading of ``time.perf_counter`` before which to stop at a checkpoint, if another epoch as long as
        the last would pass it; TimeUp is raised then. It needs ``checkpoints``.
        """
        settings, first, rows = self.settings, 0, []
        if checkpoints is not None:
            first, rows = self.resume(checkpoints)
        if rows:
            on_record(rows)
        total = settings.epochs * self.steps
        with (
            torch.random.fork_rng(devices=[]),
            tqdm(total=total, initial=first * self.steps, disable=not progress, unit="step") as bar,
        ):
            if deadline is not None and self.hosting.agree(int(time.perf_counter() > deadline)):
                raise TimeUp(f"the time limit came after epoch {first} of {settings.epochs}")
            for epoch in range(first, settings.epochs):
                began = time.perf_counter()
                train_loss = self.train_epoch(epoch, lambda t, losses: bar.update())
                if (epoch + 1) % settings.eval_every == 0 or epoch + 1 == settings.epochs:
                    new = self.record(epoch + 1, train_loss)
                    rows += new
                    if new:
                        on_record(new)
                        bar.set_postfix_str("loss {train_loss:.3f} worst {worst_accuracy:.3f} "
                                            "mean {mean_accuracy:.3f}".format(**new[-1]))  # fmt: skip
                if epoch + 1 == settings.epochs:
                    break
                now = time.perf_counter()
                stop = deadline is not None and self.hosting.agree(int(2 * now - began > deadline))
                if stop or checkpoints is not None and (epoch + 1) % checkpoint_every == 0:
                    self.save(checkpoints, epoch + 1, rows)
                if stop:
                    raise TimeUp(f"the time limit came after epoch {epoch + 1} of {settings.epochs}")
        return Result(rows, self.workers)

    def save(self, checkpoints: Checkpoints, epoch: int, rows: list[dict]) -> None:
        """Keep the run as it stands after ``epoch`` epochs; every process takes part, rank 0 writes."""
        state = {
            "epoch": epoch,
            "step": epoch * self.steps,
            "rows": rows,
            "meters": {name: getattr(self.network, name) for name in METERS},
            "seconds_compute": self.seconds_compute,
            "seconds_evaluation": self.seconds_evaluation,
            "wire_bytes": self.hosting.total_wire_bytes(),
        }
        workers = ((i, self._brought(i)) for i in range(self.algorithm.n))
        if self.hosting.rank == 0:
            checkpoints.save(epoch, state, workers)
        else:
            for _ in workers:
                pass

    def resume(self, checkpoints: Checkpoints) -> tuple[int, list[dict]]:
        """Go back to the newest whole checkpoint: (epochs done, rows so far); (0, []) where there is none."""
        snapshot = checkpoints.newest(self._check) if self.hosting.rank == 0 else None
        epoch = self.hosting.agree(snapshot.state["epoch"] if snapshot else 0)
        if epoch == 0:
            return 0, []
        for worker in range(self.algorithm.n):
            own = self._tensors(worker)
            kept = own if snapshot is None else snapshot.worker(worker)
            kept = self.hosting.hand_out(worker, [kept[name] for name in own])
            if worker in self.workers.hosted:
                for tensor, value in zip(own.values(), kept, strict=True):
                    tensor.copy_(value)
        if snapshot is None:
            return epoch, []
        state = snapshot.state
        for name, value in state["meters"].items():
            setattr(self.network, name, value)
        self.seconds_compute, self.seconds_evaluation = state["seconds_compute"], state["seconds_evaluation"]
        self.hosting.wire_bytes = state["wire_bytes"]
        return epoch, state["rows"]

    def _check(self, snapshot: Snapshot) -> None:
        """Raise ValueError, KeyError or TypeError unless it can be a state of this run."""
        state, n, every = snapshot.state, self.algorithm.n, self.settings.eval_every
        check_progress(
            state,
            self.settings.epochs,
            lambda epoch: [(e, w) for e in range(every, epoch + 1, every) for w in (*range(n), None)],
        )
        numbers = [*(state["meters"][name] for name in METERS), state["seconds_compute"], state["seconds_evaluation"]]
        if not all(type(number) in (int, float) for number in (*numbers, state["wire_bytes"])):
            raise ValueError("its meters are not numbers")
        if snapshot.tensors != {i: layout(self._tensors(i)) for i in range(n)}:
            raise ValueError("its tensors are not those of this run's workers")

    def _brought(self, worker: int) -> dict[str, Tensor]:
        own = self._tensors(worker)
        return dict(zip(own, self.hosting.bring(worker, list(own.values())), strict=True))

    def _tensors(self, worker: int) -> dict[str, Tensor]:
        """Parameters and buffers of a hosted worker; for any other, tensors of the same shapes."""
        i = self.workers.hosted.index(worker) if worker in self.workers.hosted else 0
        buffers = {f"buffer.{name}": buffer for name, buffer in self.workers.modules[i].named_buffers()}
        return {"parameters": self.workers.parameters[i], **buffers}


def train(algorithm: Algorithm, build: Callable[[], nn.Module], data: Data, progress: bool = False, **settings):
    """Train the workers of ``algorithm``, each with a model from ``build``, on ``data``; returns a ``Result``.

    Keyword arguments are those of ``Settings``.
    """
    return Trainer(algorithm, build, data, Settings(**settings)).run(progress=progress)
