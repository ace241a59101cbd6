"""All-reduce SGD: every worker takes the mean of all after each step, C_t = J.

For plain SGD from a common start, averaging models and averaging gradients are the same.
"""

from aldsgd.algorithm import AVERAGE, Algorithm


class AllReduce(Algorithm):
    """Centralized SGD on n workers, as a ring all-reduce or a parameter server would compute it."""

    def __init__(self, n: int):
        self.n = n

    def kind(self, t):
        return 0

    def after(self, t, hood):
        return AVERAGE
