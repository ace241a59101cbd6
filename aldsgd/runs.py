"""A complete run, as readers see it: its configuration and its rows."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from aldsgd.errors import ConfigError


@dataclass(frozen=True)
class Run:
    """A complete run: ``config`` (resolved), ``meta`` (the rest of the JSON), ``csv`` (path of the rows).

    Runs are read once and shared by everyone who asks for them: change a copy.
    """

    config: dict
    meta: dict
    csv: Path

    @property
    def key(self) -> str:
        """What names the run's files, which is checked when they are read."""
        return self.csv.stem.rpartition("-")[2]

    @cached_property
    def _cells(self) -> tuple[list[str], np.ndarray]:
        """(columns, numbers) of the CSV, blanks as NaN. Raises ConfigError where it is not what a run writes."""
        try:
            head, *lines = self.csv.read_text(encoding="utf-8").splitlines()
            # Python's own conversion is exact, and faster for a file of this size than building a parser.
            numbers = [[float(cell or "nan") for cell in line.split(",")] for line in lines]
            names = head.split(",")
            return names, np.array(numbers, dtype=np.float64).reshape(len(lines), len(names))
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{self.csv} cannot be read ({error}): delete it and its JSON, and train it again"
            ) from None

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Names of the task's metrics, the one that tables show first."""
        return tuple(
            name.removeprefix("test_") for name in self._cells[0] if name.startswith("test_") and name != "test_loss"
        )

    def higher_is_better(self, metric: str) -> bool:
        """Whether more of a metric is better, as its task says; runs recorded before tasks did so tell it by their
        worst and their best worker."""
        said = self.meta.get("extra", {}).get("more_is_better", {}).get(metric)
        return not self.final[f"worst_{metric}"] > self.final[f"best_{metric}"] if said is None else said

    @cached_property
    def rows(self) -> pd.DataFrame:
        """Every row of the CSV, blanks as NaN; ``worker`` is a nullable integer."""
        names, numbers = self._cells
        return pd.DataFrame(numbers, columns=names).astype({"epoch": "int64", "step": "int64", "worker": "Int64"})

    @cached_property
    def network(self) -> pd.DataFrame:
        """Rows of the whole network, one per epoch, without the columns that only workers have."""
        return self._part(np.isnan, lambda name: name != "worker" and not self._tested(name))

    @property
    def curve(self) -> pd.DataFrame:
        """The rows of ``network`` that were tested on the same samples: without the last where those before it, if
        there are any, took a part of the test set (``interim_images``). Between tests on different samples nothing can
        be read."""
        part = self.config.get("interim_images") or np.inf
        last = self.network["epoch"] == self.config.get("epochs")
        apart = part < (self.config.get("test_images") or np.inf) and not last.all()
        return self.network[~last] if apart else self.network

    @cached_property
    def final(self) -> dict[str, float]:
        """The last row of the whole network, column to number. Raises ConfigError where there is none."""
        names, numbers = self._cells
        rows = numbers[np.isnan(numbers[:, names.index("worker")])]
        if not len(rows):
            raise ConfigError(f"{self.csv} holds no test of the network: delete it and its JSON, and train it again")
        return dict(zip(names, rows[-1].tolist(), strict=True))

    @property
    def workers(self) -> pd.DataFrame:
        """Rows of the single workers, one per epoch and worker, without the columns of the network."""
        return self._part(lambda worker: worker < self.config.get("workers", np.inf), self._of_workers)

    @cached_property
    def final_workers(self) -> pd.DataFrame:
        """The rows of ``workers`` at the last epoch, one per worker."""
        workers = self.workers
        return workers[workers["epoch"] == workers["epoch"].max()]

    @property
    def centres(self) -> pd.DataFrame:
        """Rows like those of ``workers``, of models that have no data of their own (numbers from ``workers`` on)."""
        return self._part(lambda worker: worker >= self.config.get("workers", np.inf), self._of_workers)

    def _part(self, rows: Callable[[np.ndarray], np.ndarray], kept: Callable[[str], bool]) -> pd.DataFrame:
        names, numbers = self._cells
        places = [i for i, name in enumerate(names) if kept(name)]
        cells = numbers[rows(numbers[:, names.index("worker")])][:, places]  # comparisons with a blank are false
        frame = pd.DataFrame(cells, columns=[names[i] for i in places])
        return frame.astype({name: "int64" for name in ("epoch", "step", "worker") if name in frame})

    def _tested(self, name: str) -> bool:
        """Whether a column holds the test of one model, under the run's own policy or a further one."""
        return name.startswith(("test_", *(f"{policy}_test_" for policy in self.config.get("also") or ())))

    def _of_workers(self, name: str) -> bool:
        return name in ("epoch", "step", "worker", "train_loss") or self._tested(name)
