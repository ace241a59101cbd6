"""Problems with known constants: exact moments against simulation, and constants against direct computation."""

import math

import numpy as np
import pytest

from aldsgd.errors import ConfigError
from aldsgd.graphs import complete, exponential, paper_graph, paper_set
from aldsgd.theory.bounds import consensus_bound, rate_bound
from aldsgd.theory.leaders import dpsgd_schedule, matcha_schedule, mean_matrix
from aldsgd.theory.orders import CORE, Leading, period_moments
from aldsgd.theory.quadratics import (
    Logistic,
    Quadratics,
    exact_trajectory,
    gossip_mixer,
    leader_mixer,
    simulate,
)
from aldsgd.theory.selection import selection_floor
from aldsgd.theory.spectra import fastest_rho, spectrum
from tests.reference import consensus_recursion

COEFFICIENTS = (0.3, 0.1, 0.2, 0.2)
README = Leading.released(*COEFFICIENTS)
PROBLEM = Quadratics.random(8, 4, 1.0, 0.2, 2.0, 0.7, seed=3)
START = np.full(4, 1.5)


def exact(schedule, leading, steps, eta=0.1, problem=PROBLEM):
    return exact_trajectory(problem, period_moments(schedule, leading), eta, steps, START)


def test_constants_are_the_chosen_ones():
    assert PROBLEM.smoothness == 1.0 and PROBLEM.hessian.min() == 0.2
    assert PROBLEM.zeta2 == pytest.approx(0.7)
    assert np.allclose(PROBLEM.centres.mean(axis=0), 0)
    x = np.random.default_rng(0).standard_normal((8, 4))
    one = PROBLEM.gap(x[0]) - PROBLEM.gap(np.zeros(4))
    local = [0.5 * PROBLEM.hessian @ (x[0] - a) ** 2 for a in PROBLEM.centres]
    least = [0.5 * PROBLEM.hessian @ a**2 for a in PROBLEM.centres]
    assert one == pytest.approx(np.mean(local) - np.mean(least))
    assert Quadratics.random(1, 4, 1.0, 0.2, 2.0, 0.7).zeta2 == 0


@pytest.mark.parametrize("problem", [PROBLEM, Logistic.random(8, 5, samples=64, batch=2)])
def test_draws_are_unbiased_with_the_stated_variance(problem):
    rng = np.random.default_rng(1)
    d = problem.centres.shape[1] if isinstance(problem, Quadratics) else 5
    x = rng.standard_normal(d) * 0.3
    losses, gradients = problem.draw(np.broadcast_to(x, (20000, 8, d)), rng)
    mean = gradients.mean(axis=(0, 1))
    shift, numerical = 1e-5, np.empty(d)
    for k in range(d):
        step = np.eye(d)[k] * shift
        numerical[k] = (problem.gap(x + step) - problem.gap(x - step)) / (2 * shift)
    assert np.allclose(mean, numerical, atol=5 * gradients.std() / math.sqrt(losses.size))
    assert problem.gradient_norm2(x) == pytest.approx(numerical @ numerical, rel=1e-4)
    spread = np.square(gradients - gradients.mean(axis=0)).sum(axis=2).mean(axis=0).max()
    dissimilarity = np.square(gradients.mean(axis=0) - mean).sum(axis=1).mean()
    assert spread <= problem.sigma2 * 1.03 and dissimilarity <= problem.zeta2 * 1.05
    if isinstance(problem, Quadratics):
        assert spread == pytest.approx(problem.sigma2, rel=0.03)
        assert dissimilarity == pytest.approx(problem.zeta2, rel=0.05)


def test_logistic_smoothness_bounds_the_curvature():
    problem = Logistic.random(4, 5, samples=64)
    rng = np.random.default_rng(0)

    def gradient(x):
        return np.array([(problem.gap(x + h) - problem.gap(x - h)) / 2e-4 for h in np.eye(5) * 1e-4])

    for _ in range(20):
        a = rng.standard_normal(5)
        b = a + 0.1 * rng.standard_normal(5)
        assert np.linalg.norm(gradient(a) - gradient(b)) <= problem.smoothness * np.linalg.norm(a - b)


CASES = {
    "dpsgd": (dpsgd_schedule([paper_graph(53.8)]), CORE),
    "matcha": (matcha_schedule([paper_graph(53.8)], 0.5), CORE),
    "three graphs": (dpsgd_schedule(paper_set(53.8)), README),
    "leaders on matcha": (matcha_schedule([paper_graph(53.8)], 0.5), README),
    "printed": (dpsgd_schedule([paper_graph(53.8)]), Leading.printed(*COEFFICIENTS)),
    "printed on matcha, every second": (
        matcha_schedule([paper_graph(53.8)], 0.5),
        Leading.printed(*COEFFICIENTS, period=2),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_exact_moments_against_many_runs(case):
    schedule, weights = CASES[case]
    found = exact(schedule, weights, 60)
    result = simulate(PROBLEM, leader_mixer(schedule, weights), 0.1, 61, 3000, START, judge="random")
    for name, expected in zip(("gradient", "consensus"), found, strict=True):
        values = result[name][:, [0, 1, 2, 5, 10, 30, 60]]
        error = values.std(axis=0) / math.sqrt(len(values))
        assert (abs(values.mean(axis=0) - expected[[0, 1, 2, 5, 10, 30, 60]]) <= 5 * error + 1e-12).all()


def test_the_exact_recursion_against_one_long_simulation():
    schedule, weights = CASES["three graphs"]
    stationary = [values[-3:].mean() for values in exact(schedule, weights, 600)]
    result = simulate(PROBLEM, leader_mixer(schedule, weights), 0.1, 12_000, 10, START, (7,), "random")
    for name, expected in zip(("gradient", "consensus"), stationary, strict=True):
        runs = result[name][:, 600:].mean(axis=1)
        assert abs(runs.mean() - expected) < 5 * runs.std(ddof=1) / math.sqrt(len(runs))
        assert runs.mean() == pytest.approx(expected, rel=0.05)


def test_a_fixed_matrix_needs_no_moments():
    (step,) = CASES["dpsgd"][0]
    w = mean_matrix(step, (1, 0, 0))
    result = [simulate(PROBLEM, mixer, 0.1, 20, 3, START)["consensus"]
              for mixer in (gossip_mixer([w]), leader_mixer([step], CORE))]  # fmt: skip
    assert np.allclose(*result)


def test_variance_is_exactly_one_nth_on_the_complete_graph():
    (step,) = dpsgd_schedule([complete(8)])
    h, noise = PROBLEM.hessian, PROBLEM.sigma2 / 4
    gradients, consensus = exact([step], CORE, 2000)
    # Every worker is the mean; coordinate by coordinate an autoregression with noise eta^2 (sigma2/d) / n.
    expected = np.sum(h**2 * 0.01 * (noise / 8) / (1 - (1 - 0.1 * h) ** 2))
    assert gradients[-1] == pytest.approx(expected, rel=1e-9)
    assert consensus[1:] == pytest.approx(0, abs=1e-12)


def test_the_bounds_hold_with_room_only_where_they_are_proved():
    problem = Quadratics.random(8, 6, 1.0, 0.1, 4.0, 1.0)
    graph = exponential(8)
    schedule, rho = dpsgd_schedule([graph]), fastest_rho(spectrum(graph))
    for eta in (0.02, 0.3):
        start = np.full(6, 0.5)
        gradients, consensus = exact_trajectory(problem, period_moments(schedule, CORE), eta, 400, start)
        recursion = consensus_recursion(eta, 1.0, problem.sigma2, problem.zeta2, 8, rho, 400)
        assert (consensus <= recursion + 1e-12).all()
        assert recursion[-1] <= consensus_bound(eta, 1.0, problem.sigma2, problem.zeta2, 8, rho)
        bound = rate_bound(problem.gap(start), eta, 400, 1.0, problem.sigma2, problem.zeta2, 8, rho)
        assert gradients[:-1].mean() <= bound


def test_leaders_by_loss_follow_the_smallest_draw():
    schedule = dpsgd_schedule([paper_graph(69.2)])
    mixer = leader_mixer(schedule, Leading((0.0, 1.0, 0.0)))
    x = np.arange(8.0)[None, :, None]
    losses = np.array([[5.0, 1.0, 9.0, 2.0, 7.0, 3.0, 8.0, 6.0]])
    moved = mixer(0, x, np.zeros_like(x), losses, np.random.default_rng(0))[0, :, 0]
    for i in range(8):
        near = [i] + [a + b - i for a, b in paper_graph(69.2).edges if i in (a, b)]
        assert moved[i] == min(near, key=lambda j: losses[0, j])


def test_the_selection_floor_in_closed_form():
    # The expected largest of two standard normals is 1/sqrt(pi), of three 3/(2 sqrt(pi)), of one 0.
    assert selection_floor({2: 0.5}, 10, 4.0) == pytest.approx(0.25 * 4 / (10 * math.pi))
    assert selection_floor({3: 1.0}, 1, 1.0) == pytest.approx(9 / (4 * math.pi))
    assert selection_floor({1: 1.0}, 1, 1.0) == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize("judge", ["own", "second"])
def test_aldsgd_stops_at_the_selection_floor_unless_losses_are_fresh(judge):
    n, d, sigma2, eta = 16, 10, 4.0, 0.01
    problem = Quadratics(np.ones(d), np.zeros((n, d)), sigma2)
    floor = selection_floor({n: README.weights[1]}, d, sigma2)
    start = np.full(d, math.sqrt(floor / d))
    mixer = leader_mixer(dpsgd_schedule([complete(n)]), README)
    seen = simulate(problem, mixer, eta, 4000, 10, start, judge=judge)["gradient"][:, 1500:].mean()
    if judge == "second":
        assert seen < 0.1 * floor
    else:
        assert seen == pytest.approx(floor, rel=0.12)


def test_bad_input_is_named():
    with pytest.raises(ConfigError, match="0 < mu <= L"):
        Quadratics.random(4, 2, 1.0, 2.0, 1.0, 1.0)
    with pytest.raises(ConfigError, match="equal shards"):
        Logistic.random(7, 2, samples=64)
    with pytest.raises(ConfigError, match="unknown judge"):
        simulate(PROBLEM, leader_mixer(dpsgd_schedule([paper_graph(100)]), README), 0.1, 1, 1, START, judge="best")
