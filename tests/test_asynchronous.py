"""Asynchronous methods with servers, centres and leaders: identities with each other, and what they conserve."""

import pytest
import torch

from aldsgd.algorithm import checked
from aldsgd.errors import ConfigError
from baselines.downpour import Downpour
from experiments.configuration import RunConfig
from tests.test_virtual import trainer

UNEVEN = dict(times="lognormal", stragglers=2, slowdown=3.0, latency=2e-3, momentum=0.0)


def models(**changes):
    run = trainer(**UNEVEN | changes)
    run.run()
    return run


def close(a, b):
    """The same centres; a worker that waits for one may have moved already."""
    return torch.allclose(a.state.x[8:], b.state.x[8:], rtol=0, atol=1e-12)


def test_downpour_with_one_step_is_the_asynchronous_server():
    # At a constant rate: where it drops, the server has one for all, and each worker of DOWNPOUR its own.
    server = models(method="async_server", lr_drops=())
    assert close(server, models(method="downpour", tau=1, lr_drops=()))
    assert not close(server, models(method="downpour", tau=2, lr_drops=()))
    assert (server.state.x[8] - server.workers.rows[8]).norm() > 0.01


def test_eamsgd_without_momentum_is_easgd_and_both_conserve_the_sum():
    plain = models(method="async_easgd", tau=2)
    assert close(plain, models(method="async_eamsgd", tau=2, delta=0.0))
    assert not close(plain, models(method="async_eamsgd", tau=2, delta=0.5))
    still = trainer(method="async_easgd", tau=2, lr=0.0, beta=0.9)
    before, apart = still.state.x.sum(dim=0), still.state.x.std(dim=0).sum()
    still.run()
    # What is pulled is subtracted when the gradient is done, and added to the centre before.
    assert torch.allclose(still.state.x.sum(dim=0) - still.state.pull.sum(dim=0), before, rtol=0, atol=1e-12)
    assert still.state.x.std(dim=0).sum() < 0.9 * apart


@pytest.mark.parametrize("alpha, stable", [(0.99, True), (1.01, False)])
def test_easgd_alone_diverges_above_its_critical_alpha(alpha, stable):
    """One worker without a gradient: alpha <= (4 - 2 eta h) / (4 - eta h) at eta h = 0 is 1 for one that pulls last
    what it read before; x and the centre swap at 1, and grow apart above."""
    run = trainer(method="async_easgd", workers=1, tau=1, lr=0.0, beta=alpha, epochs=8)
    run.state.x[0].add_(1.0)

    def gap():
        return (run.state.x[0] - run.state.pull[0] - run.state.x[1]).norm()

    first = gap()
    run.run()
    assert (gap() < first) == stable


def test_lsgd_takes_steps_in_proportion_to_speed_and_its_leader_pulls_all():
    run = trainer(method="async_lsgd", tau=4, stragglers=1, slowdown=2.0, pull=1.0, prox=0.0, epochs=8)
    run.events.start()
    run.events.run(4)
    slow = run.times.factors.index(2.0)
    # 8 x 4 steps together. After 4 units seven have 4 each, the slow one 2; the first of the next makes 31 and goes on,
    # with the second it is 32: all others wait, for the first and for the slow one.
    assert run.events.count == [2 if i == slow else 4 for i in range(8)]
    run.events.run(6)
    assert sorted(run.events.count) == [3, 5, 5, 5, 5, 5, 5, 6] and run.events.count[slow] == 3
    run.events.run(6 + 1e-9)
    assert torch.equal(run.state.x, run.state.x[:1].expand_as(run.state.x)) and not run.state.waits.any()
    free = trainer(method="async_lsgd", tau=4, pull=0.0, prox=0.0, epochs=2)
    free.run()
    alone = trainer(method="single", epochs=2)
    alone.run()
    # The last worker makes the 32nd step at time 4, and waits for the others, which have all begun another.
    assert free.events.count == [6] * 7 + [5] and torch.equal(free.state.x[:7], alone.state.x[:7])


@pytest.mark.parametrize("method", ["downpour", "async_easgd", "async_lsgd"])
def test_periods_that_are_none_are_one_sentence(method):
    with pytest.raises(ConfigError, match="tau = 0 must be a whole number, 1 or more"):
        RunConfig(method=method).but(tau=0).algorithm(5)
    assert checked(Downpour(2)).n == 2


@pytest.mark.parametrize("method", ["adsgd", "swift", "async_aldsgd"])
@pytest.mark.parametrize("core", ["qg", "decentlam", "dsgd_ac"])
def test_a_core_with_a_rule_of_its_own_is_refused(method, core):
    # Of it only links and weights would be left: one method under several names.
    with pytest.raises(ConfigError, match="moves workers by a rule of its own.*choose a core that is plain gossip"):
        RunConfig(method=method).but(core=core).algorithm(5)
