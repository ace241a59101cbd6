"""What of the links of a step passes between processes: tables that both ends derive alike."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from aldsgd.links import Links
from aldsgd.neighbourhood import Neighbourhood


@dataclass(frozen=True)
class Crossing:
    """What one round moves over the edge of this process.

    sends: (row of the models here, peer). receives: (entry of the neighbourhood, peer).
    """

    sends: tuple[tuple[int, int], ...]
    receives: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Inside:
    """The part of a neighbourhood that this process hosts, as ``aldsgd.network.mix_rows`` takes it."""

    entries: Tensor
    row: Tensor
    col: Tensor
    pointer: Tensor


class SharedNeighbourhood(Neighbourhood):
    """Closed neighbourhoods of the hosted workers, some members of which live in other processes.

    owner: the rank that hosts a worker. workers: the hosted rows, consecutive.

    Attributes:
        crossings: of every round with a message that leaves or enters this process, in order.
        inside: the entries between hosted workers. senders: rows that are sent, ascending; copied: or that hear one.
        give: (peer, row) of each loss to send; take: (peer, worker) of each to receive; sorted, so that ends agree.
    """

    def __init__(self, n: int, links: Links, workers: range, device, owner: Callable[[int], int]):
        super().__init__(n, links, workers, device)
        first, me = workers.start, owner(workers.start)
        row, col = self.row.cpu(), self.col.cpu()
        entry = {pair: e for e, pair in enumerate(zip(row.tolist(), col.tolist(), strict=True))}
        crossings, give, take = [], set(), set()
        for arcs in links.rounds:
            sends, receives = [], []
            for source, target in arcs:
                here, there = owner(source), owner(target)
                if here == me != there:
                    sends.append((source - first, there))
                    give.add((there, source - first))
                elif there == me != here:
                    receives.append((entry[target - first, source], here))
                    take.add((here, source))
            if sends or receives:
                crossings.append(Crossing(tuple(sends), tuple(receives)))
        self.crossings, self.give, self.take = tuple(crossings), sorted(give), sorted(take)
        self.senders = sorted({row for crossing in crossings for row, _ in crossing.sends})
        hears = {int(row[entry]) for crossing in crossings for entry, _ in crossing.receives}
        self.copied = sorted({*self.senders, *hears})
        entries = torch.nonzero((col >= first) & (col < workers.stop)).flatten()
        pointer = torch.searchsorted(row[entries].contiguous(), torch.arange(len(workers) + 1))
        self.inside = Inside(*(part.to(device) for part in (entries, row[entries], col[entries] - first, pointer)))
        self.given_rows = torch.tensor([row for _, row in self.give], dtype=torch.int64, device=device)
        self.taken_workers = torch.tensor([worker for _, worker in self.take], dtype=torch.int64, device=device)
        self.host = self.row.tolist()
