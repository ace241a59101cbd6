"""The fast path against the plain transcription, and what the methods keep and lose."""

import warnings

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aldsgd import network
from aldsgd.algorithm import Algorithm
from aldsgd.errors import ConfigError
from aldsgd.graphs import Topology, paper_graph, paper_set, ring
from aldsgd.leaders import ALDSGD
from aldsgd.links import Pairs
from aldsgd.network import LocalNetwork
from aldsgd.selections import best_worker, maximum_degree_worker
from aldsgd.step import Exchange, Gossip, Step
from baselines.allreduce import AllReduce
from baselines.dpsgd import DPSGD, ReleasedDPSGD
from baselines.matcha import MATCHA
from baselines.single import Single
from tests import reference
from tests.stepping import take


class FixedCore(Algorithm):
    """Plain gossip with a stated alpha over stated matchings."""

    def __init__(self, n, matchings, alpha):
        self.n, self.active, self.alpha = n, matchings, alpha

    def step(self, t):
        return Step(after=Exchange(Pairs(self.active), Gossip(self.alpha)))


def advance(algorithm, x, grads, losses, lr, t=0):
    models = torch.tensor(x)
    take(algorithm, t, LocalNetwork(algorithm.n), models, torch.tensor(grads), lr, torch.tensor(losses))
    return models.numpy()


@st.composite
def situations(draw):
    n = draw(st.integers(2, 24))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    graph = nx.gnp_random_graph(n, rng.uniform(0, 1), seed=int(rng.integers(2**31)))
    matchings = Topology.from_networkx(graph).matchings
    active = tuple(m for m in matchings if rng.random() < 0.7)
    # Few distinct values, so that ties between leaders are common; now and then a loss that is not finite.
    losses = rng.integers(0, 3, n).astype(float)
    losses[rng.random(n) < 0.1] = rng.choice([np.nan, np.inf])
    return rng.normal(size=(n, 5)), rng.normal(size=(n, 5)), losses, active, rng


@settings(deadline=None, max_examples=150)
@given(situations(), st.sampled_from(["closed", "neighbours"]))
def test_released_order_equals_the_transcription(situation, candidates):
    x, grads, losses, active, rng = situation
    alpha, (c1, c2, p1, p2) = rng.uniform(0, 0.6), rng.uniform(0, 0.5, 4)
    fast = ALDSGD(FixedCore(len(x), active, alpha), c1, c2, p1, p2, candidates=candidates)
    slow = reference.released_step(x, grads, losses, active, alpha, 0.1, c1, c2, p1, p2, candidates == "neighbours")
    np.testing.assert_allclose(advance(fast, x, grads, losses, 0.1), slow, rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=150)
@given(situations(), st.sampled_from(["one", "lr"]), st.sampled_from(["closed", "neighbours"]))
def test_printed_order_equals_the_transcription(situation, force_scale, candidates):
    x, grads, losses, active, rng = situation
    alpha, (c1, c2, p1, p2) = rng.uniform(0, 0.6), rng.uniform(0, 0.5, 4)
    scale = 1.0 if force_scale == "one" else 0.1
    fast = ALDSGD(FixedCore(len(x), active, alpha), c1, c2, p1, p2, "printed", force_scale, candidates=candidates)
    slow = reference.printed_step(
        x, grads, losses, active, alpha, 0.1, c1, c2, p1, p2, scale, candidates == "neighbours"
    )
    np.testing.assert_allclose(advance(fast, x, grads, losses, 0.1), slow, rtol=0, atol=1e-12)


def test_printed_order_scales_the_force_by_each_workers_own_rate():
    rng = np.random.default_rng(0)
    graph = ring(6)
    x, grads, losses = rng.normal(size=(6, 4)), rng.normal(size=(6, 4)), rng.normal(size=6)
    rates = np.linspace(0.1, 0.6, 6)
    fast = ALDSGD(FixedCore(6, graph.matchings, 0.3), 0.3, 0.1, 0.2, 0.2, "printed", "lr")
    half = []
    for i in range(6):
        b, m = reference.leaders_of(i, graph.matchings, losses)
        force = 0.2 * (x[i] - x[b]) + 0.2 * (x[i] - x[m])
        half.append(x[i] - rates[i] * grads[i] - rates[i] * force)
    expected = []
    for i in range(6):
        b, m = reference.leaders_of(i, graph.matchings, losses)
        expected.append(0.6 * reference.gossip_of(i, graph.matchings, half, 0.3) + 0.3 * half[b] + 0.1 * half[m])
    np.testing.assert_allclose(advance(fast, x, grads, losses, rates), expected, rtol=0, atol=1e-12)


def test_the_order_of_the_updates_matters():
    rng = np.random.default_rng(1)
    x, grads, losses = rng.normal(size=(8, 3)), rng.normal(size=(8, 3)), rng.normal(size=8)
    core = DPSGD(paper_graph(100))
    released = advance(ALDSGD(core), x, grads, losses, 0.1)
    printed = advance(ALDSGD(core, order="printed"), x, grads, losses, 0.1)
    assert np.abs(released - printed).max() > 1e-3


@pytest.mark.parametrize("algorithm", [DPSGD(paper_graph(100)), MATCHA(paper_graph(69.2), 0.5, seed=3)])
def test_gossip_keeps_the_mean_of_the_workers(algorithm):
    rng = np.random.default_rng(2)
    x, zero, losses = rng.normal(size=(8, 6)), np.zeros((8, 6)), rng.normal(size=8)
    for t in range(20):
        moved = advance(algorithm, x, zero, losses, 0.1, t)
        np.testing.assert_allclose(moved.mean(axis=0), x.mean(axis=0), rtol=0, atol=1e-13)


def test_leaders_move_the_mean_of_the_workers():
    rng = np.random.default_rng(2)
    x, zero, losses = rng.normal(size=(8, 6)), np.zeros((8, 6)), rng.normal(size=8)
    moved = advance(ALDSGD(DPSGD(paper_graph(100))), x, zero, losses, 0.1)
    assert np.abs(moved.mean(axis=0) - x.mean(axis=0)).max() > 1e-2


def test_combine_while_adapt_is_lians_original_update():
    rng = np.random.default_rng(4)
    graph = paper_graph(84.6)
    x, grads = rng.normal(size=(8, 5)), rng.normal(size=(8, 5))
    algorithm = DPSGD(graph, form="combine_while_adapt")
    alpha = algorithm.alphas[0]
    expected = [reference.gossip_of(i, graph.matchings, x, alpha) - 0.1 * grads[i] for i in range(8)]
    np.testing.assert_allclose(advance(algorithm, x, grads, np.zeros(8), 0.1), expected, rtol=0, atol=1e-12)


def test_metropolis_weights_follow_the_degrees():
    graph = paper_graph(100)
    x = np.eye(8)
    W = advance(DPSGD(graph, weights="metropolis"), x, np.zeros((8, 8)), np.zeros(8), 0.1)
    for a, b in graph.edges:
        degree = graph.degrees
        assert W[a, b] == W[b, a] == pytest.approx(1 / (1 + max(degree[a], degree[b])), abs=1e-15)
    np.testing.assert_allclose(W.sum(axis=1), 1, atol=1e-14)


def test_all_reduce_and_no_exchange():
    rng = np.random.default_rng(5)
    x, grads = rng.normal(size=(8, 5)), rng.normal(size=(8, 5))
    stepped = x - 0.1 * grads
    np.testing.assert_allclose(advance(Single(8), x, grads, np.zeros(8), 0.1), stepped, rtol=0, atol=1e-15)
    mixed = advance(AllReduce(8), x, grads, np.zeros(8), 0.1)
    np.testing.assert_allclose(mixed, np.tile(stepped.mean(axis=0), (8, 1)), rtol=0, atol=1e-14)


def test_released_schedule_makes_the_maximum_degree_leader_inert():
    core, local = ReleasedDPSGD(paper_graph(100)), LocalNetwork(8)
    for t in range(6):
        hood = local.neighbourhood(core.step(t).links)
        losses = torch.rand(8, generator=torch.Generator().manual_seed(t))[hood.col]
        assert torch.equal(hood.col[maximum_degree_worker(hood, losses)], torch.arange(8))
    hood = local.neighbourhood(DPSGD(paper_graph(100)).step(0).links)
    assert not torch.equal(hood.col[maximum_degree_worker(hood, torch.zeros(8)[hood.col])], torch.arange(8))


def test_released_schedule_alternates_two_matchings_and_counts_each_graph_apart():
    graph = paper_graph(100)
    alone = [ReleasedDPSGD(graph).step(t).links.matchings for t in range(4)]
    assert alone == [(graph.matchings[t % 2],) for t in range(4)]
    a, b = paper_set(100, 2)
    rotating = ReleasedDPSGD((a, b))
    expected = [a.matchings[1], b.matchings[1], a.matchings[0], b.matchings[0], a.matchings[1], b.matchings[1]]
    assert [rotating.step(t).links.matchings[0] for t in range(6)] == expected


def test_a_loss_that_is_not_finite_never_leads():
    hood = LocalNetwork(3).neighbourhood(Pairs((((0, 1),), ((1, 2),))))
    losses = torch.tensor([float("nan"), 2.0, float("-inf")])[hood.col]
    assert hood.col[best_worker(hood, losses)].tolist() == [1, 1, 1]
    assert hood.col[maximum_degree_worker(hood, losses)].tolist() == [1, 1, 1]
    losses = torch.full((3,), float("nan"))[hood.col]
    assert hood.col[best_worker(hood, losses)].tolist() == [0, 1, 2]


def test_leaders_act_only_at_every_period_th_step_of_an_epoch():
    core = DPSGD(paper_graph(100))
    within = ALDSGD(core, period=40, steps_per_epoch=391)
    assert [t for t in range(900) if within.leads(t)] == [*range(0, 391, 40), *range(391, 782, 40), 782, 822, 862]
    assert [t for t in range(100) if ALDSGD(core, period=40).leads(t)] == [0, 40, 80]
    rng = np.random.default_rng(0)
    x, grads, losses = rng.normal(size=(8, 3)), rng.normal(size=(8, 3)), rng.normal(size=8)
    np.testing.assert_array_equal(
        advance(within, x, grads, losses, 0.1, t=1), advance(core, x, grads, losses, 0.1, t=1)
    )


@pytest.mark.parametrize("n", [8, 40])
def test_sparse_and_dense_products_agree(n):
    rng = np.random.default_rng(n)
    graph = ring(n)
    x, grads, losses = rng.normal(size=(n, 7)), rng.normal(size=(n, 7)), rng.normal(size=n)
    slow = reference.released_step(x, grads, losses, graph.matchings, 0.3, 0.1, 0.3, 0.1, 0.2, 0.2)
    fast = advance(ALDSGD(FixedCore(n, graph.matchings, 0.3)), x, grads, losses, 0.1)
    np.testing.assert_allclose(fast, slow, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n", [8, 40])
def test_threads_share_the_columns_of_large_models(monkeypatch, n):
    rng = np.random.default_rng(n)
    graph, x, zero = ring(n), rng.normal(size=(n, 1001)), np.zeros((n, 1001))
    alone = [advance(method, x, zero, np.zeros(n), 0.1) for method in (DPSGD(graph), AllReduce(n))]
    monkeypatch.setattr(network, "LARGE", 0)
    monkeypatch.setattr(network, "BLOCK", 64 * n)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        shared = [advance(method, x, zero, np.zeros(n), 0.1) for method in (DPSGD(graph), AllReduce(n))]
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    np.testing.assert_allclose(shared, alone, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(c1=-0.1), "c1 = -0.1"),
        (dict(p2=float("nan")), "p2 = nan"),
        (dict(c2=float("inf")), "c2 = inf"),
        (dict(order="sideways"), "released, printed"),
        (dict(force_scale="two"), "one, lr"),
        (dict(candidates="all"), "closed, neighbours"),
        (dict(period=0), "period = 0"),
        (dict(period=1.5), "period = 1.5"),
        (dict(c1="much"), "c1 = much"),
    ],
)
def test_bad_coefficients_and_options_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        ALDSGD(DPSGD(ring(4)), **arguments)


def test_a_pair_of_coefficients_above_one_is_warned_about():
    with pytest.warns(UserWarning, match="p1 \\+ p2 = 1.2"):
        ALDSGD(DPSGD(ring(4)), p1=0.8, p2=0.4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ALDSGD(DPSGD(ring(4)), c1=0.5, c2=0.5)


def test_graphs_that_do_not_fit_and_cores_that_mix_first_are_refused():
    with pytest.raises(ConfigError, match="same number of workers"):
        DPSGD((ring(4), ring(6)))
    with pytest.raises(ConfigError, match="no communication graph"):
        DPSGD(())
    with pytest.raises(ConfigError, match="unknown form"):
        DPSGD(ring(4), form="mix")
    with pytest.raises(ConfigError, match="does not mix once after the gradient step"):
        ALDSGD(DPSGD(ring(4), form="combine_while_adapt"))
    with pytest.raises(ConfigError, match="two matchings"):
        ReleasedDPSGD(Topology.from_edges(2, [(0, 1)]))
    with pytest.raises(ConfigError, match="not a matching"):
        LocalNetwork(3).neighbourhood(Pairs((((0, 1), (1, 2)),)))


def test_disconnected_graphs_are_refused_unless_allowed():
    a, b, c = paper_set(38.5, 3)
    for method in (DPSGD, MATCHA):
        with pytest.raises(ConfigError, match=r"components are \[0, 1, 2, 3, 5, 6\] \[4\] \[7\]"):
            method(a)
    DPSGD(a, allow_disconnected=True)
    DPSGD((a, b, c))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: ALDSGD(ring(4)), "wrap a gossip method"),
        (lambda: ALDSGD(AllReduce(4)), "does not mix once"),
        (lambda: ALDSGD(ALDSGD(DPSGD(ring(4)))), "does not mix once"),
        (lambda: DPSGD(nx.cycle_graph(4)), "Topology.from_networkx"),
        (lambda: DPSGD([nx.cycle_graph(4)]), "Topology.from_networkx"),
        (lambda: DPSGD(7), "Topology"),
        (lambda: DPSGD(ring(4), matrix=np.eye(3)), "shape"),
        (lambda: DPSGD(ring(4), matrix=np.full((4, 4), 0.25)), "no link"),
        (lambda: DPSGD(ring(4), matrix=np.eye(4) * 2), "sum to one"),
        (lambda: Pairs(((0, 1), (1, 2))), "matchings"),
    ],
)
def test_slips_of_the_library_are_one_sentence(make, message):
    with pytest.raises(ConfigError, match=message) as caught:
        algorithm = make()
        advance(algorithm, np.zeros((algorithm.n, 2)), np.zeros((algorithm.n, 2)), np.zeros(algorithm.n), 0.1)
    assert "\n" not in str(caught.value)


def test_a_matrix_of_ones_own_is_what_mixes():
    graph, rng = paper_graph(100), np.random.default_rng(0)
    W = np.zeros((8, 8))
    for a, b in graph.edges:
        W[a, b] = W[b, a] = rng.uniform(0, 0.2)
    W += np.diag(1 - W.sum(axis=1))
    x, grads = rng.normal(size=(8, 3)), rng.normal(size=(8, 3))
    found = advance(DPSGD(graph, matrix=W), x, grads, np.zeros(8), 0.1)
    np.testing.assert_allclose(found, W @ (x - 0.1 * grads), rtol=0, atol=1e-13)
