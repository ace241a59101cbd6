"""What is under way between asynchronous workers: messages, and the rows that they carry, each of which stands once."""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Message(NamedTuple):
    """What a worker or a centre sent.

    row: place of what it carries among the ``Versions``, None where it carries nothing. source: who sent it. stamp:
    virtual time at which its content was made. count: how many gradients the source had finished, or how often a model
    had changed. loss: of the source's last mini-batch. degree: to how many it belongs at that step.
    """

    row: int | None
    source: int
    stamp: float
    count: int = 0
    loss: float = math.inf
    degree: float = 0.0


class Versions:
    """Rows (P,) that were sent, each once, however many messages and mailboxes hold it.

    A place is free again when nobody holds it, so that memory grows with the rows that differ, not with messages.

    Attributes:
        table: (capacity, P), of which the first ``used`` rows have been in use. most: rows held at once, at most.
    """

    def __init__(self, like: Tensor, capacity: int):
        self.table = like.new_zeros(max(1, capacity), like.shape[-1])
        self.holders: list[int] = []
        self.free: list[int] = []
        self.most = 0

    @property
    def used(self) -> int:
        return len(self.holders)

    def new(self, row: Tensor) -> int:
        """The place of a copy of ``row`` (P,), held once."""
        if self.free:
            place = self.free.pop()
            self.holders[place] = 1
        else:
            place = self.used
            self.holders.append(1)
            if place == len(self.table):
                grown = self.table.new_zeros(place + place // 2 + 1, self.table.shape[1])
                grown[:place] = self.table
                self.table = grown
            self.most = self.used
        self.table[place].copy_(row)
        return place

    def hold(self, place: int | None) -> None:
        """One more holds it."""
        if place is not None:
            self.holders[place] += 1

    def drop(self, place: int | None) -> None:
        """One fewer holds it."""
        if place is not None:
            self.holders[place] -= 1
            if self.holders[place] == 0:
                self.free.append(place)

    def rows(self) -> Tensor:
        """(used, P): what a checkpoint keeps, in place."""
        return self.table[: self.used]

    def state(self) -> dict:
        """The rest of it (JSON-able)."""
        return {"holders": self.holders, "free": self.free, "most": self.most}

    def restore(self, state: dict) -> None:
        """Go back to ``state``, with room for its rows."""
        self.holders, self.free, self.most = list(state["holders"]), list(state["free"]), state["most"]
        if self.used > len(self.table):
            self.table = torch.zeros(self.used, self.table.shape[1], dtype=self.table.dtype, device=self.table.device)
