"""Momentum and drift correction on gossip: each method against a plain transcription, and what it conserves."""

import numpy as np
import pytest
import torch

from aldsgd.errors import ConfigError
from aldsgd.graphs import Rotation, complete, paper_graph, ring
from aldsgd.leaders import ALDSGD
from baselines.allreduce import AllReduce
from baselines.annealed import AnnealedConsensus
from baselines.d2 import D2, matrix_of
from baselines.decentlam import DecentLaM
from baselines.dpsgd import DPSGD
from baselines.exact_diffusion import ExactDiffusion
from baselines.gradient_tracking import GradientTracking
from baselines.matcha import MATCHA
from baselines.momentum_tracking import MomentumTracking
from baselines.quasi_global import QuasiGlobal
from baselines.single import Single
from experiments.configuration import RunConfig
from tests import reference
from tests.quadratics import Quadratics, end, gossip, random_graph, walk

CLOSE = dict(rtol=0, atol=1e-12)
SLOWLY = dict(schedule="cosine", warmup=3)  # a rate that changes at every step, first up, then down


# Plain transcriptions: one step of (x, memory) with W as a function of rows


def qg(x, memory, g, eta, W, t, beta=0.8):
    m = memory.get("m", 0 * x)
    new = W(x - eta * (beta * m + g))
    return new, {"m": beta * m + (1 - beta) * (x - new) / eta}


def qg_nesterov(x, memory, g, eta, W, t, beta=0.9):
    m = memory.get("m", 0 * x)
    new = W(x - eta * (g + beta * (beta * m + g)))
    return new, {"m": 0.9 * m + 0.1 * (x - new) / eta}


def decentlam(x, memory, g, eta, W, t, beta=0.8):
    m = beta * memory.get("m", 0 * x) + (x - W(x - eta * g)) / eta
    return x - eta * m, {"m": m}


def gt_cta(x, memory, g, eta, W, t):
    y = g if t == 0 else W(memory["y"]) + g - memory["g"]
    return W(x) - eta * y, {"y": y, "g": g}


def gt_atc(x, memory, g, eta, W, t):
    y = g if t == 0 else memory["mixed y"] + g - memory["g"]
    return W(x - eta * y), {"mixed y": W(y), "g": g}


def ed(x, memory, g, eta, W, t):
    y = x - eta * g
    z = x + y - (memory["y"] if t else x)
    return (z + W(z)) / 2, {"y": y}


def edm(x, memory, g, eta, W, t, beta=0.8):
    m = beta * memory.get("m", 0 * x) + (1 - beta) * g
    new, kept = ed(x, memory, m, eta, W, t)
    return new, {**kept, "m": m}


def d2(x, memory, g, eta, W, t):
    """As the paper has it, the old step with its own rate."""
    new = W(x - eta * g) if t == 0 else W(2 * x - memory["x"] - eta * g + memory["step"])
    return new, {"x": x, "step": eta * g}


def mt(x, memory, g, eta, W, t, beta=0.8):
    c = W(memory["c - m"]) + memory["m"] if t else (g - g.mean(axis=0)) / (1 - beta)
    m = beta * (memory["m"] if t else c) + g
    assert np.abs(c.sum(axis=0)).max() < 1e-11
    return W(x) - eta * (m - c), {"c - m": c - m, "m": m}


def annealed(x, memory, g, eta, W, t, power=3):
    start = eta if t == 5 else memory.get("start")
    gamma = 1 if t < 5 else (eta / start) ** power
    return (1 - gamma) * x + gamma * W(x) - eta * g, {"start": start}


METHODS = {
    "qg": (lambda core: QuasiGlobal(core, 0.8), qg),
    "qg_nesterov": (lambda core: QuasiGlobal(core, form="nesterov"), qg_nesterov),
    "decentlam": (lambda core: DecentLaM(core, 0.8), decentlam),
    "gt_cta": (GradientTracking, gt_cta),
    "gt_atc": (lambda core: GradientTracking(core, "adapt_then_combine"), gt_atc),
    "ed": (ExactDiffusion, ed),
    "edm": (lambda core: ExactDiffusion(core, 0.8), edm),
    "d2": (D2, d2),
    "mt": (lambda core: MomentumTracking(core, 0.8), mt),
    "annealed": (lambda core: AnnealedConsensus(core, 3, start=5), annealed),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_equals_its_transcription(name, seed):
    make, slow = METHODS[name]
    graphs, problem = (random_graph(7, seed), random_graph(7, seed + 10)), Quadratics(7, seed=seed)
    weights = "metropolis" if name == "d2" else "equal"
    core = DPSGD(graphs, weights=weights)
    algorithm = make(core)
    x, memory = problem.start, {}
    for t, _, _, rate, after in walk(algorithm, problem, **SLOWLY):
        graph = graphs[t % 2]
        if name == "d2":  # Metropolis weights, written out
            W = matrix_of(core.step(t).after[0], 7)
            mix = lambda rows, W=W: np.stack([sum(W[i, j] * rows[j] for j in range(7)) for i in range(7)])  # noqa: E731
        else:
            mix = gossip(core.alphas[t % 2], graph.matchings)
        x, memory = slow(x, memory, problem.gradient(x, t), rate, mix, t)
        np.testing.assert_allclose(after["x"], x, **CLOSE)


@pytest.mark.parametrize("name", list(METHODS))
def test_rates_of_their_own_move_each_worker_by_its_own(name):
    make, slow = METHODS[name]
    graph, problem, rates = random_graph(5, 1), Quadratics(5, seed=1), np.linspace(0.02, 0.1, 5)
    core = DPSGD(graph, weights="metropolis")
    W = matrix_of(core.step(0).after[0], 5)
    x, memory = problem.start, {}
    for t, *_, after in walk(make(core), problem, lr=rates, steps=12):
        x, memory = slow(x, memory, problem.gradient(x, t), rates[:, None], lambda rows: W @ rows, t)
        np.testing.assert_allclose(after["x"], x, **CLOSE)


# Identities


def test_without_momentum_quasi_global_and_decentlam_are_dpsgd():
    core, problem = DPSGD(random_graph(6, 2)), Quadratics(6)
    for algorithm in (QuasiGlobal(core, 0.0), QuasiGlobal(core, 0.0, "nesterov"), DecentLaM(core, 0.0)):
        np.testing.assert_allclose(end(algorithm, problem, **SLOWLY), end(core, problem, **SLOWLY), **CLOSE)


def test_quasi_global_alone_follows_its_closed_recurrence_and_is_not_sgd():
    """W = I: m <- (beta + (1 - beta) beta) m + (1 - beta) g."""
    problem, beta, m = Quadratics(3), 0.8, 0.0
    core = DPSGD(ring(3), matrix=np.eye(3))
    for _, before, g, rate, after in walk(QuasiGlobal(core, beta), problem):
        np.testing.assert_allclose(after["x"], before["x"] - rate * (beta * m + g), **CLOSE)
        m = (beta + (1 - beta) * beta) * m + (1 - beta) * g
        np.testing.assert_allclose(after["m"], m, **CLOSE)
    sgd, heavy = end(Single(3), problem), end(Single(3), problem, momentum=beta)
    assert min(np.abs(end(QuasiGlobal(core, beta), problem) - other).max() for other in (sgd, heavy)) > 1e-2


@pytest.mark.parametrize("form", ["combine_while_adapt", "adapt_then_combine"])
def test_the_tracker_has_the_mean_of_the_gradients_at_every_step(form):
    core = MATCHA(paper_graph(84.6), 0.5, seed=1)
    mixed = form == "combine_while_adapt"
    for _, _, g, _, after in walk(GradientTracking(core, form), Quadratics(8)):
        np.testing.assert_allclose(after["y"].mean(axis=0), g.mean(axis=0), **CLOSE)
        assert mixed or np.abs(after["y"] - g).max() > 1e-3


def test_momentum_tracking_starts_from_the_mean_gradient_and_keeps_the_mean_momentum():
    problem, core = Quadratics(7, seed=3), DPSGD(random_graph(7, 3))
    m = 0.0
    for t, _, g, _, after in walk(MomentumTracking(core, 0.8), problem):
        m = 0.8 * m + g.mean(axis=0)
        np.testing.assert_allclose(after["y"].mean(axis=0), m, **CLOSE)
        if t == 0:
            np.testing.assert_allclose(after["y"], np.tile(g.mean(axis=0), (7, 1)), **CLOSE)
    # beta = 0: gradient tracking from that start.
    mix, y, old = gossip(core.alphas[0], core.graphs[0].matchings), None, None
    x = problem.start
    for t, *_, rate, after in walk(MomentumTracking(core, 0.0), problem):
        g = problem.gradient(x, t)
        y = np.tile(g.mean(axis=0), (7, 1)) if t == 0 else mix(y) + g - old
        x, old = mix(x) - rate * y, g
        np.testing.assert_allclose(after["x"], x, **CLOSE)


def test_exact_diffusion_is_d2_with_the_lazy_matrix():
    graph, problem = random_graph(6, 4), Quadratics(6, seed=4)
    core = DPSGD(graph)
    lazy = (np.eye(6) + matrix_of(core.step(0).after[0], 6)) / 2
    np.testing.assert_allclose(
        end(ExactDiffusion(core), problem, **SLOWLY), end(D2(DPSGD(graph, matrix=lazy)), problem, **SLOWLY), **CLOSE
    )


def test_corrected_methods_reach_the_optimum_with_a_constant_rate_and_dpsgd_does_not():
    problem, graph = Quadratics(6, seed=5, noise=0.0), random_graph(6, 5)
    core = DPSGD(graph, weights="metropolis")
    methods = [GradientTracking(core), GradientTracking(core, "adapt_then_combine"), ExactDiffusion(core), D2(core),
               ExactDiffusion(core, 0.8), MomentumTracking(core, 0.5)]  # fmt: skip
    for algorithm in methods:
        last = end(algorithm, problem, 1500, lr=0.05, schedule="constant")[-1]
        np.testing.assert_allclose(last, np.tile(problem.optimum, (6, 1)), rtol=0, atol=1e-9, err_msg=str(algorithm))
    for algorithm in (core, QuasiGlobal(core), DecentLaM(core)):
        last = end(algorithm, problem, 1500, lr=0.05, schedule="constant")[-1]
        assert np.abs(last - problem.optimum).max() > 1e-3


def test_on_the_complete_graph_only_some_are_all_reduce():
    """W = J, a common start: D2 and the adapt-then-combine form are, the others are not."""
    n = 5
    problem, core = Quadratics(n), DPSGD(complete(n))
    start = np.tile(problem.start[:1], (n, 1))
    expected = end(AllReduce(n), problem, start=start)
    for algorithm in (D2(core), GradientTracking(core, "adapt_then_combine")):
        np.testing.assert_allclose(end(algorithm, problem, start=start), expected, **CLOSE)
    for algorithm in (GradientTracking(core), ExactDiffusion(core), MomentumTracking(core, 0.0)):
        assert np.abs(end(algorithm, problem, start=start) - expected).max() > 1e-2


def test_annealed_consensus_is_dpsgd_at_a_constant_rate_or_power_zero_and_keeps_the_mean():
    core, problem = DPSGD(random_graph(6, 6)), Quadratics(6, seed=6)
    plain = DPSGD(core.graphs, form="combine_while_adapt")
    constant = dict(schedule="constant")
    np.testing.assert_allclose(
        end(AnnealedConsensus(core), problem, **constant), end(plain, problem, **constant), **CLOSE
    )
    np.testing.assert_allclose(
        end(AnnealedConsensus(core, 0.0), problem, **SLOWLY), end(plain, problem, **SLOWLY), **CLOSE
    )
    spread = []
    for _, before, g, rate, after in walk(AnnealedConsensus(core, 3.0, start=5), problem, **SLOWLY):
        np.testing.assert_allclose(after["x"].mean(axis=0), (before["x"] - rate * g).mean(axis=0), **CLOSE)
        spread.append(np.abs(after["x"] - after["x"].mean(axis=0)).max())
    assert max(spread[20:]) < max(spread[:5])
    assert np.isfinite(end(AnnealedConsensus(core), problem, lr=0.0)).all()


# Wiring


def test_quasi_global_momentum_under_leaders_is_what_the_equations_say():
    graph, problem = paper_graph(84.6), Quadratics(8)
    core = DPSGD(graph)
    algorithm = ALDSGD(QuasiGlobal(core, 0.8))
    x, m = problem.start, 0 * problem.start
    for t, _, _, eta, after in walk(algorithm, problem, **SLOWLY):
        direction = 0.8 * m + problem.gradient(x, t)
        new = reference.released_step(
            x, direction, np.zeros(8), graph.matchings, core.alphas[0], eta, 0.3, 0.1, 0.2, 0.2
        )
        x, m = new, 0.8 * m + 0.2 * (x - new) / eta
        np.testing.assert_allclose(after["x"], x, **CLOSE)


@pytest.mark.parametrize("start", [0, 5])
def test_annealed_consensus_under_leaders_is_what_the_equations_say(start):
    """X <- (1 - gamma) X + gamma C X - eta G, C from the losses at X; with c = p = 0 it is DSGD-AC."""
    graph, problem = paper_graph(84.6), Quadratics(8)
    core = DPSGD(graph)
    x, first, rates = problem.start, None, dict(schedule="cosine", warmup=3 if start else 0)
    for t, _, _, eta, after in walk(ALDSGD(AnnealedConsensus(core, 3, start)), problem, **rates):
        first = eta if t >= start and not first else first
        gamma = (eta / first) ** 3 if first else 1
        led = reference.released_step(x, 0 * x, np.zeros(8), graph.matchings, core.alphas[0], eta, 0.3, 0.1, 0.2, 0.2)
        x = (1 - gamma) * x + gamma * led - eta * problem.gradient(x, t)
        np.testing.assert_allclose(after["x"], x, **CLOSE)
    none = dict.fromkeys(("c1", "c2", "p1", "p2"), 0.0)
    alone = AnnealedConsensus(core, 3, start)
    np.testing.assert_allclose(end(ALDSGD(alone, **none), problem, **rates), end(alone, problem, **rates), **CLOSE)
    with pytest.raises(ConfigError, match="mixes before it moves"):
        ALDSGD(alone, order="printed")


def test_d2_refuses_what_it_diverges_on_and_does_diverge_there():
    for level in ("100", "84.6", "69.2", "53.8"):
        with pytest.raises(ConfigError, match=r"smallest eigenvalue of W is -0\.[789]\d*, and D2 diverges") as caught:
            D2(DPSGD(paper_graph(level)))
        assert "\n" not in str(caught.value)
        D2(DPSGD(paper_graph(level), weights="metropolis"))
    with pytest.raises(ConfigError, match="-0.333"):  # exactly -1/3
        D2(DPSGD(ring(8), weights="metropolis"))
    with pytest.raises(ConfigError, match="D2"):
        RunConfig(method="d2", options={"weights": "equal"}).algorithm(10)
    problem, core = Quadratics(8, noise=0.0), DPSGD(paper_graph(100))

    class Unchecked(D2):
        def around(self, step):
            return step

    assert np.abs(end(Unchecked(core), problem, 100)[-1]).max() > 1e3
    assert np.abs(end(ExactDiffusion(core), problem, 100)[-1]).max() < 10


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: QuasiGlobal(DPSGD(ring(4)), 1.0), "beta = 1.0 is no momentum"),
        (lambda: QuasiGlobal(DPSGD(ring(4)), form="adam"), "heavy_ball, nesterov"),
        (lambda: QuasiGlobal(ring(4)), "wrap a gossip method, as in QuasiGlobal"),
        (lambda: QuasiGlobal(AllReduce(4)), "does not mix once"),
        (lambda: GradientTracking(QuasiGlobal(DPSGD(ring(4)))), "moves workers by a rule of its own"),
        (lambda: GradientTracking(DPSGD(ring(4)), "sideways"), "combine_while_adapt"),
        (lambda: ALDSGD(GradientTracking(DPSGD(ring(4)))), "does not mix once"),
        (lambda: AnnealedConsensus(DPSGD(ring(4)), -1), "power = -1"),
        (lambda: end(QuasiGlobal(DPSGD(ring(4))), Quadratics(4), lr=0.0), "divides by the learning rate"),
        (lambda: end(DecentLaM(DPSGD(ring(4))), Quadratics(4), lr=[0.1, 0.1, 0.0, 0.1]), "divides by the learning"),
    ],
)
def test_what_does_not_fit_is_one_sentence(make, message):
    with pytest.raises(ConfigError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name, rows",
    [("qg", 1), ("decentlam", 1), ("edm", 1), ("d2", 1), ("dsgd_ac", 1), ("gt", 2), ("mt", 2)],
)
def test_bytes_are_those_of_the_rows_that_are_sent(name, rows):
    """53.8 %: seven edges, both ways. Momentum tracking sends one row and an all-reduce first."""
    from aldsgd.links import Link
    from aldsgd.step import Meter

    algorithm = RunConfig(method=name).algorithm(10)
    meter = Meter({tensor: (100, 4) for tensor in ("x", *algorithm.state)}, 8, Link())
    for t in range(5):
        meter.count(algorithm.step(t))
    first = 14 * 400 + 2 * 7 * 400 if name == "mt" else rows * 14 * 400
    assert meter.bytes == first + 4 * rows * 14 * 400


def test_methods_run_from_their_names():
    for options in (dict(method="edm", beta=0.0), dict(method="qg", form="nesterov"), dict(core="qg", beta=0.5)):
        config = RunConfig().but(**options)
        assert config.record()["beta"] == options.get("beta", 0.9)
        config.algorithm(10)
    assert Rotation(3).count == len(RunConfig(method="gt", graphs=3).algorithm(10).core.graphs)
    assert torch.get_default_dtype() == torch.float32
