"""Who hears whom at one step, as flat tables on which a method writes its row coefficients."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from aldsgd.errors import ConfigError
from aldsgd.links import Links


class Neighbourhood:
    """The closed neighbourhoods of some workers under the active links, flattened into E entries.

    Entry e says that worker ``workers[row[e]]`` hears worker ``col[e]``. The entries of a row stand together: the
    worker itself first, then those it hears in the order of the rounds, which is the order in which
    ties between leaders are decided (released code). A matrix with this support is a float64 tensor of shape (E,).

    Attributes:
        workers: (w,) ids of the rows. row, col: (E,) int64. itself: (E,) bool, the worker's own entries.
        degree: (E,) float64, number of active links over which ``col[e]`` hears someone at this step.

    Args:
        n: number of all workers, centres among them. links: who hears whom. workers: whose rows these are.

    Raises:
        ConfigError: links of other workers than 0..n-1, or that do not fit their kind.
    """

    def __init__(self, n: int, links: Links, workers: Sequence[int], device="cpu"):
        links.check(n)
        rounds = links.rounds
        arcs = np.array([arc for hop in rounds for arc in hop], dtype=np.int64).reshape(-1, 2)
        order = np.repeat(np.arange(len(rounds)), [len(hop) for hop in rounds])
        ids = np.arange(n)
        heard_by = np.concatenate([ids, arcs[:, 1]])
        heard = np.concatenate([ids, arcs[:, 0]])
        sequence = np.lexsort((np.concatenate([np.full(n, -1), order]), heard_by))
        heard_by, heard = heard_by[sequence], heard[sequence]
        degree = np.bincount(heard_by, minlength=n) - 1
        local = np.full(n, -1)
        local[np.asarray(workers, dtype=np.int64)] = np.arange(len(workers))
        mine = local[heard_by] >= 0
        row, col = local[heard_by[mine]], heard[mine]

        self.n, self.links, self.workers = n, links, tuple(workers)
        self.row = torch.as_tensor(row, device=device)
        self.col = torch.as_tensor(col, device=device)
        self.itself = torch.as_tensor(heard_by[mine] == col, device=device)
        self.degree = torch.as_tensor(degree[col], dtype=torch.float64, device=device)
        self._kept: dict = {}
        self.pointer = torch.as_tensor(np.searchsorted(row, np.arange(len(workers) + 1)), device=device)

    def kept(self, rule, entries: Callable[["Neighbourhood"], Sequence[float]]) -> Tensor:
        """``entries(self)`` as a tensor (E,), worked out once for each rule: later a GPU reads nothing of the host."""
        if rule not in self._kept:
            self._kept[rule] = torch.tensor(entries(self), dtype=torch.float64, device=self.row.device)
        return self._kept[rule]

    @property
    def own_degree(self) -> Tensor:
        """(E,) float64: the degree of the worker that hears, repeated over its row."""
        return self.degree[self.pointer[:-1]][self.row]

    def gossip(self, weight: float | Tensor) -> Tensor:
        """Row coefficients (E,) of W: ``weight`` (scalar or (E,)) on each neighbour, the rest of one on the worker."""
        # A number becomes a tensor by a fill on the device: nothing here is copied from the host (a GPU would wait).
        if not isinstance(weight, Tensor):
            weight = torch.full_like(self.degree, weight)
        entries = weight.to(self.degree).expand_as(self.degree).masked_fill(self.itself, 0.0)
        kept = 1.0 - torch.zeros(len(self.workers), dtype=torch.float64, device=self.row.device).index_add_(
            0, self.row, entries
        )
        return torch.where(self.itself, kept[self.row], entries)

    def select(self, entry: Tensor) -> Tensor:
        """Row coefficients (E,) of a selection matrix S: one on ``entry`` (w,), the chosen entry of each row."""
        return torch.zeros_like(self.degree).index_fill_(0, entry, 1.0)

    def sums(self, entries: Tensor) -> Tensor:
        """Sum of each row's ``entries`` (E,), repeated over the row (E,)."""
        w = len(self.workers)
        return entries.new_zeros(w).index_add_(0, self.row, entries)[self.row]

    def extreme(self, entries: Tensor, which: str) -> Tensor:
        """The smallest ("amin") or largest ("amax") of each row's ``entries`` (E,), repeated over the row (E,)."""
        found = entries.new_zeros(len(self.workers))
        return found.scatter_reduce_(0, self.row, entries, which, include_self=False)[self.row]

    def ranks(self, score: Tensor) -> Tensor:
        """How many entries of its row score less than each entry, (E,); no NaN."""
        order = score.argsort(stable=True)
        order = order[self.row[order].argsort(stable=True)]
        row, score = self.row[order], score[order]
        position = torch.arange(len(score), device=score.device)
        first = torch.ones_like(position, dtype=torch.bool)
        first[1:] = (row[1:] != row[:-1]) | (score[1:] != score[:-1])
        rank = (position * first).cummax(0).values - self.pointer[row]
        return torch.empty_like(score).index_copy_(0, order, rank.to(score))

    def first_smallest(self, score: Tensor) -> Tensor:
        """Position (w,) of the smallest ``score`` (E,) in each row; ties go to the earliest; no NaN."""
        w, device = len(self.workers), self.row.device
        least = torch.full((w,), torch.inf, dtype=score.dtype, device=device)
        least.scatter_reduce_(0, self.row, score, "amin")
        position = torch.arange(len(score), device=device)
        position = position.masked_fill(score != least[self.row], len(score))
        return torch.full((w,), len(score), device=device).scatter_reduce_(0, self.row, position, "amin")

    def entries_of(self, matrix: Sequence[Sequence[float]]) -> Tensor:
        """Row coefficients (E,) of a matrix (n, n). Raises ConfigError where it has weight on workers that are not
        heard."""
        dense = torch.as_tensor(matrix, dtype=torch.float64)
        if dense.shape != (self.n, self.n):
            raise ConfigError(f"a matrix of shape {tuple(dense.shape)} for {self.n} workers; give n rows of n numbers")
        mine = dense[list(self.workers)]
        entries = mine[self.row.cpu(), self.col.cpu()]
        if not torch.isclose(entries.abs().sum(), mine.abs().sum(), rtol=1e-12, atol=0):
            raise ConfigError(
                "the matrix has weight between workers that no link of this step joins; add the edge, or 0"
            )
        return entries.to(self.row.device)

    def check(self, rows: Tensor, stochastic: bool) -> None:
        """Raise ConfigError unless ``rows`` are finite coefficients (E,), and sum to one where they are said to."""
        shape = tuple(getattr(rows, "shape", ())) if rows is not None else None
        if shape != tuple(self.row.shape):
            raise ConfigError(f"a rule gave coefficients of shape {shape}, not one for each of {len(self.row)} entries")
        sums = torch.zeros(len(self.workers), dtype=torch.float64, device=self.row.device)
        sums.index_add_(0, self.row, rows.double())
        if not bool(rows.isfinite().all()) or stochastic and bool(((sums - 1).abs() > 1e-6).any()):
            raise ConfigError(
                "the coefficients of a worker do not sum to one; give the rest of one to the worker itself"
            )
