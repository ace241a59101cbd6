"""All-reduce SGD: every worker takes the mean of all after each step, C_t = J.

For plain SGD from a common start, averaging models and averaging gradients are the same.
"""

from aldsgd.algorithm import Algorithm
from aldsgd.links import AllReduce as Mean
from aldsgd.methods import Look, Method
from aldsgd.step import Exchange, Step


class AllReduce(Algorithm):
    """Centralized SGD on n workers, as a ring all-reduce or a parameter server would compute it."""

    def __init__(self, n: int):
        self.n, self.every = n, Step(after=Exchange(Mean(n)))

    def step(self, t):
        return self.every


METHOD = Method(
    "allreduce",
    "all-reduce",
    lambda options, setting: AllReduce(setting.workers),
    look=Look("#000000", "P", "--", 5),
    graph=False,
    inner=True,
    place=50,
)
