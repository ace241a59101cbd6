"""Which trainer a run has: in steps, in virtual time, or asynchronous between processes; and the library's one call."""

import json
from collections.abc import Callable
from dataclasses import fields, replace

from torch import nn

from aldsgd.algorithm import Algorithm, checked
from aldsgd.asynchronous import Asynchronous
from aldsgd.clocks import Clock
from aldsgd.datasets import Data
from aldsgd.distributed import ProcessNetwork
from aldsgd.errors import ConfigError
from aldsgd.peers import PeerTrainer
from aldsgd.result import Result
from aldsgd.settings import Settings, several
from aldsgd.tasks import Loss
from aldsgd.training import Trainer
from aldsgd.virtual import AsynchronousTrainer, VirtualTrainer
from aldsgd.watching import Watcher, everyone
from aldsgd.world import join, launched


def trainer_for(algorithm, build, data, settings, loss=None, hosting=None) -> Trainer:
    """The trainer of a method: in steps, or in virtual time where the settings or the method ask for it.

    Raises ConfigError where that is to be spread over processes, and for settings that would be passed over there.
    """
    asynchronous = isinstance(algorithm, Asynchronous)
    defended = settings.defence != "none" or settings.lead_cap is not None
    if (asynchronous or settings.real) and (settings.fault or defended):
        raise ConfigError("asynchronous methods know neither a fault of what is sent nor a defence; leave them out")
    if settings.real and settings.clock is not None:
        raise ConfigError("real time has no clock of virtual time; give one of real and clock")
    if asynchronous and algorithm.centre_moves and several(settings.lr):
        raise ConfigError("the server has one learning rate; give one, not one per worker")
    if settings.real:
        return PeerTrainer(algorithm, build, data, settings, loss, hosting)
    if not asynchronous and settings.clock is None:
        return Trainer(algorithm, build, data, settings, loss, hosting)
    if hosting is not None and hosting.size > 1:
        raise ConfigError("virtual time runs in one process; start it without torchrun, or with --real")
    settings = settings if settings.clock else replace(settings, clock=Clock())
    return (AsynchronousTrainer if asynchronous else VirtualTrainer)(algorithm, build, data, settings, loss)


def train(
    algorithm: Algorithm,
    build: Callable[[], nn.Module],
    data: Data,
    progress: bool = False,
    loss: Loss | None = None,
    on_record: Watcher | None = None,
    **settings,
) -> Result:
    """Train the workers of ``algorithm``, each with a model from ``build``, on ``data``; returns a ``Result``.

    Under a launcher such as torchrun the workers are spread over its processes, each of which gets the same rows, and
    the models that it hosts. loss: (outputs, targets) -> scalar, instead of that of the data's task. on_record: gets
    the rows of each tested epoch, on rank 0, such as ``aldsgd.watching.TensorBoard("runs/mine")``. Other keyword
    arguments are those of ``Settings``. Raises ConfigError for an argument that ``Settings`` does not have.
    """
    if unknown := set(settings) - {f.name for f in fields(Settings)}:
        known = ", ".join(f.name for f in fields(Settings))
        raise ConfigError(f"unknown setting {sorted(unknown)[0]!r}; there are: {known}")
    chosen, algorithm = Settings(**settings), checked(algorithm)
    if launched()[1] == 1:
        return trainer_for(algorithm, build, data, chosen, loss).run(everyone(on_record), progress)
    with join(chosen.device) as world:
        hosting = ProcessNetwork(algorithm.n, world, algorithm.centres)
        trainer = trainer_for(algorithm, build, data, replace(chosen, device=world.device), loss, hosting)
        result = trainer.run(everyone(on_record), progress and world.rank == 0)
        return replace(result, rows=json.loads(world.first(lambda: json.dumps(result.rows))))
