"""The local rule: how a worker moves along a direction. Any ``torch.optim`` optimizer and any of its schedules.

All hosted workers are one parameter (w, P) of the optimizer, whose state is then (w, P) too. Where rates differ, or
where only some workers act, each worker is a parameter of its own: the same numbers, and the state of whoever does not
act stays. The weight decay of SGD and Adam is part of the gradient, taken where the gradient is; AdamW's own is
decoupled.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from functools import cached_property, partial

import torch
from torch import Tensor

from aldsgd.errors import ConfigError

OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
SCHEDULES = ("steps", "cosine", "constant")


class LocalRule:
    """Moves the rows of ``parameters`` (w, P) in place.

    Args:
        parameters: (w, P), models of the hosted workers. hosted: their numbers. settings: an ``aldsgd.Settings``, of
            which optimizer, lr, schedule and what belongs to them count. steps: steps in an epoch.

    Attributes:
        lr: the rate of the next step, a scalar, or (w,) where workers differ. constant: whether it only changes between
            epochs. decay: the weight decay that belongs to the gradient. acting: None, every hosted worker moves.
        workers: (w,) int64, numbers of the hosted workers.

    Raises:
        ConfigError: an optimizer or a schedule that cannot be made, or that cannot step.
    """

    acting: Sequence[int] | None = None

    def __init__(self, parameters: Tensor, hosted: Sequence[int], settings, steps: int):
        self.parameters = parameters
        self.workers = torch.tensor(list(hosted), dtype=torch.int64, device=parameters.device)
        self.rates = [settings.lr[i] for i in hosted] if isinstance(settings.lr, Sequence) else None
        self.first_rate = self.rates[0] if self.rates else float(settings.lr)
        self.factory, self.decay = optimizer_factory(settings, parameters.device)
        self.plain = settings.optimizer == "sgd" and not settings.momentum and parameters.device.type == "cpu"
        self.scheduler, self.every = schedule_factory(settings, steps)
        self.constant = self.every == steps
        self.taken = 0
        try:
            self.optimizer = self._build(apart=self.rates is not None)
            self.layout  # noqa: B018 - tries a step, on zeros
        except (TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise ConfigError(f"the optimizer or schedule cannot be used ({' '.join(str(error).split())})") from None

    def _build(self, apart: bool):
        rows = list(self.parameters) if apart else [self.parameters]
        rates = self.rates or [self.first_rate] * len(rows)
        groups = [{"params": [row], "lr": rate} for row, rate in zip(rows, rates, strict=True)]
        optimizer = self.factory(groups, lr=self.first_rate)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.schedule = self.scheduler(optimizer)
        self.apart, self.rows = apart, rows
        self.stepped = False
        self._read(optimizer)
        return optimizer

    def _read(self, optimizer) -> None:
        rates = [group["lr"] for group in optimizer.param_groups]
        self.lr = self.parameters.new_tensor([float(rate) for rate in rates]) if self.rates else float(rates[0])

    def __call__(self, direction: Tensor, acting: Sequence[int] | None = None) -> None:
        """Move along ``direction`` (w, P); with ``acting`` only these rows, by position."""
        if acting is not None and not self.apart:
            self._part()
        if self.plain and self.stepped and not self.apart:
            # What SGD does, in a tenth of the time that torch's wrapper takes for one small row. The first step goes
            # through that, so that the schedule has seen one.
            self.parameters.add_(direction, alpha=-self.lr)
            return
        self.stepped = True
        if self.apart:
            moving = range(len(self.rows)) if acting is None else acting
            for i, row in enumerate(self.rows):
                row.grad = direction[i] if i in moving else None
        else:
            self.parameters.grad = direction
        self.optimizer.step()

    def next(self) -> None:
        """Go on to the rate of the next step."""
        self.taken += 1
        if self.taken % self.every == 0:
            if self.stepped:
                self.schedule.step()
            else:
                # A schedule is a function of the number of its steps; torch warns where no optimizer's step comes
                # between, as where a run goes on, and at a worker that is away before its first.
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    self.schedule.step()
            self._read(self.optimizer)

    def _part(self) -> None:
        """From one parameter to one for each worker, with the same state and rate."""
        self.restore([self.saved(i) for i in range(len(self.parameters))], self.taken, apart=True)

    @cached_property
    def layout(self) -> dict[str, Tensor]:
        """Name -> (P,) or number, of each tensor that the optimizer keeps for a worker; all zero."""
        probe = torch.zeros(1, 2, dtype=self.parameters.dtype, device=self.parameters.device)
        probe.grad = torch.zeros_like(probe)
        optimizer = self.factory([{"params": [probe], "lr": self.first_rate}], lr=self.first_rate)
        optimizer.step()
        return {
            name: torch.zeros_like(self.parameters[0]) if value.shape == probe.shape else torch.zeros_like(value)
            for name, value in optimizer.state[probe].items()
            if isinstance(value, Tensor)
        }

    def saved(self, i: int) -> dict[str, Tensor]:
        """The optimizer's state of one hosted worker, in the same places before and after its first step: rows (P,),
        numbers, and whether there is any."""
        own = self.optimizer.state.get(self.rows[i if self.apart else 0], {})
        found = {"present": torch.tensor(float(bool(own)))}
        for name, empty in self.layout.items():
            value = own.get(name, empty)
            found[name] = value[i] if own and empty.ndim and not self.apart else value
        return found

    def restore(self, state: Sequence[dict[str, Tensor]], taken: int, apart: bool = False) -> None:
        """Go back to what ``saved`` of every hosted worker was after ``taken`` steps.

        apart: with one parameter for each worker from now on, as where their numbers differ.
        """
        numbers = [{name: value.item() for name, value in own.items() if not value.ndim} for own in state]
        apart = apart or self.rates is not None or any(own != numbers[0] for own in numbers)
        self.taken, self.optimizer = 0, self._build(apart)
        while self.taken < taken:
            self.next()
        for i, row in enumerate(self.rows):
            if state[i]["present"]:
                for name, empty in self.layout.items():
                    value = state[i][name]
                    if empty.ndim and not apart:
                        value = torch.stack([own[name] for own in state])
                    self.optimizer.state[row][name] = value.clone().to(empty.device)


def optimizer_factory(settings, device) -> tuple[Callable, float]:
    """(what makes the optimizer from parameter groups and lr, the weight decay that belongs to the gradient)."""
    if callable(settings.optimizer):
        return settings.optimizer, settings.weight_decay
    kind = OPTIMIZERS[settings.optimizer]
    if settings.optimizer == "sgd":
        return partial(kind, momentum=settings.momentum, nesterov=settings.nesterov), settings.weight_decay
    options = {"betas": tuple(settings.betas), "capturable": torch.device(device).type == "cuda"}
    if settings.optimizer == "adamw":
        return partial(kind, weight_decay=settings.weight_decay, **options), 0.0
    return partial(kind, **options), settings.weight_decay


def factor(settings, steps: int, step: int) -> float:
    """The share of ``lr`` at a global step of a named schedule with ``steps`` steps an epoch.

    "steps": the product of the factors of ``lr_drops`` whose epoch has come; "cosine": (1 + cos(pi t / T)) / 2 over the
    whole run; "constant": 1. With ``warmup`` epochs the rate first grows linearly from 1/(steps of the warm-up) of
    itself.
    """
    share = 1.0
    if settings.schedule == "steps":
        share = math.prod(f for start, f in settings.lr_drops if step // steps >= start)
    elif settings.schedule == "cosine":
        share = (1 + math.cos(math.pi * min(1.0, step / (settings.epochs * steps)))) / 2
    if settings.warmup:
        share *= min(1.0, (step + 1) / (settings.warmup * steps))
    return share


def schedule_factory(settings, steps: int) -> tuple[Callable, int]:
    """(what makes the scheduler of an optimizer, after how many steps it steps)."""
    if callable(settings.schedule):
        return settings.schedule, 1 if settings.schedule_per == "step" else steps
    every = 1 if settings.schedule == "cosine" or settings.warmup else steps
    return lambda optimizer: torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda k: factor(settings, steps, k * every)
    ), every


def check_local(settings) -> None:
    """Raise ConfigError for an optimizer or a schedule that makes no sense."""
    if not callable(settings.optimizer) and settings.optimizer not in OPTIMIZERS:
        raise ConfigError(f"unknown optimizer '{settings.optimizer}'; choose one of: {', '.join(OPTIMIZERS)}")
    if not callable(settings.schedule) and settings.schedule not in SCHEDULES:
        raise ConfigError(f"unknown schedule '{settings.schedule}'; choose one of: {', '.join(SCHEDULES)}")
    if not 0 <= settings.momentum < 1:
        raise ConfigError(f"momentum = {settings.momentum} must be 0 or more and below 1")
    if settings.nesterov and not settings.momentum:
        raise ConfigError("nesterov needs a momentum above 0; give momentum = 0.9, say")
    if len(settings.betas) != 2 or not all(0 <= beta < 1 for beta in settings.betas):
        raise ConfigError(f"betas = {settings.betas} must be two numbers, 0 or more and below 1")
    if not (math.isfinite(settings.warmup) and settings.warmup >= 0):
        raise ConfigError(f"warmup = {settings.warmup} must be a number of epochs, 0 or more")
    if settings.schedule_per not in ("step", "epoch"):
        raise ConfigError(f"schedule_per = {settings.schedule_per!r} must be 'step' or 'epoch'")
