"""One process: products against J, meters, modelled links."""

import math

import numpy as np
import pytest
import torch

from aldsgd.algorithm import AVERAGE
from aldsgd.communication import LINKS, Link, allreduce_cost, exchange_cost
from aldsgd.errors import ConfigError
from aldsgd.graphs import paper_graph, ring
from aldsgd.mixing import gossip_matrix, rho
from aldsgd.network import BLOCK, LocalNetwork, average_rows, mean_row, mix_dense, mix_sparse, square_distance
from aldsgd.training import MeteredNetwork
from baselines.dpsgd import DPSGD
from experiments.common import linked, parser
from experiments.configuration import RunConfig


@pytest.mark.parametrize("n, size", [(8, 5), (3, 3 * BLOCK), (40, BLOCK // 8)])
def test_both_products_equal_the_matrix_whatever_the_blocks(n, size):
    rng = np.random.default_rng(n)
    network, start = LocalNetwork(n), torch.tensor(rng.normal(size=(n, size)))
    hood = network.neighbourhood(ring(n).matchings)
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
    hood = network.neighbourhood(graph.matchings)
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
        hood = network.neighbourhood(algorithm.matchings(t))
        network.mix(models, algorithm.after(t, hood), hood)
        assert square_distance(models, mean).item() <= start * shrink ** (t + 1) * (1 + 1e-9)
    assert square_distance(models, mean).item() < 1e-8 * start


def test_the_identity_costs_nothing_and_leaves_all_as_it_is():
    network = MeteredNetwork(LocalNetwork(3), 100, Link())
    models = torch.randn(3, 4)
    kept, hood = models.clone(), network.neighbourhood(())
    network.mix(models, None, hood)
    assert torch.equal(models, kept)
    assert (network.rounds, network.bytes, network.modelled) == (0, 0, 0)


def test_bytes_and_time_are_counted_from_the_schedule():
    link = Link(latency=0.5, bandwidth=200.0)
    # Two active matchings of 2 and 1 edges and an idle one; 100 bytes a model.
    active = (((0, 1), (2, 3)), (), ((1, 2),))
    assert exchange_cost(active, 100, link, with_loss=False) == (600, pytest.approx(2 * (0.5 + 100 / 200)))
    assert exchange_cost(active, 100, link, with_loss=True) == (624, pytest.approx(2 * (0.5 + 104 / 200)))
    assert exchange_cost((), 100, link, with_loss=True) == (0, 0)
    assert allreduce_cost(4, 100, link) == (600, pytest.approx(6 * (0.5 + 25 / 200)))
    network = MeteredNetwork(LocalNetwork(4), 100, link)
    hood = network.neighbourhood(active)
    for rows in (hood.gossip(0.1), AVERAGE):
        network.mix(torch.zeros(4, 2), rows, hood)
    assert (network.rounds, network.bytes) == (2, 1200)
    assert network.modelled == pytest.approx(2.0 + 6 * 0.625)


def test_links_by_name_order_as_they_should_and_reach_the_configuration():
    times = [exchange_cost((((0, 1),),), 45_000_000, LINKS[name], False)[1] for name in ("10gbe", "100gbe", "nvlink")]
    assert times == sorted(times, reverse=True)
    assert times[0] == pytest.approx(50e-6 + 45e6 / 1.25e9)
    options = parser("", seeds=(0,)).parse_args(["--link", "nvlink"])
    assert linked(RunConfig(), options).settings().link == LINKS["nvlink"]
    assert linked(RunConfig(latency=1.0), parser("", seeds=(0,)).parse_args([])).latency == 1.0


@pytest.mark.parametrize("bad", [dict(latency=-1), dict(latency=math.nan), dict(bandwidth=0), dict(bandwidth=math.inf)])
def test_links_that_cannot_be_are_refused(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        Link(**bad)
