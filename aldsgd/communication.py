"""What an exchange costs: logical bytes, and the modelled time of a link.

Logical bytes are those that n separate workers would send in all, from the schedule alone, so they do not depend
on how workers are hosted. Time is modelled as latency + bytes / bandwidth for each active matching; the links of
one matching run side by side, matchings run one after another (MATCHA, arXiv 1905.09435).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from aldsgd.errors import ConfigError
from aldsgd.graphs import Matching

LOSS_BYTES = 4


@dataclass(frozen=True)
class Link:
    """A link between two workers. latency: seconds per message. bandwidth: bytes per second, each direction.

    Raises ConfigError unless the latency is zero or more and the bandwidth above zero, both finite.
    """

    latency: float = 50e-6
    bandwidth: float = 1.25e9

    def __post_init__(self):
        if not (math.isfinite(self.latency) and self.latency >= 0):
            raise ConfigError(f"latency = {self.latency:g} must be a finite number of seconds, zero or more")
        if not (math.isfinite(self.bandwidth) and self.bandwidth > 0):
            raise ConfigError(f"bandwidth = {self.bandwidth:g} must be a finite number of bytes per second above zero")


#: Links by name: nominal bandwidth each way, and a latency that is usual for a message over TCP (10 GbE), RDMA
#: (100 GbE), or between two GPUs of one machine (NVLink of the third generation).
LINKS = {
    "10gbe": Link(50e-6, 1.25e9),
    "100gbe": Link(10e-6, 12.5e9),
    "nvlink": Link(5e-6, 300e9),
}


def exchange_cost(matchings: Sequence[Matching], row_bytes: int, link: Link, with_loss: bool) -> tuple[int, float]:
    """(bytes sent by all workers, seconds) of one exchange of models of ``row_bytes`` over the active matchings."""
    message = row_bytes + (LOSS_BYTES if with_loss else 0)
    edges = sum(len(matching) for matching in matchings)
    active = sum(1 for matching in matchings if matching)
    return 2 * edges * message, active * (link.latency + message / link.bandwidth)


def allreduce_cost(n: int, row_bytes: int, link: Link) -> tuple[int, float]:
    """(bytes sent by all workers, seconds) of a ring all-reduce: 2 (n - 1) rounds of 1/n of a model each."""
    rounds = 2 * (n - 1)
    return rounds * row_bytes, rounds * (link.latency + row_bytes / n / link.bandwidth)
