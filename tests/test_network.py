"""One process: products against J, meters, modelled links."""

import math

import numpy as np
import pytest
import torch

from aldsgd.errors import ConfigError
from aldsgd.graphs import paper_graph, ring
from aldsgd.links import LINKS, AllReduce, Arcs, Broadcast, Link, Pairs, Reduce
from aldsgd.mixing import gossip_matrix, rho
from aldsgd.network import BLOCK, LocalNetwork, average_rows, mean_row, mix_dense, mix_sparse, square_distance
from aldsgd.step import ALONE, Exchange, Gossip, Meter, Step, costs
from baselines.dpsgd import DPSGD
from experiments.configuration import RunConfig, linked
from tests.stepping import take


@pytest.mark.parametrize("n, size", [(8, 5), (3, 3 * BLOCK), (40, BLOCK // 8)])
def test_both_products_equal_the_matrix_whatever_the_blocks(n, size):
    rng = np.random.default_rng(n)
    network, start = LocalNetwork(n), torch.tensor(rng.normal(size=(n, size)))
    hood = network.neighbourhood(Pairs(ring(n).matchings))
    rows = torch.tensor(rng.normal(size=len(hood.col)))
    C = np.zeros((n, n))
    for e in range(len(hood.col)):
        C[hood.row[e], hood.col[e]] = rows[e]
    expected = C @ start.numpy()
    for product in (mix_dense, mix_sparse):
        models = start.clone()
        product(models, hood, rows)
        np.testing.assert_allclose(models.numpy(), expected, rtol=0, atol=1e-12)


def test_neighbour_sums_are_exact():
    network, graph = LocalNetwork(8), paper_graph(100)
    models = torch.arange(8, dtype=torch.float64)[:, None].repeat(1, 3)
    hood = network.neighbourhood(Pairs(graph.matchings))
    network.mix(models, torch.where(hood.itself, 0.0, 1.0).double(), hood)
    for i in range(8):
        heard = [b if a == i else a for a, b in graph.edges if i in (a, b)]
        assert models[i].tolist() == [sum(heard)] * 3


def test_average_is_J_and_the_records_agree_with_it():
    rng = np.random.default_rng(0)
    models = torch.tensor(rng.normal(size=(5, 7)))
    J = np.full((5, 5), 1 / 5)
    averaged = models.clone()
    average_rows(averaged)
    np.testing.assert_allclose(averaged.numpy(), J @ models.numpy(), rtol=0, atol=1e-15)
    mean = mean_row(models)
    np.testing.assert_allclose(mean.numpy(), models.numpy().mean(axis=0), rtol=0, atol=1e-15)
    gap = models.numpy() - J @ models.numpy()
    assert square_distance(models, mean).item() == pytest.approx((gap**2).sum(), rel=1e-12)
    assert LocalNetwork(5).consensus_distance(models, mean) == pytest.approx((gap**2).sum() / 5, rel=1e-12)


def test_gossip_approaches_J_at_least_as_fast_as_rho_says():
    graph = paper_graph(100)
    network, algorithm = LocalNetwork(8), DPSGD(graph)
    shrink = rho(gossip_matrix(graph, algorithm.alphas[0]))
    models = torch.randn(8, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mean, start = models.mean(dim=0), square_distance(models, models.mean(dim=0)).item()
    for t in range(60):
        take(algorithm, t, network, models, torch.zeros_like(models), 0.1, torch.zeros(8))
        assert square_distance(models, mean).item() <= start * shrink ** (t + 1) * (1 + 1e-9)
    assert square_distance(models, mean).item() < 1e-8 * start


def test_a_step_without_exchange_costs_nothing():
    meter = Meter({"x": (25, 4)}, 3, Link())
    meter.count(ALONE)
    assert meter.state() == {"rounds": 0, "bytes": 0, "modelled": 0.0}


# 25 numbers of 4 bytes are 100 bytes a model; 0.5 s a message and 200 bytes a second.
LINK, ROW = Link(latency=0.5, bandwidth=200.0), {"x": (25, 4), "y": (25, 4), "w": (1, 4)}
ACTIVE = Pairs((((0, 1), (2, 3)), (), ((1, 2),)))


@pytest.mark.parametrize(
    "step, expected",
    [
        (Step(after=Exchange(ACTIVE, Gossip(0.1))), [(1, 600, 2 * (0.5 + 100 / 200))]),
        (Step(after=Exchange(ACTIVE, Gossip(0.1)), losses="links"), [(1, 624, 2 * (0.5 + 104 / 200))]),
        (Step(after=Exchange(Pairs(()), Gossip(0.1)), losses="links"), [(0, 0, 0.0)]),
        (Step(after=Exchange(AllReduce(4))), [(1, 600, 6 * (0.5 + 25 / 200))]),
        # Two rows are two rows, and a number for each worker is one number.
        (Step(after=Exchange(ACTIVE, Gossip(0.1), ("x", "y"))), [(1, 1200, 2 * (0.5 + 200 / 200))]),
        (Step(after=Exchange(ACTIVE, Gossip(0.1), ("x", "w"))), [(1, 624, 2 * (0.5 + 104 / 200))]),
        # Arcs are billed once, a pair of exchanges twice, and losses travel with the first.
        (Step(after=Exchange(Arcs((((0, 1), (1, 2)), ((2, 0),))), Gossip(0.5))), [(1, 300, 2.0)]),
        (
            Step(Exchange(ACTIVE, Gossip(0.1)), Exchange(ACTIVE, Gossip(0.1)), losses="links"),
            [(1, 624, 2 * (0.5 + 104 / 200)), (1, 600, 2.0)],
        ),
        # A broadcast is n - 1 models in ceil(log2 n) rounds, half of an all-reduce; losses of all go around a ring.
        (Step(after=Exchange(Broadcast((tuple(range(8)),), (3,)), Gossip(0.1))), [(1, 700, 3 * 1.0)]),
        (Step(after=Exchange(Reduce(((0, 1, 2), (3, 4)), (0, 4)), Gossip(0.1))), [(1, 300, 2 * 1.0)]),
        (
            Step(after=Exchange(Broadcast((tuple(range(4)),)), Gossip(0.1)), losses="all"),
            [(0, 4 * 3 * 4, 3 * (0.5 + 4 / 200)), (1, 300, 2.0)],
        ),
    ],
)
def test_bytes_rounds_and_time_are_read_from_the_step(step, expected):
    found = costs(step, ROW, 4, LINK)
    assert [(rounds, sent) for rounds, sent, _ in found] == [(rounds, sent) for rounds, sent, _ in expected]
    assert [seconds for _, _, seconds in found] == pytest.approx([seconds for _, _, seconds in expected])
    meter = Meter(ROW, 4, LINK)
    for _ in range(3):
        meter.count(step)
    assert meter.bytes == 3 * sum(sent for _, sent, _ in expected)
    assert meter.rounds == 3 * sum(rounds for rounds, _, _ in expected)
    assert meter.modelled == pytest.approx(3 * sum(seconds for _, _, seconds in expected))


def test_links_by_name_order_as_they_should_and_reach_the_configuration():
    times = [LINKS[name].seconds(45_000_000) for name in ("10gbe", "100gbe", "nvlink")]
    assert times == sorted(times, reverse=True)
    assert times[0] == pytest.approx(50e-6 + 45e6 / 1.25e9)
    assert linked(RunConfig(), "nvlink").settings().link == LINKS["nvlink"]
    assert linked(RunConfig(latency=1.0), None).latency == 1.0


@pytest.mark.parametrize("bad", [dict(latency=-1), dict(latency=math.nan), dict(bandwidth=0), dict(bandwidth=math.inf)])
def test_links_that_cannot_be_are_refused(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        Link(**bad)
