"""Who hears whom at one step, as flat tables on which a method writes its row coefficients."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from aldsgd.errors import ConfigError
from aldsgd.graphs import Matching


class Neighbourhood:
    """The closed neighbourhoods of some workers under the active matchings, flattened into E entries.

    Entry e says that worker ``workers[row[e]]`` hears worker ``col[e]``. The entries of a row stand together: the
    worker itself first, then its active neighbours in the order of the matchings, which is the order in which
    ties between leaders are decided (released code). A matrix with this support is a float64 tensor of shape (E,).

    Attributes:
        workers: (w,) global ids of the rows. row, col: (E,) int64. itself: (E,) bool, the worker's own entries.
        degree: (E,) float64, number of active matchings that touch ``col[e]`` at this step.
        loss: (E,) mini-batch training loss of ``col[e]``, or None when the method did not ask for it.
    """

    def __init__(self, n: int, matchings: Sequence[Matching], workers: Sequence[int], device="cpu"):
        for matching in matchings:
            ends = np.asarray(matching, dtype=np.int64).reshape(-1)
            if len(np.unique(ends)) < len(ends) or (len(ends) and not 0 <= ends.min() <= ends.max() < n):
                raise ConfigError(
                    f"{tuple(matching)} is not a matching of workers 0..{n - 1}; "
                    "each worker may stand in at most one edge of a matching"
                )
        edges = np.array([edge for matching in matchings for edge in matching], dtype=np.int64).reshape(-1, 2)
        order = np.repeat(np.arange(len(matchings)), [len(matching) for matching in matchings])
        ids = np.arange(n)
        heard_by = np.concatenate([ids, edges[:, 0], edges[:, 1]])
        heard = np.concatenate([ids, edges[:, 1], edges[:, 0]])
        sequence = np.lexsort((np.concatenate([np.full(n, -1), order, order]), heard_by))
        heard_by, heard = heard_by[sequence], heard[sequence]
        degree = np.bincount(heard_by, minlength=n) - 1
        local = np.full(n, -1)
        local[np.asarray(workers, dtype=np.int64)] = np.arange(len(workers))
        mine = local[heard_by] >= 0
        row, col = local[heard_by[mine]], heard[mine]

        self.n, self.matchings, self.workers = n, tuple(matchings), tuple(workers)
        self.row = torch.as_tensor(row, device=device)
        self.col = torch.as_tensor(col, device=device)
        self.itself = torch.as_tensor(heard_by[mine] == col, device=device)
        self.degree = torch.as_tensor(degree[col], dtype=torch.float64, device=device)
        self.pointer = torch.as_tensor(np.searchsorted(row, np.arange(len(workers) + 1)), device=device)
        self.loss: Tensor | None = None

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

    def first_smallest(self, score: Tensor) -> Tensor:
        """Position (w,) of the smallest ``score`` (E,) in each row; ties go to the earliest; no NaN."""
        w, device = len(self.workers), self.row.device
        least = torch.full((w,), torch.inf, dtype=score.dtype, device=device)
        least.scatter_reduce_(0, self.row, score, "amin")
        position = torch.arange(len(score), device=device)
        position = position.masked_fill(score != least[self.row], len(score))
        return torch.full((w,), len(score), device=device).scatter_reduce_(0, self.row, position, "amin")
