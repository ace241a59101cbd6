"""Schedules and drift correctors where the answer is known, against plain matrices, and how they are judged."""

import sys

import numpy as np
import pandas as pd
import pytest

from aldsgd.graphs import paper_graph, ring
from aldsgd.leaders import ALDSGD
from aldsgd.mixing import gossip_matrix
from aldsgd.schedules import hypercube
from aldsgd.theory import records
from aldsgd.theory.gossip import Unlike, left, moved, products, rest
from baselines.dpsgd import DPSGD
from baselines.exact_diffusion import ExactDiffusion
from experiments import theory_gossip
from tables.theory_gossip import gossip_statements


def test_products_are_those_of_the_matrices():
    graph = paper_graph(53.8)
    core = DPSGD(graph)
    w = gossip_matrix(graph, core.alphas[0])
    one, two = products(core, 2)
    np.testing.assert_allclose(one, w, rtol=0, atol=1e-15)
    np.testing.assert_allclose(two, w @ w, rtol=0, atol=1e-15)
    J = np.full((8, 8), 1 / 8)
    assert left(two) == pytest.approx(np.square(two - J).sum() / 7) and moved(two) < 1e-30
    assert left(np.eye(8)) == pytest.approx(1) and left(J) < 1e-30 and moved(np.eye(8)[[0] * 8]) == pytest.approx(7)


def test_leaders_of_a_product_are_drawn_from_its_seed():
    def end(seed):
        return products(ALDSGD(DPSGD(hypercube(8))), 3, seed)[-1]

    np.testing.assert_array_equal(end(1), end(1))
    np.testing.assert_allclose(end(1).sum(axis=1), 1)  # rows average, columns need not
    assert moved(end(1)) > 1e-3 < np.abs(end(1) - end(2)).max()


def test_where_dpsgd_rests_is_a_linear_system():
    """x = W (x - eta h (x - a)), for all workers at once."""
    problem, graph, eta = Unlike.random(8, 3, 1.0, 0.2, 4), ring(8), 0.1
    w = gossip_matrix(graph, DPSGD(graph).alphas[0])
    x = np.empty((8, 3))
    for k in range(3):
        h, a = problem.curvatures[:, k], problem.centres[:, k]
        x[:, k] = np.linalg.solve(np.eye(8) - w @ np.diag(1 - eta * h), w @ (eta * h * a))
    found = rest(DPSGD(graph), problem, eta, 4000)
    assert found.rested
    assert found.mean == pytest.approx(np.square(x.mean(axis=0) - problem.minimum).sum(), rel=1e-9)
    assert found.worst == pytest.approx(np.square(x - problem.minimum).sum(axis=1).max(), rel=1e-9)
    assert rest(ExactDiffusion(DPSGD(graph)), problem, eta, 4000).worst < 1e-20
    assert np.isinf(rest(DPSGD(graph), problem, 4.0, 4000).worst)


def test_the_script_and_its_verdicts(tmp_path, monkeypatch):
    monkeypatch.setattr(theory_gossip, "METHODS", {m: theory_gossip.METHODS[m] for m in ("D-PSGD", "AL-DSGD", "D2")})
    monkeypatch.setattr(sys, "argv", ["theory_gossip", "--preset", "smoke", "--seeds", "0", "--results", str(tmp_path)])
    theory_gossip.main(None)
    _, frames = records.read(tmp_path, "theory_gossip")
    found = {s.text: s.verdict for s in gossip_statements(frames)}
    exact = "a period from its start averages exactly: hypercube, one peer, Base-2, Base-3"
    assert found[exact] == "holds"
    frames["gossip_agreement"].loc[lambda rows: rows["schedule"] == "one_peer", "start"] = 1e-3
    assert {s.text: s.verdict for s in gossip_statements(frames)}[exact] == "holds except under: one_peer, 8 workers"
    rest_ = frames["gossip_rest"]
    assert rest_[rest_["refused"].astype(bool)]["method"].unique().tolist() == ["D2"]
    aldsgd = "AL-DSGD: the mean worker rests at the minimiser of F at a constant rate"
    assert found[aldsgd] == "fails"
    rest_.loc[rest_["method"] == "AL-DSGD", "mean"] = 0.0
    assert {s.text: s.verdict for s in gossip_statements(frames)}[aldsgd] == "holds"
    assert isinstance(rest_, pd.DataFrame)
