"""The training loop: the workers of one run, from the first step to the last, with its records."""

import time
import warnings
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from aldsgd.algorithm import Algorithm, checked, started
from aldsgd.checkpoint import Checkpoints, Snapshot, check_progress, layout
from aldsgd.data import Batches, shards_of, steps_per_epoch
from aldsgd.datasets import Data
from aldsgd.distrust import distrusted
from aldsgd.errors import ConfigError, whole
from aldsgd.evaluation import Evaluator, mean_statistics
from aldsgd.faults import taught
from aldsgd.finite import name_unsound
from aldsgd.identity import identity_of
from aldsgd.judging import Judging, set_apart
from aldsgd.local import LocalRule
from aldsgd.network import LocalNetwork
from aldsgd.precision import device_of
from aldsgd.result import Result
from aldsgd.rows import trainable
from aldsgd.saving import describe
from aldsgd.settings import Settings, several
from aldsgd.step import FORWARD, Meter
from aldsgd.stepper import Stepper, batch_of
from aldsgd.tasks import Loss, personalised, task_of
from aldsgd.watching import bar, divergence, metric_of, summary
from aldsgd.workers import Workers

#: A cross-entropy that no run comes back from; losses on other scales have none.
DIVERGED = 1e4


class TimeUp(Exception):
    """A run stopped at a checkpoint because of its time limit; it goes on from there."""


class Trainer:
    """One run: the workers of ``algorithm`` on ``data``.

    Args:
        algorithm: the method; its ``n`` is the number of workers.
        build: makes one model.
        data: the data set.
        settings: see ``Settings``.
        loss: (outputs, targets) -> scalar; None: that of the data's task (``aldsgd.tasks``).
        hosting: where the workers live: None, all in this process (``aldsgd.network``), else a ``ProcessNetwork`` on
            the device of ``settings``.

    Attributes:
        diverged: first step at which a hosted worker's loss was no number, or too large (DIVERGED), None where there
        was none. unsound: worker -> first epoch, counted from 1, in which it sent values that are not finite. begun:
        epochs that were done when ``run`` was called, those of a checkpoint.

    Raises:
        ConfigError: as its parts do, and where ``lr`` has not one value per worker.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        build: Callable[[], nn.Module],
        data: Data,
        settings: Settings,
        loss: Loss | None = None,
        hosting: LocalNetwork | None = None,
    ):
        self.algorithm, self.settings, self.build = checked(algorithm), settings, build
        n = algorithm.n
        if settings.augment and data.train_inputs.ndim != 4:
            raise ConfigError("augment needs images (N, C, H, W), and these are feature vectors; leave it out")
        if several(settings.lr) and len(settings.lr) != n:
            raise ConfigError(f"{len(settings.lr)} learning rates for {n} workers; give one, or one per worker")
        self.data = data.to(device_of(settings.device))
        self.task = task_of(data, loss)
        shards = shards_of(data.train_targets, n, settings)
        self.data = taught(self.data, n, settings)
        interim = self.data.subset(test_limit=settings.interim_images)
        if settings.personalised:
            self.task = personalised(self.task, interim, shards)
        self.steps = steps_per_epoch(sum(map(len, shards)), n, settings.batch)
        shards, shared = set_apart(shards, algorithm.shared)
        walk = shards, settings.batch, self.steps, settings.seed, settings.augment
        self.batches = Batches(*walk)
        self.judging = Judging(algorithm.draw, self.batches, Batches(*walk, second=True), shared)
        self.hosting = hosting or LocalNetwork(n, settings.device, algorithm.centres)
        self.workers = Workers(
            build,
            self.hosting.workers,
            n,
            settings.seed,
            settings.start,
            self.task.loss,
            settings.device,
            settings.precision,
            settings.engine,
            centres=len(self.hosting.hosted) - len(self.hosting.workers),
        )
        if self.hosting.agree(self.workers.fingerprint) != self.workers.fingerprint:
            raise ConfigError(
                "build gives another model in this process than in the first; fix what else it draws from or reads"
            )
        self._probe()
        rows = self.workers.rows
        self.state = started(algorithm, rows, [p.numel() for p in trainable(self.workers.modules[0])])
        self.local = LocalRule(self.workers.parameters, self.workers.hosted, settings, self.steps)
        self.distrust = distrusted(self.hosting, algorithm, self.state, settings)
        self.stepper = Stepper(
            self.workers,
            algorithm,
            self.distrust or self.hosting,
            self.data,
            self.state,
            self.local,
            capture_update=self.hosting.size == 1 and self.distrust is None,
        )
        if loss is None and self.task.name != "regression":
            self.stepper.bound = DIVERGED
        size = rows.element_size()
        lengths = {name: (getattr(self.state, name).shape[1], size) for name in ("x", *algorithm.state)}
        self.meter = Meter(lengths, n, settings.link, algorithm.shared / settings.batch)
        # Prefix of the columns -> what tests under one policy.
        self.evaluators = {
            prefix: Evaluator(self.data, self.task, policy, settings.bn_images, settings.augment)
            for prefix, policy in {"": settings.batchnorm, **{f"{name}_": name for name in settings.also}}.items()
        }
        self.interim = replace(self.evaluators[""], data=interim)
        self.seconds_compute = self.seconds_evaluation = 0.0
        self.diverged: int | None = None
        self.unsound: dict[int, int] = {}
        self.begun = 0

    def _probe(self) -> None:
        """Try model and loss on the first batch of the first hosted worker, so that what cannot train is said first."""
        index = self.batches.epoch(0, self.workers.hosted[:1]).index[:, 0].to(self.workers.device)
        inputs, targets = batch_of(self.data, self.workers.dtype, index)
        self.workers.probe(inputs[0], targets[0], partial(self.task.check, numbers=self.data.outputs))

    def train_epoch(self, epoch: int, on_step: Callable[[int, Tensor], None] = lambda step, losses: None) -> Tensor:
        """Train one epoch (counted from 0). Returns each worker's mean training loss (w,), float64."""
        started, mixing = time.perf_counter(), self.hosting.seconds
        plan = self.batches.epoch(epoch, self.workers.hosted)
        self.stepper.begin(plan, self.judging.epoch(epoch, self.workers.hosted, plan))
        for k in range(self.steps):
            t = epoch * self.steps + k
            self.hosting.step = t
            step = self.algorithm.step(t)
            self.stepper.run(step, t)
            self.meter.count(step)
            on_step(t, self.stepper.losses.clone())
        mean = self.stepper.finish()
        everywhere = self.hosting.gather(self.stepper.lived.double().expand(len(self.workers.hosted)))
        if (lived := int(everywhere.min())) < self.steps:
            self.note_divergence(epoch * self.steps + lived)
        name_unsound(self.hosting, len(self.workers.hosted), self.unsound, epoch + 1)
        self.seconds_compute += time.perf_counter() - started - (self.hosting.seconds - mixing)
        return mean

    def note_divergence(self, step: int) -> None:
        """Say, the first time, that a loss at this step was no number, or too large."""
        if self.diverged is None:
            self.diverged = step
            total = self.settings.epochs * self.steps
            warnings.warn(divergence(step, total, self.stepper.bound, self.settings.lr, self.algorithm), stacklevel=3)

    def record(self, epoch: int, train_loss: Tensor) -> list[dict]:
        """Rows of the epoch just finished (counted from 1): one per worker, one per centre, one for the network.

        Every process takes part; rank 0 gets the rows, the others none. ``train_loss``: (w,), hosted workers.
        """
        started = time.perf_counter()
        workers, hosting, n = self.workers, self.hosting, self.algorithm.n
        stats = mean_statistics(workers.modules, hosting)
        mean = hosting.mean_row(workers.parameters)
        train_loss = hosting.gather(train_loss)
        distance = hosting.consensus_distance(workers.parameters, mean)
        centres = [hosting.bring(n + c, [self._tensors(n + c)["x"]])[0] for c in range(self.algorithm.centres)]
        step = epoch * self.steps
        rows = [{"epoch": epoch, "step": step, "worker": i} for i in (*range(n + len(centres)), None)]
        for i, loss in enumerate(train_loss.tolist()):
            rows[i]["train_loss"] = loss
        rows[-1]["train_loss"] = train_loss.mean().item()
        tests = self.evaluators if epoch == self.settings.epochs else {"": self.interim}
        for prefix, evaluator in tests.items():
            self._test(evaluator, prefix, rows, stats, mean, centres)
        if hosting.rank > 0:
            return []
        self.seconds_evaluation += time.perf_counter() - started
        rows[-1] |= {
            "consensus_distance": distance,
            "logical_bytes": self.meter.bytes,
            "rounds": self.meter.rounds,
            "modelled_compute_s": (step + FORWARD * self.meter.passes) * self.settings.compute_seconds,
            "modelled_communication_s": self.meter.modelled,
            "seconds_compute": self.seconds_compute,
            "seconds_mixing": hosting.seconds,
            "seconds_evaluation": self.seconds_evaluation,
        }
        return rows

    def _test(self, evaluator: Evaluator, prefix: str, rows: list[dict], stats: list[Tensor], mean: Tensor, centres):
        """Add to ``rows``, of the workers, the centres and the network, what a test under one policy finds."""
        found = {name: self.hosting.gather(each) for name, each in evaluator.workers(self.workers, stats).items()}
        if self.hosting.rank > 0:
            return
        models = [evaluator.averaged(self.workers, row.to(mean), stats) for row in (mean, *centres)]
        for name, values in found.items():
            of_centres = [model[name] for model in models[1:]]
            for row, value in zip(rows[:-1], (*values.tolist(), *of_centres), strict=True):
                row[f"{prefix}test_{name}"] = value
            rows[-1][f"{prefix}averaged_{name}"] = models[0][name]
        for name, higher in self.task.metrics.items():
            low, high = found[name].min().item(), found[name].max().item()
            rows[-1] |= {
                f"{prefix}worst_{name}": low if higher else high,
                f"{prefix}mean_{name}": found[name].mean().item(),
                f"{prefix}best_{name}": high if higher else low,
            }

    @torch.no_grad()
    def averaged_state(self) -> dict[str, Tensor] | None:
        """``state_dict`` of the averaged model; every process takes part, and rank 0 alone gets it."""
        stats = mean_statistics(self.workers.modules, self.hosting)
        mean = self.hosting.mean_row(self.workers.parameters)
        return self.evaluators[""].averaged_state(self.workers, mean, stats) if self.hosting.rank == 0 else None

    def run(
        self,
        on_record: Callable[[list[dict]], None] = lambda rows: None,
        progress: bool = False,
        place: int = 0,
        checkpoints: str | Path | None = None,
        checkpoint_every: int = 10,
        deadline: float | None = None,
    ) -> Result:
        """Train all epochs; ``on_record`` gets the rows of each tested epoch as soon as they exist (rank 0 only).

        checkpoints: folder in which to keep the run every ``checkpoint_every`` epochs, and to go on from what is there,
        with the rows of the epochs before; rank 0's decides, the other ranks pass any. None, or every 0: never.
        deadline: a reading of ``time.perf_counter`` before which to stop at a checkpoint, if another epoch as long as
        the last would pass it; TimeUp is raised then.

        Raises ConfigError for a ``checkpoint_every`` below 0, and for a deadline without checkpoints.
        """
        settings, first, rows = self.settings, 0, []
        if whole(checkpoint_every, "checkpoint_every") < 0:
            raise ConfigError(f"checkpoint_every = {checkpoint_every} must be a number of epochs, or 0 for never")
        never = checkpoints is None or checkpoint_every == 0
        if never and deadline is not None:
            raise ConfigError("a deadline needs checkpoints to stop at; name a folder for them, or leave it out")
        kept = None if never else Checkpoints(Path(checkpoints), self.identity())
        if kept is not None:
            first, rows = self.resume(kept)
        self.begun = first
        if rows:
            on_record(rows)
        total = settings.epochs * self.steps
        with (
            torch.random.fork_rng(devices=[]),
            bar(total, "step", progress, place, first * self.steps) as steps,
        ):
            if deadline is not None and self.hosting.agree(int(time.perf_counter() > deadline)):
                raise TimeUp(f"the time limit came after epoch {first} of {settings.epochs}")
            for epoch in range(first, settings.epochs):
                began = time.perf_counter()
                train_loss = self.train_epoch(epoch, lambda t, losses: steps.update())
                if (epoch + 1) % settings.eval_every == 0 or epoch + 1 == settings.epochs:
                    new = self.record(epoch + 1, train_loss)
                    rows += new
                    if new:
                        on_record(new)
                        steps.set_postfix_str(summary(new[-1], metric_of(new[-1])))
                if epoch + 1 == settings.epochs:
                    break
                now = time.perf_counter()
                stop = deadline is not None and self.hosting.agree(int(2 * now - began > deadline))
                if stop or kept is not None and (epoch + 1) % checkpoint_every == 0:
                    self.save(kept, epoch + 1, rows)
                if stop:
                    raise TimeUp(f"the time limit came after epoch {epoch + 1} of {settings.epochs}")
        return Result(rows, self.workers, self.build, self.averaged_state(), describe(self.data, None))

    def save(self, checkpoints: Checkpoints, epoch: int, rows: list[dict]) -> None:
        """Keep the run as it stands after ``epoch`` epochs; every process takes part, rank 0 writes."""
        state = self.progress(epoch, rows)
        workers = ((i, self._brought(i)) for i in range(self.algorithm.n + self.algorithm.centres))
        if self.hosting.rank == 0:
            checkpoints.save(epoch, state, workers)
        else:
            deque(workers, maxlen=0)

    def account(self) -> dict:
        """What the record of the run says further of it at its end (JSON-able)."""
        return {}

    def progress(self, epoch: int, rows: list[dict]) -> dict:
        """How far the run is after ``epoch`` epochs (JSON-able): what ``restore`` goes on from."""
        return {
            "epoch": epoch,
            "step": epoch * self.steps,
            "rows": rows,
            "meters": self.meter.state(),
            "seconds": [self.seconds_compute, self.hosting.seconds, self.seconds_evaluation],
            "wire_bytes": self.hosting.total_wire_bytes(),
            "diverged": self.diverged,
            "unsound": self.unsound,
        }

    def restore(self, state: dict) -> None:
        """Go on from what ``progress`` was."""
        self.meter.restore(state["meters"])
        self.seconds_compute, self.hosting.seconds, self.seconds_evaluation = state["seconds"]
        self.hosting.wire_bytes, self.diverged = state["wire_bytes"], state["diverged"]
        self.unsound = {int(worker): first for worker, first in state.get("unsound", {}).items()}

    def paced(self, epoch: int) -> int:
        """How many steps of its schedule the learning rate has behind it after ``epoch`` epochs."""
        return epoch * self.steps

    def _tensors(self, worker: int) -> dict[str, Tensor]:
        """All that is kept of a worker or a centre, by name; of one that lives elsewhere, tensors of the same
        shapes."""
        hosted = self.hosting.hosted
        i = worker - hosted.start if worker in hosted else 0
        found = {"x": self.state.x[i]}
        found |= {f"state.{name}": getattr(self.state, name)[i] for name in self.algorithm.state}
        if self.distrust is not None:
            found |= {f"distrust.{name}": value for name, value in self.distrust.saved(worker).items()}
        if worker < self.algorithm.n:
            found |= {f"buffer.{k}": buffer for k, buffer in enumerate(self.workers.modules[i].buffers())}
            found |= {f"optimizer.{name}": value for name, value in self.local.saved(i).items()}
        return found

    def _brought(self, worker: int) -> dict[str, Tensor]:
        own = self._tensors(worker)
        return dict(zip(own, self.hosting.bring(worker, list(own.values())), strict=True))

    def resume(self, checkpoints: Checkpoints) -> tuple[int, list[dict]]:
        """Go back to the newest whole checkpoint: (epochs done, rows so far); (0, []) where there is none.

        Raises ConfigError where it is of another run.
        """
        snapshot = checkpoints.newest(self._check) if self.hosting.rank == 0 else None
        if (epoch := self.hosting.agree(snapshot.state["epoch"] if snapshot else 0)) == 0:
            return 0, []
        if snapshot is not None:
            self.restore(snapshot.state)
        local = []
        for worker in range(self.algorithm.n + self.algorithm.centres):
            own = self._tensors(worker)
            saved = snapshot.worker(worker) if snapshot else own
            kept = dict(zip(own, self.hosting.hand_out(worker, [saved[name] for name in own]), strict=True))
            if worker not in self.hosting.hosted:
                continue
            if worker < self.algorithm.n:
                local.append({k.partition(".")[2]: v.clone() for k, v in kept.items() if k.startswith("optimizer.")})
            for name in (name for name in own if not name.startswith("optimizer.")):
                own[name].copy_(kept[name])
        self.local.restore(local, self.paced(epoch))
        return epoch, snapshot.state["rows"] if snapshot else []

    def _check(self, snapshot: Snapshot) -> None:
        """Raise ValueError, KeyError or TypeError unless it can be a state of this run."""
        state, every, rows = snapshot.state, self.settings.eval_every, self.algorithm.n + self.algorithm.centres
        check_progress(
            state,
            self.settings.epochs,
            lambda epoch: [(e, w) for e in range(every, epoch + 1, every) for w in (*range(rows), None)],
        )
        numbers = [*(state["meters"][name] for name in self.meter.state()), *state["seconds"], state["wire_bytes"]]
        if not all(type(number) in (int, float) and 0 <= number < float("inf") for number in numbers):
            raise ValueError("its meters are no numbers of what was spent")
        if len(state["seconds"]) != 3 or not isinstance(state["diverged"], int | None):
            raise ValueError("its clocks or its note of divergence are missing")
        if not self._fits(snapshot.tensors):
            raise ValueError("its tensors are not those of this run's workers")

    def _fits(self, tensors: dict[int, dict]) -> bool:
        """Whether these are the layouts of what is kept of each worker and centre."""
        return tensors == {i: layout(self._tensors(i)) for i in range(self.algorithm.n + self.algorithm.centres)}

    def identity(self) -> dict:
        """What tells this run from others (``aldsgd.identity``)."""
        return identity_of(self)
