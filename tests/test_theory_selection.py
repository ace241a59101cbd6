"""What AL-DSGD minimises: the mixture against plain loops and closed forms, and where simulation settles."""

import math

import numpy as np
import pytest

from aldsgd.graphs import Topology, complete, paper_graph
from aldsgd.theory.leaders import dpsgd_schedule
from aldsgd.theory.orders import CORE, Leading, period_moments, perron_weights
from aldsgd.theory.quadratics import gossip_mixer, leader_mixer, simulate
from aldsgd.theory.selection import LeastSquares, RareClass, agreeing, largest_normal, selection_weights

README = (0.3, 0.1, 0.2, 0.2)
SMALL = RareClass.random(4, samples=40, share=0.2, batch=1)
X = np.array([0.7, -0.2, -0.9])


def test_the_mixture_by_a_loop():
    problem = RareClass.random(4, samples=40, share=0.2, batch=3)
    picks, weights = np.random.default_rng(0).integers(40, size=(50, 4, 3)), {2: 0.2, 4: 0.3}
    each = np.log1p(np.exp(-problem.signed @ X)) + 0.5 * problem.ridge * X @ X
    slopes = -problem.signed / (1 + np.exp(problem.signed @ X))[:, None] + problem.ridge * X
    value, slope = 0.5 * each.mean(), 0.5 * slopes.mean(axis=0)
    for group in picks:
        for size, weight in weights.items():
            best = min(range(size), key=lambda k: each[group[k]].mean())
            value += weight * each[group[best]].mean() / len(picks)
            slope = slope + weight * slopes[group[best]].mean(axis=0) / len(picks)
    found = problem.mixture(X, weights, picks)
    assert found[0] == pytest.approx(value, abs=1e-12)
    np.testing.assert_allclose(found[1], slope, atol=1e-12)


def test_the_smallest_of_single_samples_in_closed_form():
    # Of k draws with replacement from N sorted losses, the r-th smallest (from 0) is the least with this probability.
    n, k = 40, 4
    chance = ((n - np.arange(n)) / n) ** k - ((n - 1 - np.arange(n)) / n) ** k
    expected = chance @ np.sort(SMALL.losses(X)) + 0.5 * SMALL.ridge * X @ X
    picks = np.random.default_rng(1).integers(n, size=(200_000, k, 1))
    own = SMALL.losses(X)[picks[:, :, 0]].min(axis=1)
    assert abs(SMALL.mixture(X, {k: 1.0}, picks)[0] - expected) < 5 * own.std() / math.sqrt(len(own))


def test_objective_and_minimiser():
    shift = 1e-6 * np.eye(3)
    slope = [(SMALL.objective(X + h)[0] - SMALL.objective(X - h)[0]) / 2e-6 for h in shift]
    np.testing.assert_allclose(SMALL.objective(X)[1], slope, atol=1e-8)
    assert SMALL.gradient_norm2(X) == pytest.approx(SMALL.objective(X)[1] @ SMALL.objective(X)[1])
    assert SMALL.gradient_norm2(SMALL.minimiser) < 1e-15


def test_weights_follow_order_period_and_graph():
    schedule = dpsgd_schedule([complete(8)])
    assert selection_weights(schedule, Leading.released(*README)) == pytest.approx({8: 0.38})
    assert selection_weights(schedule, Leading.printed(*README)) == pytest.approx({8: 0.3})
    assert selection_weights(schedule, Leading.printed(*README, period=3)) == pytest.approx({8: 0.1})
    sparse = dpsgd_schedule([paper_graph(53.8)])
    found = selection_weights(sparse, Leading.released(*README))
    assert sum(found.values()) == pytest.approx(0.38) and set(found) == {2, 3, 4}


def test_weights_of_a_pair_beside_a_path_by_hand():
    # Path 0-1-2, b = 1, no gossip: E[C] has rows (1/2 1/2 0), (1/3 1/3 1/3), (0 1/2 1/2); pi = (2, 3, 2)/7.
    schedule = dpsgd_schedule([Topology.from_edges(3, [(0, 1), (1, 2)])])
    found = selection_weights(schedule, Leading((0.0, 1.0, 0.0)))
    assert found == pytest.approx({2: 4 / 7, 3: 3 / 7})


def test_the_largest_of_normals():
    assert [largest_normal(n) for n in (1, 2, 3)] == pytest.approx(
        [0, 1 / math.sqrt(math.pi), 1.5 / math.sqrt(math.pi)]
    )


@pytest.mark.parametrize("problem", [RareClass.random(4, samples=60, batch=2), LeastSquares(4, 3, 2)])
def test_draws_are_unbiased(problem):
    rng = np.random.default_rng(2)
    losses, gradients = problem.draw(np.broadcast_to(X, (20_000, 4, 3)), rng)
    expected = problem.objective(X)[1] if isinstance(problem, RareClass) else X
    error = gradients.std(axis=(0, 1)) / math.sqrt(losses.size)
    assert (abs(gradients.mean(axis=(0, 1)) - expected) < 5 * error).all()
    assert losses.mean() == pytest.approx(
        problem.objective(X)[0] if isinstance(problem, RareClass) else 0.5 * (1 + X @ X), rel=0.02
    )


def test_leaders_of_least_squares_only_shorten_the_step():
    problem, rng = LeastSquares(8, 3, 2), np.random.default_rng(3)
    losses, gradients = problem.draw(np.broadcast_to(X, (40_000, 8, 3)), rng)
    led = np.take_along_axis(gradients, losses.argmin(axis=1)[:, None, None], axis=1)[:, 0]
    residual = np.square(rng.standard_normal((200_000, 8, 2))).mean(axis=2).min(axis=1)
    error = led.std(axis=0) / math.sqrt(len(led))
    assert (abs(led.mean(axis=0) - residual.mean() * X) < 5 * error).all()


def test_agreeing_at_once_on_a_kept_mean_is_sgd():
    schedule = dpsgd_schedule([paper_graph(53.8)])
    weights = perron_weights(period_moments(schedule, CORE))
    np.testing.assert_allclose(weights[0], np.full(8, 1 / 8), atol=1e-12)
    problem = RareClass.random(8, samples=100)
    mixers = agreeing(leader_mixer(schedule, CORE), weights), gossip_mixer([np.full((8, 8), 1 / 8)])
    both = [simulate(problem, mixer, 0.3, 5, 2, np.zeros(3))["mean"] for mixer in mixers]
    np.testing.assert_allclose(*both, atol=1e-12)


@pytest.mark.parametrize("graph", [complete(8), paper_graph(53.8)])
def test_it_settles_at_the_mixture_and_with_a_second_draw_at_f(graph):
    problem, schedule, leading = RareClass.random(8, samples=500), dpsgd_schedule([graph]), Leading.released(*README)
    end = problem.mixture_minimiser(selection_weights(schedule, leading), 8000, 0)
    way = end - problem.minimiser
    for judge, expected in (("own", 1.0), ("second", 0.0)):
        runs = simulate(problem, leader_mixer(schedule, leading), 0.4, 1500, 8, problem.minimiser, (0,), judge, 5)
        share = (runs["mean"][:, 60:].mean(axis=1) - problem.minimiser) @ way / (way @ way)
        assert share.mean() == pytest.approx(expected, abs=0.1)
