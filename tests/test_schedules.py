"""Schedules of links and weights: what a period multiplies to, what it costs, and that every method takes them."""

import numpy as np
import pytest

from aldsgd.errors import ConfigError
from aldsgd.leaders import ALDSGD
from aldsgd.links import Arcs, Link
from aldsgd.network import LocalNetwork
from aldsgd.schedules import base, drawn, equidyn, hypercube, one_peer, parse, random_matching, shifted
from aldsgd.step import Meter
from baselines.d2 import matrix_of
from baselines.dpsgd import DPSGD
from baselines.exact_diffusion import ExactDiffusion
from baselines.gradient_tracking import GradientTracking
from baselines.quasi_global import QuasiGlobal
from experiments.configuration import RunConfig
from tests.quadratics import Quadratics, end, walk

#: (n, k) -> period of Base-(k+1), as its released code has them.
PERIODS = {
    (3, 1): 3, (4, 1): 2, (5, 1): 5, (6, 1): 4, (7, 1): 5, (8, 1): 3, (9, 1): 7, (10, 1): 6, (12, 1): 5, (16, 1): 4,
    (24, 1): 6, (25, 1): 9, (32, 1): 5, (33, 1): 11, (64, 1): 6, (5, 2): 3, (6, 2): 2, (7, 2): 4, (8, 2): 3, (16, 2): 4,
    (33, 2): 6, (5, 3): 3, (7, 3): 3, (8, 3): 2, (16, 3): 2, (33, 3): 5,
}  # fmt: skip


def error(schedule, shift=0, turned=False):
    """Largest entry of the product of a period, less J."""
    product = np.eye(schedule.n)
    for t in range(shift, shift + schedule.period):
        W = matrix_of(schedule.at(t), schedule.n)
        product = product @ W if turned else W @ product
    return np.abs(product - 1 / schedule.n).max()


def contraction(n, matrices):
    """||E W'W - J|| of equally likely matrices."""
    return np.linalg.norm(sum(W.T @ W for W in matrices) / len(matrices) - 1 / n, 2)


@pytest.mark.parametrize("n", [2, 4, 8, 16, 64])
def test_any_window_of_the_hypercube_averages_exactly(n):
    schedule = hypercube(n)
    assert schedule.period == n.bit_length() - 1
    assert max(error(schedule, shift) for shift in range(schedule.period)) == 0
    for t in range(schedule.period):
        (matching,) = schedule.at(t).links.matchings
        assert sorted(end for edge in matching for end in edge) == list(range(n))


@pytest.mark.parametrize("n, expected", [(2, 0), (4, 0), (5, 0.075), (6, 1 / 12), (7, 0.107142857), (8, 0), (32, 0)])
def test_a_period_of_the_directed_exponential_averages_powers_of_two_alone(n, expected):
    assert error(one_peer(n)) == pytest.approx(expected, abs=1e-9)
    for t in range(one_peer(n).period):
        W = matrix_of(one_peer(n).at(t), n)
        np.testing.assert_allclose(W.sum(axis=0), 1)
        np.testing.assert_array_equal(np.flatnonzero(W[0]), sorted({0, 2**t % n}))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_a_period_of_base_graphs_averages_any_number_of_workers(k):
    for n in (*range(2, 23), 33, 49, 64):
        schedule = base(n, k)
        assert error(schedule) < 1e-13 and error(schedule, turned=True) < 1e-13, n
        assert schedule.period <= 2 * np.log(n) / np.log(k + 1) + 2
        for t in range(schedule.period):
            W = matrix_of(schedule.at(t), n)
            np.testing.assert_array_equal(W, W.T)
            assert W.min() > -1e-15 and ((W > 1e-15) & ~np.eye(n, dtype=bool)).sum(axis=1).max() <= k
            assert k > 1 or len(schedule.at(t).links.matchings) <= 1


def test_periods_of_base_graphs_are_the_known_ones():
    assert {(n, k): base(n, k).period for n, k in PERIODS} == PERIODS


def test_a_window_of_a_base_graph_that_does_not_start_with_its_period_need_not_average():
    assert max(error(base(33), shift) for shift in range(11)) == pytest.approx(0.94, abs=0.005)
    for n in (5, 6, 12, 24):
        assert error(base(n)) < 1e-13 < 0.03 < max(error(base(n), shift) for shift in range(base(n).period))
    for n, k in ((8, 1), (6, 2), (27, 2), (16, 3)):  # hypercubes and their kin
        assert max(error(base(n, k), shift) for shift in range(base(n, k).period)) < 1e-13


@pytest.mark.parametrize("n, half, whole", [(8, 0.5078, 0.7813), (16, 0.5411, 0.8920)])
def test_equidyn_agrees_faster_by_halves(n, half, whole):
    """Over every shift and first worker, which are equally likely."""
    for h, expected in ((0.5, half), (1.0, whole)):
        matrices = []
        for shift in range(1, n):
            for first in range(n):
                W = np.eye(n)
                for a, b in shifted(n, shift, first):
                    w = h * (n - 1) / n
                    W[[a, b], [a, b]], W[[a, b], [b, a]] = 1 - w, w
                matrices.append(W)
        assert contraction(n, matrices) == pytest.approx(expected, abs=1e-4)


def test_equidyn_is_what_its_definition_says():
    schedule, shifts = equidyn(9, seed=3), set()
    for t in range(60):
        exchange = schedule.at(t)
        (matching,) = exchange.links.matchings
        shifts |= {(b - a) % 9 for a, b in matching} | {(a - b) % 9 for a, b in matching}
        W = matrix_of(exchange, 9)
        for a, b in matching:
            assert W[a, b] == W[b, a] == pytest.approx(4 / 9)
        free = set(range(9)) - {end for edge in matching for end in edge}
        apart = (matching[0][1] - matching[0][0]) % 9
        assert len({min((b - a) % 9, (a - b) % 9) for a, b in matching}) == 1
        assert not any((i + apart) % 9 in free for i in free), "two free workers so far apart would have met"
    assert shifts == set(range(1, 9))


@pytest.mark.parametrize("n", [2, 6, 7, 16])
def test_random_matchings_are_uniform_projections(n):
    schedule = random_matching(n, seed=5)
    W = [matrix_of(schedule.at(t), n) for t in range(1000 if n < 16 else 50)]
    for one in W[:50]:
        np.testing.assert_allclose(one @ one, one, rtol=0, atol=1e-15)
    if n % 2 == 0 and n < 16:
        # (n - 2) / (2 (n - 1)); 1000 draws are good to about 0.05.
        assert contraction(n, W) == pytest.approx((n - 2) / (2 * (n - 1)), abs=0.08)
    assert len({drawn(n, 0, t) for t in range(20)}) > (n > 2)


def test_schedules_are_functions_of_the_step_and_the_seed():
    for make in (equidyn, random_matching):
        assert [make(8, 1).at(t) for t in range(9)] == [make(8, 1).at(t) for t in range(9)]
        assert [make(8, 1).at(t) for t in range(9)] != [make(8, 2).at(t) for t in range(9)]
    assert base(6).at(1) == base(6).at(5) != base(6).at(2)


@pytest.mark.parametrize(
    "name, messages",
    [("hypercube", 8), ("one_peer", 8), ("base:2", 8), ("matching", 8)],
)
def test_links_are_billed_as_many_messages_as_are_sent(name, messages):
    """Eight workers each send one row at each step, over arcs once, over pairs once each way."""
    algorithm = DPSGD(parse(name, 8, 0))
    meter = Meter({"x": (100, 4)}, 8, Link())
    for t in range(12):
        meter.count(algorithm.step(t))
    assert meter.bytes == 12 * messages * 400 and meter.rounds == 12
    assert meter.modelled == pytest.approx(12 * Link().seconds(400))
    assert isinstance(algorithm.step(0).links, Arcs) == (name == "one_peer")


@pytest.mark.parametrize("name", ["hypercube", "one_peer", "base:2", "base:3", "equidyn", "equidyn:1", "matching"])
def test_every_method_takes_schedules_by_name(name):
    problem = Quadratics(8)
    for options in (dict(method="dpsgd"), dict(method="aldsgd"), dict(method="aldsgd", core="qg"), dict(method="gt")):
        config = RunConfig(graph=name).but(**options)
        assert np.isfinite(end(config.algorithm(10), problem)).all()
        assert config.record()["graph"] == name
    x = problem.start
    for t, _, g, rate, after in walk(RunConfig(method="dpsgd", graph=name, seed=2).algorithm(10), problem):
        x = matrix_of(parse(name, 8, 2).at(t), 8) @ (x - rate * g)
        np.testing.assert_allclose(after["x"], x, rtol=0, atol=1e-12)


def test_agreement_by_averaging_alone_takes_one_period():
    problem, still = Quadratics(12), dict(lr=0.0)
    models = end(DPSGD(base(12)), problem, 5, **still)[-1]
    np.testing.assert_allclose(models, np.tile(problem.start.mean(axis=0), (12, 1)), rtol=0, atol=1e-12)


def test_methods_on_schedules_conserve_what_they_should():
    problem = Quadratics(12)
    for schedule in (base(12), base(12, 2), equidyn(12), one_peer(12)):
        for _, _, g, _, after in walk(GradientTracking(DPSGD(schedule)), problem):
            np.testing.assert_allclose(after["y"].mean(axis=0), g.mean(axis=0), rtol=0, atol=1e-12)
        for core in (QuasiGlobal(DPSGD(schedule)), ExactDiffusion(DPSGD(schedule)), ALDSGD(DPSGD(schedule))):
            assert np.isfinite(end(core, problem)).all()


def test_on_one_peer_links_the_maximum_degree_leader_is_the_worker_itself():
    from aldsgd.selections import maximum_degree_worker

    for schedule in (hypercube(8), one_peer(8)):
        hood = LocalNetwork(8).neighbourhood(schedule.at(1).links)
        losses = DPSGD(schedule).step(1) and hood.degree * 0 + 1.0
        assert hood.col[maximum_degree_worker(hood, losses)].tolist() == list(range(8))


@pytest.mark.parametrize(
    "config, message",
    [
        (dict(graph="hypercube", workers=6), "2, 4, 8, ... workers, not 6; base:2"),
        (dict(graph="base:1"), "needs a base from 2 to 64"),
        (dict(graph="base"), "needs a base"),
        (dict(graph="equidyn:2"), r"h in \(0, 1\]"),
        (dict(graph="equidyn:much"), r"h in \(0, 1\]"),
        (dict(graph="one_peer", workers=1), "2 workers or more"),
        (dict(graph="hypercube", graphs=2), "is a schedule already"),
        (dict(graph="hypercube", method="matcha"), "a schedule with weights of its own"),
        (dict(graph="hypercube", method="dpsgd_released"), "a schedule with weights of its own"),
        (dict(graph="hypercube", method="dpsgd", options={"weights": "metropolis"}), "leave out --weights"),
        (dict(graph="one_peer", method="d2"), "symmetric W"),
        (dict(graph="star of stars"), "the schedules hypercube"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(config, message):
    with pytest.raises(ConfigError, match=message) as caught:
        RunConfig(**config).algorithm(10)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="of its own"):
        DPSGD(hypercube(4), weights="metropolis")
