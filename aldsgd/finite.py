"""Values that are not finite never spread: a row that holds one is worth nothing to whoever hears it.

Who would hear such a row takes its own in its place, so that coefficients keep their sum; the row itself becomes NaN as
a whole, and its worker is named. Where everything is finite nothing changes, bit for bit. Not in the paper.
"""

import warnings

import torch
from torch import Tensor


def waits(tensor: Tensor) -> bool:
    """Whether the host waits for a device where it looks at a value."""
    return tensor.is_cuda


def finite_rows(models: Tensor) -> Tensor:
    """(w,) bool: which rows of ``models`` (w, P) hold finite numbers alone."""
    if waits(models):
        return models.sum(dim=1, dtype=torch.float64).isfinite()
    # One cheap pass; a sum of finite numbers may overflow, so that such rows alone are looked at number by number.
    sound = models.sum(dim=1).isfinite()
    if not sound.all():
        sound[~sound] = models[~sound].isfinite().all(dim=1)
    return sound


def all_finite(row: Tensor) -> bool:
    """Whether a row (P,) holds finite numbers alone. The host waits for the device."""
    return bool(finite_rows(row[None])[0])


def to_itself(rows: Tensor, table, heard: Tensor) -> Tensor:
    """Coefficients (E,) in which those of entries that are not ``heard`` (E,) belong to the worker itself.

    table: row (E,) and pointer (w + 1,) as in a ``Neighbourhood``, where a worker's own entry is the first of its row.
    """
    lost = rows.masked_fill(heard, 0.0)
    own = torch.zeros(len(table.pointer) - 1, dtype=rows.dtype, device=rows.device).index_add_(0, table.row, lost)
    return (rows - lost).index_add_(0, table.pointer[:-1], own)


def mean_of_finite(models: Tensor, sound: Tensor, average) -> None:
    """``average`` (w, P) -> None, which sets every row to the mean of all, over the ``sound`` (w,) rows alone."""
    models.masked_fill_(~sound[:, None], 0.0)
    average(models)
    models.mul_(len(models) / sound.sum().clamp(min=1).to(models.dtype))
    models.masked_fill_(~sound[:, None], torch.nan)


def name_unsound(network, workers: int, known: dict[int, int], epoch: int) -> None:
    """Add to ``known``, worker -> epoch, who has sent values that are not finite, and warn of each once.

    workers: number of hosted workers with data, whose rows come first. Every process takes part.
    """
    counts = network.gather(network.unsound[:workers].double().cpu()).tolist()
    new = [i for i, count in enumerate(counts) if count and i not in known]
    known |= dict.fromkeys(new, epoch)
    if new:
        names = f"worker{'s' * (len(new) > 1)} {', '.join(map(str, new))}"
        warnings.warn(f"{names} sent values that are not finite in epoch {epoch}; nobody took them", stacklevel=3)
