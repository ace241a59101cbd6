"""LSGD, LSGD+ and LGD: against plain transcriptions, and what their equations say of mean, leader and disagreement."""

import math

import numpy as np
import pytest
import torch

from aldsgd.algorithm import Algorithm, checked
from aldsgd.errors import ConfigError
from aldsgd.links import LINKS, Broadcast
from aldsgd.step import Exchange, Gossip, Meter, Step
from baselines.lgd import LGD
from baselines.lsgd import LSGD
from baselines.lsgd_plus import LSGDPlus
from baselines.lsgd_released import ReleasedLSGD
from baselines.single import Single
from tests.leading import Nothing, Problem, spread, walk

N, P, STEPS, LR = 8, 5, 30, 0.1


def transcribed(problem, steps, groups, g, tau, c1, c2, p1, p2, speeds=None, released=False, tested_every=1):
    """LSGD, one worker and one step after another, in the order of the released code."""
    n = len(problem.start)
    x = [row.copy() for row in problem.start]
    s_all, s_group = [row.copy() for row in x], [row.copy() for row in x]
    several = groups > 1 and g > tau
    if not several:
        tau, groups = g, 1
    members = [[i for i in range(n) if j * n // groups <= i < (j + 1) * n // groups] for j in range(groups)]
    speeds = speeds or [1.0] * n
    seen = [[] for _ in range(n)]
    taken = exchanges = 0
    for t in range(steps):
        for i in range(n):
            rate = speeds[i] / max(speeds)
            if math.floor((t + 1) * rate) == math.floor(t * rate):
                continue
            seen[i].append(problem.loss(i, x[i], t))
            x[i] = x[i] - LR * problem.gradient(i, x[i], t)
            x[i] = (1 - p2 / g) * x[i] + p2 / g * s_all[i]
            if several:
                x[i] = (1 - p1 / tau) * x[i] + p1 / tau * s_group[i]
            taken += 1
        if taken < n * tau * (exchanges + 1):
            continue
        exchanges += 1
        loss = []
        for i in range(n):
            last = seen[i][-tau:]
            loss.append(math.inf if not last else sum(last) / (tau if released else len(last)))
        if several:
            for group in members:
                best = min(group, key=lambda i: (loss[i], i))
                sent = x[best].copy()
                for i in group:
                    s_group[i] = sent
                    x[i] = (1 - c1) * x[i] + c1 * sent
        if not several or exchanges % (g // tau) == 0:
            sent = x[min(range(n), key=lambda i: (loss[i], i))].copy()
            for i in range(n):
                s_all[i] = sent
                x[i] = (1 - c2) * x[i] + c2 * sent
        if released and exchanges % tested_every == 0:
            for group in members:
                mean = sum(x[i] for i in group) / len(group)
                for i in group:
                    s_all[i] = mean
    return np.stack(x)


CASES = {
    "one group": dict(groups=1, g=3, tau=2),
    "two groups": dict(groups=2, g=6, tau=2),
    "three uneven groups": dict(groups=3, g=4, tau=1),
    "equal periods": dict(groups=4, g=2, tau=2),
    "unequal speeds": dict(groups=2, g=4, tau=2, speeds=[1, 0.5, 0.3, 1, 0.9, 0.05, 1, 0.4]),
    "as released": dict(groups=2, g=4, tau=2, released=True, tested_every=3),
    "as released, unequal speeds": dict(
        groups=1, g=5, tau=1, speeds=[1, 0.5, 0.3, 1, 0.9, 0.05, 1, 0.4], released=True, tested_every=2
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("pulls", [(0.3, 0.2, 0.4, 0.5), (0.3, 0.2, 0.0, 0.0)])
def test_lsgd_equals_its_transcription(case, pulls):
    case, problem = dict(CASES[case]), Problem(N, P)
    slow = transcribed(problem, STEPS, **case, c1=pulls[0], c2=pulls[1], p1=pulls[2], p2=pulls[3])
    kind = ReleasedLSGD if case.pop("released", False) else LSGD
    periods = dict(tau=case.pop("g"), tau_local=case.pop("tau"))
    fast, _ = walk(kind(N, c1=pulls[0], c2=pulls[1], p1=pulls[2], p2=pulls[3], **periods, **case), problem, STEPS, LR)
    np.testing.assert_allclose(fast, slow, rtol=0, atol=1e-12)


def test_who_leads_changes():
    """Else a rule that always follows the first worker would pass."""
    problem, algorithm, state, leaders = Problem(N, P), LSGD(N, tau=3), None, []
    for t in range(0, STEPS, 3):
        _, state = walk(algorithm, problem, 3, LR, first=t, state=state)
        leaders.append(int(state.loss.argmin()))
    assert len(set(leaders)) >= 4


def test_the_defects_of_the_released_code_have_an_effect_where_they_should():
    """The window that is zero at first only counts while a worker has seen fewer batches than it holds."""
    problem, speeds = Problem(N, P), (1, 0.5, 0.3, 1, 0.9, 0.05, 1, 0.4)
    found = {
        (kind, uneven): walk(kind(N, tau=4, p2=0, speeds=speeds if uneven else ()), problem, STEPS, LR)[0]
        for kind in (LSGD, ReleasedLSGD)
        for uneven in (False, True)
    }
    np.testing.assert_array_equal(found[LSGD, False], found[ReleasedLSGD, False])
    assert np.abs(found[LSGD, True] - found[ReleasedLSGD, True]).max() > 1e-3
    tested = [walk(kind(N, tau=4, p2=0.5), problem, STEPS, LR)[0] for kind in (LSGD, ReleasedLSGD)]
    assert np.abs(tested[0] - tested[1]).max() > 1e-3


@pytest.mark.parametrize("groups", [1, 2])
def test_without_any_pull_workers_are_independent(groups):
    problem = Problem(N, P)
    alone, _ = walk(Single(N), problem, STEPS, LR, momentum=0.9)
    found, _ = walk(LSGD(N, groups, 4, 2, 0.0, 0.0, 0.0, 0.0), problem, STEPS, LR, momentum=0.9)
    np.testing.assert_array_equal(found, alone)


def test_the_snapshot_alone_pulls_so_that_no_averaging_is_not_yet_independence():
    problem = Problem(N, P)
    alone, _ = walk(Single(N), problem, STEPS, LR)
    assert np.abs(walk(LSGD(N, 1, 4, c2=0.0, p2=0.5), problem, STEPS, LR)[0] - alone).max() > 1e-3


def test_with_full_pull_all_equal_the_leader_and_it_does_not_move():
    problem = Nothing(N, P)
    leader = problem.start[np.argmin([np.mean([problem.loss(i, problem.start[i], t) for t in range(4)])
                                      for i in range(N)])]  # fmt: skip
    found, _ = walk(LSGD(N, 1, 4, c2=1.0, p2=0.0), problem, 4, LR)
    np.testing.assert_array_equal(found, np.repeat(leader[None], N, axis=0))


@pytest.mark.parametrize("c", [0.1, 0.37, 0.9])
def test_disagreement_shrinks_by_exactly_one_minus_c_and_the_mean_moves_toward_the_leader(c):
    problem = Nothing(N, P)
    found, state = walk(LSGD(N, 1, 4, c2=c, p2=0.0), problem, 4, LR)
    leader = int(state.loss.argmin())
    np.testing.assert_array_equal(found[leader], problem.start[leader])
    assert spread(found) == pytest.approx((1 - c) * spread(problem.start), rel=1e-13)
    mean = problem.start.mean(axis=0)
    np.testing.assert_allclose(found.mean(axis=0) - mean, c * (problem.start[leader] - mean), rtol=0, atol=1e-14)


def test_two_groups_of_one_worker_are_independent_without_the_leader_of_all():
    problem = Problem(2, P)
    found, _ = walk(LSGD(2, 2, 4, 2, c1=0.7, c2=0.0, p1=0.0, p2=0.0), problem, STEPS, LR)
    np.testing.assert_allclose(found, walk(Single(2), problem, STEPS, LR)[0], rtol=0, atol=1e-15)


def test_the_leader_of_all_also_leads_its_group():
    """Both are chosen from the same losses, so its own model is what is sent to all, whatever the order."""
    problem = Nothing(N, P)
    found, state = walk(LSGD(N, 2, 4, 4 // 2, c1=0.5, c2=0.5, p1=0.0, p2=0.0), problem, 4, LR)
    best = int(state.loss.argmin())
    np.testing.assert_array_equal(state.leader.numpy(), np.repeat(found[best : best + 1], N, axis=0))
    np.testing.assert_array_equal(found[best], problem.start[best])


def test_a_worker_without_a_loss_never_leads():
    problem = Problem(4, P)
    problem.loss = lambda i, x, t: math.nan if i == 0 else float(i)
    _, state = walk(LSGD(4, 1, 2, c2=1.0, p2=0.0), problem, 2, LR)
    np.testing.assert_array_equal(state.leader[0], state.x[1])


def bytes_of(algorithm, steps, P=1000) -> int:
    lengths = {"x": (P, 4)} | {name: ({"row": P, "number": 1}.get(shape, shape), 4)
                               for name, shape in algorithm.state.items()}  # fmt: skip
    meter = Meter(lengths, algorithm.n, LINKS["10gbe"])
    for t in range(steps):
        meter.count(algorithm.step(t))
    return meter.bytes


def test_traffic_is_that_of_broadcasts():
    row, losses = 4000, N * (N - 1) * 4
    assert bytes_of(LSGD(N, tau=4), 16) == 4 * ((N - 1) * row + losses)
    # Two groups, four exchanges within them, of which every second is followed by one with all.
    assert bytes_of(LSGD(N, 2, tau=4, tau_local=2), 8) == 4 * ((N - 2) * row + losses) + 2 * (N - 1) * row


class Scored(Algorithm):
    """The smallest of a number of one's own leads, not the smallest loss."""

    n, state = 4, {"score": "number", "pair": 2, "parts": "tensors"}

    def begin(self, state):
        state.score.copy_(torch.arange(4.0).flip(0)[:, None])

    def step(self, t):
        return Step(after=Exchange(Broadcast(((0, 1, 2, 3),)), Gossip(1.0)), losses="all", judge="score")


def test_scores_of_ones_own_decide_who_leads():
    found, state = walk(Scored(), Nothing(4, P), 1, sizes=(2, 3))
    np.testing.assert_array_equal(found, np.repeat(found[3:], 4, axis=0))
    np.testing.assert_array_equal(found[3], Nothing(4, P).start[3])
    assert (state.pair.shape, state.parts.shape, state.sizes) == ((4, 2), (4, 2), (2, 3))


@pytest.mark.parametrize(
    "state, scores, said",
    [
        ({"y": "rows"}, None, "declare 'row', 'number', 'tensors' or a count"),
        ({"y": 0}, None, "is 0; declare"),
        ({"y": True}, None, "is True; declare"),
        ({"losses": "number"}, None, "under a name other than x, sizes, losses"),
        ({"y": "row"}, "y", "judges by 'y', which is no 'number' of its state"),
        ({}, "score", "judges by 'score', which is no 'number'"),
    ],
)
def test_states_and_scores_that_cannot_be_are_refused(state, scores, said):
    algorithm = Scored()
    algorithm.state = state
    algorithm.step = lambda t: Step(losses="all", judge=scores or "batch")
    with pytest.raises(ConfigError, match=said):
        checked(algorithm)
    with pytest.raises(ConfigError, match="has to travel as losses do"):
        Step(judge="score")


@pytest.mark.parametrize(
    "bad, said",
    [
        (dict(groups=0), "groups = 0 must be a whole number"),
        (dict(groups=9), "groups = 9 for 8 workers"),
        (dict(tau=0), "tau = 0"),
        (dict(tau=2.5), "tau = 2.5"),
        (dict(groups=2, tau=6, tau_local=4), "tau = 6 must be a multiple of tau_local = 4"),
        (dict(c1=-0.1), "c1 = -0.1 must be a finite number, from 0 to 1"),
        (dict(c2=1.5), "c2 = 1.5"),
        (dict(p2=math.nan), "p2 = nan"),
        (dict(speeds=(1, 2)), "speeds = .1, 2. for 8 workers"),
        (dict(speeds=(0,) + (1,) * 7), "give each one above 0"),
        (dict(speeds=(-1,) + (1,) * 7), "give each one above 0"),
    ],
)
def test_options_that_make_no_sense_are_one_sentence(bad, said):
    with pytest.raises(ConfigError, match=said) as caught:
        LSGD(N, **bad)
    assert "\n" not in str(caught.value)


# LSGD+


def plus(problem, steps, tau, c, lead, p, score, momentum=0.0):
    """LSGD+, in the order of SDTL, one worker after another."""
    x, n = [row.copy() for row in problem.start], len(problem.start)
    centre, running, v = [row.copy() for row in x], [0.0] * n, [0.0 * row for row in x]
    for t in range(steps):
        for i in range(n):
            old, g, loss = x[i].copy(), problem.gradient(i, x[i], t), problem.loss(i, x[i], t)
            v[i] = momentum * v[i] + g
            x[i] = x[i] - LR * v[i]
            x[i] = (1 - p / tau) * x[i] + p / tau * centre[i]
            running[i] = 0.9 * running[i] + 0.1 * (float((old - x[i]) @ g) if score == "drop" else loss)
        if (t + 1) % tau == 0:
            m, b = sum(x) / n, x[int(np.argmin(running))]
            d = lead * (b - m)
            x = [(1 - c) * (row + d) + c * (m + d) for row in x]
            centre = [m + d] * n
    return np.stack(x)


@pytest.mark.parametrize("score", ["drop", "loss"])
@pytest.mark.parametrize("lead", [0.3, 0.7, 0.0])
def test_lsgd_plus_equals_its_transcription(score, lead):
    problem = Problem(N, P)
    fast, _ = walk(LSGDPlus(N, 3, 0.3, lead, 0.4, score), problem, STEPS, LR, momentum=0.6)
    slow = plus(problem, STEPS, 3, 0.3, lead, 0.4, score, momentum=0.6)
    np.testing.assert_allclose(fast, slow, rtol=0, atol=1e-12)


@pytest.mark.parametrize("c, lead", [(0.3, 0.3), (0.2, 0.9), (0.0, 0.5), (1.0, 0.0)])
def test_lsgd_plus_moves_the_mean_by_d_and_shrinks_disagreement_by_one_minus_c(c, lead):
    problem = Nothing(N, P)
    found, state = walk(LSGDPlus(N, 1, c, lead, 0.0, "loss"), problem, 1)
    mean, leader = problem.start.mean(axis=0), problem.start[int(state.running.argmin())]
    np.testing.assert_allclose(found.mean(axis=0) - mean, lead * (leader - mean), rtol=0, atol=1e-14)
    assert spread(found) == pytest.approx((1 - c) * spread(problem.start), rel=1e-12, abs=1e-12)


def test_lsgd_plus_with_one_strength_is_lsgd_at_three_times_the_traffic():
    """Without the proximal pull, whose targets differ; both leaders by the loss of one batch."""
    problem = Problem(N, P)
    found, _ = walk(LSGDPlus(N, 1, 0.3, None, 0.0, "loss"), problem, 1, LR)
    np.testing.assert_allclose(found, walk(LSGD(N, 1, 1, c2=0.3, p2=0.0), problem, 1, LR)[0], rtol=0, atol=1e-14)
    messages = N * (N - 1) * 4
    assert bytes_of(LSGDPlus(N, 4), 8) - 2 * messages == 3 * (bytes_of(LSGD(N, tau=4), 8) - 2 * messages)


# LGD


@pytest.mark.parametrize("tau", [1, 3])
@pytest.mark.parametrize("rates", [0.1, tuple(0.01 * k for k in range(1, 9))])
def test_lgd_equals_its_transcription(tau, rates):
    problem, strength = Problem(N, P), 2.0
    eta = [rates] * N if isinstance(rates, float) else rates
    fast, _ = walk(LGD(N, strength, tau), problem, STEPS, rates)
    x = problem.start.copy()
    for t in range(STEPS):
        b = x[int(np.argmin([problem.loss(i, x[i], t) for i in range(N)]))].copy()
        pull = strength if t % tau == 0 else 0.0
        x = np.stack([x[i] - eta[i] * (problem.gradient(i, x[i], t) + pull * (x[i] - b)) for i in range(N)])
    np.testing.assert_allclose(fast, x, rtol=0, atol=1e-12)


def test_without_force_lgd_is_gradient_descent_of_each():
    problem = Problem(N, P)
    np.testing.assert_allclose(
        walk(LGD(N, 0.0), problem, STEPS, LR)[0], walk(Single(N), problem, STEPS, LR)[0], rtol=0, atol=1e-14
    )


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: LSGDPlus(N, lead=2.0), "lead = 2.0"),
        (lambda: LSGDPlus(N, c=-1.0), "c = -1.0"),
        (lambda: LSGDPlus(N, score="best"), "unknown score 'best'; choose one of: drop, loss"),
        (lambda: LSGDPlus(N, tau=0), "tau = 0"),
        (lambda: LGD(N, -1.0), "strength = -1.0 must be a finite number, zero or more"),
        (lambda: LGD(N, 1.0, 0), "tau = 0"),
    ],
)
def test_other_options_that_make_no_sense_are_one_sentence(make, said):
    with pytest.raises(ConfigError, match=said):
        make()
