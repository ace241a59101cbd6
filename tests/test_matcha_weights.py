"""MATCHA's probabilities and weight against sampling, all activations and closed forms; kept on disk; two solvers."""

import dataclasses
import json
import sys

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from aldsgd import mixing
from aldsgd.errors import ConfigError
from aldsgd.graphs import Topology, complete, line, matcha_graph, paper_graph, ring, star
from aldsgd.mixing import (
    equal_weight_alpha,
    expected_matcha,
    gossip_matrix,
    matcha_rho,
    matcha_weights,
    rho,
)
from tests.test_graphs import LEVELS, simple_graphs
from tests.test_mixing import TWO_ISLANDS


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path, monkeypatch):
    """No test may pass because an earlier version of the solver left its answer."""
    monkeypatch.setenv("ALDSGD_CACHE", str(tmp_path))


def lambda_2(topology, p):
    return np.linalg.eigvalsh(sum(q * laplacian for q, laplacian in zip(p, topology.matching_laplacians, strict=True)))[
        1
    ]


def second_moment_inside(topology, p, alpha):
    """Largest eigenvalue of E[W^T W] over vectors that sum to zero on each component, by deflation."""
    second = expected_matcha(topology, p, alpha)[1]
    for component in topology.components():
        indicator = np.isin(np.arange(topology.n), component) / np.sqrt(len(component))
        second = second - np.outer(indicator, indicator)
    return np.linalg.eigvalsh(second)[-1]


def reference_alpha(topology, p):
    """Minimiser of the convex function of alpha that MATCHA's second problem states, by a scalar search."""
    return scipy.optimize.minimize_scalar(
        lambda alpha: second_moment_inside(topology, p, alpha),
        bounds=(0, 2),
        method="bounded",
        options={"xatol": 1e-10},
    )


@pytest.mark.parametrize("graph", [paper_graph(100), paper_graph(53.8), TWO_ISLANDS], ids=lambda graph: graph.name)
def test_expected_matcha_against_sampling(graph):
    rng = np.random.default_rng(0)
    p, alpha, draws = np.linspace(0.2, 0.9, len(graph.matchings)), 0.4, 100_000
    active = rng.random((draws, len(p))) < p
    # All activation patterns are few: W^T W is made once for each and weighted by how often it was drawn.
    patterns, times = np.unique(active, axis=0, return_counts=True)
    w = np.eye(graph.n) - alpha * np.tensordot(patterns, graph.matching_laplacians, 1)
    for exact, samples in zip(expected_matcha(graph, p, alpha), (w, w.transpose(0, 2, 1) @ w), strict=True):
        mean = np.tensordot(times / draws, samples, 1)
        deviation = np.sqrt(np.tensordot(times / draws, (samples - mean) ** 2, 1) / draws)
        assert deviation.max() < 0.01
        assert (abs(exact - mean) <= 5 * deviation + 1e-12).all()
    assert abs(expected_matcha(graph, p, alpha)[1] - np.eye(graph.n)).max() > 0.2


@given(simple_graphs(most=6), st.data())
@settings(max_examples=50, deadline=None)
def test_expected_matcha_against_all_activations(graph, data):
    topology = Topology.from_edges(*graph)
    count = len(topology.matchings)
    p = data.draw(st.lists(st.floats(0, 1), min_size=count, max_size=count))
    alpha = data.draw(st.floats(0, 1))
    first, second = np.zeros((2, topology.n, topology.n))
    for pattern in range(2**count):
        active = [pattern >> j & 1 for j in range(count)]
        probability = np.prod([q if on else 1 - q for q, on in zip(p, active, strict=True)])
        w = np.eye(topology.n)
        for on, laplacian in zip(active, topology.matching_laplacians, strict=True):
            w -= alpha * on * laplacian
        first += probability * w
        second += probability * w.T @ w
    exact = expected_matcha(topology, p, alpha)
    assert np.allclose(exact[0], first, rtol=0, atol=1e-12)
    assert np.allclose(exact[1], second, rtol=0, atol=1e-12)
    disagreement = second - 1 / topology.n
    assert matcha_rho(topology, p, alpha) == pytest.approx(abs(np.linalg.eigvalsh(disagreement)).max(), abs=1e-10)


# MATCHA's solution


@pytest.mark.parametrize("budget", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(
    "graph",
    [*(paper_graph(level) for level in LEVELS[:4]), matcha_graph(1), matcha_graph(4), star(5), line(12)],
    ids=lambda graph: getattr(graph, "name", None),
)
def test_matcha_solution(graph, budget):
    found = matcha_weights(graph, budget)
    p = np.array(found.probabilities)
    assert ((p >= 0) & (p <= 1)).all()
    assert p.sum() <= budget * len(p) + 1e-12
    assert p.sum() >= budget * len(p) - 1e-4, "more activity never lowers lambda_2"
    assert np.array_equal(p, np.round(p, 8))
    # Better than the uniform p and than any step from p to another feasible one (the problem is concave).
    best = lambda_2(graph, p)
    assert best >= lambda_2(graph, np.full(len(p), budget)) - 1e-7
    rng = np.random.default_rng(0)
    for _ in range(200):
        other = rng.random(len(p)) ** 2
        other *= min(1, budget * len(p) / other.sum())
        assert lambda_2(graph, p + 0.05 * (other - p)) <= best + 1e-7
    reference = reference_alpha(graph, p)
    assert second_moment_inside(graph, p, found.alpha) <= reference.fun + 1e-7
    assert found.alpha == pytest.approx(reference.x, abs=2e-4)
    assert found.rho == pytest.approx(reference.fun, abs=1e-7)
    assert found.rho < 1
    assert (found.budget, found.rule) == (budget, "nonzero")


def test_matcha_beats_uniform_probabilities_where_it_can():
    graph = matcha_graph(1)
    p = matcha_weights(graph, 0.5).probabilities
    assert lambda_2(graph, p) > 1.1 * lambda_2(graph, [0.5] * 5)
    half = matcha_weights(paper_graph(100), 0.5)
    assert half.rho < rho(gossip_matrix(paper_graph(100), equal_weight_alpha(paper_graph(100).laplacian))), (
        "the claim of MATCHA: on this graph half of the communication mixes as fast"
    )


def test_matcha_probabilities_closed_form():
    # Star of m leaves: by symmetry every p_j = budget; a single matching takes the whole budget.
    assert matcha_weights(star(5), 0.3).probabilities == pytest.approx([0.3] * 4, abs=1e-6)
    pair = matcha_weights(line(2), 0.25)
    assert pair.probabilities == (0.25,)
    # One edge: E[W^T W] has eigenvalue 1 - p + p (1 - 2 alpha)^2, least at alpha = 1/2.
    assert (pair.alpha, pair.rho) == (pytest.approx(0.5, abs=1e-4), pytest.approx(0.75, abs=1e-8))


@given(simple_graphs(most=7), st.floats(0.05, 1))
@settings(max_examples=25, deadline=None)
def test_matcha_rho_is_below_one_exactly_on_connected_graphs(graph, budget):
    topology = Topology.from_edges(*graph)
    found = matcha_weights(topology, budget)
    assert sum(found.probabilities) <= budget * len(topology.matchings) + 1e-12
    if topology.is_connected:
        assert found.rho < 1 - 1e-5
    else:
        assert abs(found.rho - 1) < 1e-9


@pytest.mark.parametrize("graph", [paper_graph(100), TWO_ISLANDS], ids=lambda graph: graph.name)
def test_matcha_at_budget_one_is_dpsgd(graph):
    found = matcha_weights(graph, 1)
    assert found.probabilities == (1.0,) * len(graph.matchings)
    assert found.alpha == equal_weight_alpha(graph.laplacian)
    assert found.rho == pytest.approx(rho(gossip_matrix(graph, found.alpha)), abs=1e-12)
    assert found.alpha == pytest.approx(reference_alpha(graph, found.probabilities).x, abs=1e-6)


@pytest.mark.parametrize("graph", [paper_graph(38.5), TWO_ISLANDS], ids=lambda graph: graph.name)
def test_matcha_on_disconnected_graphs(graph):
    found = matcha_weights(graph, 0.4)
    assert found.probabilities == (0.4,) * len(graph.matchings)
    reference = reference_alpha(graph, found.probabilities)
    assert found.alpha == pytest.approx(reference.x, abs=2e-4)
    assert second_moment_inside(graph, found.probabilities, found.alpha) <= reference.fun + 1e-7 < 1
    assert found.rho == pytest.approx(1, abs=1e-12)
    released = matcha_weights(graph, 0.4, "released")
    assert released.probabilities == found.probabilities
    assert released.alpha == pytest.approx(2 / np.linalg.eigvalsh(graph.laplacian)[-1], abs=1e-12)
    assert released.rule == "released"


def test_matcha_rules_agree_on_connected_graphs():
    nonzero, released = (matcha_weights(paper_graph(69.2), 0.5, rule) for rule in mixing.RULES)
    assert dataclasses.replace(released, rule="nonzero") == nonzero


def test_matcha_without_edges():
    assert matcha_weights(line(1), 0.5) == mixing.MatchaWeights((), 0.0, 0.0, 0.5, "nonzero")
    alone = matcha_weights(Topology(3, ()), 0.5)
    assert (alone.probabilities, alone.alpha, alone.rho) == ((), 0, pytest.approx(1, abs=1e-12))


def test_matcha_of_64_workers():
    # The trace bounds lambda_2 by n sum_j p_j / (n - 1), which only equal p_j reach; E[W^T W] then has one eigenvalue
    # 1 - 2 alpha c n + alpha^2 (c^2 n^2 + 2 c (1 - c) n), least at alpha = 1 / (c n + 2 (1 - c)).
    found = matcha_weights(complete(64), 0.3)
    assert found.probabilities == pytest.approx([0.3] * 63, abs=1e-6)
    assert found.alpha == pytest.approx(1 / (0.3 * 64 + 1.4), abs=1e-6)
    assert found.rho == pytest.approx(1 - 0.3 * 64 / (0.3 * 64 + 1.4), abs=1e-6)


# The cache


def kept_files(tmp_path):
    return sorted((tmp_path / "matcha").iterdir())


def test_cached_solution_is_read_back_identically(tmp_path, monkeypatch):
    first = matcha_weights(paper_graph(84.6), 0.5)
    assert len(kept_files(tmp_path)) == 1

    def fail(*_):
        raise AssertionError("solved again")

    monkeypatch.setattr(mixing, "_solve", fail)
    assert matcha_weights(paper_graph(84.6), 0.5) == first
    with pytest.raises(AssertionError, match="solved again"):
        matcha_weights(paper_graph(84.6), 0.6)


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", "truncated", "changed", "binary", "other problem"])
def test_damaged_cache_file_is_recomputed(tmp_path, damage):
    first = matcha_weights(paper_graph(84.6), 0.5)
    (path,) = kept_files(tmp_path)
    text = path.read_text()
    if damage == "truncated":
        path.write_text(text[: len(text) // 2])
    elif damage == "changed":
        kept = json.loads(text)
        kept["alpha"] += 0.01
        path.write_text(json.dumps(kept))
    elif damage == "binary":
        path.write_bytes(b"\x00\xff" * 50)
    elif damage == "other problem":
        matcha_weights(paper_graph(84.6), 0.6)
        (other,) = set(kept_files(tmp_path)) - {path}
        path.write_text(other.read_text())
    else:
        path.write_text(damage)
    assert matcha_weights(paper_graph(84.6), 0.5) == first
    assert path.read_text() == text


def test_different_problems_never_share_a_cache_file(tmp_path):
    a, c = paper_graph(38.5), paper_graph(38.5, "C")
    regrouped = Topology(8, tuple(reversed(a.matchings)))
    merged = Topology(8, (a.matchings[0] + ((0, 1),), *a.matchings[1:2], ((5, 6),), a.matchings[3]))
    wider = Topology(9, a.matchings)
    problems = [
        (graph, budget, "nonzero") for graph in (a, c, regrouped, merged, wider) for budget in (0.5, 0.5 + 1e-12)
    ]
    problems.append((a, 0.5, "released"))
    for number, problem in enumerate(problems, start=1):
        matcha_weights(*problem)
        assert len(kept_files(tmp_path)) == number
    # The name and the order of edges inside a matching do not change the problem.
    same = Topology(8, tuple(tuple(reversed(matching)) for matching in a.matchings), "renamed")
    assert matcha_weights(same, 0.5) == matcha_weights(a, 0.5)
    assert len(kept_files(tmp_path)) == len(problems)


def test_unwritable_cache_does_not_lose_the_solution(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("ALDSGD_CACHE", str(tmp_path / "file"))
    assert matcha_weights(paper_graph(84.6), 0.5).rho < 1


class FakeProblem:
    """Stands for a solver that gives up, or whose reported optimum is not the real one."""

    def __init__(self, status, failing=()):
        self.outcome, self.failing, self.tried = status, failing, []

    def solve(self, solver, **_):
        import cvxpy

        self.tried.append(solver)
        self.status = self.outcome
        if solver in self.failing:
            raise cvxpy.error.SolverError("no progress\nlong explanation")


@pytest.mark.parametrize(
    "problem, error, message",
    [
        (FakeProblem("optimal_inaccurate"), 0.0, "CLARABEL ended optimal_inaccurate, SCS ended optimal_inaccurate"),
        (FakeProblem("optimal", ("CLARABEL", "SCS")), 0.0, r"CLARABEL failed \(no progress\), SCS failed"),
        (FakeProblem("optimal"), 1e-3, "could not be solved accurately"),
        (FakeProblem("optimal"), float("nan"), "could not be solved accurately"),
    ],
)
def test_inaccurate_solution_is_refused(problem, error, message):
    with pytest.raises(ConfigError, match=message) as caught:
        mixing._solve_accurately(problem, lambda: error, "step")
    assert problem.tried == ["CLARABEL", "SCS"]
    assert "\n" not in str(caught.value)


def test_scs_takes_over_and_agrees(monkeypatch):
    import cvxpy

    wanted = matcha_weights(paper_graph(100), 0.5)
    solve, tried = cvxpy.Problem.solve, []

    def without_clarabel(problem, solver, **options):
        tried.append(solver)
        if solver == cvxpy.CLARABEL:
            raise cvxpy.error.SolverError("not today")
        return solve(problem, solver=solver, **options)

    monkeypatch.setattr(cvxpy.Problem, "solve", without_clarabel)
    monkeypatch.setattr(mixing, "_kept", lambda *_: None)
    found = matcha_weights(paper_graph(100), 0.5)
    assert tried == ["CLARABEL", "SCS"] * 2
    assert found.rho == pytest.approx(wanted.rho, abs=1e-4)
    assert lambda_2(paper_graph(100), found.probabilities) == pytest.approx(
        lambda_2(paper_graph(100), wanted.probabilities), abs=1e-5
    )


@pytest.mark.parametrize("budget", [0, -0.5, 1.01, float("nan"), float("inf"), None, "0.5", 0.5j, [0.5]])
def test_impossible_budget_is_refused(budget):
    with pytest.raises(ConfigError, match=r"budget, the share of active matchings, must be in \(0, 1\], not"):
        matcha_weights(ring(4), budget)


def test_budget_that_rounds_to_nothing_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="budget 1e-12 is too small"):
        matcha_weights(paper_graph(100), 1e-12)
    assert not (tmp_path / "matcha").exists()


def test_more_than_64_workers_are_refused():
    with pytest.raises(ConfigError, match="at most 64 workers, not 65: use a smaller graph"):
        matcha_weights(ring(65), 0.5)


def test_missing_cvxpy_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "cvxpy", None)
    with pytest.raises(ConfigError, match="need cvxpy, which is missing here.*install it, or copy the folder"):
        matcha_weights(paper_graph(100), 0.5)
    # Budget 1 has a closed form.
    assert matcha_weights(paper_graph(100), 1).alpha > 0
