"""Compressed rows: what a codec makes of a row, and how that travels, in as many bytes as it holds, exactly restored.

``codec(row, draw)`` is the row that is sent, Q(row), and ``compress_`` makes it in place; draw: (P,) int64, uniform
from 0 to 2^32 - 1, of those that are random (``uniform``). A row is compressed as a whole, where the released code of
CHOCO-SGD goes tensor by tensor.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

WORD = 2**32
#: Numbers that stay in a processor's cache, and numbers of a row from which its quantiles are guessed.
BLOCK, SAMPLE = 2**16, 2**13


class Compressor:
    """What all codecs share. random: whether they draw."""

    random = False

    def __call__(self, row: Tensor, draw: Tensor | None = None) -> Tensor:
        """Q(row), (P,)."""
        return self.compress_(row.clone(), draw)

    def compress_(self, row: Tensor, draw: Tensor | None) -> Tensor:
        """The row becomes Q(row), and is returned."""
        raise NotImplementedError


@dataclass(frozen=True)
class Sparse(Compressor):
    """The entries of a row that are largest in magnitude, each with its place in ceil(log2 P) bits.

    count: how many, or below 1 their share of the row, at least one. ||Q(v) - v||^2 <= (1 - k/P) ||v||^2.
    """

    count: float

    def kept(self, length: int) -> int:
        """Entries of a row of so many numbers that are sent."""
        return max(1, min(int(self.count * length if self.count < 1 else self.count), length))

    def compress_(self, row, draw):
        return only_(row, largest(row, self.kept(len(row))))

    def size(self, length: int, itemsize: int) -> int:
        """Bytes of a packed row of ``length`` numbers of ``itemsize`` bytes."""
        count = self.kept(length)
        return count * itemsize + bytes_of(count, (length - 1).bit_length())

    def pack(self, row: Tensor) -> Tensor:
        """A row (P,) as bytes, uint8 (size,)."""
        places = row.abs().topk(self.kept(len(row)), sorted=False).indices
        return torch.cat([row[places].view(torch.uint8), packed(places, (len(row) - 1).bit_length())])

    def unpack(self, packed: Tensor, like: Tensor) -> Tensor:
        """The row (P,) again, with the length, type and device of ``like``."""
        values = self.kept(len(like)) * like.element_size()
        places = unpacked(packed[values:], self.kept(len(like)), (len(like) - 1).bit_length())
        return torch.zeros_like(like).index_copy_(0, places, packed[:values].clone().view(like.dtype))


@dataclass(frozen=True)
class RandomSparse(Sparse):
    """Entries at random places, as they are: unscaled, as CHOCO-SGD needs them."""

    random = True

    def compress_(self, row, draw):
        # The place breaks ties, so that the choice does not depend on how a device sorts.
        score = draw * 2**30 + torch.arange(len(row), device=row.device)
        return only_(row, score.topk(self.kept(len(row)), sorted=False).indices)


@dataclass(frozen=True)
class Sign(Compressor):
    """||v||_1 / P and the sign bit of each entry, so that 0 counts as positive."""

    def compress_(self, row, draw):
        return torch.copysign(torch.linalg.vector_norm(row, 1) / len(row), row, out=row)

    def size(self, length, itemsize):
        return itemsize + bytes_of(length, 1)

    def pack(self, row):
        return torch.cat([row[:1].abs().view(torch.uint8), packed((row >= 0).long(), 1)])

    def unpack(self, packed, like):
        size = like.element_size()
        scale = packed[:size].clone().view(like.dtype)
        return torch.where(unpacked(packed[size:], len(like), 1) > 0, scale, -scale)


@dataclass(frozen=True)
class QSGD(Compressor):
    """QSGD (Alistarh et al. 2017, arXiv 1610.02132): sign(v) and one of 2^bits levels of ||v||_2, rounded at random.

    biased: divided by 1 + min(P / s^2, sqrt(P) / s), s = 2^bits - 1, which makes it the contraction that CHOCO-SGD
    needs; else E Q(v) = v. The unit of the levels is rounded up to so few digits that its multiples are exact. A zero
    row stays zero. bits: from 1 to 8.
    """

    bits: int = 4
    biased: bool = True
    random = True

    def compress_(self, row, draw):
        levels, length = 2**self.bits - 1, len(row)
        unit = self.short(torch.linalg.vector_norm(row) / levels)
        shrink = 1 + min(length / levels**2, math.sqrt(length) / levels) if self.biased else 1.0
        below = (row.abs() / unit + draw.to(row.dtype) / WORD).floor_().clamp_(max=levels)
        return torch.copysign((below * self.short(unit / shrink)).nan_to_num_(0.0), row, out=row)

    def short(self, number: Tensor) -> Tensor:
        """The next number whose products with all levels are exact."""
        digits = (24 if number.dtype == torch.float32 else 53) - self.bits
        mantissa, exponent = torch.frexp(number)
        return torch.ldexp((mantissa * 2**digits).ceil_() / 2**digits, exponent)

    def size(self, length, itemsize):
        return itemsize + bytes_of(length, self.bits + 1)

    def pack(self, row):
        # Any unit of which all entries are up to s multiples will do; the largest entry is one of them.
        found = row.abs().unique()
        units = found[-1:] / torch.arange(1, 2**self.bits, device=row.device)
        fits = ((found / units[:, None]).round().nan_to_num(0.0) * units[:, None] == found).all(dim=1)
        unit = units[fits.long().argmax()]
        codes = (row.abs() / unit).round().nan_to_num(0.0).long() + ((row < 0).long() << self.bits)
        return torch.cat([unit.reshape(1).view(torch.uint8), packed(codes, self.bits + 1)])

    def unpack(self, packed, like):
        size = like.element_size()
        codes = unpacked(packed[size:], len(like), self.bits + 1)
        values = (codes & (2**self.bits - 1)).to(like.dtype) * packed[:size].clone().view(like.dtype)
        return torch.where(codes >> self.bits > 0, -values, values)


def only_(row: Tensor, places: Tensor) -> Tensor:
    """The row keeps these entries; the others become zero."""
    kept = row[places]
    return row.zero_().index_copy_(0, places, kept)


def largest(row: Tensor, count: int) -> Tensor:
    """Places (count,) of the entries that are largest in magnitude.

    On a CPU those of long rows are sought among the entries above a guessed quantile, block by block, sooner than by a
    whole ``topk`` (``experiments.bench.methods``), which is left where the guess was too high, for short rows, and on a
    GPU.
    """
    if len(row) >= 2 * BLOCK and not row.is_cuda:
        expected = count * SAMPLE / len(row)
        above = int(1.2 * expected + 4 * math.sqrt(expected) + 1)
        sample = row[:: len(row) // SAMPLE].abs()
        if 2 * above < len(sample):
            least, numbers = sample.kthvalue(len(sample) - above).values.item(), row.detach().numpy()
            # What is not below, so that no NaN is lost; NumPy, block by block in the cache, is sooner done than torch.
            starts = range(0, len(numbers), BLOCK)
            places = [np.flatnonzero(~(np.abs(numbers[i : i + BLOCK]) < least)) + i for i in starts]
            found = torch.from_numpy(np.concatenate(places))
            if len(found) >= count:
                return found[row[found].abs().topk(count, sorted=False).indices]
    return row.abs().topk(count, sorted=False).indices


def bytes_of(count: int, bits: int) -> int:
    """Bytes of so many numbers of so many bits."""
    return (count * bits + 7) // 8


def packed(codes: Tensor, bits: int) -> Tensor:
    """Numbers (m,) of so many bits each, as bytes."""
    places = torch.arange(bits, device=codes.device)
    flat = (codes[:, None] >> places & 1).to(torch.uint8).flatten()
    flat = torch.nn.functional.pad(flat, (0, -len(flat) % 8)).view(-1, 8)
    return (flat << torch.arange(8, dtype=torch.uint8, device=codes.device)).sum(dim=1, dtype=torch.uint8)


def unpacked(data: Tensor, count: int, bits: int) -> Tensor:
    """The way back of ``packed``: (count,) int64."""
    flat = (data[:, None] >> torch.arange(8, dtype=torch.uint8, device=data.device) & 1).flatten()[: count * bits]
    return (flat.view(count, bits).long() << torch.arange(bits, device=data.device)).sum(dim=1)


def uniform(seed: int, worker: Tensor, step: Tensor, length: int) -> Tensor:
    """(length,) int64, uniform from 0 to 2^32 - 1: a hash of the seed, the worker, the step and the place.

    worker, step: of one element, int64, so that a GPU draws without the host. One worker's numbers do not depend on
    where it lives.
    """
    key = mixed(mixed(worker + seed % WORD * 0x9E3779B1 % WORD) + step)
    return mixed(mixed(torch.arange(length, device=worker.device) + key) ^ key)


def mixed(number: Tensor) -> Tensor:
    """32 bits mixed well (the finalizer of MurmurHash3), of int64."""
    number = number & WORD - 1
    number = (number ^ number >> 16) * 0x85EBCA6B & WORD - 1
    number = (number ^ number >> 13) * 0xC2B2AE35 & WORD - 1
    return number ^ number >> 16
