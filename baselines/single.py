"""No exchange: every worker trains alone on its own shard. The floor of every comparison."""

from aldsgd.algorithm import Algorithm
from aldsgd.methods import Look, Method


class Single(Algorithm):
    """n workers that never meet."""

    def __init__(self, n: int):
        self.n = n


METHOD = Method(
    "single",
    "no exchange",
    lambda options, setting: Single(setting.workers),
    look=Look("#888888", "X", ":", 5),
    graph=False,
    inner=True,
    place=10,
)
