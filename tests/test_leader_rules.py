"""The parts of a leader rule: selection, action and timing, against loops, and what they are at the ends of their
range."""

import numpy as np
import pytest
import torch

from aldsgd.errors import ConfigError
from aldsgd.graphs import complete, paper_graph
from aldsgd.identity import exchanges_hash
from aldsgd.judging import set_apart
from aldsgd.leaders import ALDSGD
from aldsgd.links import Link
from aldsgd.network import LocalNetwork
from aldsgd.step import Meter, Step
from baselines.dpsgd import DPSGD
from experiments.configuration import RunConfig, from_record
from tests import reference
from tests.stepping import take

GRAPH = paper_graph(53.8)
C = dict(c1=0.3, c2=0.1, p1=0.2, p2=0.2)
ZERO = dict.fromkeys(C, 0.0)


def matrix_of(algorithm, losses, t=0):
    """The dense matrix C of one step, from what it does to the identity."""
    X = torch.eye(algorithm.n, dtype=torch.float64)
    take(algorithm, t, LocalNetwork(algorithm.n), X, torch.zeros_like(X), 0.1, torch.tensor(losses))
    return X.numpy()


@pytest.mark.parametrize("weights", ["equal", "metropolis"])
def test_every_combination_is_the_slow_one(weights):
    draws, core = np.random.default_rng(1), DPSGD(GRAPH, weights=weights)
    W = matrix_of(core, draws.normal(size=8))
    assert (W.min() < 0) == (weights == "equal")  # a worker's own weight: it stays and leads nobody
    lost = draws.normal(size=8)
    lost[[2, 5]] = np.nan, np.inf
    tied = np.array([1.0, 1, 1, 2, 2, 3, 3, 3])
    for losses in (draws.normal(size=8), lost, tied, np.full(8, np.nan)):
        for selection in ("argmin", "soft", "rank"):
            for shift in (0.0, 0.4):
                for candidates in ("closed", "neighbours"):
                    parts = dict(selection=selection, shift=shift)
                    rule = ALDSGD(core, **C, **parts, sharpness=2.5, candidates=candidates)
                    slow = [
                        reference.followed_row(i, GRAPH.matchings, W, losses, **C, **parts, a=2.5,
                                               neighbours_only=candidates == "neighbours")
                        for i in range(8)
                    ]  # fmt: skip
                    np.testing.assert_allclose(matrix_of(rule, losses), slow, rtol=0, atol=1e-12, err_msg=str(parts))


def test_a_soft_leader_is_gossip_at_zero_and_argmin_in_the_limit():
    losses, core = np.random.default_rng(2).normal(size=8), DPSGD(GRAPH, weights="metropolis")
    W, alone = matrix_of(core, losses), dict(ZERO, c1=1.0)
    for equal in (core, DPSGD(GRAPH)):
        for selection in ("soft", "rank"):
            rule = ALDSGD(equal, **alone, selection=selection, sharpness=0.0)
            assert (matrix_of(rule, losses) == matrix_of(equal, losses)).all()  # bit for bit
    # With other coefficients W is the mean of itself and itself, equal to rounding.
    mixed = ALDSGD(core, **dict(C, c2=0.0, p2=0.0), selection="soft", sharpness=0.0)
    np.testing.assert_allclose(matrix_of(mixed, losses), W, rtol=0, atol=1e-15)
    for selection in ("soft", "rank"):
        sharp = matrix_of(ALDSGD(core, **alone, selection=selection, sharpness=1e4), losses)
        np.testing.assert_allclose(sharp, matrix_of(ALDSGD(core, **alone), losses), rtol=0, atol=1e-12)
    # Scores that are all equal lead nowhere.
    assert (matrix_of(ALDSGD(core, **alone, selection="soft", judge="none"), losses) == W).all()


def test_a_translation_moves_all_alike_and_leaves_agreement_to_the_core():
    graph, losses = complete(8), np.random.default_rng(3).normal(size=8)
    lazy = 0.6 * np.eye(8) + 0.05
    core, b = DPSGD(graph, matrix=lazy.tolist()), int(losses.argmin())
    x = np.random.default_rng(4).normal(size=(8, 5))
    moved = matrix_of(ALDSGD(core, **ZERO, shift=0.3), losses) @ x
    step = 0.3 * (x[b] - x.mean(axis=0))
    np.testing.assert_allclose(moved, lazy @ x + step, rtol=0, atol=1e-12)
    np.testing.assert_allclose(moved.mean(axis=0), x.mean(axis=0) + step, rtol=0, atol=1e-12)
    # On a sparse graph each goes by its own neighbourhood's way.
    rows = matrix_of(ALDSGD(DPSGD(GRAPH), **ZERO, shift=0.3), losses) - matrix_of(DPSGD(GRAPH), losses)
    for i, row in enumerate(rows):
        hood = [i, *reference.active_neighbours(i, GRAPH.matchings)]
        best, _ = reference.leaders_of(i, GRAPH.matchings, losses)
        np.testing.assert_allclose(row @ x, 0.3 * (x[best] - x[hood].mean(axis=0)), rtol=0, atol=1e-12)


def test_nothing_of_any_part_is_the_core_bit_for_bit_and_nobody_is_lazy_gossip():
    losses = np.random.default_rng(5).normal(size=8)
    for core in (DPSGD(GRAPH), DPSGD(GRAPH, weights="metropolis")):
        W = matrix_of(core, losses)
        for parts in ({}, dict(selection="soft"), dict(selection="rank"), dict(order="printed"), dict(judge="none")):
            assert (matrix_of(ALDSGD(core, **ZERO, **parts), losses) == W).all(), parts
        itself = ALDSGD(core, **dict(ZERO, c1=0.3, p1=0.2), judge="none")
        np.testing.assert_allclose(matrix_of(itself, losses), 0.56 * W + 0.44 * np.eye(8), rtol=0, atol=1e-15)


def test_leaders_follow_the_rate_or_come_late():
    """Eight epochs of ten steps, rates 1, 0.1, 0.01: all coefficients with them, or from step 40 on."""
    base = RunConfig(epochs=8, lr_drops=((4, 0.1), (6, 0.1)))
    losses, W = np.random.default_rng(6).normal(size=8), matrix_of(DPSGD(GRAPH), np.zeros(8))
    rate, late = (base.but(timing=timing).algorithm(10) for timing in ("rate", "late"))
    for t, share in ((0, 1.0), (39, 1.0), (40, 0.1), (79, 0.01)):
        given = {name: share * value for name, value in C.items()}
        slow = [reference.followed_row(i, GRAPH.matchings, W, losses, **given) for i in range(8)]
        np.testing.assert_allclose(matrix_of(rate, losses, t), slow, rtol=0, atol=1e-12)
    paper = base.algorithm(10)
    assert (matrix_of(rate, losses, 39) == matrix_of(paper, losses, 39)).all()
    assert len({exchanges_hash(algorithm, 10) for algorithm in (rate, late, paper)}) == 3
    assert late.step(39) == DPSGD(GRAPH).step(39) and late.step(40) == paper.step(40)


def test_the_own_method_is_its_parts():
    """Fading leaders are AL-DSGD judged by the receiver, with the rate, step by step and under any core."""
    for core in ("dpsgd", "matcha"):
        base = RunConfig(epochs=8, lr_drops=((4, 0.1), (6, 0.1)), options={"core": core})
        own = base.but(method="fading_leaders").algorithm(10)
        parts = base.but(judge="receiver", timing="rate").algorithm(10)
        assert [own.step(t) for t in range(80)] == [parts.step(t) for t in range(80)]
        assert own.step(0).judge == own.draw == "receiver" and own.description() == parts.description()
        other = base.but(method="fading_leaders", judge="batch", timing="constant")
        assert from_record(other.record()).algorithm(10).step(0) == base.algorithm(10).step(0)


def test_what_judging_costs_is_counted():
    """Bytes of the losses that travel; forward passes of the busiest worker, whose degree is 3."""
    row, sent, passes = {"x": (5, 8)}, {}, {}
    for judge in ("batch", "second", "shared", "receiver", "none"):
        meter = Meter(row, 8, Link(), shared=2.5)
        for t in range(3):
            meter.count(ALDSGD(DPSGD(GRAPH), judge=judge, period=3).step(t))
        sent[judge], passes[judge] = meter.bytes, meter.passes
        back = Meter(row, 8, Link())
        back.restore(meter.state())
        assert back.passes == meter.passes
    degree = max(len(reference.active_neighbours(i, GRAPH.matchings)) for i in range(8))
    assert passes == {"batch": 0, "second": 1, "shared": 2.5, "receiver": 1 + degree, "none": 0} and degree == 3
    losses = 4 * 2 * len(GRAPH.edges)
    assert {judge: sent["batch"] - sent[judge] for judge in sent} == {
        "batch": 0, "second": 0, "shared": 0, "receiver": losses, "none": losses,
    }  # fmt: skip


def test_parts_that_do_not_fit_are_refused():
    core = DPSGD(GRAPH)
    for parts, said in (
        (dict(selection="best"), "unknown selection 'best'"),
        (dict(shift=-0.1), "shift = -0.1 is not a coefficient"),
        (dict(sharpness=float("nan"), selection="soft"), "sharpness = nan is not a coefficient"),
        (dict(order="printed", shift=0.1), "parts of the released order"),
        (dict(judge="shared", shared=0), "shared = 0 must be a whole number"),
    ):
        with pytest.raises(ConfigError, match=said):
            ALDSGD(core, **parts)
    with pytest.raises(ConfigError, match="unknown timing 'soon'; choose one of: constant, rate, late"):
        RunConfig(options={"timing": "soon"}).algorithm(10)
    with pytest.raises(ConfigError, match="worker 0 has 3 samples, of which 3 would be shared"):
        set_apart([np.arange(3), np.arange(3, 9)], 6)
    with pytest.raises(ConfigError, match="a receiver judges whole models"):
        Step(judge="receiver", losses="links")
