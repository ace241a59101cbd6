"""WASGD, DPPF and GRAWA: transcriptions, their limits, and what they do to disagreement."""

import json
import math

import numpy as np
import pytest

from aldsgd.errors import ConfigError
from aldsgd.links import LINKS
from aldsgd.step import Meter
from baselines.dppf import DPPF
from baselines.grawa import GRAWA
from baselines.lsgd import LSGD
from baselines.single import Single
from baselines.wasgd import WASGD
from experiments.configuration import RunConfig
from tests.leading import Nothing, Problem, spread, walk

N, P, STEPS, LR = 6, 5, 30, 0.1
SIZES = (2, 1, 2)


def local_steps(problem, x, t, decay=0.0):
    """Losses before, and models after, one plain step of each worker."""
    losses = [problem.loss(i, x[i], t) for i in range(len(x))]
    return losses, [x[i] - LR * (problem.gradient(i, x[i], t) + decay * x[i]) for i in range(len(x))]


# WASGD


@pytest.mark.parametrize("sharpness", [None, 0.0, 3.0, 1e6])
@pytest.mark.parametrize("tau", [1, 4])
def test_wasgd_equals_its_transcription(sharpness, tau):
    problem, beta = Problem(N, P), 0.6
    x, h = [row.copy() for row in problem.start], [0.0] * N
    for t in range(STEPS):
        losses, x = local_steps(problem, x, t)
        h = [a + b / tau for a, b in zip(h, losses, strict=True)]
        if (t + 1) % tau == 0:
            if sharpness is None:
                theta = [1 / value for value in h]
            else:
                theta = [math.exp(-sharpness * (value - min(h)) / sum(h)) for value in h]
            mean = sum(theta[j] * x[j] for j in range(N)) / sum(theta)
            x, h = [(1 - beta) * row + beta * mean for row in x], [0.0] * N
    fast, _ = walk(WASGD(N, beta, tau, sharpness), problem, STEPS, LR)
    np.testing.assert_allclose(fast, np.stack(x), rtol=0, atol=1e-12)


def test_wasgd_is_elastic_averaging_at_one_end_and_lsgd_at_the_other():
    problem = Nothing(N, P)
    mean = problem.start.mean(axis=0)
    flat, _ = walk(WASGD(N, 0.3, 1, 0.0), problem, 1)
    np.testing.assert_allclose(flat, 0.7 * problem.start + 0.3 * mean, rtol=0, atol=1e-14)
    problem = Problem(N, P)
    sharp, _ = walk(WASGD(N, 0.3, 3, 1e9), problem, STEPS, LR)
    led, _ = walk(LSGD(N, tau=3, c2=0.3, p2=0.0), problem, STEPS, LR)
    np.testing.assert_allclose(sharp, led, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sharpness", [None, 2.0])
def test_a_worker_without_a_loss_does_not_count(sharpness):
    problem = Nothing(3, P)
    problem.loss = lambda i, x, t: (math.nan, 1.0, math.inf)[i]
    found, _ = walk(WASGD(3, 1.0, 1, sharpness), problem, 1)
    np.testing.assert_array_equal(found, np.repeat(problem.start[1:2], 3, axis=0))
    problem.loss = lambda i, x, t: math.nan
    found, _ = walk(WASGD(3, 1.0, 1, sharpness), problem, 1)
    np.testing.assert_array_equal(found, np.repeat(problem.start[:1], 3, axis=0))


# DPPF


@pytest.mark.parametrize("tau", [1, 4])
def test_dppf_equals_its_transcription(tau):
    problem, alpha, push = Problem(N, P), 0.3, 0.7
    x = [row.copy() for row in problem.start]
    for t in range(STEPS):
        _, x = local_steps(problem, x, t)
        if (t + 1) % tau == 0:
            a = sum(x) / N
            x = [row + alpha * (a - row) + push * (row - a) / np.linalg.norm(row - a) for row in x]
    fast, _ = walk(DPPF(N, alpha, push, tau), problem, STEPS, LR)
    np.testing.assert_allclose(fast, np.stack(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("n", [2, 4, 7])
def test_without_gradients_every_gap_tends_to_push_over_pull(n):
    found, _ = walk(DPPF(n, 0.2, 0.5, 1), Nothing(n, 20, steps=1000), 300)
    gaps = np.linalg.norm(found - found.mean(axis=0), axis=1)
    np.testing.assert_allclose(gaps, 0.5 / 0.2, rtol=1e-9)


def test_without_push_it_is_elastic_averaging():
    problem = Nothing(N, P)
    found, _ = walk(DPPF(N, 0.3, 0.0, 1), problem, 1)
    np.testing.assert_allclose(found, 0.7 * problem.start + 0.3 * problem.start.mean(axis=0), rtol=0, atol=1e-14)
    np.testing.assert_allclose(walk(DPPF(N, 1.0, 0.0, 1), problem, 1)[0], problem.start.mean(axis=0)[None].repeat(N, 0))


@pytest.mark.parametrize("n", [1, 3, 7])
def test_at_consensus_there_is_no_push(n):
    """Also where the mean of equal numbers is not the number, but for rounding."""
    problem = Nothing(n, 1000)
    problem.start = problem.start[:1].repeat(n, axis=0)
    found, _ = walk(DPPF(n, 0.1, 5.0, 1), problem, 3)
    np.testing.assert_allclose(found, problem.start, rtol=0, atol=1e-14)


# GRAWA


def grawa(problem, steps, tau, c2, p2, layers, norms, decay=0.0):
    x, edges = [row.copy() for row in problem.start], np.cumsum((0, *SIZES))
    parts = [slice(a, b) for a, b in zip(edges, edges[1:], strict=False)]
    centre, A, seen = [row.copy() for row in x], [[0.0] * len(parts) for _ in x], 0
    memory = 0.85 if norms == "training" else 0.9**8
    for t in range(steps):
        exchange = (t + 1) % (tau if norms == "training" else tau + 1) == 0
        g = [problem.gradient(i, x[i], t) for i in range(len(x))]
        if norms == "training" or exchange:
            seen += 1
            A = [[memory * a + (1 - memory) * np.linalg.norm(g[i][part]) for a, part in zip(A[i], parts, strict=True)]
                 for i in range(len(x))]  # fmt: skip
        if norms == "training" or not exchange:
            x = local_steps(problem, x, t, decay)[1]
            x = [(1 - p2 / tau) * row + p2 / tau * c for row, c in zip(x, centre, strict=True)]
        if exchange:
            estimate = np.array(A) / (1 - memory**seen)
            weights = 1 / estimate if layers else 1 / estimate.sum(axis=1, keepdims=True).repeat(len(parts), 1)
            weights = weights / weights.sum(axis=0)
            c = np.concatenate([sum(weights[i, k] * x[i][part] for i in range(len(x))) for k, part in enumerate(parts)])
            centre, x = [c] * len(x), [(1 - c2) * row + c2 * c for row in x]
            if norms == "training":
                A, seen = [[0.0] * len(parts) for _ in x], 0
    return np.stack(x)


class Decayed(Problem):
    """Gradients with weight decay in them, as the trainer gives them."""

    def gradient(self, i, x, t):
        return super().gradient(i, x, t) + 0.3 * x


@pytest.mark.parametrize("layers", [False, True])
@pytest.mark.parametrize("norms", ["training", "batch"])
@pytest.mark.parametrize("tau, decay", [(1, 0.0), (4, 0.3)])
def test_grawa_equals_its_transcription(layers, norms, tau, decay):
    fast, _ = walk(
        GRAWA(N, tau, 0.4, 0.3, layers, norms), (Decayed if decay else Problem)(N, P), STEPS, LR, sizes=SIZES,
        weight_decay=decay,
    )  # fmt: skip
    slow = grawa(Problem(N, P), STEPS, tau, 0.4, 0.3, layers, norms, decay)
    np.testing.assert_allclose(fast, slow, rtol=0, atol=1e-12)


class Alike(Problem):
    """Gradients of one norm for every worker, and of one for every tensor."""

    def gradient(self, i, x, t):
        return np.array([0.6, 0.8, 1.0, 0.8, -0.6]) * (1 if i % 2 else -1)


@pytest.mark.parametrize("layers", [False, True])
def test_equal_norms_are_elastic_averaging(layers):
    problem = Alike(N, P)
    moved = walk(Single(N), problem, 1, LR, weight_decay=0.0)[0]
    found, _ = walk(GRAWA(N, 1, 0.4, 0.0, layers), problem, 1, LR, sizes=SIZES, weight_decay=0.0)
    np.testing.assert_allclose(found, 0.6 * moved + 0.4 * moved.mean(axis=0), rtol=0, atol=1e-14)
    assert spread(found) == pytest.approx(0.6 * spread(moved), rel=1e-13)


def test_with_full_pull_all_equal_and_one_tensor_has_one_weight():
    problem = Problem(N, P)
    found, _ = walk(GRAWA(N, 3, 1.0, 0.0), problem, 3, LR, sizes=SIZES)
    np.testing.assert_allclose(found, found[:1].repeat(N, axis=0), rtol=0, atol=1e-15)
    model, layers = (walk(GRAWA(N, 3, 0.4, 0.1, each), problem, STEPS, LR)[0] for each in (False, True))
    np.testing.assert_array_equal(model, layers)


def test_a_worker_without_gradient_takes_all_the_weight():
    problem = Problem(N, P)
    problem.gradient = lambda i, x, t: np.zeros(P) if i == 2 else np.ones(P)
    found, _ = walk(GRAWA(N, 1, 1.0, 0.0), problem, 1, LR, weight_decay=0.0)
    np.testing.assert_allclose(found, problem.start[2:3].repeat(N, axis=0), rtol=0, atol=1e-12)


# All


@pytest.mark.parametrize("algorithm, numbers", [
    (WASGD(N, tau=1), 0), (DPPF(N, tau=1), 0), (GRAWA(N, 1), 1), (GRAWA(N, 1, layers=True), 3),
])  # fmt: skip
def test_traffic_is_that_of_an_all_reduce(algorithm, numbers):
    widths = {"x": P} | {name: {"row": P, "number": 1, "tensors": 3}[shape] for name, shape in algorithm.state.items()}
    meter = Meter({name: (width, 4) for name, width in widths.items()}, N, LINKS["10gbe"])
    meter.count(algorithm.step(0))
    losses = N * (N - 1) * 4 if isinstance(algorithm, WASGD) else 0
    assert meter.bytes == 2 * (N - 1) * 4 * (P + numbers) + losses


@pytest.mark.parametrize(
    "name, options",
    [
        ("lsgd", dict(tau=32, pull=0.2, prox=0.2, slow_workers=1, groups=2)),
        ("lsgd_released", dict(tau=32)),
        ("lsgd_plus", dict(tau=32, pull=0.2, lead=0.3, prox=0.2, score="loss")),
        ("lgd", dict(strength=2.0, tau=32)),
        ("easgd", dict(beta=0.3, tau=32)),
        ("eamsgd", dict(beta=0.3, tau=32, delta=0.5)),
        ("wasgd", dict(beta=0.3, tau=32)),
        ("wasgd_plus", dict(beta=0.3, tau=32, sharpness=3.0)),
        ("dppf", dict(pull=0.2, push=0.2, tau=32)),
        ("mgrawa", dict(tau=16, pull=0.2, prox=0.2, norms="batch")),
    ],
)
def test_a_checkpoint_can_tell_runs_with_other_options(name, options):
    """By what a method says of itself, or by its first steps: pulls that act in no exchange are seen in neither."""

    def seen(**changes):
        algorithm = RunConfig(method=name).but(**changes).algorithm(10)
        return repr([algorithm.step(t) for t in range(8)]), json.dumps(algorithm.description())

    for option, value in options.items():
        assert seen(**{option: value}) != seen(), option


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: WASGD(N, 1.5), "beta = 1.5"),
        (lambda: WASGD(N, tau=0), "tau = 0"),
        (lambda: WASGD(N, sharpness=-1.0), "sharpness = -1.0"),
        (lambda: DPPF(N, 2.0), "alpha = 2.0"),
        (lambda: DPPF(N, push=-1.0), "push = -1.0"),
        (lambda: GRAWA(N, 0), "tau = 0"),
        (lambda: GRAWA(N, c2=math.nan), "c2 = nan"),
        (lambda: GRAWA(N, norms="test"), "unknown norms 'test'; choose one of: training, batch"),
    ],
)
def test_options_that_make_no_sense_are_one_sentence(make, said):
    with pytest.raises(ConfigError, match=said):
        make()
