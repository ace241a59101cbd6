"""Local steps, outer steps, and when bytes are spent: against plain transcriptions, identities, and bytes by hand."""

import numpy as np
import pytest

from aldsgd.errors import ConfigError
from aldsgd.leaders import ALDSGD
from aldsgd.links import AllReduce as Mean
from aldsgd.links import Link
from aldsgd.schedules import drawn, hypercube
from aldsgd.step import ALONE, Meter
from baselines.allreduce import AllReduce
from baselines.annealed import AnnealedConsensus
from baselines.dpsgd import DPSGD
from baselines.local_sgd import LocalSteps
from baselines.noloco import NoLoCo
from baselines.outer_step import OuterStep
from baselines.quasi_global import QuasiGlobal
from baselines.single import Single
from experiments.configuration import RunConfig, from_record
from experiments.options import configuration, run_parser
from tests import reference
from tests.quadratics import Quadratics, end, gossip, random_graph, walk

CLOSE = dict(rtol=0, atol=1e-12)
SLOWLY = dict(schedule="cosine", warmup=3)


def same(problem):
    """A common start."""
    return np.tile(problem.start[:1], (len(problem.start), 1))


def spent(algorithm, steps, numbers=100):
    meter = Meter({name: (numbers, 4) for name in ("x", *algorithm.state)}, algorithm.n, Link())
    for t in range(steps):
        meter.count(algorithm.step(t))
    return meter.bytes


# Local steps


def test_local_sgd_is_what_it_says():
    problem = Quadratics(5)
    x = problem.start
    for t, *_, eta, after in walk(LocalSteps(AllReduce(5), 4), problem, **SLOWLY):
        x = x - eta * problem.gradient(x, t)
        if t % 4 == 3:
            x = np.tile(x.mean(axis=0), (5, 1))
        np.testing.assert_allclose(after["x"], x, **CLOSE)
    assert spent(LocalSteps(AllReduce(5), 4), 30) == 7 * spent(AllReduce(5), 1)


def test_annealed_consensus_within_local_steps():
    problem, core = Quadratics(5), DPSGD(random_graph(5, 1))
    mix, x, first = gossip(core.alphas[0], core.graphs[0].matchings), problem.start, None
    for t, *_, eta, after in walk(LocalSteps(AnnealedConsensus(core, 2.0), 3), problem, **SLOWLY):
        g, gamma = problem.gradient(x, t), 0.0
        if t % 3 == 2:
            first = first or eta
            gamma = (eta / first) ** 2
        x = (1 - gamma) * x + gamma * mix(x) - eta * g
        np.testing.assert_allclose(after["x"], x, **CLOSE)


def test_one_local_step_is_the_method_itself_and_momentum_then_averages_gradients():
    problem = Quadratics(5)
    np.testing.assert_array_equal(end(LocalSteps(AllReduce(5), 1), problem), end(AllReduce(5), problem))
    np.testing.assert_array_equal(end(LocalSteps(Single(5), 3), problem), end(Single(5), problem))
    # tau = 1, a common start, buffers kept apart: v is linear in g, so all move as one worker on the mean gradient.
    x, v = problem.start[0], 0
    start = same(problem)
    for _, _, g, eta, after in walk(LocalSteps(AllReduce(5), 1), problem, start=start, momentum=0.9):
        v = 0.9 * v + g.mean(axis=0)
        x = x - eta * v
        np.testing.assert_allclose(after["x"], np.tile(x, (5, 1)), **CLOSE)


def test_post_local_sgd_exchanges_at_every_step_first():
    algorithm = LocalSteps(AllReduce(4), tau=3, post=5)
    assert [t for t in range(16) if algorithm.step(t) != ALONE] == [0, 1, 2, 3, 4, 7, 10, 13]


def test_a_schedule_inside_goes_on_from_exchange_to_exchange():
    """Every third step of a hypercube of 8, whose period is three, would else be the same matching for ever."""
    schedule, algorithm = hypercube(8), LocalSteps(DPSGD(hypercube(8)), tau=3, post=2)
    found = [algorithm.step(t) for t in range(20) if algorithm.step(t) != ALONE]
    assert [step.after[0] for step in found] == [schedule.at(k) for k in range(len(found))]
    assert len(found) == 2 + 6


@pytest.mark.parametrize("post, late, tau", [(0, 0, 4), (7, 0, 3), (0, 12, 1), (5, 9, 2), (15, 4, 5)])
def test_exchanges_are_counted_in_closed_form(post, late, tau):
    algorithm = LocalSteps(AllReduce(2), tau, post, late)
    found = [algorithm.step(t) != ALONE for t in range(60)]
    assert [algorithm.exchanges_before(t) for t in range(60)] == np.concatenate([[0], np.cumsum(found)])[:60].tolist()
    assert not any(found[:late])


def test_leaders_and_momenta_take_local_steps():
    graph, problem = random_graph(6, 1), Quadratics(6)
    core, x = DPSGD(graph), problem.start
    for t, *_, eta, after in walk(LocalSteps(ALDSGD(core), 3), problem):
        g, zero = problem.gradient(x, t), np.zeros(6)
        x = x - eta * g
        if t % 3 == 2:
            x = reference.released_step(x, 0 * g, zero, graph.matchings, core.alphas[0], 0, 0.3, 0.1, 0.2, 0.2)
        np.testing.assert_allclose(after["x"], x, **CLOSE)
    W, x, m = gossip(core.alphas[0], graph.matchings), problem.start, 0 * problem.start
    for t, *_, eta, after in walk(LocalSteps(QuasiGlobal(core, 0.8), 3), problem):
        new = x - eta * (0.8 * m + problem.gradient(x, t))
        new = W(new) if t % 3 == 2 else new
        x, m = new, 0.8 * m + 0.2 * (x - new) / eta
        np.testing.assert_allclose(after["x"], x, **CLOSE)


def test_the_same_bytes_early_and_late_and_one_merge_that_is_billed():
    """10 epochs of 8 steps on the 53.8 % graph, seven edges: ten exchanges either way."""
    base = RunConfig(method="local_sgd", epochs=10).but(inner="dpsgd")
    spread, late = base.but(tau=8).algorithm(8), base.but(tau=1, late=0.125).algorithm(8)
    assert spent(spread, 80) == spent(late, 80) == 10 * 14 * 400
    assert [t for t in range(80) if late.step(t) != ALONE] == list(range(70, 80))
    merged = base.but(tau=8, merge=True).algorithm(8)
    assert spent(merged, 80) - spent(spread, 80) == 2 * 7 * 400
    assert [exchange.links for exchange in merged.step(79).after][1:] == [Mean(8)]
    assert [merged.step(t) for t in range(79)] == [spread.step(t) for t in range(79)]
    problem = Quadratics(8)
    for t, *_, after in walk(merged, problem, 80):
        gap = np.abs(after["x"] - after["x"].mean(axis=0)).max()
        assert (gap < 1e-12) == (t == 79)


# Outer steps


def test_slowmo_equals_its_transcription():
    problem, graph = Quadratics(5), random_graph(5, 2)
    core = DPSGD(graph)
    W, start = gossip(core.alphas[0], graph.matchings), same(problem)
    x, z, u = start, start[0], 0
    for t, *_, eta, after in walk(OuterStep(core, "slowmo", 4, 0.9, 0.6), problem, start=start, **SLOWLY):
        x = W(x - eta * problem.gradient(x, t))
        if t % 4 == 3:
            u = 0.6 * u + (z - x.mean(axis=0)) / eta
            z = z - 0.9 * eta * u
            x = np.tile(z, (5, 1))
        np.testing.assert_allclose(after["x"], x, **CLOSE)


def test_diloco_equals_its_transcription_with_torchs_nesterov_and_adamw_inside():
    import torch

    problem = Quadratics(4)
    start = same(problem)
    z = torch.tensor(start[0].copy(), requires_grad=True)
    outer = torch.optim.SGD([z], lr=0.7, momentum=0.9, nesterov=True)
    adam = dict(optimizer="adamw", betas=(0.8, 0.95), schedule="constant")
    x, m, v = start, 0, 0
    for t, *_, eta, after in walk(OuterStep(Single(4), "diloco", 5), problem, start=start, **adam):
        g = problem.gradient(x, t)
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g * g
        x = x * (1 - eta * 5e-4)
        x = x - eta * (m / (1 - 0.8 ** (t + 1))) / (np.sqrt(v / (1 - 0.95 ** (t + 1))) + 1e-8)
        if t % 5 == 4:
            z.grad = z.detach() - torch.tensor(x.mean(axis=0))
            outer.step()
            x = np.tile(z.detach().numpy(), (4, 1))
        np.testing.assert_allclose(after["x"], x, **CLOSE)


def test_without_outer_momentum_both_are_local_sgd():
    problem = Quadratics(5)
    expected = end(LocalSteps(AllReduce(5), 4), problem, **SLOWLY)
    for form in ("slowmo", "diloco"):
        for start in (problem.start, same(problem)):
            found = end(OuterStep(Single(5), form, 4, nu=1.0, mu=0.0), problem, start=start, **SLOWLY)
            expected = end(LocalSteps(AllReduce(5), 4), problem, start=start, **SLOWLY)
            np.testing.assert_allclose(found, expected, **CLOSE)
    momentum = end(OuterStep(Single(1), "diloco", 4), Quadratics(1))
    assert np.abs(momentum - end(Single(1), Quadratics(1))).max() > 1e-2, "one worker is not plain SGD then"


def test_workers_from_different_models_agree_at_every_outer_step():
    problem, algorithm = Quadratics(5), OuterStep(Single(5), "diloco", 6)
    for t, *_, after in walk(algorithm, problem):
        together = np.abs(after["x"] - after["x"].mean(axis=0)).max() < 1e-12
        assert together == (t % 6 == 5)
        assert t < 5 or np.abs(after["z"] - after["z"][0]).max() < 1e-12
    # One row more at the first: 2 (n - 1) rows an all-reduce.
    assert spent(algorithm, 30) == (5 + 1) * 8 * 400


def test_noloco_equals_its_transcription():
    n, problem = 6, Quadratics(6)
    x, z, m = problem.start, problem.start, 0 * problem.start
    for t, *_, eta, after in walk(NoLoCo(n, 3, 0.6, 0.4, seed=4), problem, **SLOWLY):
        x = x - eta * problem.gradient(x, t)
        if t % 3 == 2:
            new = []
            for i in range(n):
                (j,) = [a + b - i for a, b in drawn(n, 4, t // 3) if i in (a, b)]
                D = ((x[i] - z[i]) + (x[j] - z[j])) / 2
                r = (z[i] + z[j]) / 2 - z[i]
                m[i] = 0.4 * m[i] + 0.6 * D + 0.6 * r
                new.append(z[i] + m[i])
            x = z = np.stack(new)
        np.testing.assert_allclose(after["x"], x, **CLOSE)
    assert spent(NoLoCo(n, 3), 30) == 10 * n * 2 * 400


def test_noloco_of_two_is_diloco_with_heavy_ball_and_a_lone_worker_keeps_its_own():
    problem = Quadratics(2)
    x = same(problem)
    z, m = x[0], 0
    for t, *_, eta, after in walk(NoLoCo(2, 4), problem, start=x):
        x = x - eta * problem.gradient(x, t)
        if t % 4 == 3:
            m = 0.5 * m + 0.7 * (x.mean(axis=0) - z)
            z = z + m
            x = np.tile(z, (2, 1))
        np.testing.assert_allclose(after["x"], x, **CLOSE)
    problem = Quadratics(4)
    plain = NoLoCo(4, 2, nu=1.0, mu=0.0)
    for t, before, g, eta, after in walk(plain, problem):
        if t % 2:
            moved = before["x"] - eta * g
            for a, b in drawn(4, 0, t // 2):
                np.testing.assert_allclose(after["z"][[a, b]], np.tile((moved[a] + moved[b]) / 2, (2, 1)), **CLOSE)
    alone = end(NoLoCo(1, 2, nu=1.0, mu=0.0), Quadratics(1))
    np.testing.assert_allclose(alone, end(Single(1), Quadratics(1)), **CLOSE)


# Wiring


def test_methods_inside_come_with_their_options_from_the_command_line():
    words = ["--method", "local_sgd", "--inner", "aldsgd", "--core", "matcha", "--budget", "0.25", "--tau", "4"]
    config = configuration(run_parser("", words).parse_args(words))
    record = config.record()
    assert [entry.name for entry, _ in config.parts] == ["local_sgd", "aldsgd", "matcha"]
    assert (record["inner"], record["core"], record["budget"], record["tau"]) == ("aldsgd", "matcha", 0.25, 4)
    assert from_record(record).record() == record
    assert type(config.algorithm(5).core.core).__name__ == "MATCHA"
    assert RunConfig(method="local_sgd").record()["graph"] is None
    assert RunConfig(method="diloco").algorithm(5).tau == 100 and RunConfig(method="slowmo").algorithm(5).tau == 48


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: LocalSteps(AllReduce(4), 0), "tau = 0"),
        (lambda: LocalSteps(AllReduce(4), 2.5), "whole number"),
        (lambda: LocalSteps(AllReduce(4), 2, late=-1), "late = -1"),
        (lambda: OuterStep(AllReduce(4)), "averages all models by itself"),
        (lambda: OuterStep(Single(4), "fedavg"), "slowmo, diloco"),
        (lambda: OuterStep(Single(4), mu=1.0), "mu from 0 to below 1"),
        (lambda: NoLoCo(4, nu=0.0), "nu above 0"),
        (lambda: RunConfig(method="local_sgd").but(inner="diloco").algorithm(5), "unknown inner 'diloco'"),
        (lambda: RunConfig(method="local_sgd").but(late=2.0).algorithm(5), "late = 2.0"),
        (lambda: end(OuterStep(Single(4), "slowmo", 2), Quadratics(4), lr=0.0), "divides by the learning rate"),
        (
            lambda: RunConfig(method="local_sgd").but(inner="aldsgd", timing="late").algorithm(5),
            "ALDSGD changes as the run",
        ),
        (
            lambda: RunConfig(method="local_sgd").but(inner="aldsgd", timing="rate").algorithm(5),
            "ALDSGD changes as the run",
        ),
        (lambda: RunConfig(method="local_sgd").but(inner="dsgd_ac", start_epoch=1).algorithm(5), "and no start_epoch"),
        (
            lambda: RunConfig(method="local_sgd").but(inner="aldsgd", core="dsgd_ac", start_epoch=1).algorithm(5),
            "ALDSGD changes as the run",
        ),
    ],
)
def test_what_makes_no_sense_is_one_sentence(make, message):
    with pytest.raises(ConfigError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
