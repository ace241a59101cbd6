"""The network as a worker sees it that trusts nobody, or should not: false rows go out, a defence combines what comes.

It stands between a method and where the workers live, so that neither knows of it, and every method and any number of
processes have it. Rows are combined one after another as they were heard: the sums are the same for every R.
"""

import torch
from torch import Tensor

from aldsgd.defences import Defence, barred
from aldsgd.errors import ConfigError
from aldsgd.faults import REMEMBERING, Fault, fault_of
from aldsgd.finite import all_finite
from aldsgd.links import AllReduce
from aldsgd.selections import best_worker

#: Steps of a method that are looked at before it starts: more than any method's period by default.
FIRST = 32


class Distrust:
    """``network`` (``aldsgd.network``) with faulty workers and a defence, for the training loop.

    Args:
        state: ``x`` and a method's own tensors, which stay where they are. names: of those that are rows, "x" first.
        fault, defence, seed: as in the settings.

    Attributes:
        led: (w, 3) float64, of each hosted worker: steps in which a faulty one led it, in which it heard a faulty one
            and followed someone, and in which it followed someone.
    """

    def __init__(self, network, state, names, fault: Fault | None, defence: Defence, seed: int):
        self.network, self.state, self.fault, self.defence, self.seed = network, state, fault, defence, seed
        hosted, workers = list(network.workers), fault.workers if fault else ()
        self.faulty = [i for i, worker in enumerate(hosted) if worker in workers]
        self.names = tuple(names)
        remembered = self.names if fault and fault.kind in REMEMBERING else ()
        # A hosted worker remembers a row of each tensor, and when it last did.
        self.kept = {name: getattr(state, name)[: len(hosted)].clone() for name in remembered}
        self.when = {name: torch.full((len(hosted),), -1.0, dtype=torch.float64) for name in remembered}
        self.led = torch.zeros(len(hosted), 3, dtype=torch.float64)
        self.who = torch.full((len(network.hosted),), -1, dtype=torch.int64, device=network.device)
        self.run = torch.zeros_like(self.who)
        self._seen, self._barred = -1, None
        self._workers = torch.tensor(workers, dtype=torch.int64, device=network.device)

    def __getattr__(self, name):
        return getattr(self.network, name)

    @property
    def seconds(self) -> float:
        return self.network.seconds

    @seconds.setter
    def seconds(self, value: float) -> None:
        self.network.seconds = value

    def disturb(self, models: Tensor, gradients: Tensor) -> None:
        """What is wrong with the faulty workers themselves, before they move."""
        if self.fault:
            self.fault.disturb(models, gradients, self.faulty, self.network.step)

    def post(self, models, hood) -> None:
        """Nothing is sent ahead, since what is sent is made when it is needed."""

    def reported(self, losses: Tensor) -> Tensor:
        """Losses (w,) as the hosted workers tell them."""
        if self.fault and self.fault.lies and self.faulty and self.network.step >= self.fault.start:
            losses = losses.clone()
            losses[self.faulty] = 0.0
        return losses

    def judged(self, exchange, hood, losses):
        """Losses (E,) with those barred that have led too long; who leads is counted once a step."""
        candidates = getattr(exchange.rule, "candidates", None)
        if not exchange.fixed:
            root = torch.tensor(hood.links.roots, device=hood.row.device)
            group = [k for worker in self.network.workers for k, g in enumerate(hood.links.groups) if worker in g]
            self._count(root[group], torch.ones(len(group), dtype=torch.bool))
        elif candidates and losses is not None:
            first = self._seen != self.network.step
            if self.defence.cap and first:
                self._barred = self.who.clone(), self.run.clone()
            if self.defence.cap:
                losses = barred(losses, hood, *self._barred, self.defence.cap)
            leader = hood.col[best_worker(hood, losses, candidates)]
            if first:
                self._seen = self.network.step
                self.run = torch.where(leader == self.who, self.run + 1, 1)
                self.who = leader
                near = torch.zeros(len(leader), dtype=torch.bool, device=leader.device)
                near[hood.row[torch.isin(hood.col, self._workers)]] = True
                self._count(leader, near)
        return losses

    def _count(self, leader: Tensor, near: Tensor) -> None:
        w = len(self.led)
        led, near = torch.isin(leader[:w], self._workers).cpu(), near[:w].cpu()
        self.led += torch.stack([led, near, torch.ones_like(led)], dim=1)

    def heard(self, models: Tensor, hood) -> list[Tensor]:
        """The row (P,) of each entry: false ones of faulty workers, but each worker's own as it is."""
        false = self._false(models)
        true = {i: models[i].clone() for i in false}
        for i, row in false.items():
            models[i].copy_(row)
        found = list(self.network.heard(models, hood))
        for i, row in true.items():
            models[i].copy_(row)
        first = self.network.workers.start
        for e, (row, worker) in enumerate(zip(hood.row.tolist(), hood.col.tolist(), strict=True)):
            if worker - first in false and row != worker - first:
                found[e] = false[worker - first]
        return found

    def _false(self, models: Tensor) -> dict[int, Tensor]:
        """Position -> what others hear of the hosted faulty workers."""
        if not self.fault:
            return {}
        step, name = self.network.step, self._name(models)
        if name in self.kept:
            for i in self.faulty:
                if self.when[name][i] != self.fault.period(step):
                    self.kept[name][i] = models[i]
                    self.when[name][i] = self.fault.period(step)
        return {
            i: self.fault.message(
                models[i], self.kept[name][i] if name in self.kept else None, self.network.workers[i], step, self.seed
            ).to(models)
            for i in self.faulty
        }

    def _name(self, models: Tensor) -> str | None:
        return next((name for name in self.names if getattr(self.state, name) is models), None)

    def mix(self, models, rows, hood, codec=None) -> None:
        """Combine, for each hosted row, what is heard; a row that is not finite counts as the worker's own."""
        table, weights = self.heard(models, hood), rows.to(models.dtype)
        self.network.sound(models)
        new, pointer = [], hood.pointer.tolist()
        for i, (start, end) in enumerate(zip(pointer, pointer[1:], strict=False)):
            own = models[i]
            others = [row if all_finite(row) else own for row in table[start + 1 : end]]
            heard = torch.stack(others) if others else own.new_zeros(0, len(own))
            new.append(self._combined(own, heard, weights[start:end]))
        for i, row in enumerate(new):
            models[i].copy_(row)
        self.network.forget()

    def _combined(self, own: Tensor, heard: Tensor, weights: Tensor) -> Tensor:
        if self.defence.kind == "none":  # also where coefficients do not sum to one
            return weights[0] * own + weights[1:] @ heard
        return self.defence.combine(own, heard, weights[1:])

    def average(self, models) -> None:
        """The mean of what all send, which nobody can defend against."""
        for i, row in self._false(models).items():
            models[i].copy_(row)
        self.network.average(models)

    def saved(self, worker: int) -> dict[str, Tensor]:
        """What a checkpoint keeps of a worker, wherever it lives, in place; empty for a centre."""
        hosted = self.network.workers
        if worker >= self.network.n:
            return {}
        i = worker - hosted.start if worker in hosted else 0
        found = {"led": self.led[i], "who": self.who[i : i + 1], "run": self.run[i : i + 1]}
        for name in self.kept:
            found |= {f"kept.{name}": self.kept[name][i], f"when.{name}": self.when[name][i : i + 1]}
        return found


def report(distrust: Distrust | None, rows: list[dict], metric: str) -> dict:
    """What a record says of faults: who is faulty, how the honest workers end, and how often a faulty one led.

    rows: of the run, on rank 0 alone. led: share of the steps with leaders in which an honest worker followed a faulty
    one; led_near: the same among honest workers that heard one. None where nobody leads. Every process takes part.
    """
    if distrust is None or distrust.fault is None:
        return {}
    network, faulty = distrust.network, set(distrust.fault.workers)
    counts = torch.stack([network.gather(column.contiguous()) for column in distrust.led.T])
    honest = [i for i in range(network.n) if i not in faulty]
    led, near, followed = counts[:, honest].sum(dim=1).tolist()
    ends = [row[f"test_{metric}"] for row in rows[-1 - network.n - network.centres :] if row["worker"] in honest]
    return {
        "faulty": sorted(faulty),
        "honest_worst": min(ends, default=None),
        "honest_mean": sum(ends) / len(ends) if ends else None,
        "led": led / followed if followed else None,
        "led_near": led / near if near else None,
    }


def checked(algorithm, settings) -> tuple[Fault | None, Defence]:
    """The fault and the defence that an ``aldsgd.Settings`` names.

    Raises ConfigError where these do not fit the method or the number of its workers.
    """
    fault = fault_of(settings)
    defence = Defence(settings.defence, settings.radius, settings.trim, settings.lead_cap)
    if fault:
        fault.check(algorithm.n)
    if defence.kind != "none":
        exchanges = [exchange for t in range(FIRST) for exchange in algorithm.step(t).exchanges]
        if any(isinstance(exchange.links, AllReduce) for exchange in exchanges):
            raise ConfigError(f"defence '{defence.kind}' is one against neighbours, and an all-reduce has none")
        if not all(exchange.stochastic for exchange in exchanges):
            raise ConfigError(f"defence '{defence.kind}' needs coefficients that sum to one; choose another method")
    return fault, defence


def distrusted(network, algorithm, state, settings) -> Distrust | None:
    """The network of a run whose settings name a fault or a defence, None for all others.

    Raises ConfigError as ``checked``.
    """
    fault, defence = checked(algorithm, settings)
    if fault is None and defence.kind == "none" and defence.cap is None:
        return None
    names = ["x", *(name for name, shape in algorithm.state.items() if shape == "row")]
    return Distrust(network, state, names, fault, defence, settings.seed)
