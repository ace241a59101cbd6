"""Leaders that fade with the rate: the simulation by loops, the norms by all orders of losses, the bounds at random."""

import itertools
import math

import numpy as np
import pytest

from aldsgd.graphs import complete, paper_graph, paper_set
from aldsgd.leaders import ALDSGD
from aldsgd.theory.fading import (
    RULES,
    contraction_bound,
    drift_bound,
    exchange,
    faded,
    falling,
    safe_share,
    step_norms,
)
from aldsgd.theory.leaders import (
    best_leaders,
    closed_neighbourhoods,
    combine,
    compress,
    degree_leaders,
    dpsgd_schedule,
    gossip_matrix,
    leader_matrix,
    mean_square_radius,
    operator,
    pulls,
    selection,
    step_terms,
)
from aldsgd.theory.quadratics import Quadratics
from aldsgd.theory.selection import RareClass
from baselines.dpsgd import DPSGD
from tests import reference

README = (0.3, 0.1, 0.2, 0.2)
NAMES = ("c1", "c2", "p1", "p2")
GRAPH = paper_graph(53.8)
PROBLEMS = {
    "quadratics": Quadratics(np.linspace(1, 0.5, 4), np.random.default_rng(0).standard_normal((8, 4)), 3.0),
    "rare class": RareClass.random(8, samples=60, share=0.2, batch=3),
}


def slow_loss(problem, i, x, sample):
    """Loss of one model (d,) on worker i's sample, and its gradient, with nothing stacked."""
    if isinstance(problem, Quadratics):
        away = x - problem.centres[i]
        loss = sum(0.5 * h * u * u + z * u for h, u, z in zip(problem.hessian, away, sample, strict=True))
        return loss, np.array([h * u + z for h, u, z in zip(problem.hessian, away, sample, strict=True)])
    each = [(math.log1p(math.exp(-z @ x)), -z / (1 + math.exp(z @ x))) for z in sample]
    ridge = problem.ridge
    return (
        sum(loss for loss, _ in each) / len(each) + 0.5 * ridge * x @ x,
        sum(slope for _, slope in each) / len(each) + ridge * x,
    )


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_worker_judges_every_model_as_a_loop_does(name):
    problem, rng = PROBLEMS[name], np.random.default_rng(1)
    x = rng.standard_normal((2, 8, 4 if name == "quadratics" else 3))
    sample = problem.sample((2, 8), rng)
    judged, (losses, gradients) = problem.judged(x, sample), problem.on(x, sample)
    for r, i, j in itertools.product(range(2), range(8), range(8)):
        assert judged[r, i, j] == pytest.approx(slow_loss(problem, i, x[r, j], sample[r, i])[0], abs=1e-12)
        if i == j:
            loss, gradient = slow_loss(problem, i, x[r, i], sample[r, i])
            assert losses[r, i] == pytest.approx(loss, abs=1e-12)
            np.testing.assert_allclose(gradients[r, i], gradient, atol=1e-12)


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("label", RULES)
def test_a_falling_rate_by_a_loop(name, label):
    """Three steps at the first rate and six at half of it, worker by worker."""
    problem, rule, eta, shares = PROBLEMS[name], RULES[label], 0.3, (1.0, 0.5)
    start = np.full(4 if name == "quadratics" else 3, 0.2)
    found = falling(problem, GRAPH, README, rule, eta, shares, 0.9, 1, start, (5,))
    rng, x = np.random.default_rng([5, 8, 1]), [start.copy() for _ in range(8)]
    gossip, largest = gossip_matrix(GRAPH, DPSGD(GRAPH).alphas[0]), degree_leaders(8, GRAPH.matchings)
    following = problem.sample((1, 8), rng)[0]
    for s, stage in zip(shares, found, strict=True):
        steps, kept = round(0.9 / (s * eta)), []
        c1, c2, p1, p2 = ((s if rule.fades else 1.0) * value * (rule.judge is not None) for value in README)
        for _ in range(steps):
            now, following = following, problem.sample((1, 8), rng)[0]
            told = [slow_loss(problem, i, x[i], now[i]) for i in range(8)]
            y = [own - s * eta * gradient for own, (_, gradient) in zip(x, told, strict=True)]
            x = []
            for i in range(8):
                hood = [i, *reference.active_neighbours(i, GRAPH.matchings)]

                def worth(j, i=i, y=y, told=told, following=following):
                    return slow_loss(problem, i, y[j], following[i])[0] if rule.judge == "receiver" else told[j][0]

                best = min(hood, key=worth)
                averaged = (1 - c1 - c2) * sum(gossip[i, j] * y[j] for j in range(8))
                averaged = averaged + c1 * y[best] + c2 * y[largest[i]]
                x.append((1 - p1 - p2) * averaged + p1 * y[best] + p2 * y[largest[i]])
            middle, before = np.mean(x, axis=0), np.mean(y, axis=0)
            apart = np.square(np.array(x) - middle).sum() / 8
            kept.append((middle, problem.gradient_norm2(middle), np.square(middle - before).sum(), apart))
        kept = kept[steps // 2 :]
        np.testing.assert_allclose(stage["mean"][0], np.mean([k[0] for k in kept], axis=0), atol=1e-12)
        assert stage["gradient"][0] == pytest.approx(np.mean([k[1] for k in kept]), abs=1e-12)
        assert stage["force"][0] == pytest.approx(math.sqrt(np.mean([k[2] for k in kept])) / (s * eta), abs=1e-12)
        assert stage["consensus"][0] == pytest.approx(np.mean([k[3] for k in kept]) / (s * eta) ** 2, abs=1e-12)
        assert stage["largest"] <= 1


def test_the_exchange_is_the_library_s_with_scaled_coefficients():
    losses, y = np.random.default_rng(2).random(8), np.random.default_rng(3).standard_normal((1, 8, 8))
    for s in (0.0, 0.1, 1.0):
        scaled = {name: s * value for name, value in zip(NAMES, README, strict=True)}
        W = gossip_matrix(GRAPH, DPSGD(GRAPH).alphas[0])
        slow = np.array([reference.followed_row(i, GRAPH.matchings, W, losses, **scaled) for i in range(8)])
        score = np.broadcast_to(losses, (1, 8, 8))
        np.testing.assert_allclose(exchange(y, score, GRAPH, faded(README, s))[0], slow @ y[0], atol=1e-12)
    assert faded(README, 1.0) == pulls(*README) and faded(README, 0.0) == (1, 0, 0)
    assert ALDSGD(DPSGD(GRAPH)).given == dict(zip(NAMES, README, strict=True))  # README: the library's defaults


def test_norms_and_rate_by_all_orders_of_five_losses():
    (step,), n = dpsgd_schedule([complete(5)]), 5
    terms, P = compress(step_terms(step)), np.eye(n) - 1 / n
    active = step.events[0][1]
    closed, largest = closed_neighbourhoods(n, active), selection(degree_leaders(n, active))
    for s in (0.2, 1.0):
        a, b, c = faded(README, s)
        led, whole, count = np.zeros((n, n)), np.zeros((n * n, n * n)), 0
        for order in itertools.permutations(range(n)):
            best = best_leaders(closed, np.array([order], dtype=float))[0]
            R = (b * selection(best) + c * largest) / (1 - a)
            C = leader_matrix(n, active, step.alpha, best, (a, b, c))
            led, whole, count = led + R.T @ P @ R, whole + np.kron((P @ C).T, (P @ C).T), count + 1
        W = step.gossip(active)
        lam, kappa = step_norms(terms, step.alpha, (a, b, c))
        assert lam**2 == pytest.approx(np.linalg.norm(W.T @ P @ W, 2), abs=1e-12)
        assert kappa**2 == pytest.approx(np.linalg.norm(P @ (led / count) @ P, 2), abs=1e-12)
        rate = mean_square_radius([operator(combine(terms, step.alpha, (a, b, c)))])
        assert rate == pytest.approx(np.abs(np.linalg.eigvals(whole / count)).max(), abs=1e-9)
        assert rate <= contraction_bound(lam, kappa, a) + 1e-12


@pytest.mark.parametrize("graph", [GRAPH, *paper_set(38.5), complete(8)])
def test_any_choice_of_leaders_moves_the_mean_within_the_bound(graph):
    rng, closed = np.random.default_rng(4), closed_neighbourhoods(8, graph.matchings)
    for s in (1.0, 0.1):
        for _ in range(100):
            y, score = rng.standard_normal((1, 8, 3)), rng.random((1, 8, 8))
            if rng.random() < 0.5:  # all that can follow the one who is furthest away
                score[:] = -np.linalg.norm(y[0] - y[0].mean(axis=0), axis=1)
            moved = np.linalg.norm(exchange(y, score, graph, faded(README, s)).mean(axis=1) - y.mean(axis=1))
            assert moved <= drift_bound(graph, README, s) * math.sqrt(np.square(y - y.mean(axis=1)).sum() / 8) + 1e-12
    # What the proof says of columns, with one leader for all who hear it.
    R = selection(np.where(closed[:, 0], 0, np.arange(8)))
    assert np.square(R.sum(axis=0) - 1).sum() <= 8 * graph.degrees.max() + 1e-12


def test_from_some_share_on_any_coefficients_contract():
    """Coefficients with which the workers drift apart, and what the bound says of them scaled down."""
    (step,) = dpsgd_schedule([GRAPH])
    terms, wild = compress(step_terms(step)), (1.5, 1.5, 0.0, 0.0)

    def rate(s):
        return mean_square_radius([operator(combine(terms, step.alpha, faded(wild, s)))])

    lam, kappa = step_norms(terms, step.alpha, faded(wild, 0.1))
    safe = safe_share(lam, kappa, wild)
    assert rate(1.0) > 1 and 0.01 < safe < 1 and all(rate(s) < 1 for s in np.linspace(0, safe, 5))
    assert safe_share(lam, lam, wild) == 1.0 and math.isnan(safe_share(1.0, kappa, wild))
