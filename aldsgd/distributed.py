"""n workers on R processes: models pass between them over torch.distributed (gloo on CPUs, NCCL on GPUs).

Rank r hosts the workers r n/R .. (r + 1) n/R - 1. Nothing is negotiated: every process derives from the matchings of a
step what it sends and what it receives, and both ends of an edge list it in the same order, which is all that pairs
messages up. One matching is under way at a time, both directions in one ``batch_isend_irecv``. Edges between workers of
one process never touch the network. There is no barrier, and nothing is pickled.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from aldsgd.algorithm import AVERAGE, Rows
from aldsgd.errors import ConfigError
from aldsgd.graphs import Matching
from aldsgd.neighbourhood import Neighbourhood
from aldsgd.network import LocalNetwork, column_blocks, mix_rows, square_distance
from aldsgd.world import World, in_words


@dataclass(frozen=True)
class Link:
    """One edge that leaves this process: its end here (``row`` of the models), the peer, and the entry it fills."""

    peer: int
    row: int
    entry: int


@dataclass(frozen=True)
class Inside:
    """The part of a neighbourhood that this process hosts, as ``aldsgd.network.mix_rows`` takes it."""

    entries: Tensor
    row: Tensor
    col: Tensor
    pointer: Tensor


class SharedNeighbourhood(Neighbourhood):
    """Closed neighbourhoods of the hosted workers, some members of which live in other processes.

    Attributes:
        exchanges: for every matching with an edge that leaves this process, its links, in the order of its edges.
        inside: the entries between hosted workers. senders: rows with such an edge, ascending.
        give: (peer, row) of each loss to send; take: (peer, worker) of each to receive; sorted, so that ends agree.
    """

    def __init__(self, n: int, matchings: Sequence[Matching], workers: range, device):
        super().__init__(n, matchings, workers, device)
        w, first, me = len(workers), workers.start, workers.start // len(workers)
        row, col = self.row.cpu(), self.col.cpu()
        entry = {pair: e for e, pair in enumerate(zip(row.tolist(), col.tolist(), strict=True))}
        exchanges, give, take = [], set(), set()
        for matching in matchings:
            links = []
            for a, b in matching:
                for here, there in ((a, b), (b, a)):
                    peer = there // w
                    if here // w == me != peer:
                        links.append(Link(peer, here - first, entry[here - first, there]))
                        give.add((peer, here - first))
                        take.add((peer, there))
            if links:
                exchanges.append(tuple(links))
        self.exchanges, self.give, self.take = tuple(exchanges), sorted(give), sorted(take)
        self.senders = sorted({link.row for links in exchanges for link in links})
        entries = torch.nonzero(col // w == me).flatten()
        pointer = torch.searchsorted(row[entries].contiguous(), torch.arange(w + 1))
        self.inside = Inside(*(part.to(device) for part in (entries, row[entries], col[entries] - first, pointer)))
        self.given_rows = torch.tensor([row for _, row in self.give], dtype=torch.int64, device=device)
        self.taken_workers = torch.tensor([worker for _, worker in self.take], dtype=torch.int64, device=device)


class ProcessNetwork(LocalNetwork):
    """The workers that this process hosts, and the way to those of the other processes.

    Args:
        n: number of workers in all. world: the processes (``aldsgd.world.join``).

    Raises:
        ConfigError: n is not a multiple of the number of processes.
        PeerError: from any method that exchanges, when another process is lost or does not answer in time.
    """

    def __init__(self, n: int, world: World):
        if n % world.size:
            fitting = ", ".join(str(r) for r in range(1, n + 1) if n % r == 0)
            raise ConfigError(
                f"{n} workers cannot be spread evenly over {world.size} processes; start one of {fitting}"
            )
        super().__init__(n, world.device)
        self.world, self.rank, self.size = world, world.rank, world.size
        share = n // world.size
        self.workers = range(world.rank * share, (world.rank + 1) * share)
        self._rows: dict[str, Tensor] = {}
        self._posted: list | None = None

    def _tables(self, matchings):
        return SharedNeighbourhood(self.n, matchings, self.workers, self.device)

    def exchange_losses(self, losses, hood):
        known = losses.new_zeros(self.n)
        known[self.workers.start : self.workers.stop] = losses
        if hood.give:
            given = losses[hood.given_rows]
            taken = losses.new_empty(len(hood.take))
            peers = sorted({peer for peer, _ in hood.give})
            sends = [(given[_part(hood.give, peer)], peer) for peer in peers]
            receives = [(taken[_part(hood.take, peer)], peer) for peer in peers]
            self._wait(self._fly(sends, receives))
            known[hood.taken_workers] = taken
        return known[hood.col]

    def post(self, models, hood):
        rows = iter(self._buffer("receive", sum(map(len, hood.exchanges)), models))
        flights = [(links, [next(rows) for _ in links]) for links in hood.exchanges]
        self._posted = [(links, slots, self._send(links, models, slots)) for links, slots in flights]

    def mix(self, models, rows: Rows, hood):
        """X <- C X for the hosted rows: each received row is accumulated once, in place, with its coefficient."""
        if rows is None:
            return
        if isinstance(rows, str) and rows == AVERAGE:
            self._average(models)
            return
        coefficients = rows.to(models.dtype) if models.is_cuda else rows.tolist()
        if self._posted is not None:
            flights, self._posted = self._posted, None
            for _, _, flight in flights:
                self._wait(flight)
            self._mix_inside(models, rows, hood)
            for links, slots, _ in flights:
                accumulate(models, links, slots, coefficients)
        elif len(hood.exchanges) < 2:
            for links in hood.exchanges:
                slots = self._buffer("receive", len(links), models)
                self._wait(self._send(links, models, slots))
            self._mix_inside(models, rows, hood)
            for links in hood.exchanges:
                accumulate(models, links, slots, coefficients)
        else:
            self._mix_in_turn(models, rows, hood, coefficients)

    def _mix_in_turn(self, models, rows, hood, coefficients):
        # A row that a later matching sends must leave as it is now, so what is sent are copies.
        copies = self._buffer("send", len(hood.senders), models)
        source = dict(zip(hood.senders, copies, strict=True))
        for row, copy in source.items():
            copy.copy_(models[row])
        receive = self._buffer("receive", max(map(len, hood.exchanges)), models)
        for i, links in enumerate(hood.exchanges):
            slots = receive[: len(links)]
            flight = self._send(links, source, slots)
            if i == 0:
                self._mix_inside(models, rows, hood)
            self._wait(flight)
            accumulate(models, links, slots, coefficients)

    def _mix_inside(self, models, rows, hood):
        inside = rows[hood.inside.entries]
        if len(models) == 1:
            models.mul_(inside[0])
        else:
            mix_rows(models, hood.inside, inside)

    def _buffer(self, purpose: str, count: int, models: Tensor) -> Tensor:
        """``count`` rows (P,), kept between steps; more are allocated only when a step needs them."""
        rows = self._rows.get(purpose)
        if rows is None or len(rows) < count or rows.shape[1] != models.shape[1] or rows.dtype != models.dtype:
            rows = self._rows[purpose] = models.new_empty(count, models.shape[1])
        return rows[:count]

    def _send(self, links: Sequence[Link], source, slots):
        """Both directions of one matching: row ``source[link.row]`` out, the peer's row into a slot, link by link."""
        return self._fly(
            [(source[link.row], link.peer) for link in links],
            [(slot, link.peer) for slot, link in zip(slots, links, strict=True)],
        )

    def _fly(self, sends: list[tuple[Tensor, int]], receives: list[tuple[Tensor, int]]):
        """Start a batch of messages; what ``_wait`` needs to wait for them."""
        self.wire_bytes += sum(tensor.numel() * tensor.element_size() for tensor, _ in sends)
        operations = [dist.P2POp(dist.isend, tensor, peer) for tensor, peer in sends]
        operations += [dist.P2POp(dist.irecv, tensor, peer) for tensor, peer in receives]
        peers = [operation.peer for operation in operations]
        with self.world.names(lambda: in_words(sorted(set(peers))), self.step):
            works = dist.batch_isend_irecv(operations)
        # gloo has one work per message, NCCL one for the batch.
        return (
            [(work, [peer]) for work, peer in zip(works, peers, strict=True)]
            if len(works) == len(peers)
            else [(work, sorted(set(peers))) for work in works]
        )

    def _wait(self, flight) -> None:
        for work, peers in flight:
            with self.world.names(lambda peers=peers: in_words(peers), self.step):
                work.wait()

    def _average(self, models: Tensor) -> None:
        """X <- J X by the backend's own all-reduce of one row (P,)."""
        if len(models) == 1:
            total = models[0]
        else:
            total = torch.sum(models, dim=0, out=self._buffer("receive", 1, models)[0])
        self._all_reduce(total)
        torch.div(total.expand_as(models), self.n, out=models)

    def _all_reduce(self, total: Tensor) -> Tensor:
        # What a ring sends: 2 (R - 1) / R of the data; the backend does not tell.
        self.wire_bytes += 2 * (self.size - 1) * total.numel() * total.element_size() // self.size
        with self.world.names(self.world.silent, self.step):
            dist.all_reduce(total)
        return total

    def _sum(self, total: Tensor) -> Tensor:
        """All-reduce for the records, which wire bytes leave out as logical bytes do."""
        with self.world.names(self.world.silent, self.step):
            dist.all_reduce(total)
        return total

    def mean_row(self, models):
        total = torch.cat([block.double().sum(dim=0) for block in column_blocks(models)])
        return self._sum(total).div_(self.n)

    def consensus_distance(self, models, mean):
        return self._sum(square_distance(models, mean)).item() / self.n

    def mean_of(self, groups):
        if not groups:
            return []
        sums = [torch.stack(tuple(group)).sum(dim=0, dtype=torch.float64) for group in groups]
        means = self._sum(torch.cat([part.flatten() for part in sums])).div_(self.n)
        parts = means.split([part.numel() for part in sums])
        return [part.view_as(group[0]).to(group[0].dtype) for part, group in zip(parts, groups, strict=True)]

    def gather(self, values):
        values = values.to(self.device)
        everyone = values.new_empty(self.n)
        with self.world.names(self.world.silent, self.step):
            dist.all_gather_into_tensor(everyone, values.contiguous())
        return everyone.cpu()

    def total_wire_bytes(self):
        return int(self._sum(torch.tensor(self.wire_bytes, device=self.device)).item())

    def bring(self, worker, tensors):
        return self._carry(tensors, worker // len(self.workers), 0)

    def hand_out(self, worker, tensors):
        return self._carry(tensors, 0, worker // len(self.workers))

    def _carry(self, tensors, source: int, target: int):
        if source == target or self.rank not in (source, target):
            return tensors
        sent = self.wire_bytes
        if self.rank == source:
            tensors = [tensor.to(self.device).contiguous() for tensor in tensors]
            self._wait(self._fly([(tensor, target) for tensor in tensors], []))
        else:
            tensors = [torch.empty_like(tensor, device=self.device) for tensor in tensors]
            self._wait(self._fly([], [(tensor, source) for tensor in tensors]))
        self.wire_bytes = sent
        return tensors

    def agree(self, number):
        return int(self._sum(torch.tensor(number if self.rank == 0 else 0, device=self.device)).item())


def _part(pairs: list[tuple[int, int]], peer: int) -> slice:
    """Where the pairs of ``peer`` stand in the sorted list."""
    places = [i for i, (other, _) in enumerate(pairs) if other == peer]
    return slice(places[0], places[-1] + 1)


def accumulate(models: Tensor, links: Sequence[Link], slots: Sequence[Tensor], coefficients) -> None:
    """models[row] += coefficient * slot, link by link."""
    for link, slot in zip(links, slots, strict=True):
        if models.is_cuda:
            # The coefficient stays on the device: reading it would stop the host.
            models[link.row].addcmul_(slot, coefficients[link.entry])
        else:
            models[link.row].add_(slot, alpha=coefficients[link.entry])
