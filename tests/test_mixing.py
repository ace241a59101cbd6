"""Gossip matrices and MATCHA's weights against closed forms, sampling and a second optimiser; and refused input."""

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from aldsgd import mixing
from aldsgd.errors import ConfigError
from aldsgd.graphs import Topology, complete, paper_graph, ring, star
from aldsgd.mixing import (
    check_gossip_matrix,
    equal_weight_alpha,
    expected_matcha,
    gossip_matrix,
    matcha_weights,
    metropolis_matrix,
    rho,
)
from tests.test_graphs import LEVELS, simple_graphs

TWO_ISLANDS = Topology.from_edges(5, [(0, 1), (1, 2), (3, 4)], "islands")


# Fixed matrices


@given(simple_graphs(), st.floats(-2, 2))
@settings(max_examples=100, deadline=None)
def test_sums_and_symmetry(graph, alpha):
    topology = Topology.from_edges(*graph)
    for w in (gossip_matrix(topology, alpha), metropolis_matrix(topology)):
        assert np.array_equal(w, w.T)
        assert np.allclose(w.sum(axis=0), 1, rtol=0, atol=1e-12)
        assert np.allclose(w.sum(axis=1), 1, rtol=0, atol=1e-12)
        check_gossip_matrix(w)
        for i in range(topology.n):
            for j in range(i):
                assert (j, i) in topology.edges or w[i, j] == 0


@given(simple_graphs(most=9))
@settings(max_examples=150, deadline=None)
def test_rho_is_below_one_exactly_on_connected_graphs(graph):
    topology = Topology.from_edges(*graph)
    matrices = [metropolis_matrix(topology)]
    matrices += [gossip_matrix(topology, equal_weight_alpha(topology.laplacian, rule)) for rule in mixing.RULES]
    for w in matrices:
        if topology.is_connected:
            assert rho(w) < 1 - 1e-4
            assert np.allclose(np.linalg.matrix_power(w, 2000), 1 / topology.n, atol=1e-3)
        else:
            assert abs(rho(w) - 1) < 1e-12


@given(simple_graphs(most=8))
@settings(max_examples=50, deadline=None)
def test_equal_weight_alpha_is_the_best_one(graph):
    topology = Topology.from_edges(*graph)
    assume(topology.is_connected and topology.n > 1)
    best = equal_weight_alpha(topology.laplacian)
    smallest = rho(gossip_matrix(topology, best))
    for factor in (0.5, 0.9, 0.999, 1.001, 1.1, 1.5):
        assert rho(gossip_matrix(topology, factor * best)) >= smallest - 1e-12


@pytest.mark.parametrize("n", [3, 4, 8, 11])
def test_ring_closed_form(n):
    # Eigenvalues 2 - 2 cos(2 pi k / n).
    spectrum = sorted(2 - 2 * np.cos(2 * np.pi * k / n) for k in range(n))
    alpha = 2 / (spectrum[1] + spectrum[-1])
    assert equal_weight_alpha(ring(n).laplacian) == pytest.approx(alpha, abs=1e-12)
    assert rho(gossip_matrix(ring(n), alpha)) == pytest.approx((1 - alpha * spectrum[1]) ** 2, abs=1e-12)
    # Metropolis on a ring is 1/3 everywhere: eigenvalues (1 + 2 cos) / 3.
    expected = max(((1 + 2 * np.cos(2 * np.pi * k / n)) / 3) ** 2 for k in range(1, n))
    assert rho(metropolis_matrix(ring(n))) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("n", [2, 5, 8])
def test_complete_closed_form(n):
    assert equal_weight_alpha(complete(n).laplacian) == pytest.approx(1 / n, abs=1e-12)
    for w in (gossip_matrix(complete(n), 1 / n), metropolis_matrix(complete(n))):
        assert np.allclose(w, 1 / n, rtol=0, atol=1e-15)
        assert rho(w) < 1e-12


def test_star_closed_form():
    # Eigenvalues 0, 1 (n - 2 times), n.
    assert equal_weight_alpha(star(9).laplacian) == pytest.approx(2 / 10, abs=1e-12)
    assert rho(gossip_matrix(star(9), 0.2)) == pytest.approx(0.64, abs=1e-12)
    # Metropolis takes the larger degree of a link: the middle worker's 8.
    assert np.allclose(metropolis_matrix(star(9)).diagonal(), [1 / 9] + [8 / 9] * 8, rtol=0, atol=1e-12)


def test_rho_of_a_matrix_that_is_not_symmetric():
    w = np.array([[0.5, 0.5, 0], [0, 0.5, 0.5], [0.5, 0, 0.5]])
    assert rho(w) == pytest.approx(np.linalg.svd(w - 1 / 3)[1][0] ** 2, abs=1e-12)


def test_papers_alpha_and_negative_diagonal():
    graph = paper_graph(100)
    w = gossip_matrix(graph, equal_weight_alpha(graph.laplacian, "released"))
    assert w.diagonal().min() == pytest.approx(-0.43, abs=0.005)
    sparse = paper_graph(38.5)
    assert equal_weight_alpha(sparse.laplacian, "released") == pytest.approx(0.536, abs=0.0005)
    assert equal_weight_alpha(sparse.laplacian) == pytest.approx(0.5, abs=1e-12)
    # The artefact of the released rule: an eigenvalue -1, so workers of one component swap for ever.
    assert np.linalg.eigvalsh(gossip_matrix(sparse, equal_weight_alpha(sparse.laplacian, "released")))[
        0
    ] == pytest.approx(-1)
    inside = np.linalg.eigvalsh(gossip_matrix(sparse, 0.5))
    assert (inside[0] > -0.9, np.sum(inside > 1 - 1e-9)) == (True, 3)


def test_rules_agree_on_connected_graphs_and_no_edges_give_zero():
    for level in LEVELS[:4]:
        laplacian = paper_graph(level).laplacian
        assert equal_weight_alpha(laplacian, "nonzero") == equal_weight_alpha(laplacian, "released")
    assert equal_weight_alpha(np.zeros((3, 3))) == equal_weight_alpha(np.zeros((1, 1))) == 0


# MATCHA's moments


# Refused input


def test_unknown_rule_is_refused():
    for call in (lambda: matcha_weights(ring(4), 0.5, "zero"), lambda: equal_weight_alpha(ring(4).laplacian, "zero")):
        with pytest.raises(ConfigError, match="unknown rule 'zero'.*nonzero or released"):
            call()


@pytest.mark.parametrize("wrong", [None, np.eye(4), paper_graph(100).to_networkx(), [ring(4)]])
def test_what_is_no_topology_is_refused(wrong):
    with pytest.raises(ConfigError, match="MATCHA needs a Topology, not"):
        matcha_weights(wrong, 0.5)


@pytest.mark.parametrize("p", [None, ["0.5", "0.5"], [0.5, 0.5j], [0.5, None], [[0.5], [0.5, 0.5]]])
def test_probabilities_that_are_no_numbers_are_refused(p):
    with pytest.raises(ConfigError, match="MATCHA's probabilities must be a plain array of real numbers"):
        expected_matcha(ring(4), p, 0.3)


@pytest.mark.parametrize("p", [[0.5], [0.5, 1.5], [-0.1, 0.5], [float("nan"), 0.5]])
def test_impossible_probabilities_are_refused(p):
    with pytest.raises(ConfigError, match=r"one probability in \[0, 1\] for each of 2 matchings"):
        expected_matcha(ring(4), p, 0.3)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda w: w[:2], r"square, not of shape \(2, 4\)"),
        (lambda w: w + np.diag([0, 0, 1e-3, 0]), "row 2 .* does not sum to one"),
        (lambda w: w + 1e-3 * np.array([[0] * 4, [0, 1, 0, -1], [0] * 4, [0] * 4]), "row 1 .* is not symmetric"),
        (lambda w: w + np.diag([0, 0, 0, np.inf]), "row 3 .* not finite"),
        (lambda w: w + np.diag([0, np.nan, 0, 0]), "row 1 .* not finite"),
        (lambda w: w + 0j, "must be a plain array of real numbers"),
        (lambda w: w.astype(str), "real numbers"),
        (lambda w: w.astype(object), "real numbers"),
        (lambda w: w.tolist()[:3] + [[1.0]], "real numbers, not"),
        (lambda w: scipy.sparse.csr_array(w), "real numbers"),
        (lambda w: torch.tensor(w, requires_grad=True), "real numbers"),
        (lambda w: None, "real numbers, not None"),
        (lambda w: w[:0, :0], r"square, not of shape \(0, 0\)"),
        (lambda w: w[0], r"square, not of shape \(4,\)"),
    ],
)
def test_bad_gossip_matrix_is_refused_by_row(change, message):
    with pytest.raises(ConfigError, match=message):
        check_gossip_matrix(change(metropolis_matrix(ring(4))))


def test_negative_entries_are_allowed():
    check_gossip_matrix(gossip_matrix(paper_graph(100), 0.2857))
    check_gossip_matrix(metropolis_matrix(ring(4)).tolist())
    check_gossip_matrix(np.eye(3, dtype=int))
    check_gossip_matrix(torch.eye(3))
