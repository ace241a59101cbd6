"""Virtual time: closed forms of queueing, equality with synchronous methods, the engine against a plain simulation."""

import heapq
import math
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from aldsgd.algorithm import started
from aldsgd.clocks import Clock, ComputeTimes, SynchronousClock
from aldsgd.data import normalise
from aldsgd.datasets import load
from aldsgd.errors import ConfigError
from aldsgd.events import Events
from aldsgd.links import AllReduce, Link, Pairs
from aldsgd.local import LocalRule
from aldsgd.settings import Settings
from aldsgd.step import Exchange, Gossip, Meter, Step
from aldsgd.trainers import trainer_for
from baselines.async_server import AsynchronousServer
from experiments.configuration import RunConfig
from tests.crashing import crash

AT_ONCE = dict(latency=0.0, bandwidth=1e300)
BASE = RunConfig(
    model="logistic", graph="ring", train_images=320, test_images=40, epochs=3, lr=0.1, lr_drops=((2, 0.1),),
    momentum=0.9, precision="float64", bn_images=16, **AT_ONCE,
)  # fmt: skip
DATA = load("digits").subset(320, 40)
#: One number travels.
METER = Meter({"x": (1, 4)}, 8, Link())


def trainer(**changes):
    config = BASE.but(**changes)
    data = DATA if config.train_images == 320 else load("digits").subset(config.train_images, 40)
    steps = -(-config.train_images // (config.workers * config.batch))
    return trainer_for(config.algorithm(steps), config.build(data), data, config.settings())


def test_equal_times_make_adsgd_d_psgd_and_c_p_0_makes_aldsgd_adsgd_bit_for_bit():
    """Of 20 workers on a ring, where D-PSGD too adds its neighbours' models one after another, in the same order."""
    shape = dict(workers=20, batch=4, augment=False)
    found = {}
    for name, changes in {
        "steps": dict(method="dpsgd_cwa"),
        "waiting": dict(method="dpsgd_cwa", virtual=True),
        "adsgd": dict(method="adsgd"),
        "leaders": dict(method="async_aldsgd", c1=0.0, c2=0.0, p1=0.0, p2=0.0),
    }.items():
        run = trainer(**shape, **changes)
        rows = run.run().rows
        found[name] = run.state.x, [row["test_loss"] for row in rows if row["worker"] is not None]
        if name == "adsgd":
            assert rows[-1]["gradients"] == 20 * 12 and rows[-1]["staleness_max"] == 0
    for name in ("waiting", "adsgd", "leaders"):
        assert torch.equal(found[name][0], found["steps"][0]) and found[name][1] == found["steps"][1], name


def served(n, until, **clock):
    """The events of a server whose n workers have nothing to learn: gradients of zeros, and a model of one number."""
    method = AsynchronousServer(n)
    state = started(method, torch.zeros(n + 1, 1), (1,))
    times = ComputeTimes(Clock(**clock), n, 1, 1, 1.0)
    rules = [None] * n + [LocalRule(state.x[n:], [0], Settings(), 1)]
    workers = SimpleNamespace(parameters=torch.zeros(n, 1), gradients=torch.zeros(n, 1))
    link = Link(**AT_ONCE)
    events = Events(method, state, rules, times, link, 1.0, 0.0, 0, lambda which: [0.0] * len(which), workers)
    events.start()
    events.run(until)
    return events


def test_staleness_of_the_server_is_that_of_the_queue():
    n, k = 4, 5
    assert served(n, 20).ages == [1, 1, 1, 20 * n - 3]  # the first round is 0, 1, 2, 3

    events = served(n, 8 * k, stragglers=1, slowdown=k)
    slow = events.times.factors.index(k)
    assert sum(events.count) == 8 * (k * (n - 1) + 1)  # of a synchronous one: 8 n
    # When it arrives at the same time as others, before or after them: they are counted with the next.
    assert events.aged[slow] == [8, 8 * k * (n - 1)] or abs(events.aged[slow][1] - 8 * k * (n - 1)) <= n - 1
    uses, total = (sum(part) for part in zip(*(events.aged[i] for i in range(n) if i != slow), strict=True))
    assert set(events.ages[:2] + events.ages[n : k * (n - 1) - 3]) <= {0, 1} and sum(events.ages[n - 2 : n]) > uses - 3
    assert total / uses == pytest.approx(n - 2 + 1 / k, abs=0.1)


def test_exponential_times_make_staleness_geometric():
    n = 4
    events = served(n, 1000, times="exponential")
    ages, uses = np.array(events.ages[:8]), sum(events.ages)
    assert uses / 1000 == pytest.approx(n, rel=0.05)
    assert sum(s * count for s, count in enumerate(events.ages)) / uses == pytest.approx(n - 1, abs=0.05)
    assert ages / uses == pytest.approx((1 / n) * (1 - 1 / n) ** np.arange(8), abs=0.025)


def test_a_synchronous_step_takes_as_long_as_the_slowest_and_delays_travel_by_one_neighbour():
    n, link = 8, Link(**AT_ONCE)
    everyone = Step(after=Exchange(AllReduce(n)))
    times = ComputeTimes(Clock("exponential"), n, 0, 1, 1.0)
    clock = SynchronousClock(n, 0, times, METER, link, 1.0, 0.0, 0)
    for k in range(1000):
        before, clock.now = clock.now.ready, clock.after(everyone)
        assert clock.now.ready == [before[0] + max(times(i, k) for i in range(n))] * n
    harmonic = sum(1 / i for i in range(1, n + 1))
    assert clock.now.ready[0] / 1000 == pytest.approx(harmonic, rel=0.04)

    ring = Pairs(((tuple((i, i + 1) for i in range(0, n, 2))), tuple((i, (i + 1) % n) for i in range(1, n, 2))))
    late = ComputeTimes(Clock(faults=("pause:0:0:5",)), n, 0, 1, 1.0)
    clock = SynchronousClock(n, 0, late, METER, link, 1.0, 0.0, 0)
    clock.now = clock.after(Step(after=Exchange(ring, Gossip(0.1))))
    assert clock.now.ready == [6, 6, 6, 1, 1, 1, 1, 6]  # 0 and 1 meet first, then 1 and 2, 7 and 0
    costly = SynchronousClock(n, 0, ComputeTimes(Clock(), n, 0, 1, 1.0), METER, Link(0.25, 1e300), 1.0, 0, 0)
    assert costly.after(Step(after=Exchange(ring, Gossip(0.1)))).ready == [1.5] * n


def test_a_lost_message_is_sent_again_by_whoever_waits():
    n = 2
    pair = Step(after=Exchange(Pairs((((0, 1),),)), Gossip(0.5)))
    clock = SynchronousClock(n, 0, ComputeTimes(Clock(), n, 0, 1, 1.0), METER, Link(1.0, 1e300), 1.0, 0.5, 3)
    for _ in range(3000):
        clock.now = clock.after(pair)
    sent = sum(clock.now.sent)
    assert sent == 6000 + clock.now.lost and clock.now.lost / sent == pytest.approx(0.5, abs=0.02)
    # The longer of two geometric numbers of tries, 1/2 each, is 8/3 on average.
    assert clock.now.ready[0] / 3000 == pytest.approx(1 + 8 / 3, rel=0.03)


def test_the_sum_of_all_models_is_conserved_by_pair_averaging():
    run = trainer(method="adpsgd", times="pareto", lr=0.0, message_loss=0.3, latency=3e-3)
    before, first = run.state.x.sum(dim=0), (run.state.x - run.state.x.mean(dim=0)).square().sum().item() / 8
    last = run.run().rows[-1]
    assert torch.allclose(run.state.x.sum(dim=0), before, rtol=0, atol=1e-12)
    assert last["messages_lost"] > 5 and last["consensus_distance"] < first / 2


class Plain:
    """Asynchronous AL-DSGD, as its equation, worker after worker and event after event."""

    def __init__(self, run, config):
        self.run, self.config, self.n = run, config, run.algorithm.n
        self.modules = [nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).double() for _ in range(self.n)]
        self.x = [row.clone() for row in run.state.x]

    def gradient(self, i, k):
        plan = self.run.batches.epoch(k // self.run.steps, [i])
        index = plan.index[0, k % self.run.steps]
        inputs = normalise(DATA.train_inputs[index], DATA.mean, DATA.std, torch.float64)
        module = self.modules[i]
        nn.utils.vector_to_parameters(self.x[i], module.parameters())
        loss = cross_entropy(module(inputs), DATA.train_targets[index])
        gradient = torch.autograd.grad(loss, list(module.parameters()))
        return loss.item(), torch.cat([g.flatten() for g in gradient]) + 5e-4 * self.x[i]

    def simulate(self, until, latency, link, limit):
        graph = self.config.algorithm(self.run.steps).core.graphs[0]
        near = [[a + b - i for m in graph.matchings for a, b in m if i in (a, b)] for i in range(self.n)]
        alpha = self.run.algorithm.core.alphas[0]
        events, order, box, velocity = [], 0, [{} for _ in near], [torch.zeros_like(x) for x in self.x]
        count, busy = [0] * self.n, [0.0] * self.n

        def at(*event):
            nonlocal order
            order += 1
            heapq.heappush(events, (*event[:2], order, *event[2:]))

        def begin(i, now, loss):
            busy[i] = max(busy[i], now)
            for j in near[i]:
                busy[i] += link
                at(busy[i] + latency, 1, j, (i, self.x[i].clone(), loss, len(near[i]), now))
            at(now + self.run.times(i, count[i]), 0, i, now)

        for i in range(self.n):
            begin(i, 0.0, math.inf)
        while events[0][0] <= until:
            now, kind, _, i, body = heapq.heappop(events)
            if kind == 1:
                box[i][body[0]] = body
                continue
            loss, gradient = self.gradient(i, count[i])
            count[i] += 1
            entries = [(i, self.x[i], loss, len(near[i]), now)] + [box[i][j] for j in near[i] if j in box[i]]
            able = [e for e in entries if math.isfinite(e[2])]
            best, largest = min(able, key=lambda e: e[2]), max(able, key=lambda e: e[3])
            fade = [math.exp(-max(now - e[4] - 1, 0) / limit) for e in (best, largest)]
            c1, c2, p1, p2 = 0.3 * fade[0], 0.1 * fade[1], 0.2 * fade[0], 0.2 * fade[1]
            gossip = (1 - alpha * (len(entries) - 1)) * self.x[i] + alpha * sum(e[1] for e in entries[1:])
            u = (1 - c1 - c2) * gossip + c1 * best[1] + c2 * largest[1]
            u = u - p1 * (u - best[1]) - p2 * (u - largest[1])
            velocity[i] = 0.9 * velocity[i] + gradient
            rate = 0.1 if body < 2 * self.run.steps else 0.01
            self.x[i] = u - rate * velocity[i]
            begin(i, now, loss)
        return torch.stack(self.x), count


def test_the_engine_against_a_plain_simulation():
    changes = dict(
        method="async_aldsgd", graph="paper:53.8", times="lognormal", age="fade", age_limit=1.5, stragglers=2,
        slowdown=3.0, latency=2e-3, bandwidth=5204 / 1e-3,
    )  # fmt: skip
    run = trainer(**changes)
    plain = Plain(run, BASE.but(**changes))
    expected, count = plain.simulate(9, 0.2, 0.1, 1.5)
    run.run()
    assert run.events.count == count and len(set(count)) > 3
    assert torch.allclose(run.state.x, expected, rtol=0, atol=1e-12)


FAULTY = dict(
    method="async_aldsgd", core="matcha", graph="paper:100", times="exponential", message_loss=0.2, stragglers=1,
    faults=("pause:1:0.4:1.2", "leave:2:1.1", "return:3:0.5:1.5", "return:?:2:2.5"), epochs=5, latency=5e-3,
)  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [FAULTY, dict(method="async_server", workers=4, epochs=5, times="pareto", message_loss=0.3, model="resnet_small",
          precision="float32", train_images=128, eval_every=2),
     dict(method="aldsgd", virtual=True, times="exponential", message_loss=0.1, epochs=5)],
)  # fmt: skip
def test_the_same_seed_gives_the_same_events_also_after_a_crash(tmp_path, changes):
    unhit = trainer(**changes)
    expected = unhit.run().rows
    crashed = trainer(**changes)
    crash(crashed, tmp_path / "run", 3)
    again = trainer(**changes)
    found = again.run(checkpoints=tmp_path / "run", checkpoint_every=1).rows
    clocks = ("seconds_compute", "seconds_mixing", "seconds_evaluation")
    plain = [[{k: v for k, v in row.items() if k not in clocks} for row in rows] for rows in (found, expected)]
    assert repr(plain[0]) == repr(plain[1])
    assert torch.equal(again.state.x, unhit.state.x) and again.account() == unhit.account()


def test_faults_are_what_the_record_says():
    run = trainer(**FAULTY)
    rows = run.run().rows
    taken = [row["gradients"] for row in rows if row["epoch"] == 5 and row["worker"] is not None]
    assert run.account()["present"][2] is False and taken[2] < max(taken) / 2
    assert rows[-1]["messages_lost"] > 10 and rows[-1]["train_loss"] < 2.3
    gone = [row for row in rows if row["worker"] == 2 and row["epoch"] > 2]
    assert all(row["train_loss"] is None for row in gone) and len(gone) == 3
    stuck = trainer(method="dpsgd", virtual=True, faults=("leave:2:1.1",), epochs=3)
    rows = stuck.run().rows
    assert stuck.taken == 3 and rows[-1]["virtual_s"] == pytest.approx(3 * 3 * 0.01)


def test_a_run_that_diverges_in_its_first_step_keeps_the_losses_that_are_no_numbers():
    run = trainer(method="adsgd", workers=4, stragglers=1, slowdown=50.0, lr=1e30, epochs=1, precision="float32")
    with pytest.warns(UserWarning, match="the run diverged: .* at step 0 of 5"):
        rows = run.run().rows
    losses = [row["train_loss"] for row in rows]
    assert run.diverged == 0 and None not in losses and sum(map(math.isnan, losses[:4])) == 3
    assert math.isnan(losses[-1])


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(times="weekly"), "unknown times 'weekly'"),
        (dict(times="trace:/nowhere.csv"), "cannot be read"),
        (dict(times="pareto", time_shape=0.5), "does not fit times 'pareto'"),
        (dict(message_loss=1.0), "message_loss = 1 loses every message"),
        (dict(faults=("pause:1:3:2",)), "cannot be read; give pause:WORKER"),
        (dict(faults=("leave:9:3",)), "workers 0..7"),
        (dict(stragglers=9), "9 stragglers among 8 workers"),
        (dict(stragglers=1, slowdown=0.5), "slowdown = 0.5 must be 1 or more"),
        (dict(compute_seconds=0.0), "compute_seconds above 0"),
    ],
)
def test_a_clock_that_makes_no_sense_is_one_sentence(changes, message):
    with pytest.raises(ConfigError, match=message):
        trainer(method="adsgd", **changes)


def test_a_trace_is_followed_row_by_row(tmp_path):
    (tmp_path / "times.csv").write_text("0.01\n0.03\n")
    run = trainer(method="adsgd", times=f"trace:{tmp_path}/times.csv", epochs=2)
    assert run.run().rows[-1]["gradients"] == 8 * 3 and run.events.last == [5.0] * 8


def test_rows_stand_once_however_many_hold_them():
    run = trainer(method="adsgd", graph="complete", workers=10, times="exponential", message_loss=0.3)
    run.run()
    assert run.events.messages > 500 and run.events.versions.most < 4 * 10
    held = Counter(m.row for box in run.events.box for m in box.values())
    held.update(event[4].row for event in run.events.heap if event[1] == 3)
    assert {row: count for row, count in enumerate(run.events.versions.holders) if count} == dict(held)


def test_runs_without_a_clock_keep_their_keys_and_options_without_effect_are_refused():
    plain = RunConfig(method="dpsgd")
    assert plain.but(times="pareto", stragglers=2, faults=("leave:1:1",)).key == plain.key
    assert plain.but(virtual=True).key != plain.key
    slow = RunConfig(method="adsgd", stragglers=1)
    assert slow.key == slow.but(virtual=True).key != slow.but(slowdown=3.0).key
    assert slow.but(virtual=True).unused["virtual"] == "a synchronous method"
