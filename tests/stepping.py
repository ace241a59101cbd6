"""One step of a method on plain tensors, for tests: the skeleton without data, models or a trainer."""

from types import SimpleNamespace

from aldsgd.algorithm import advance, checked, started
from aldsgd.local import LocalRule
from aldsgd.settings import Settings


def state_of(algorithm, models, sizes=None) -> SimpleNamespace:
    """``models`` (w + c, P), of one tensor or of tensors of these sizes, with what the method declares beside them."""
    return started(checked(algorithm), models, sizes or (models.shape[1],))


def rule(models, network, lr, **settings) -> LocalRule:
    """Plain SGD, or what ``settings`` say, on the rows of workers with data."""
    lr = tuple(float(rate) for rate in lr) if hasattr(lr, "__len__") else float(lr)
    return LocalRule(models[: len(network.workers)], network.workers, Settings(lr=lr, **settings), steps=1)


def take(algorithm, t, network, models, gradients, lr, losses, state=None, local=None) -> None:
    """Step ``t`` in place."""
    state = state or state_of(algorithm, models)
    local = local or rule(models, network, lr)
    advance(algorithm, algorithm.step(t), network, state, gradients, local, losses)
