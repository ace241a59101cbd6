"""Closed forms of graphs, schedules and bounds, and what bad input is told."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aldsgd.errors import ConfigError
from aldsgd.graphs import (
    Rotation,
    Topology,
    complete,
    erdos_renyi,
    exponential,
    line,
    paper_graph,
    paper_set,
    ring,
    star,
    torus,
)  # fmt: skip
from aldsgd.mixing import equal_weight_alpha, gossip_matrix, matcha_weights, metropolis_matrix, rho
from aldsgd.theory import bounds, spectra
from aldsgd.theory.leaders import (
    combine,
    covariance_operator,
    dpsgd_schedule,
    matcha_schedule,
    released_schedule,
    step_terms,
)  # fmt: skip
from baselines.dpsgd import DPSGD, ReleasedDPSGD
from tests.reference import consensus_recursion


@pytest.mark.parametrize("n", [3, 4, 7, 8, 13])
def test_spectra_in_closed_form(n):
    k = np.arange(n)
    assert np.allclose(spectra.spectrum(ring(n)), np.sort(2 - 2 * np.cos(2 * np.pi * k / n)))
    assert np.allclose(spectra.spectrum(complete(n)), [0] + [n] * (n - 1))
    assert np.allclose(spectra.spectrum(line(n)), 2 - 2 * np.cos(np.pi * k / n))
    assert np.allclose(spectra.spectrum(star(n)), [0] + [1] * (n - 2) + [n])
    assert np.allclose(spectra.circulant_spectrum(n, [1]), spectra.spectrum(ring(n)))
    hops = [2**j for j in range((n - 1).bit_length())]
    assert np.allclose(spectra.circulant_spectrum(n, hops), spectra.spectrum(exponential(n)))
    assert np.allclose(spectra.circulant_spectrum(n, range(1, n)), spectra.spectrum(complete(n)))


@pytest.mark.parametrize("n", [4, 8, 12])
def test_rho_of_the_even_ring(n):
    low = 2 - 2 * math.cos(2 * math.pi / n)
    expected = ((4 - low) / (4 + low)) ** 2
    w = gossip_matrix(ring(n), equal_weight_alpha(ring(n).laplacian))
    assert spectra.fastest_rho(spectra.spectrum(ring(n))) == pytest.approx(expected)
    assert rho(w) == pytest.approx(expected)
    assert spectra.period_contraction([w])["radius"] == pytest.approx(expected)
    assert spectra.period_contraction([w] * 3)["norm"] == pytest.approx(expected**3)


def test_no_alpha_beats_the_best_one():
    graph = erdos_renyi(9, 0.5, seed=3)
    best = spectra.fastest_rho(spectra.spectrum(graph))
    tried = [rho(gossip_matrix(graph, alpha)) for alpha in np.linspace(0.01, 0.6, 300)]
    assert best <= min(tried) + 1e-12 and min(tried) == pytest.approx(best, abs=5e-3)


@pytest.mark.parametrize("graph", [paper_graph(53.8), ring(8), star(6)])
def test_matcha_at_budget_one_is_dpsgd_with_the_best_alpha(graph):
    weights = matcha_weights(graph, 1.0)
    assert weights.rho == pytest.approx(spectra.fastest_rho(spectra.spectrum(graph)), abs=1e-7)
    (step,) = matcha_schedule([graph], 1.0)
    assert step.events == ((1.0, graph.matchings),)


def test_a_disconnected_graph_never_agrees():
    graph = paper_graph(38.5)
    for rule in ("nonzero", "released"):
        (step,) = dpsgd_schedule([graph], rule=rule)
        w = step.gossip(graph.matchings)
        found = spectra.period_contraction([w, w])
        assert [found[key] for key in ("norm", "rate", "radius")] == pytest.approx([1, 1, 1])
    assert spectra.union_components(8, graph.matchings) == [[0, 1, 2, 3, 5, 6], [4], [7]]
    together = [s.gossip(s.events[0][1]) for s in dpsgd_schedule(paper_set(38.5))]
    assert spectra.period_contraction(together)["radius"] < 0.8


def test_the_released_schedule_cuts_workers_0_and_4_off():
    matchings = [matching for step in released_schedule([paper_graph(100)]) for matching in step.events[0][1]]
    assert spectra.union_components(8, matchings) == [[0, 4], [1, 2, 3, 5, 6, 7]]


@pytest.mark.parametrize(
    "count, order", [(1, "uniform"), (2, "uniform"), (3, "uniform"), (2, "released"), (3, "released")]
)
def test_schedules_are_those_of_the_methods(count, order):
    graphs = paper_set(69.2, count)
    rotation = Rotation(count, order, 6)
    period = 6
    method = DPSGD(graphs, rotation)
    for t, step in enumerate(dpsgd_schedule(graphs, rotation, period)):
        assert step.events == ((1.0, method.step(t).links.matchings),)
        assert step.alpha == method.alphas[rotation.at(t)]
    if order == "uniform":
        released = ReleasedDPSGD(graphs)
        schedule = released_schedule(graphs)
        for t in range(12):
            assert schedule[t % len(schedule)].events == ((1.0, released.step(t).links.matchings),)


def test_products_of_a_period_are_in_the_order_of_time():
    rng = np.random.default_rng(0)
    first, second = (m / m.sum(axis=1, keepdims=True) for m in rng.random((2, 4, 4)))
    assert np.allclose(spectra.period_product([first, second]), second @ first)
    shift = spectra.period_contraction([first])["mean_shift"]
    assert shift == pytest.approx(np.linalg.norm(first.sum(axis=0) / 4 - 0.25) * 2)


def test_finite_time_averaging_is_seen():
    halves = [gossip_matrix(Topology(4, (matching,)), 0.5) for matching in (((0, 1), (2, 3)), ((0, 2), (1, 3)))]
    assert spectra.period_contraction(halves)["norm"] == pytest.approx(0, abs=1e-30)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_effective_neighbours(decay):
    n = 6
    for w, expected in ((np.eye(n), 1), (np.full((n, n), 1 / n), n)):
        assert spectra.effective_neighbours(np.kron(w, w), decay) == pytest.approx(expected)
    w = metropolis_matrix(ring(n))
    values = np.linalg.eigvalsh(w) ** 2
    expected = 1 / ((1 - decay) * np.mean(values / (1 - decay * values)))
    assert spectra.effective_neighbours(np.kron(w, w), decay) == pytest.approx(expected)
    (step,) = dpsgd_schedule([complete(n)])
    moment = covariance_operator(combine(step_terms(step), step.alpha, (1, 0, 0)))
    assert spectra.effective_neighbours(moment, decay) == pytest.approx(n)


def test_variance_that_grows_without_end_is_not_a_number():
    w = gossip_matrix(ring(4), 0.9)
    assert math.isnan(spectra.effective_neighbours(np.kron(w, w), 0.9))


rates = st.floats(0.01, 0.99)


@settings(deadline=None, max_examples=60)
@given(rho=rates, part=st.floats(0.05, 1), sigma2=st.floats(0, 10), zeta2=st.floats(0, 10), n=st.integers(2, 64))
def test_the_closed_bound_covers_the_recursion(rho, part, sigma2, zeta2, n):
    smoothness = 2.0
    eta = part * bounds.largest_step(smoothness, rho)
    recursion = consensus_recursion(eta, smoothness, sigma2, zeta2, n, rho, 300)
    assert recursion[0] == 0 and (np.diff(recursion) >= -1e-12).all()
    assert recursion[-1] <= bounds.consensus_bound(eta, smoothness, sigma2, zeta2, n, rho) * (1 + 1e-9)


def test_bounds_by_hand():
    assert bounds.largest_step(2.0, 0.0) == 0.5
    assert bounds.largest_step(1.0, 0.25) == pytest.approx(0.25)
    assert consensus_recursion(0.1, 1.0, 3.0, 0.0, 4, 0.5, 1)[1] == pytest.approx(0.5 * 0.01 * 3 * 0.75)
    # The complete graph has no network term.
    assert bounds.rate_bound(2.0, 0.1, 100, 1.0, 4.0, 9.0, 8, 0.0) == pytest.approx(4 / 10 + 0.1 * 4 / 8)
    assert bounds.consensus_bound(0.1, 1.0, 3.0, 9.0, 4, 0.25) == pytest.approx(0.0025 * (4 * 2.25 / 1.5 + 144 / 2.25))


def test_bad_input_is_named():
    with pytest.raises(ConfigError, match="row 1 .* does not sum to one"):
        spectra.check_rows([[1, 0], [0.5, 0.4]])
    with pytest.raises(ConfigError, match="row 0 .* not finite"):
        spectra.check_rows([[np.nan, 0], [0.5, 0.5]])
    with pytest.raises(ConfigError, match="square"):
        spectra.check_rows(np.ones((2, 3)) / 3)
    with pytest.raises(ConfigError, match=r"\[2, 3\]"):
        spectra.period_product([np.eye(2), np.eye(3)])
    with pytest.raises(ConfigError, match="one size"):
        spectra.period_product([])
    with pytest.raises(ConfigError, match="rho"):
        bounds.largest_step(1.0, 1.0)
    with pytest.raises(ConfigError, match="step"):
        bounds.consensus_bound(0.9, 1.0, 1.0, 1.0, 4, 0.5)
    with pytest.raises(ConfigError, match="decay"):
        spectra.effective_neighbours(np.eye(4), 1.0)
    with pytest.raises(ConfigError, match="second moment"):
        spectra.effective_neighbours(np.eye(5), 0.5)


def test_the_torus_in_closed_form():
    one, two = spectra.circulant_spectrum(4, [1]), spectra.circulant_spectrum(5, [1])
    assert np.allclose(np.sort((one[:, None] + two[None]).ravel()), spectra.spectrum(torus(4, 5)))
