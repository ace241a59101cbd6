"""Faulty workers and defences against them: each against a plain transcription, in checkpoints, and in records."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from aldsgd.clocks import Clock
from aldsgd.data import shards_of
from aldsgd.datasets import content_hash, load
from aldsgd.defences import Defence, breakdown
from aldsgd.distrust import Distrust, distrusted
from aldsgd.errors import ConfigError
from aldsgd.faults import FAULTS, Fault, taught
from aldsgd.finite import finite_rows
from aldsgd.graphs import complete, paper_graph, ring
from aldsgd.leaders import ALDSGD
from aldsgd.links import Pairs
from aldsgd.network import LocalNetwork, mix_finite, mix_sparse
from aldsgd.settings import Settings
from aldsgd.trainers import train
from aldsgd.training import Trainer
from baselines.allreduce import AllReduce
from baselines.dpsgd import DPSGD
from baselines.easgd import EASGD
from baselines.gradient_tracking import GradientTracking
from baselines.lsgd import LSGD
from experiments.configuration import RunConfig, from_record
from experiments.options import Execution
from experiments.runner import content, prepare, train_run
from tests.leading import Problem
from tests.reference import active_neighbours, gossip_of, leaders_of
from tests.stepping import rule, state_of, take

CLOSE = dict(rtol=0, atol=1e-12)
GRAPH = paper_graph("53.8")
N, SIZE, LR = 8, 6, 0.1


def walked(algorithm, steps: int, fault=None, defence=None, seed: int = 3):
    """(models, gradients, losses) before each step, and the models after the last; with the network."""
    problem = Problem(algorithm.n, SIZE, seed=1)
    network = LocalNetwork(algorithm.n, centres=algorithm.centres)
    models = torch.tensor(np.concatenate([problem.start, problem.start[:1].repeat(algorithm.centres, 0)]))
    state = state_of(algorithm, models)
    names = ["x", *(name for name, shape in algorithm.state.items() if shape == "row")]
    distrust = Distrust(network, state, names, fault, defence or Defence(), seed)
    local, seen = rule(models, network, LR), []
    for t in range(steps):
        network.step, x = t, models.numpy().copy()
        g = np.stack([problem.gradient(i, x[i], t) for i in range(algorithm.n)])
        losses = np.array([problem.loss(i, x[i], t) for i in range(algorithm.n)])
        gradients = torch.tensor(g)
        distrust.disturb(models[: algorithm.n], gradients)
        seen.append((x, g, losses))
        take(algorithm, t, distrust, models, gradients, LR, torch.tensor(losses), state, local)
    return seen, models.numpy().copy(), distrust


# What is not finite


@pytest.mark.parametrize("mix", [None, mix_sparse])
def test_nobody_hears_a_row_that_is_not_finite(mix, monkeypatch):
    if mix:
        monkeypatch.setattr("aldsgd.network.mix_rows", mix)
    hood = LocalNetwork(N).neighbourhood(Pairs(GRAPH.matchings))
    x, alpha = np.random.default_rng(0).normal(size=(N, 40)), 0.23
    rows = hood.gossip(alpha)
    for bad in ({}, {1: np.nan}, {1: np.inf, 6: np.nan}):
        broken = x.copy()
        for worker, value in bad.items():
            broken[worker, 7] = value
        models = torch.tensor(broken)
        assert finite_rows(models).tolist() == [i not in bad for i in range(N)]
        mix_finite(models, hood, rows, finite_rows(models))
        for i in range(N):
            if i in bad:
                assert models[i].isnan().all()
                continue
            heard = [x[i] if j in bad else x[j] for j in active_neighbours(i, GRAPH.matchings)]
            expected = (1 - alpha * len(heard)) * x[i] + alpha * sum(heard)
            np.testing.assert_allclose(models[i].numpy(), expected, **CLOSE)


def test_sums_that_overflow_are_finite_and_means_leave_out_what_is_not():
    large = torch.full((3, 4), torch.finfo(torch.float32).max)
    assert finite_rows(large).all()
    x = torch.tensor(np.random.default_rng(0).normal(size=(4, 5)))
    models, network = x.clone(), LocalNetwork(4)
    models[2, 0] = -torch.inf
    network.average(models)
    np.testing.assert_allclose(models[0].numpy(), x[[0, 1, 3]].mean(dim=0).numpy(), **CLOSE)
    assert models[2].isnan().all() and network.unsound.tolist() == [0, 0, 1, 0]


# Faults


def false_row(kind: str, row, then, t: int):
    """What others hear of a faulty worker, plainly; ``then``: its row at the steps so far."""
    return {
        "scaled": lambda: 10 * row,
        "growing": lambda: row * 1.1 ** (t - 2),
        "stopped": lambda: then[2],
        "old": lambda: then[2 + (t - 2) // 3 * 3],
    }.get(kind, lambda: row)()


@pytest.mark.parametrize("kind", ["honest", "scaled", "growing", "stopped", "old", "sign"])
@pytest.mark.parametrize("led", [False, True])
def test_each_fault_equals_its_transcription(kind, led):
    core, bad, start = DPSGD(GRAPH), (1, 6), 2
    algorithm = ALDSGD(core) if led else core
    fault = Fault(kind, bad, lies=led, strength=3 if kind == "old" else None, start=start)
    seen, end, distrust = walked(algorithm, 9, fault)
    alpha, then, after = core.alphas[0], {i: [] for i in bad}, [x for x, _, _ in seen[1:]] + [end]
    c1, c2, p1, p2 = 0.3, 0.1, 0.2, 0.2
    follows = near = 0
    for t, (x, g, losses) in enumerate(seen):
        y = np.stack([x[i] - LR * g[i] * (-1 if kind == "sign" and i in bad and t >= start else 1) for i in range(N)])
        told = [0.0 if i in bad and led and t >= start else losses[i] for i in range(N)]
        sent = y.copy()
        for i in bad:
            then[i].append(y[i])
            if t >= start:
                sent[i] = false_row(kind, y[i], then[i], t)
        for i in range(N):
            heard = sent.copy()
            heard[i] = y[i]
            new = gossip_of(i, GRAPH.matchings, heard, alpha)
            if led:
                b, m = leaders_of(i, GRAPH.matchings, told)
                u = (1 - c1 - c2) * new + c1 * heard[b] + c2 * heard[m]
                new = u - p1 * (u - heard[b]) - p2 * (u - heard[m])
                follows += b in bad
                near += i in bad or any(j in bad for j in active_neighbours(i, GRAPH.matchings))
            np.testing.assert_allclose(after[t][i], new, **CLOSE)
    if led:
        assert distrust.led.sum(dim=0).tolist() == [follows, near, 9 * N] and follows


@pytest.mark.parametrize("kind", ["random", "noise"])
def test_drawn_rows_have_the_size_of_the_model_and_do_not_depend_on_the_order_of_asking(kind):
    fault, row = Fault(kind, (0,), strength=2.0), torch.linspace(-1, 3, 4000, dtype=torch.float64)
    first = fault.message(row, None, 0, 5, seed=1)
    assert torch.equal(first, fault.message(row, None, 0, 5, seed=1))
    assert torch.equal(first, fault.message(row, None, 0, 6, seed=1)) == (kind == "random")
    assert not torch.equal(first, fault.message(row, None, 1, 5, seed=1))
    drawn = first - row if kind == "noise" else first
    assert float(drawn.square().mean().sqrt() / row.square().mean().sqrt()) == pytest.approx(2, rel=0.1)


def test_every_fault_of_every_kind_of_method_leaves_the_honest_finite():
    methods = ALDSGD(DPSGD(GRAPH), order="printed"), GradientTracking(DPSGD(GRAPH)), LSGD(N, tau=2), EASGD(N, tau=2)
    for algorithm in (*methods, AllReduce(N)):
        clean = walked(algorithm, 5)[1]
        for kind in FAULTS:
            fault = Fault(kind, (2,), lies=True, strength=3 if kind == "old" else None)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                end = walked(algorithm, 5, fault)[1]
            honest = np.delete(end, 2, axis=0)
            assert np.isfinite(honest).all(), (algorithm, kind)
            moved = np.abs(honest - np.delete(clean, 2, axis=0)).max() > 1e-9
            assert moved or kind in ("honest", "flipped"), (algorithm, kind)


def test_labels_are_flipped_for_the_faulty_alone():
    data = load("digits").subset(64, 16)
    settings = Settings(fault="flipped", faulty=(1,), split=[np.arange(0, 32), np.arange(32, 64)])
    other = taught(data, 2, settings)
    assert torch.equal(other.train_targets[:32], data.train_targets[:32])
    assert torch.equal(other.train_targets[32:], 9 - data.train_targets[32:])
    assert taught(data, 2, replace(settings, fault="sign")) is data


@pytest.mark.parametrize("shape", [{}, dict(split="label"), dict(clock=Clock(stragglers=1))])
def test_the_library_flips_labels_once_on_shards_cut_before(shape):
    """Bit for bit the honest run on labels that were flipped by hand."""
    data = load("digits").subset(256, 32)
    given = dict(epochs=2, lr=0.1, **shape)
    shards = shards_of(data.train_targets, N, Settings(**given))
    labels = data.train_targets.clone()
    for worker in (1, 2):
        labels[shards[worker]] = 9 - labels[shards[worker]]
    by_hand = replace(data, train_targets=labels)
    found = [
        train(DPSGD(GRAPH), BASE.build(data), each, **given | more).workers.parameters
        for each, more in (
            (data, dict(fault="flipped", faulty=(1, 2))),
            (by_hand, dict(split=shards, fault="honest", faulty=(1, 2))),
            (data, dict(fault="honest", faulty=(1, 2))),
        )
    ]
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


# Defences


def slow(kind: str, own, heard, weights, radius, b):
    """A defence, worker by worker and number by number."""
    new = own.copy()
    if kind == "clip":
        for x, w in zip(heard, weights, strict=True):
            new += w * (x - own) * min(1, radius / np.linalg.norm(x - own))
        return new
    for k in range(len(own)):
        column = [x[k] for x in heard]
        if kind == "median":
            new[k] = own[k] + sum(weights) * (np.median([own[k], *column]) - own[k])
        else:
            order = sorted(range(len(column)), key=column.__getitem__)
            new[k] += sum(weights[j] * (column[j] - own[k]) for j in order[b : len(order) - b])
    return new


@pytest.mark.parametrize("kind", ["clip", "trimmed", "median", "none"])
def test_each_defence_equals_its_transcription(kind):
    for graph in (GRAPH, complete(5), ring(6)):
        core = DPSGD(graph)
        fault, defence = Fault("scaled", (1,), strength=3), Defence(kind, radius=0.7, trim=1)
        seen, end, _ = walked(core, 3, fault, defence)
        alpha, after = core.alphas[0], [x for x, _, _ in seen[1:]] + [end]
        for t, (x, g, _) in enumerate(seen):
            y = x - LR * g
            for i in range(graph.n):
                near = active_neighbours(i, graph.matchings)
                heard = [3 * y[j] if j == 1 else y[j] for j in near]
                if kind == "none":
                    new = (1 - alpha * len(near)) * y[i] + alpha * sum(heard)
                else:
                    new = slow(kind, y[i], heard, [alpha] * len(near), 0.7, 1)
                np.testing.assert_allclose(after[t][i], new, **CLOSE)


def test_a_neighbour_leads_for_no_longer_than_the_cap():
    algorithm, cap = ALDSGD(DPSGD(GRAPH)), 3
    fault = Fault("honest", (1,), lies=True)
    seen, end, distrust = walked(algorithm, 12, fault, Defence(cap=cap))
    after, led, alpha = [x for x, _, _ in seen[1:]] + [end], {i: [] for i in range(N)}, algorithm.core.alphas[0]
    for t, (x, g, losses) in enumerate(seen):
        y = x - LR * g
        for i in range(N):
            told = [0.0 if j == 1 else losses[j] for j in range(N)]
            last = led[i][-cap:]
            if len(last) == cap and len(set(last)) == 1 and last[0] != i:
                told[last[0]] = 1e300  # comes last
            b, m = leaders_of(i, GRAPH.matchings, told)
            led[i].append(b)
            u = 0.6 * gossip_of(i, GRAPH.matchings, y, alpha) + 0.3 * y[b] + 0.1 * y[m]
            np.testing.assert_allclose(after[t][i], u - 0.2 * (u - y[b]) - 0.2 * (u - y[m]), **CLOSE)
    runs = [len(part) for i in range(N) if i != 1 for part in "".join("x" if b == 1 else " " for b in led[i]).split()]
    assert max(runs) == cap and distrust.led[:, 0].sum() == sum(b == 1 for found in led.values() for b in found)


@pytest.mark.parametrize("kind", ["none", "trimmed", "median"])
def test_up_to_the_breakdown_point_a_worker_stays_among_the_honest_and_beyond_it_does_not(kind):
    rng = np.random.default_rng(0)
    for degree in range(1, 8):
        for bad in range(degree + 1):
            honest = torch.tensor(rng.normal(size=(degree - bad, 5)))
            own, far = torch.tensor(rng.normal(size=5)), torch.full((bad, 5), 1e9, dtype=torch.float64)
            weights = torch.full((degree,), 1 / (degree + 1), dtype=torch.float64)
            new = Defence(kind, trim=1).combine(own, torch.cat([honest, far]), weights)
            assert bool((new < 1e6).all()) == (bad <= breakdown(kind, degree, 1)), (kind, degree, bad)


def test_a_clipped_pull_is_no_longer_than_its_weight_times_the_radius():
    own, far = torch.zeros(5, dtype=torch.float64), torch.full((3, 5), 1e9, dtype=torch.float64)
    weights = torch.tensor([0.2, 0.3, 0.1], dtype=torch.float64)
    assert float(Defence("clip", radius=2.0).combine(own, far, weights).norm()) == pytest.approx(2.0 * 0.6, rel=1e-12)
    assert breakdown("clip", 3) == np.inf


# Runs


BASE = RunConfig(model="logistic", train_images=256, test_images=32, epochs=4, lr=0.1, eval_every=4)


def test_records_of_runs_without_faults_are_as_they_were():
    names = {"fault", "faulty", "lies", "fault_strength", "fault_from", "defence", "radius", "trim", "lead_cap"}
    assert not names & set(RunConfig().record())
    config = BASE.but(fault="random", faulty=(1, 2), lies=True, defence="trimmed", lead_cap=5)
    record = config.record()
    assert from_record(record).record() == record and not {"fault_from", "trim", "radius"} & set(record)


def test_a_record_says_the_fault_the_honest_and_who_led(tmp_path):
    config = BASE.but(fault="nan", faulty=(1,), lies=True)
    with pytest.warns(UserWarning, match="worker 1 sent values that are not finite in epoch 1; nobody took them"):
        run = train_run_of(config, tmp_path)
    extra, last = run.meta["extra"], run.workers[run.workers["epoch"] == 4].set_index("worker")["test_accuracy"]
    assert extra["unsound"] == {"1": 1}
    found = extra["faults"]
    assert found["faulty"] == [1] and found["led_near"] == 1.0 and found["led"] == pytest.approx(2 / 7)
    assert found["honest_worst"] == last.drop(1).min() and found["honest_mean"] == pytest.approx(last.drop(1).mean())
    assert last.drop(1).min() > 0.5 > last[1]


def train_run_of(config, root):
    from aldsgd.records import RunStore

    return train_run(RunStore(root), config, Execution(results=str(root), quiet=True, checkpoint_every=0))


class Stop(Exception):
    """The run is cut off here."""


@pytest.mark.parametrize("kind", ["stopped", "noise", "growing"])
def test_a_run_with_faults_goes_on_from_a_checkpoint_as_if_nothing_had_happened(tmp_path, kind):
    config = BASE.but(fault=kind, faulty=(2,), lies=True, lead_cap=3, fault_from=3, eval_every=1, defence="clip")
    data = load("digits").subset(256, 32)

    def trainer():
        return Trainer(config.algorithm(2), config.build(data), config.taught(data), config.settings())

    def stop(rows):
        if rows[-1]["epoch"] == 3:
            raise Stop

    whole = trainer()
    whole.run()
    with pytest.raises(Stop):
        trainer().run(stop, checkpoints=tmp_path / "c", checkpoint_every=1)
    again = trainer()
    again.run(checkpoints=tmp_path / "c", checkpoint_every=1)
    assert torch.equal(whole.state.x, again.state.x) and torch.equal(whole.distrust.led, again.distrust.led)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="faulty = .* of 8 workers; name some of 0 to 7, not all"):
        distrusted(LocalNetwork(8), DPSGD(GRAPH), None, Settings(fault="honest", faulty=tuple(range(8))))
    with pytest.raises(ConfigError, match="faulty = .99,. of 8 workers"):
        Trainer(DPSGD(GRAPH), None, load("digits"), Settings(fault="flipped", faulty=(99,)))
    with pytest.raises(ConfigError, match="fault_strength has no effect without fault"):
        Settings(fault_strength=0.0)
    with pytest.raises(ConfigError, match="an all-reduce has none"):
        distrusted(LocalNetwork(8), AllReduce(8), None, Settings(defence="median"))
    assert distrusted(LocalNetwork(8), DPSGD(GRAPH), None, Settings(radius=2.0)) is None


def test_runs_with_and_without_flipped_labels_know_their_own_data():
    """A store of both is taken for complete: neither's data passes for the other's."""
    base = RunConfig(dataset="digits", model="logistic", train_images=64, test_images=16, workers=4, graph="ring")
    runs = [base, base.but(fault="flipped", faulty=(1,)), base.but(fault="flipped", faulty=(2,))]
    skewed = [run.but(split="dirichlet", dirichlet_alpha=1.0) for run in runs]
    execution = Execution(results="unused")
    own = [content_hash(prepare(run, execution).data) for run in (*runs, *skewed)]
    assert len(set(own)) == 5 and [content(run, execution) for run in (*runs, *skewed, *runs)] == own + own[:3]
