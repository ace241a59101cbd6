"""EASGD and EAMSGD, with a centre: transcriptions, what is conserved, and the exact edge of stability."""

import math

import numpy as np
import pytest
import torch

from aldsgd.errors import ConfigError
from aldsgd.links import LINKS, Link
from aldsgd.step import Meter
from baselines.easgd import EAMSGD, EASGD
from baselines.single import Single
from tests.leading import Nothing, Problem, walk

N, P, STEPS, LR = 6, 5, 30, 0.1


def transcribed(problem, steps, beta, tau, delta=0.0):
    """EAMSGD, one worker after another; (models where the gradient is taken, centre)."""
    x, n = [row.copy() for row in problem.start], len(problem.start)
    v, c = [0.0 * row for row in x], problem.start[0].copy()
    for t in range(steps):
        pull = [beta / n * (x[i] - c) if t % tau == 0 else 0.0 * c for i in range(n)]
        for i in range(n):
            v[i] = delta * v[i] - LR * problem.gradient(i, x[i] + delta * v[i], t)
            x[i] = x[i] + v[i] - pull[i]
        c = c + sum(pull)
    return np.stack([x[i] + delta * v[i] for i in range(n)] + [c])


@pytest.mark.parametrize("beta, tau", [(0.43, 1), (0.9, 3), (1.5, 2)])
@pytest.mark.parametrize("delta", [0.0, 0.6, 0.99])
def test_both_equal_the_transcription(beta, tau, delta):
    problem = Problem(N, P)
    fast, _ = walk(EAMSGD(N, beta, tau, delta), problem, STEPS, LR)
    np.testing.assert_allclose(fast, transcribed(problem, STEPS, beta, tau, delta), rtol=0, atol=1e-12)
    if delta == 0:
        np.testing.assert_allclose(walk(EASGD(N, beta, tau), problem, STEPS, LR)[0], fast, rtol=0, atol=1e-12)


def test_without_force_workers_are_independent_and_the_centre_stays():
    problem = Problem(N, P)
    found, _ = walk(EASGD(N, 0.0, 2), problem, STEPS, LR, momentum=0.9)
    np.testing.assert_array_equal(found[:N], walk(Single(N), problem, STEPS, LR, momentum=0.9)[0])
    np.testing.assert_array_equal(found[N], problem.start[0])


def test_momentum_without_force_is_nesterovs():
    problem = Problem(N, P)
    own, _ = walk(EAMSGD(N, 0.0, 2, 0.9), problem, STEPS, LR)
    torchs, _ = walk(Single(N), problem, STEPS, LR, momentum=0.9, nesterov=True)
    np.testing.assert_allclose(own[:N], torchs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", [lambda: EASGD(N, 0.7, 1), lambda: EAMSGD(N, 0.7, 1, 0.8)])
def test_the_exchange_conserves_the_sum_of_workers_and_centre(make):
    problem = Nothing(N, P)
    found, _ = walk(make(), problem, STEPS)
    expected = problem.start.sum(axis=0) + problem.start[0]
    np.testing.assert_allclose(found.sum(axis=0), expected, rtol=0, atol=1e-13)


def test_one_worker_with_alpha_one_swaps_with_the_centre():
    problem = Nothing(1, P)
    algorithm = EASGD(1, 1.0, 1)
    _, state = walk(algorithm, problem, 0)
    state.x[1] += 1.0
    before = state.x.clone()
    found, _ = walk(algorithm, problem, 1, state=state)
    np.testing.assert_allclose(found, before.flip(0).numpy(), rtol=0, atol=1e-15)


class Parabola(Problem):
    """F = h x^2 / 2 for every worker."""

    curvature = 2.0

    def gradient(self, i, x, t):
        return self.curvature * x


@pytest.mark.parametrize("n", [1, 4, 8])
@pytest.mark.parametrize("product", [0.3, 1.0, 1.9])
def test_it_diverges_exactly_beyond_its_critical_alpha(n, product):
    """One step from the unit vectors is the matrix of the step, whose spectral radius crosses one there."""
    problem, critical = Parabola(n, n + 1), 2 * (2 - product) / (2 + n * (2 - product))
    for alpha, low, high in ((0.999 * critical, 0, 1), (critical, 1 - 1e-12, 1 + 1e-12), (1.001 * critical, 1, 9)):
        algorithm = EASGD(n, n * alpha, 1)
        _, state = walk(algorithm, problem, 0)
        state.x.copy_(torch.eye(n + 1))
        matrix, _ = walk(algorithm, problem, 1, product / Parabola.curvature, state=state)
        assert low < np.abs(np.linalg.eigvals(matrix)).max() < high


def test_traffic_is_twice_n_over_the_link_of_the_centre():
    meter = Meter({"x": (100, 4)}, N, Link(0.0, 400.0))
    for t in range(6):
        meter.count(EASGD(N, tau=3).step(t))
    assert (meter.bytes, meter.modelled) == (2 * 2 * N * 400, 2 * N * 1.0)
    momentum = Meter({name: (100, 4) for name in ("x", "place", "velocity")}, N, LINKS["10gbe"])
    momentum.count(EAMSGD(N).step(0))
    assert momentum.bytes == 2 * N * 400


@pytest.mark.parametrize("bad, said", [
    (dict(beta=-0.1), "beta = -0.1"), (dict(beta=math.inf), "beta = inf"), (dict(tau=0), "tau = 0"),
    (dict(delta=1.5), "delta = 1.5 must be a finite number, from 0 to 1"), (dict(delta="much"), "delta = 'much'"),
])  # fmt: skip
def test_options_that_make_no_sense_are_one_sentence(bad, said):
    with pytest.raises(ConfigError, match=said):
        EAMSGD(N, **bad)


def test_momentum_takes_the_move_of_any_optimizer():
    """The local rule's own step stands for -eta g: with weight decay in it as well."""
    problem = Problem(N, P)
    adam, _ = walk(EAMSGD(N, 0.0, 1, 0.0), problem, STEPS, 0.01, optimizer="adam")
    np.testing.assert_allclose(adam[:N], walk(Single(N), problem, STEPS, 0.01, optimizer="adam")[0], atol=1e-12)
    assert torch.isfinite(torch.tensor(adam)).all()
