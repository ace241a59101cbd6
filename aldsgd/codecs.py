"""How a compressed row travels: as many bytes as it holds, exactly restored."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sparse:
    """The ``count`` entries of a row that are largest in magnitude, each with its place (4 bytes).

    A method sends rows with no more entries than that, so that what is restored is the row itself.
    """

    count: int

    def size(self, length: int, itemsize: int) -> int:
        """Bytes of a packed row of ``length`` numbers of ``itemsize`` bytes."""
        return min(self.count, length) * (4 + itemsize)

    def pack(self, row: Tensor) -> Tensor:
        """A row (P,) as bytes, uint8 (size,)."""
        places = row.abs().topk(min(self.count, len(row)), sorted=False).indices
        return torch.cat([places.to(torch.int32).view(torch.uint8), row[places].view(torch.uint8)])

    def unpack(self, packed: Tensor, like: Tensor) -> Tensor:
        """The row (P,) again, with the length, type and device of ``like``."""
        count = min(self.count, len(like))
        places = packed[: 4 * count].clone().view(torch.int32).long()
        return torch.zeros_like(like).index_copy_(0, places, packed[4 * count :].clone().view(like.dtype))
