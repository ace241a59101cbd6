"""Runs in virtual time: synchronous methods, whose workers wait for each other, and asynchronous ones, on one clock.

An epoch lasts K units, in which a worker that nothing slows takes K gradients, so that all runs of equal length in
epochs have the same time, and how many gradients they make of it is a result. The schedule of the learning rate follows
the time at which a gradient begins. One process hosts all workers.

What is recorded beside the rest: ``virtual_s``, ``gradients`` finished, ``messages_lost``, and the mean and the largest
``staleness`` (where a method has one: by how many newer ones a model that was used had been overtaken).
``modelled_compute_s`` is the time that a worker computes, on average, and ``modelled_communication_s`` what is left.
"""

import math
import time

import torch

from aldsgd.algorithm import started
from aldsgd.clocks import ComputeTimes, Moment, SynchronousClock
from aldsgd.data import EpochPlan
from aldsgd.events import Events
from aldsgd.finite import name_unsound
from aldsgd.local import LocalRule
from aldsgd.rows import trainable
from aldsgd.stepper import batch_of, parts
from aldsgd.training import Trainer


class VirtualTrainer(Trainer):
    """A run of a synchronous method in virtual time.

    Attributes: clock: of the workers. taken: steps.
    """

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        clock, unit = self.settings.clock, self.settings.compute_seconds
        self.times = ComputeTimes(clock, self.algorithm.n, self.settings.seed, self.steps, unit)
        self.taken, self.stepper.paced = 0, False
        self.make_clock()

    def make_clock(self) -> None:
        """Make what tells the time."""
        settings, algorithm = self.settings, self.algorithm
        self.clock = SynchronousClock(
            algorithm.n,
            algorithm.centres,
            self.times,
            self.meter,
            settings.link,
            settings.compute_seconds,
            settings.clock.message_loss,
            settings.seed,
        )

    def train_epoch(self, epoch, on_step=lambda step, losses: None):
        began, mixing = time.perf_counter(), self.hosting.seconds
        self.stepper.reset()
        first, n = self.taken, self.algorithm.n
        while True:
            step = self.algorithm.step(self.taken)
            moment = self.clock.after(step)
            if max(moment.ready[:n]) > (epoch + 1) * self.steps:
                break
            while self.local.taken < self.paced(epoch):
                self.local.next()
            if self.taken == first or self.taken % self.steps == 0:
                self._load(*divmod(self.taken, self.steps))
            self.hosting.step = self.taken
            self.stepper.run(step, self.taken)
            self.meter.count(step)
            self.clock.now = moment
            self.taken += 1
            on_step(self.taken, self.stepper.losses.clone())
        mean = self.stepper.finish()
        if (lived := int(self.stepper.lived)) < self.taken - first:
            self.note_divergence(first + lived)
        name_unsound(self.hosting, n, self.unsound, epoch + 1)
        self.seconds_compute += time.perf_counter() - began - (self.hosting.seconds - mixing)
        return mean

    def _load(self, epoch: int, position: int) -> None:
        hosted = self.workers.hosted
        plan = self.batches.epoch(epoch, hosted)
        self.stepper.load(plan, self.judging.epoch(epoch, hosted, plan))
        self.stepper.position.fill_(position)

    def paced(self, epoch):
        return int(max(self.clock.now.ready[: self.algorithm.n]))

    def record(self, epoch, train_loss):
        rows, found = super().record(epoch, train_loss), self.told()
        seconds = epoch * self.steps * self.settings.compute_seconds
        computed = found["computing"] * self.settings.compute_seconds / self.algorithm.n
        for i, row in enumerate(rows[:-1]):
            row["step"] = found["step"]
            if i < self.algorithm.n:
                row["gradients"] = found["taken"][i]
                # Of an epoch without a gradient there is no loss; one that diverged is no number, and stays that.
                whole = math.isfinite(row["train_loss"]) or self.diverged is not None
                row["train_loss"] = row["train_loss"] if whole else None
            if found["aged"]:
                row["staleness_mean"] = found["aged"][i]
        losses = [row["train_loss"] for row in rows[: self.algorithm.n] if row["train_loss"] is not None]
        rows[-1] |= {
            "step": found["step"],
            "train_loss": sum(losses) / len(losses) if losses else None,
            "modelled_compute_s": computed,
            "modelled_communication_s": seconds - computed,
            "virtual_s": seconds,
            "gradients": sum(found["taken"]),
            "messages_lost": found["lost"],
            "staleness_mean": found["mean"],
            "staleness_max": found["most"],
        }
        return rows

    def told(self) -> dict:
        """What the clock adds to the records."""
        now = self.clock.now
        nothing = dict.fromkeys(("aged", "mean", "most"))
        return nothing | {"step": self.taken, "taken": now.taken, "computing": now.computing, "lost": now.lost}

    def account(self):
        return {"slowdowns": self.times.factors, "staleness": []}

    def progress(self, epoch, rows):
        return super().progress(epoch, rows) | {"virtual": {"steps": self.taken, "clock": vars(self.clock.now)}}

    def _check(self, snapshot):
        super()._check(snapshot)
        if set(snapshot.state["virtual"]) != set(self.progress(1, [])["virtual"]):
            raise ValueError("its virtual clock is missing")

    def restore(self, state):
        super().restore(state)
        self.taken, self.clock.now = state["virtual"]["steps"], Moment(**state["virtual"]["clock"])


class AsynchronousTrainer(VirtualTrainer):
    """A run of an asynchronous method.

    ``state.x`` are the models; ``workers.parameters`` what the gradients under way are taken at. Before a test all that
    are under way are computed, so that the statistics of BatchNorm are ahead by those.
    """

    def make_clock(self):
        algorithm, settings, n = self.algorithm, self.settings, self.algorithm.n
        sizes = [p.numel() for p in trainable(self.workers.modules[0])]
        self.state = started(algorithm, self.workers.rows.clone(), sizes)
        self.rules: list[LocalRule | None] = [None] * len(self.state.x)
        for i in range(len(self.state.x) if algorithm.centre_moves else n):
            self.rules[i] = LocalRule(self.state.x[i : i + 1], [min(i, n - 1)], settings, self.steps)
        self.events = Events(
            algorithm,
            self.state,
            self.rules,
            self.times,
            settings.link,
            settings.compute_seconds,
            settings.clock.message_loss,
            settings.seed,
            self._gradients,
            self.workers,
        )
        self.plan: EpochPlan | None = None
        self.planned = [-1] * n
        self.total, self.seen = [0.0] * n, [0] * n

    def _gradients(self, which: list[int]) -> list[float]:
        """Compute the gradients, with weight decay, that these workers have begun; their losses."""
        workers, counts = self.workers, self.events.count
        steps = [counts[i] for i in which]
        for i, step in zip(which, steps, strict=True):
            if self.planned[i] != step // self.steps:
                self._plan(i, step // self.steps)
        chosen = torch.tensor(which), torch.tensor(steps) % self.steps
        drawn = [part if part is None else part[chosen].to(workers.device) for part in parts(self.plan)]
        losses = workers.compute_together(*batch_of(self.data, workers.dtype, *drawn), steps, which)
        decay = self.rules[0].decay
        if len(which) == len(workers.modules):
            workers.gradients.add_(workers.parameters, alpha=decay)
        elif decay:
            for i in which:
                self.events.directions[i].add_(self.events.places[i], alpha=decay)
        losses = losses.tolist()
        for i, loss in zip(which, losses, strict=True):
            self.total[i] += loss
            self.seen[i] += 1
            if not loss < self.stepper.bound:
                self.note_divergence(sum(counts) // self.algorithm.n)
        return losses

    def _plan(self, i: int, epoch: int) -> None:
        """Take the mini-batches of worker i's own epoch in place of those before."""
        own = parts(self.batches.epoch(epoch, [i]))
        if self.plan is None:
            n = self.algorithm.n
            self.plan = EpochPlan(*(p if p is None else p.new_zeros(n, *p.shape[1:]) for p in own))
        for place, part in zip(parts(self.plan), own, strict=True):
            if place is not None:
                place[i] = part[0]
        self.planned[i] = epoch

    def train_epoch(self, epoch, on_step=lambda step, losses: None):
        began, n = time.perf_counter(), self.algorithm.n
        if not self.events.order:
            self.events.start()
        self.total, self.seen = [0.0] * n, [0] * n
        for t in range(epoch * self.steps, (epoch + 1) * self.steps):
            self.events.run(t + 1)
            on_step(t, None)
        self.events.settle()
        self.algorithm.catch_up(self.events)
        self.seconds_compute += time.perf_counter() - began
        pairs = zip(self.total, self.seen, strict=True)
        return torch.tensor([total / seen if seen else math.nan for total, seen in pairs], dtype=torch.float64)

    def record(self, epoch, train_loss):
        self.workers.parameters.copy_(self.state.x[: self.algorithm.n])
        rows = super().record(epoch, train_loss)
        rows[-1] |= {"logical_bytes": self.events.bytes, "rounds": self.events.messages}
        return rows

    def told(self):
        events = self.events
        uses, total = (sum(part) for part in zip(*events.aged, strict=True))
        known = dict.fromkeys(("aged", "mean", "most"))
        if uses:
            known["aged"] = [total / uses if uses else None for uses, total in events.aged]
            known |= {"mean": total / uses, "most": events.oldest}
        return known | {
            "step": sum(events.count) // self.algorithm.n,
            "taken": events.count,
            "computing": events.computing,
            "lost": events.lost,
        }

    def account(self):
        ages = self.events.ages if any(self.events.ages) else []
        return {"slowdowns": self.times.factors, "staleness": ages, "present": self.events.here}

    def progress(self, epoch, rows):
        return Trainer.progress(self, epoch, rows) | {"virtual": self.events.kept()}

    def restore(self, state):
        Trainer.restore(self, state)
        self.events.restore(state["virtual"])

    def _tensors(self, worker):
        n, centres = self.algorithm.n, self.algorithm.centres
        if worker == n + centres:
            return {"rows": self.events.versions.rows()}
        found = {"x": self.state.x[worker]}
        found |= {f"state.{name}": getattr(self.state, name)[worker] for name in self.algorithm.state}
        if worker < n:
            found["gradient"] = self.workers.gradients[worker]
            found |= {f"buffer.{k}": buffer for k, buffer in enumerate(self.workers.modules[worker].buffers())}
        if self.rules[worker] is not None:
            found |= {f"optimizer.{name}": value for name, value in self.rules[worker].saved(0).items()}
        return found

    def save(self, checkpoints, epoch, rows):
        count = self.algorithm.n + self.algorithm.centres + 1
        checkpoints.save(epoch, self.progress(epoch, rows), ((i, self._tensors(i)) for i in range(count)))

    def resume(self, checkpoints):
        snapshot = checkpoints.newest(self._check)
        if snapshot is None:
            return 0, []
        self.restore(snapshot.state)
        for i in range(len(self.state.x) + 1):
            saved = snapshot.worker(i)
            for name, own in self._tensors(i).items():
                if not name.startswith("optimizer."):
                    own.copy_(saved[name])
            if i < len(self.state.x) and self.rules[i] is not None:
                kept = {k.partition(".")[2]: v.clone() for k, v in saved.items() if k.startswith("optimizer.")}
                self.rules[i].restore([kept], snapshot.state["virtual"]["rates"][i])
        return snapshot.state["epoch"], snapshot.state["rows"]

    def _fits(self, tensors):
        rows, size = self.state.x.shape
        ((count, *length), kind) = tensors.get(rows, {}).get("rows", ([0], ""))
        own = {i: layout for i, layout in tensors.items() if i != rows}
        return super()._fits(own) and length == [size] and kind == str(self.state.x.dtype)
