"""No exchange: every worker trains alone on its own shard. The floor of every comparison."""

from aldsgd.algorithm import Algorithm


class Single(Algorithm):
    """B_t = C_t = I for n workers."""

    def __init__(self, n: int):
        self.n = n

    def kind(self, t):
        return 0
