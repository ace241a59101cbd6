"""Leaders' matrices: exact moments against enumeration, sampling and the code that trains; bounds from both sides."""

import itertools
import math

import numpy as np
import pytest
import torch

from aldsgd.errors import ConfigError
from aldsgd.graphs import complete, erdos_renyi, paper_graph, paper_set, ring, star
from aldsgd.leaders import ALDSGD
from aldsgd.mixing import equal_weight_alpha, metropolis_matrix
from aldsgd.network import LocalNetwork
from aldsgd.theory import adversary, leaders, lies
from aldsgd.theory.spectra import disagreement_basis, disagreement_part, fastest_rho, spectrum
from baselines.dpsgd import DPSGD
from baselines.matcha import MATCHA
from baselines.registry import METHODS

README = (0.3, 0.1, 0.2, 0.2)
WEIGHTS = leaders.pulls(*README)


def rows_of(algorithm, t, losses):
    """C_t as the training code makes it."""
    network = LocalNetwork(algorithm.n)
    (exchange,) = algorithm.step(t).after
    hood = network.neighbourhood(exchange.links)
    matrix = np.zeros((algorithm.n, algorithm.n))
    matrix[hood.row, hood.col] = exchange.rule.rows(hood, network.exchange_losses(torch.from_numpy(losses), hood), 0.1)
    return matrix


def sampled(step, weights, rng, count):
    """So many C (count, n, n) under random loss ranks: what the exact moments are the moments of."""
    a, b, c = weights
    events = rng.choice(len(step.events), count, p=[chance for chance, _ in step.events])
    drawn = np.empty((count, step.n, step.n))
    for event in np.unique(events):
        active, own = step.events[event][1], events == event
        best = leaders.best_leaders(leaders.closed_neighbourhoods(step.n, active), rng.random((own.sum(), step.n)))
        rest = leaders.leader_matrix(step.n, active, step.alpha, best[0], (a, 0, c))
        drawn[own] = rest + b * np.eye(step.n)[best]
    return drawn


@pytest.mark.parametrize("level", [100, 53.8, 38.5])
def test_leader_matrices_are_those_that_train(level):
    graph, rng = paper_graph(level), np.random.default_rng(0)
    core = DPSGD(graph, allow_disconnected=True)
    for coefficients in (README, (0.3, 0.1, 0.1, 0.1), (0.0, 0.5, 0.0, 0.3)):
        losses = rng.random(8)
        closed = leaders.closed_neighbourhoods(8, graph.matchings)
        best = leaders.best_leaders(closed, losses[None])[0]
        ours = leaders.leader_matrix(8, graph.matchings, core.alphas[0], best, leaders.pulls(*coefficients))
        assert np.allclose(ours, rows_of(ALDSGD(core, *coefficients), 0, losses))


def test_ties_of_degrees_under_random_matchings_are_those_that_train():
    graph = paper_graph(100)
    core = MATCHA(graph, 0.5, seed=1)
    alone = ALDSGD(core, 0, 1.0, 0, 0)  # C_t = S_tau
    for t in range(20):
        expected = rows_of(alone, t, np.ones(8))
        assert np.array_equal(leaders.selection(leaders.degree_leaders(8, core.step(t).links.matchings)), expected)


def test_four_coefficients_act_through_two_numbers():
    a, b, c = WEIGHTS
    assert (a, b, c) == pytest.approx((0.36, 0.38, 0.26)) and a + b + c == pytest.approx(1)
    same = (0.38, 0.26, 0.0, 0.0)
    core, losses = DPSGD(paper_graph(69.2)), np.random.default_rng(5).random(8)
    assert np.allclose(rows_of(ALDSGD(core, *README), 0, losses), rows_of(ALDSGD(core, *same), 0, losses))


@pytest.mark.parametrize("graph", [ring(5), star(6), complete(4), erdos_renyi(6, 0.4, seed=2)])
def test_random_rank_moments_by_enumeration(graph):
    n = graph.n
    closed = leaders.closed_neighbourhoods(n, graph.matchings)
    orders = np.array(list(itertools.permutations(range(n))))
    chosen = np.eye(n)[leaders.best_leaders(closed, orders)]
    mean, joint = leaders.random_rank_moments(closed)
    assert np.allclose(mean, chosen.mean(axis=0))
    assert np.allclose(joint, np.einsum("rik,rjl->ikjl", chosen, chosen) / len(orders))


@pytest.mark.parametrize("schedule", [
    leaders.dpsgd_schedule([paper_graph(53.8)]), leaders.matcha_schedule([paper_graph(53.8)], 0.5),
    leaders.dpsgd_schedule(paper_set(84.6, 2)),
])  # fmt: skip
def test_moments_of_the_matrices_by_sampling(schedule):
    rng = np.random.default_rng(0)
    for step in schedule:
        drawn = sampled(step, WEIGHTS, rng, 6000)
        exact = leaders.combine(leaders.step_terms(step), step.alpha, WEIGHTS)
        error = np.sqrt(((drawn[:, :, :, None, None] * drawn[:, None, None]).var(axis=0)) / len(drawn))
        seen = np.einsum("rik,rjl->ikjl", drawn, drawn, optimize=True) / len(drawn)
        assert (abs(seen - exact) <= 6 * error + 1e-12).all()
        assert np.allclose(leaders.mean_matrix(step, WEIGHTS), drawn.mean(axis=0), atol=0.05)
        assert np.allclose(leaders.mean_matrix(step, WEIGHTS).sum(axis=1), 1)


@pytest.mark.parametrize("schedule, weights", [
    (leaders.dpsgd_schedule([paper_graph(53.8)]), WEIGHTS),
    (leaders.matcha_schedule([paper_graph(53.8)], 0.5), WEIGHTS),
    (leaders.dpsgd_schedule(paper_set(53.8)), WEIGHTS),
])  # fmt: skip
def test_the_radius_against_monte_carlo_products(schedule, weights):
    steps, runs, rng = 12, 4000, np.random.default_rng(1)
    basis = disagreement_basis(8)
    operators = [leaders.operator(leaders.compress(leaders.combine(leaders.step_terms(s), s.alpha, weights)))
                 for s in schedule]  # fmt: skip
    products, sizes = np.repeat(np.eye(7)[None], runs, axis=0), []
    for t in range(steps):
        drawn = sampled(schedule[t % len(schedule)], weights, rng, runs)
        products = basis.T @ drawn @ basis @ products
        sizes.append(np.square(products).sum(axis=(1, 2)))
    exact = np.eye(7).ravel()
    for t in reversed(range(steps)):
        exact = operators[t % len(operators)] @ exact
    expected = np.trace(exact.reshape(7, 7))
    error = sizes[-1].std() / math.sqrt(runs)
    assert abs(sizes[-1].mean() - expected) < 5 * error
    # One period further shrinks by the radius, up to what the starting vector still holds.
    period = len(schedule)
    ratio = (sizes[-1].mean() / sizes[-1 - period].mean()) ** (1 / period)
    assert ratio == pytest.approx(leaders.mean_square_radius(operators), rel=0.06)


def test_without_leaders_the_radius_is_rho():
    for graph in (paper_graph(53.8), ring(8)):
        (step,) = leaders.dpsgd_schedule([graph])
        moment = leaders.combine(leaders.step_terms(step), step.alpha, (1, 0, 0))
        small = leaders.compress(moment)
        rho = fastest_rho(spectrum(graph))
        assert leaders.mean_square_radius([leaders.operator(small)]) == pytest.approx(rho)
        assert leaders.one_step_norm(small) == pytest.approx(rho)
        assert leaders.period_norm([leaders.operator(small)] * 2) == pytest.approx(rho**2)
        assert leaders.influence([leaders.operator(moment)]) == pytest.approx(1 / 8)
        assert leaders.column_moments(moment, leaders.mean_matrix(step, (1, 0, 0))) == {"column_rms": 0, "drift": 0}


def test_a_one_step_norm_above_one_can_contract():
    (step,) = leaders.dpsgd_schedule([paper_graph(53.8)])
    small = leaders.compress(leaders.combine(leaders.step_terms(step), step.alpha, WEIGHTS))
    assert leaders.one_step_norm(small) > 1 > leaders.mean_square_radius([leaders.operator(small)])


def test_influence_on_the_complete_graph_by_hand():
    # a J + b 1 e_k^T with k uniform: after one step all agree on the row pi = a/n + b e_k, and stay there.
    n, a, b = 5, 0.6, 0.4
    (step,) = leaders.dpsgd_schedule([complete(n)])
    moment = leaders.combine(leaders.step_terms(step), step.alpha, (a, b, 0.0))
    assert leaders.influence([leaders.operator(moment)]) == pytest.approx((a**2 + 2 * a * b) / n + b**2)


def test_influence_against_products():
    (step,) = leaders.dpsgd_schedule([paper_graph(84.6)])
    rng, products = np.random.default_rng(2), np.eye(8)
    for _ in range(60):
        products = sampled(step, WEIGHTS, rng, 400) @ products
    assert np.ptp(products, axis=1).max() < 1e-6
    sizes = np.square(products[:, 0]).sum(axis=1)
    moment = leaders.combine(leaders.step_terms(step), step.alpha, WEIGHTS)
    error = np.std(sizes) / math.sqrt(len(sizes))
    assert abs(leaders.influence([leaders.operator(moment)]) - np.mean(sizes)) < 5 * error


def test_drift_of_the_mean_is_bounded_and_the_bound_is_met():
    (step,) = leaders.dpsgd_schedule([paper_graph(69.2)])
    rng = np.random.default_rng(3)
    exact = leaders.column_moments(
        leaders.combine(leaders.step_terms(step), step.alpha, WEIGHTS), leaders.mean_matrix(step, WEIGHTS)
    )
    drawn = sampled(step, WEIGHTS, rng, 4000)
    v = (drawn.sum(axis=1) - 1) / 8
    assert exact["column_rms"] == pytest.approx(np.sqrt(np.mean((8 * v) ** 2)), rel=0.03)
    assert exact["drift"] == pytest.approx(np.sqrt(8 * np.linalg.eigvalsh(v.T @ v / len(v))[-1]), rel=0.03)
    x = rng.standard_normal((8, 3))
    moved = np.square(v @ (x - x.mean(axis=0))).sum(axis=1).mean()
    assert moved <= exact["drift"] ** 2 * np.square(x - x.mean(axis=0)).sum() / 8 * 1.05


def test_adversarial_bounds_enclose_what_adversaries_can_play():
    (step,) = leaders.dpsgd_schedule([paper_graph(84.6)])
    orders, exhaustive = adversary.loss_orders(8, 0)
    assert exhaustive and len(orders) == math.factorial(8)
    matrices = adversary.reachable_matrices(step, WEIGHTS, orders)
    low = max(adversary.fixed_order_rate(matrices[:, None]), adversary.greedy_rate([matrices]))
    high = adversary.ellipsoid_rate([matrices])
    assert low <= high < 1 < adversary.worst_one_step(matrices)
    rng = np.random.default_rng(0)
    parts = np.stack([disagreement_part(matrix) for matrix in matrices])
    product = np.eye(7)
    for _ in range(400):
        product = parts[rng.integers(len(parts))] @ product
    assert np.linalg.norm(product, 2) ** (2 / 400) <= high * 1.05  # up to the ellipsoid's eccentricity over 400 steps


def test_the_ellipsoid_bound_is_tight_for_one_matrix():
    # Defective, so its norm is far above its radius: only a better norm than the Euclidean one shows it.
    matrix = np.array([[0.6, 0.4, 0.0], [0.0, 0.6, 0.4], [0.1, 0.1, 0.8]])
    radius = np.abs(np.linalg.eigvals(disagreement_part(matrix))).max() ** 2
    assert adversary.ellipsoid_rate([matrix[None]]) == pytest.approx(radius, abs=0.01)
    assert adversary.fixed_order_rate(matrix[None, None]) == pytest.approx(radius)


def test_an_adversary_of_a_period():
    schedule = leaders.dpsgd_schedule(paper_set(100, 2))
    orders, exhaustive = adversary.loss_orders(9, 50)
    assert not exhaustive and orders.shape == (50, 9)
    steps = [adversary.reachable_matrices(step, WEIGHTS, np.array([range(8), range(7, -1, -1)])) for step in schedule]
    fixed = adversary.fixed_order_rate(np.stack([steps[0], steps[1]], axis=1))
    assert fixed <= adversary.ellipsoid_rate(steps) + 1e-9
    assert adversary.greedy_rate(steps) <= adversary.ellipsoid_rate(steps) + 1e-9


def test_nonnegative_weights_contract_whoever_leads():
    graph, rng = paper_graph(53.8), np.random.default_rng(4)
    w = metropolis_matrix(graph)
    bound = adversary.guaranteed_rate([w], WEIGHTS[0])
    assert bound < 1
    product, steps = np.eye(8), 40
    for _ in range(steps):
        best = rng.integers(0, 8, 8)  # any leaders at all, not even neighbours
        product = (WEIGHTS[0] * w + WEIGHTS[1] * leaders.selection(best) + WEIGHTS[2] * np.eye(8)) @ product
    corners = np.array(list(itertools.product((0, 1), repeat=8))).T  # of the cube: some corner is stretched the most
    assert np.ptp(product @ corners, axis=0).max() ** (2 / steps) <= bound
    assert math.isnan(adversary.guaranteed_rate([np.eye(8) - 0.44 * graph.laplacian], 0.36))
    assert adversary.guaranteed_rate([metropolis_matrix(paper_graph(38.5))], 0.36) == 1


def test_bad_input_is_named():
    with pytest.raises(ConfigError, match="3 losses for 8 workers"):
        leaders.best_leaders(np.eye(8, dtype=bool), np.ones((1, 3)))
    (step,) = leaders.matcha_schedule([paper_graph(53.8)], 0.5)
    with pytest.raises(ConfigError, match="certain"):
        adversary.reachable_matrices(step, WEIGHTS, np.array([range(8)]))
    with pytest.raises(ConfigError, match="row 0 of the mixing matrix"):
        adversary.guaranteed_rate([np.full((2, 2), 0.6)], 0.5)


def test_a_lie_gains_what_the_closed_form_says():
    """kappa by counting selections over all orders of losses, n = 8, against the matrix and the factor."""
    weights, graph = WEIGHTS, paper_graph(84.6)
    closed, rng = leaders.closed_neighbourhoods(8, graph.matchings), np.random.default_rng(0)
    alpha = equal_weight_alpha(graph.laplacian, "nonzero")
    for attacker in (1, 4):
        losses = rng.random((20_000, 8)) + 0.1
        told = losses.copy()
        told[:, attacker] = 0
        for way, reported in (("AL-DSGD, truth", losses), ("AL-DSGD, lie", told)):
            best = leaders.best_leaders(closed, reported)
            mean = np.mean([leaders.leader_matrix(8, graph.matchings, alpha, b, weights) for b in best[:4000]], axis=0)
            own = lies.mean_matrix(graph, attacker, way, weights)
            assert abs(lies.share(own, attacker) - lies.share(mean, attacker)) < (1e-12 if "lie" in way else 0.01)
        plain = lies.share(lies.mean_matrix(graph, attacker, "D-PSGD", weights), attacker)
        assert lies.share(own, attacker) / plain == pytest.approx(lies.factor(graph, attacker, weights), rel=1e-12)


def test_the_coefficients_of_the_readme_are_the_defaults_of_the_method():
    assert leaders.README == tuple(METHODS["aldsgd"].defaults[name] for name in ("c1", "c2", "p1", "p2"))
