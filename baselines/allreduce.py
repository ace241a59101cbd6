"""All-reduce SGD: every worker takes the mean of all after each step, C_t = J.

For plain SGD from a common start, averaging models and averaging gradients are the same. How the mean is worked out,
around a ring, by a parameter server or by everyone alone, does not change it, only what it costs.
"""

from dataclasses import dataclass

from aldsgd.algorithm import Algorithm
from aldsgd.errors import ConfigError
from aldsgd.links import AllReduce as Mean
from aldsgd.links import NaiveReduce, ServerReduce
from aldsgd.methods import Look, Method, Options, option
from aldsgd.step import Exchange, Step

WAYS = {"ring": Mean, "server": ServerReduce, "naive": NaiveReduce}


class AllReduce(Algorithm):
    """Centralized SGD on n workers. reduce: "ring", "server" or "naive", which all give the same numbers.

    Raises ConfigError for another.
    """

    def __init__(self, n: int, reduce="ring"):
        if reduce not in WAYS:
            raise ConfigError(f"unknown reduce '{reduce}'; choose one of: {', '.join(WAYS)}")
        self.n, self.every = n, Step(after=Exchange(WAYS[reduce](n)))

    def step(self, t):
        return self.every


@dataclass(frozen=True)
class ReduceOptions(Options):
    """Options of all-reduce."""

    reduce: str = option("ring", "how all-reduce is billed", tuple(WAYS))

    def used(self):
        return {} if self.reduce == "ring" else super().used()  # not in the records of runs before there was a choice


METHOD = Method(
    "allreduce",
    "all-reduce",
    lambda options, setting: AllReduce(setting.workers, options.reduce),
    ReduceOptions,
    look=Look("#000000", "P", "--", 5),
    graph=False,
    inner=True,
    place=50,
)
