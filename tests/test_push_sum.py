"""Push-sum over arcs, and three ways to bill one mean."""

import numpy as np
import pytest

from aldsgd.algorithm import Algorithm
from aldsgd.errors import ConfigError
from aldsgd.links import AllReduce as Ring
from aldsgd.links import Arcs, Link, NaiveReduce, ServerReduce
from aldsgd.schedules import one_peer
from aldsgd.step import Exchange, Gossip, Meter, Step
from baselines.allreduce import AllReduce
from baselines.dpsgd import DPSGD
from baselines.sgp import PushSum
from experiments.configuration import RunConfig
from tests.quadratics import Quadratics, end, random_graph, walk


class RandomArcs(Algorithm):
    """At each step a cycle, so that all are joined, and further arcs at random: out-degrees differ."""

    def __init__(self, n, seed):
        self.n, self.seed = n, seed

    def rounds(self, t):
        rng = np.random.default_rng([self.seed, t])
        found = [tuple((i, (i + 1) % self.n) for i in range(self.n))]
        for shift in range(2, self.n - 1):
            found.append(tuple((i, (i + shift) % self.n) for i in range(self.n) if rng.random() < 0.4))
        return tuple(hop for hop in found if hop)

    def step(self, t):
        return Step(after=Exchange(Arcs(self.rounds(t)), Gossip(0.1)))


def matrix(n, rounds):
    """A, column by column."""
    A = np.zeros((n, n))
    for j in range(n):
        hearers = [i for hop in rounds for sender, i in hop if sender == j]
        for i in (j, *hearers):
            A[i, j] = 1 / (1 + len(hearers))
    return A


@pytest.mark.parametrize("seed", range(3))
def test_sgp_equals_its_transcription(seed):
    n, problem, core = 6, Quadratics(6, seed=seed), RandomArcs(6, seed)
    x, w, uneven = problem.start, np.ones((n, 1)), 0.0
    for t, *_, eta, after in walk(PushSum(core), problem, schedule="cosine"):
        A = matrix(n, core.rounds(t))
        x, w = A @ (x - eta * problem.gradient(x / w, t)), A @ w
        np.testing.assert_allclose(after["x"], x / w, rtol=0, atol=1e-12)
        np.testing.assert_allclose(after["w"], w, rtol=0, atol=1e-12)
        assert w.sum() == pytest.approx(n) and w.min() > 0
        uneven = max(uneven, np.abs(w - 1).max())
    assert uneven > 0.05


def test_push_sum_finds_the_exact_mean_where_its_matrices_alone_do_not():
    problem, core = Quadratics(6), RandomArcs(6, 1)
    *_, last = walk(PushSum(core), problem, 100, lr=0.0)
    x = problem.start
    for t in range(100):
        x = matrix(6, core.rounds(t)) @ x
    mean = problem.start.mean(axis=0)
    np.testing.assert_allclose(last[-1]["x"], np.tile(mean, (6, 1)), rtol=0, atol=1e-12)
    assert np.abs(x - mean).max() > 1e-2


def test_on_regular_links_it_is_dpsgd_and_on_irregular_graphs_it_is_not():
    problem = Quadratics(8)
    found = [after for *_, after in walk(PushSum(DPSGD(one_peer(8))), problem)]
    np.testing.assert_allclose([a["x"] for a in found], end(DPSGD(one_peer(8)), problem), rtol=0, atol=1e-12)
    assert all((after["w"] == 1).all() for after in found)
    *_, last = walk(PushSum(DPSGD(random_graph(8, 1))), problem)
    assert np.abs(last[-1]["w"] - 1).max() > 0.05


def test_arcs_are_billed_once_and_one_number_travels_with_each_row():
    for graph, messages in (("one_peer", 8), ("paper:53.8", 14)):
        algorithm = RunConfig(method="sgp", graph=graph).algorithm(5)
        meter = Meter({"x": (100, 4), "w": (1, 4)}, 8, Link())
        for t in range(5):
            meter.count(algorithm.step(t))
        assert meter.bytes == 5 * messages * (400 + 4)


# One mean, three bills


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
def test_the_ring_gives_the_mean_in_as_many_bytes_as_are_billed(n):
    size = 3
    rows = np.random.default_rng(n).normal(size=(n, n, size))  # worker, block, number
    held, sent = rows.copy(), 0
    rounds = Ring(n).messages()
    for k, messages in enumerate(rounds):
        blocks = {hearer: (block, held[sender, block].copy()) for sender, hearer, block in messages}
        assert len(blocks) == n, "each sends once and hears once"
        for hearer, (block, row) in blocks.items():
            held[hearer, block] = row + held[hearer, block] if k < n - 1 else row
            sent += row.nbytes
    np.testing.assert_allclose(held / n, np.tile(rows.mean(axis=0), (n, 1, 1)), rtol=0, atol=1e-13)
    row_bytes, link = n * size * 8, Link()
    billed, seconds = Ring(n).cost(row_bytes, link)
    assert billed == sent == 2 * (n - 1) * row_bytes
    assert seconds == pytest.approx(len(rounds) * link.seconds(size * 8))


def test_ways_to_a_mean_give_the_same_models_and_other_bills():
    problem, link, message = Quadratics(4), Link(1e-3, 1e6), 10**6
    for reduce in ("server", "naive"):
        np.testing.assert_array_equal(end(AllReduce(4, reduce), problem), end(AllReduce(4), problem))
    assert Ring(4).cost(message, link) == (6 * message, pytest.approx(6 * (1e-3 + 0.25)))
    assert ServerReduce(4).cost(message, link) == (8 * message, pytest.approx(2 * (1e-3 + 4)))
    assert NaiveReduce(4).cost(message, link) == (12 * message, pytest.approx(3 * (1e-3 + 1)))
    steps = {AllReduce(4, reduce).step(0) for reduce in ("ring", "server", "naive")}
    assert len(steps) == 3, "what is billed otherwise is another step"
    with pytest.raises(ConfigError, match="ring, server, naive"):
        AllReduce(4, "tree")


def test_a_ring_is_not_in_the_record_and_other_ways_are():
    assert "reduce" not in RunConfig(method="allreduce").record()
    assert RunConfig(method="allreduce").but(reduce="server").record()["reduce"] == "server"
