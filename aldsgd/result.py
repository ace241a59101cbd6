"""What a run leaves: its records and its models."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from aldsgd.errors import ConfigError
from aldsgd.saving import AVERAGED, save_models
from aldsgd.workers import Workers, initial_model


@dataclass
class Result:
    """What a run leaves: ``rows``, its records (``results/README.md``), and ``workers``, the trained models.

    Between processes every rank has the models that it hosts, and rank 0 the rows; ``train`` gives them to all. build:
    what made a model. average: ``state_dict`` of the averaged model, None on ranks above 0. about: what
    ``aldsgd.saving.describe`` says of the run's data and model.
    """

    rows: list[dict]
    workers: Workers
    build: Callable[[], nn.Module]
    average: dict[str, Tensor] | None
    about: dict

    @property
    def final(self) -> dict:
        """The row of the whole network at the last epoch."""
        return next(row for row in reversed(self.rows) if row["worker"] is None)

    def averaged_model(self) -> nn.Module:
        """The model whose parameters are the mean of the workers', with statistics of BatchNorm by the run's policy, in
        evaluation mode. Raises ConfigError on ranks above 0, which do not have it."""
        if self.average is None:
            raise ConfigError("the averaged model is on rank 0 alone; ask for it there")
        model = initial_model(self.build, 0, 0).to(self.workers.dtype)
        model.load_state_dict(self.average)
        return model.eval()

    def save(self, folder: str | Path) -> Path:
        """Write the models of this process (``aldsgd.saving``), and on rank 0 the averaged one. Returns the folder."""
        hosted = zip(self.workers.hosted, self.workers.modules, strict=True)
        states = {worker: module.state_dict() for worker, module in hosted}
        if self.average is not None:
            states[AVERAGED] = self.average
        return save_models(folder, self.about | {"final": self.final}, states)
