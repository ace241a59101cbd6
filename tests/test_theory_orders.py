"""Printed order and periods: matrices against the code that trains, moments against enumeration and simulation."""

import itertools

import numpy as np
import pytest
import torch

from aldsgd.errors import ConfigError
from aldsgd.graphs import Topology, complete, paper_graph, paper_set
from aldsgd.leaders import ALDSGD
from aldsgd.network import LocalNetwork
from aldsgd.theory import leaders
from aldsgd.theory.orders import (
    CORE,
    Leading,
    leader_choices,
    noise_influence,
    period_moments,
    perron_weights,
    step_moments,
)
from baselines.dpsgd import DPSGD

README = (0.3, 0.1, 0.2, 0.2)
ORDERS = [Leading.released(*README), Leading.printed(*README), Leading.printed(*README, scale=0.1)]


def trained(algorithm, t, losses, lr):
    """(B, C) as the training code makes them."""
    network, n = LocalNetwork(algorithm.n), algorithm.n
    step, found = algorithm.step(t), []
    for exchanges in (step.before, step.after):
        matrix = np.eye(n)
        for exchange in exchanges:
            hood = network.neighbourhood(exchange.links)
            rows = np.zeros((n, n))
            heard = network.exchange_losses(torch.from_numpy(losses), hood)
            rows[hood.row, hood.col] = exchange.rule.rows(hood, heard, lr)
            matrix = rows @ matrix
        found.append(matrix)
    return found


@pytest.mark.parametrize(
    "order, scale, lr", [("released", "one", 0.1), ("printed", "one", 0.1), ("printed", "lr", 0.1)]
)
def test_matrices_are_those_that_train(order, scale, lr):
    graph, rng = paper_graph(53.8), np.random.default_rng(0)
    core = DPSGD(graph)
    algorithm = ALDSGD(core, *README, order=order, force_scale=scale, period=2)
    ours = Leading.released(*README) if order == "released" else Leading.printed(*README, lr if scale == "lr" else 1.0)
    w = leaders.dpsgd_schedule([graph])[0].gossip(graph.matchings)
    largest = leaders.selection(leaders.degree_leaders(8, graph.matchings))
    for _ in range(5):
        losses = rng.random(8)
        best = leaders.best_leaders(leaders.closed_neighbourhoods(8, graph.matchings), losses[None])[0]
        expected = trained(algorithm, 0, losses, lr)
        np.testing.assert_allclose(ours.matrices(w, leaders.selection(best), largest), expected, atol=1e-12)
        np.testing.assert_allclose(trained(algorithm, 1, losses, lr), [np.eye(8), w], atol=1e-12)


@pytest.mark.parametrize("leading", ORDERS)
def test_moments_by_a_loop_over_all_orders(leading):
    graph = Topology.from_edges(5, [(0, 1), (1, 2), (1, 3), (3, 4)])
    (step,) = leaders.dpsgd_schedule([graph])
    near = [[i] + [a + b - i for a, b in graph.edges if i in (a, b)] for i in range(5)]
    w, largest = step.gossip(graph.matchings), leaders.selection(leaders.degree_leaders(5, graph.matchings))
    state, cross, noise, orders = np.zeros((25, 25)), np.zeros((25, 25)), np.zeros((25, 25)), 0
    for losses in itertools.permutations(range(5)):
        s = np.eye(5)[[min(own, key=lambda j: losses[j]) for own in near]]
        b, c = leading.matrices(w, s, largest)
        state += np.outer(c @ b, c @ b)
        cross += np.outer(c @ b, c)
        noise += np.outer(c, c)
        orders += 1
    found = step_moments(step, leading)
    for ours, total in zip(found[:3], (state, cross, noise), strict=True):
        np.testing.assert_allclose(ours.reshape(25, 25), total / orders, atol=1e-12)


@pytest.mark.parametrize("schedule", [leaders.dpsgd_schedule(paper_set(53.8)),
                                      leaders.matcha_schedule([paper_graph(84.6)], 0.5)])  # fmt: skip
def test_the_released_order_is_the_closed_form(schedule):
    leading = Leading.released(*README)
    for step, ours in zip(schedule, period_moments(schedule, leading), strict=True):
        closed = leaders.combine(leaders.step_terms(step), step.alpha, leading.weights)
        for moment in ours[:3]:
            np.testing.assert_allclose(moment, closed, atol=1e-12)
        np.testing.assert_allclose(ours.mean, leaders.mean_matrix(step, leading.weights), atol=1e-12)
    operators = [leaders.operator(moment.noise) for moment in period_moments(schedule, leading)]
    assert noise_influence(period_moments(schedule, leading)) == pytest.approx(leaders.influence(operators))


def test_a_period_is_the_joint_one_and_gossip_between():
    schedule = leaders.dpsgd_schedule(paper_set(53.8, 3))
    found = period_moments(schedule, Leading.printed(*README, period=2))
    assert len(found) == 6
    for t, moment in enumerate(found):
        w = schedule[t % 3].gossip(schedule[t % 3].events[0][1])
        plain = np.allclose(moment.state, np.einsum("ik,jl->ikjl", w, w))
        assert plain == (t % 2 == 1)


@pytest.mark.parametrize("leading", [*ORDERS, Leading.printed(*README, period=3)])
def test_perron_weights_and_influence_against_products(leading):
    schedule = leaders.dpsgd_schedule(paper_set(69.2, 2))
    moments = period_moments(schedule, leading)
    rng, runs = np.random.default_rng(0), 3000
    products, entry = np.repeat(np.eye(8)[None], runs, axis=0), None
    for t in range(24):
        step = schedule[t % 2]
        active = step.events[0][1]
        best = leaders.best_leaders(leaders.closed_neighbourhoods(8, active), rng.random((runs, 8)))
        how = leading if t % leading.period == 0 else CORE
        largest = leaders.selection(leaders.degree_leaders(8, active))
        b, c = how.matrices(step.gossip(active), np.eye(8)[best], largest)
        entry, products = (c, products) if t == 0 else (entry, c @ b @ products)
    first = products[:, 0]
    through = np.einsum("ri,...rij->rj", first, entry)
    error = np.std(first, axis=0) / np.sqrt(runs)
    assert (abs(np.mean(first, axis=0) - perron_weights(moments)[0]) < 5 * error + 1e-3).all()
    sizes = np.square(through).sum(axis=1)
    only = moments[0].noise
    # The period's influence is the mean over phases; this is its first phase.
    pi2 = np.einsum("ri,rj->ij", first, first) / runs
    assert np.einsum("ikjl,ij,kl->", only, pi2, np.eye(8)) == pytest.approx(sizes.mean(), rel=0.05)


def test_on_the_complete_graph_every_worker_weighs_the_same():
    for leading in ORDERS:
        weights = perron_weights(period_moments(leaders.dpsgd_schedule([complete(5)]), leading))
        np.testing.assert_allclose(weights[0], np.full(5, 0.2), atol=1e-12)


def test_too_many_orders_are_named():
    with pytest.raises(ConfigError, match="at most 8 workers"):
        leader_choices(9, paper_graph(100).matchings)
