"""n workers on R processes: rows pass between them over torch.distributed (gloo on CPUs, NCCL on GPUs).

Rank r hosts the workers r n/R .. (r + 1) n/R - 1, the last rank the centres too. Nothing is negotiated: every process
derives from the links of a step what it sends and what it receives, and both ends list their messages in the same
order, which is all that pairs messages up. One round is under way at a time, in one ``batch_isend_irecv``. Links
between workers of one process never touch the network; a broadcast or a reduction sends one message to or from each
process that takes part. There is no barrier, and nothing is pickled.
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from aldsgd.crossings import Crossing, SharedNeighbourhood
from aldsgd.errors import ConfigError
from aldsgd.finite import all_finite
from aldsgd.links import Broadcast, Reduce
from aldsgd.network import LocalNetwork, column_blocks, mix_finite, square_distance, timed
from aldsgd.world import World, in_words


class ProcessNetwork(LocalNetwork):
    """The workers that this process hosts, and the way to those of the other processes.

    Args:
        n: number of workers in all. world: the processes (``aldsgd.world.join``). centres: workers without data.

    Raises:
        ConfigError: n is not a multiple of the number of processes.
        PeerError: from any method that exchanges, when another process is lost or does not answer in time.
    """

    def __init__(self, n: int, world: World, centres: int = 0):
        if n % world.size:
            fitting = ", ".join(str(r) for r in range(1, n + 1) if n % r == 0)
            raise ConfigError(
                f"{n} workers cannot be spread evenly over {world.size} processes; start one of {fitting}"
            )
        super().__init__(n, world.device, centres)
        self.world, self.rank, self.size = world, world.rank, world.size
        share = n // world.size
        self.workers = range(world.rank * share, (world.rank + 1) * share)
        last = self.rank + 1 == self.size
        self.hosted = range(self.workers.start, n + centres) if last else self.workers
        self.unsound = self.unsound[: len(self.hosted)].clone()
        self._rows: dict[str, Tensor] = {}
        self._posted: list | None = None

    def owner(self, worker: int) -> int:
        """The rank that hosts a worker or a centre."""
        return min(worker // (self.n // self.size), self.size - 1)

    def _tables(self, links):
        return SharedNeighbourhood(self.n + self.centres, links, self.hosted, self.device, self.owner)

    @timed
    def exchange_losses(self, losses, hood):
        known = losses.new_full((self.n + self.centres,), torch.nan)
        known[self.workers.start : self.workers.stop] = losses
        own = known[self.hosted.start : self.hosted.stop]
        if hood.give or hood.take:
            given = own[hood.given_rows]
            taken = losses.new_empty(len(hood.take))
            sends = [(given[_part(hood.give, peer)], peer) for peer in sorted({peer for peer, _ in hood.give})]
            receives = [(taken[_part(hood.take, peer)], peer) for peer in sorted({peer for peer, _ in hood.take})]
            self._wait(self._fly(sends, receives))
            known[hood.taken_workers] = taken
        return known[hood.col]

    @timed
    def all_losses(self, losses):
        everyone = losses.new_empty(self.n)
        self.wire_bytes += (self.size - 1) * losses.numel() * losses.element_size()
        return self._everyone(everyone, losses.contiguous())

    @timed
    def post(self, models, hood):
        if not isinstance(hood.links, Broadcast):  # those go along a tree, when they are mixed
            self._post(models, hood)

    def _post(self, models, hood):
        slots = iter(self._buffer("receive", sum(len(crossing.receives) for crossing in hood.crossings), models))
        flights = [(crossing, [next(slots) for _ in crossing.receives]) for crossing in hood.crossings]
        self._posted = [(crossing, slots, self._send(crossing, models, slots)) for crossing, slots in flights]

    @timed
    def heard(self, models, hood):
        if self._posted is None:
            self._post(models, hood)
        found = {}
        for crossing, slots, flight in self._posted:
            self._wait(flight)
            found |= {entry: slot for (entry, _), slot in zip(crossing.receives, slots, strict=True)}
        # They have arrived: what is left for ``mix`` is to add them.
        self._posted = [(crossing, slots, ()) for crossing, slots, _ in self._posted]
        first = self.hosted.start
        return [found[e] if e in found else models[worker - first] for e, worker in enumerate(hood.col.tolist())]

    def forget(self):
        """Drop what was sent ahead and will not be mixed."""
        self._posted = None

    @timed
    def mix(self, models, rows, hood, codec=None):
        """X <- C X for the hosted rows: each received row is accumulated once, in place, with its coefficient."""
        if isinstance(hood.links, Broadcast):
            self._along_tree(models, rows, hood, codec)
            return
        coefficients = rows.to(models.dtype) if models.is_cuda else rows.tolist()
        if self._posted is None and (len(hood.crossings) > 1 or codec is not None):
            self._mix_in_turn(models, rows, hood, coefficients, codec)
            return
        if self._posted is None:
            self._post(models, hood)
        flights, self._posted = self._posted, None
        for crossing, slots, flight in flights:
            self._wait(flight)
            self._own_for_unsound(crossing, slots, hood, models)
        self._mix_inside(models, rows, hood)
        for crossing, slots, _ in flights:
            self._accumulate(models, crossing, slots, hood, coefficients)

    def _own_for_unsound(self, crossing, slots, hood, source) -> None:
        """Who receives a row that is not finite takes its own in its place, of ``source`` by position."""
        for (entry, _), slot in zip(crossing.receives, slots, strict=True):
            if not all_finite(slot):
                slot.copy_(source[hood.host[entry]])

    def _mix_in_turn(self, models, rows, hood, coefficients, codec):
        # A row that a later round sends must leave as it is now, so what is sent are copies, packed or not.
        if codec is None:
            copies = self._buffer("send", len(hood.copied), models)
            for copy, row in zip(copies, hood.copied, strict=True):
                copy.copy_(models[row])
            own = dict(zip(hood.copied, copies, strict=True))
            source = own
            empty = self._buffer("receive", max((len(c.receives) for c in hood.crossings), default=0), models)
        else:
            own = {row: models[row].clone() for row in hood.copied}
            source = {row: codec.pack(models[row]) for row in hood.senders}
            size = codec.size(models.shape[1], models.element_size())
            empty = torch.empty(
                max((len(c.receives) for c in hood.crossings), default=0), size, dtype=torch.uint8, device=self.device
            )
        if not hood.crossings:
            self._mix_inside(models, rows, hood)
        for i, crossing in enumerate(hood.crossings):
            slots = empty[: len(crossing.receives)]
            flight = self._send(crossing, source, slots)
            if i == 0:
                self._mix_inside(models, rows, hood)
            self._wait(flight)
            if codec is not None:
                slots = [codec.unpack(slot, models[0]) for slot in slots]
            self._own_for_unsound(crossing, slots, hood, own)
            self._accumulate(models, crossing, slots, hood, coefficients)

    def _mix_inside(self, models, rows, hood):
        inside = rows[hood.inside.entries]
        if len(models) == 1:
            self.sound(models)
            models.mul_(inside[0])
        else:
            mix_finite(models, hood.inside, inside, self.sound(models))

    def _accumulate(self, models: Tensor, crossing: Crossing, slots: Sequence[Tensor], hood, coefficients) -> None:
        """models[row] += coefficient * slot for each received row."""
        for (entry, _), slot in zip(crossing.receives, slots, strict=True):
            row = models[hood.host[entry]]
            if models.is_cuda:
                # The coefficient stays on the device: reading it would stop the host.
                row.addcmul_(slot, coefficients[entry])
            else:
                row.add_(slot, alpha=coefficients[entry])

    def _along_tree(self, models, rows, hood, codec):
        """A broadcast or a reduction: one message for each process of a group, along a binomial tree of processes."""
        first, up = self.hosted.start, isinstance(hood.links, Reduce)
        weights = dict(zip(zip(hood.host, hood.col.tolist(), strict=True), rows.tolist(), strict=True))
        moved = []
        for group, root in zip(hood.links.groups, hood.links.roots, strict=True):
            home = self.owner(root)
            ranks = [home, *sorted({self.owner(worker) for worker in group} - {home})]
            if self.rank not in ranks or len(ranks) == 1:
                continue
            here = self.rank == home
            if up:
                own = [weights[root - first, worker] for worker in group] if here else [0.0] * len(group)
                total, lost = self._reduced(models, group, own, ranks)
                if here:
                    moved += [(root - first, 1.0, total), (root - first, lost, models[root - first].clone())]
            else:
                row = self._hand_down(
                    models[root - first].clone() if here else torch.empty_like(models[0]), ranks, codec
                )
                mine = [] if here else [worker - first for worker in group if worker in self.hosted]
                sound = not mine or all_finite(row)
                moved += [(i, weights[i, root], row if sound else models[i].clone()) for i in mine]
        self._mix_inside(models, rows, hood)
        for i, weight, row in moved:
            models[i].add_(row, alpha=weight)

    def _reduced(self, models, group, weights: list[float], ranks: list[int]) -> tuple[Tensor, float]:
        """The weighted sum of the group's rows that live elsewhere than on ``ranks[0]``, which knows the weights, and
        the weight of those among them that are not finite, which are left out."""
        known = self._hand_down(torch.tensor(weights, dtype=torch.float64, device=self.device), ranks, None).tolist()
        share = models.new_zeros(models.shape[1] + 1)  # the last number is the weight that is lost
        if self.rank != ranks[0]:
            for worker, weight in zip(group, known, strict=True):
                if worker in self.hosted:
                    row = models[worker - self.hosted.start]
                    if all_finite(row):
                        share[:-1].add_(row, alpha=weight)
                    else:
                        share[-1] += weight
        total = self._hand_up(share, ranks)
        return total[:-1], total[-1].item()

    def _hand_down(self, row: Tensor, ranks: list[int], codec) -> Tensor:
        """The row of ``ranks[0]`` on all of ``ranks``."""
        place, held = ranks.index(self.rank), row
        wire = row if codec is None else codec.pack(row)
        for reach in (2**k for k in range((len(ranks) - 1).bit_length())):
            if place < reach and place + reach < len(ranks):
                self._wait(self._fly([(wire, ranks[place + reach])], []))
            elif reach <= place < 2 * reach:
                self._wait(self._fly([], [(wire, ranks[place - reach])]))
                held = wire if codec is None else codec.unpack(wire, row)
        return held

    def _hand_up(self, total: Tensor, ranks: list[int]) -> Tensor:
        """The sum of the rows of ``ranks``, on ``ranks[0]``."""
        place = ranks.index(self.rank)
        for reach in reversed([2**k for k in range((len(ranks) - 1).bit_length())]):
            if place < reach and place + reach < len(ranks):
                received = torch.empty_like(total)
                self._wait(self._fly([], [(received, ranks[place + reach])]))
                total.add_(received)
            elif reach <= place < 2 * reach:
                self._wait(self._fly([(total, ranks[place - reach])], []))
        return total

    def _buffer(self, purpose: str, count: int, models: Tensor) -> Tensor:
        """``count`` rows (P,), kept between steps; more are allocated only when a step needs them."""
        rows = self._rows.get(purpose)
        if rows is None or len(rows) < count or rows.shape[1] != models.shape[1] or rows.dtype != models.dtype:
            rows = self._rows[purpose] = models.new_empty(count, models.shape[1])
        return rows[:count]

    def _send(self, crossing: Crossing, source, slots):
        """One round: rows of ``source`` out, the peers' rows into slots, message by message."""
        return self._fly(
            [(source[row], peer) for row, peer in crossing.sends],
            [(slot, peer) for slot, (_, peer) in zip(slots, crossing.receives, strict=True)],
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

    @timed
    def average(self, models):
        """X <- J X by the backend's own all-reduce of one row (P,)."""
        models = models[: len(self.workers)]
        total = self._all_reduce(torch.sum(models, dim=0, out=self._buffer("receive", 1, models)[0]))
        if not all_finite(total):  # the same on every rank: once more, with finite rows alone
            sound = self.sound(models)
            models.masked_fill_(~sound[:, None], 0.0)
            self._all_reduce(torch.sum(models, dim=0, out=total))
            count = max(1, int(self._sum(sound.sum()).item()))
            torch.div(total.expand_as(models), count, out=models)
            models.masked_fill_(~sound[:, None], torch.nan)
            return
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
        return self._everyone(values.new_empty(self.n), values.contiguous()).cpu()

    def _everyone(self, everyone: Tensor, values: Tensor) -> Tensor:
        # The newer of two names of one collective; torch warns of the older where both are there.
        gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
        with self.world.names(self.world.silent, self.step):
            gather(everyone, values)
        return everyone

    def total_wire_bytes(self):
        return int(self._sum(torch.tensor(self.wire_bytes, device=self.device)).item())

    def bring(self, worker, tensors):
        return self._carry(tensors, self.owner(worker), 0)

    def hand_out(self, worker, tensors):
        return self._carry(tensors, 0, self.owner(worker))

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
