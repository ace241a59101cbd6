"""By what AL-DSGD tells who is best, on whose samples, and what that leaves behind."""

import numpy as np
import pytest
import torch
from torch import nn

from aldsgd import train
from aldsgd.data import normalise
from aldsgd.datasets import load
from aldsgd.errors import ConfigError
from aldsgd.graphs import paper_graph
from aldsgd.leaders import ALDSGD, JUDGES, MEMORY
from aldsgd.links import Link
from aldsgd.network import LocalNetwork
from aldsgd.settings import Settings
from aldsgd.step import Meter, Step
from aldsgd.streams import rng
from aldsgd.training import Trainer
from baselines.dpsgd import DPSGD
from baselines.local_sgd import LocalSteps
from tests import reference
from tests.stepping import rule, state_of, take

GRAPH = paper_graph(53.8)
C = (0.3, 0.1, 0.2, 0.2)
DATA = load("digits").subset(640, 100)


def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def trained(judge, scores_of, steps=12):
    """(models, plain transcription) after some steps, leaders told by ``scores_of(t, losses)``."""
    algorithm = ALDSGD(DPSGD(GRAPH), *C, judge=judge, seed=7)
    network, draws = LocalNetwork(8), np.random.default_rng(0)
    x = draws.normal(size=(8, 5))
    models = torch.tensor(x)
    state, local = state_of(algorithm, models), rule(models, network, 0.1)
    for t in range(steps):
        gradients, losses = draws.normal(size=(8, 5)), draws.normal(size=8)
        arguments = torch.tensor(gradients), 0.1, torch.tensor(losses)
        take(algorithm, t, network, models, *arguments, state=state, local=local)
        alpha = algorithm.description()["alpha"][0]
        x = reference.released_step(x, gradients, scores_of(t, losses), GRAPH.matchings, alpha, 0.1, *C)
    return models.numpy(), x


def test_a_running_average_forgets_the_bias_of_its_start():
    past = []

    def scores(t, losses):
        past.append(losses)
        weights = [(1 - MEMORY) * MEMORY ** (t - k) for k in range(t + 1)]
        return sum(w * old for w, old in zip(weights, past, strict=True)) / sum(weights)

    models, plain = trained("average", scores)
    np.testing.assert_allclose(models, plain, rtol=0, atol=1e-12)


def test_random_leaders_follow_from_seed_and_step_and_send_no_loss():
    models, plain = trained("random", lambda t, losses: rng("random leader", 7, t).random(8))
    np.testing.assert_allclose(models, plain, rtol=0, atol=1e-12)
    sent = {}
    for judge in ("batch", "random"):
        meter = Meter({"x": (5, 8)}, 8, Link())
        meter.count(ALDSGD(DPSGD(GRAPH), judge=judge).step(0))
        sent[judge] = meter.bytes
    assert sent["batch"] - sent["random"] == 4 * 2 * len(GRAPH.edges)


@pytest.mark.parametrize("judge", ["second", "shared", "receiver"])
def test_who_judges_on_what_by_hand(judge):
    """All of a short run by hand: autograd on plain tensors, and leaders by a second mini-batch of the sender, by
    samples that all share, or by the next mini-batch of the receiver, also where that is of the next epoch."""
    algorithm = ALDSGD(DPSGD(GRAPH), *C, judge=judge, shared=20)
    trainer = Trainer(algorithm, net, DATA, Settings(epochs=2, lr=0.1, seed=3))
    x = trainer.workers.parameters.double().numpy().copy()
    first, second = (
        np.concatenate([walk.epoch(e, range(8)).index for e in range(3)], axis=1)
        for walk in (trainer.batches, trainer.judging.second)
    )
    for worker in range(8):
        shard = set(trainer.batches.shards[worker].tolist())
        assert set(second[worker].flatten().tolist()) == set(first[worker].flatten().tolist()) == shard
        assert not (first[worker] == second[worker]).all() and not shard & set(trainer.judging.shared.tolist())
    assert len(set(trainer.judging.shared.tolist())) == (20 if judge == "shared" else 0)

    def loss_of(row, samples):
        inputs = normalise(DATA.train_inputs[samples], DATA.mean, DATA.std, torch.float64).flatten(1)
        weight, bias = row[:640].view(10, 64), row[640:]
        return nn.functional.cross_entropy(inputs @ weight.T + bias, DATA.train_targets[samples])

    followed, alpha = 0, algorithm.description()["alpha"][0]
    W = np.stack([reference.gossip_of(i, GRAPH.matchings, np.eye(8), alpha) for i in range(8)])
    for k in range(2 * trainer.steps):
        y, own, told = np.empty_like(x), np.empty(8), np.empty(8)
        for i in range(8):
            row = torch.tensor(x[i], requires_grad=True)
            loss = loss_of(row, first[i, k])
            own[i] = loss.item()
            told[i] = loss_of(row, trainer.judging.shared if judge == "shared" else second[i, k]).item()
            y[i] = x[i] - 0.1 * (torch.autograd.grad(loss, row)[0].numpy() + 5e-4 * x[i])
        for i in range(8):
            scores = told
            if judge == "receiver":
                scores = np.array([loss_of(torch.tensor(y[j]), first[i, k + 1]).item() for j in range(8)])
            followed += reference.leaders_of(i, GRAPH.matchings, scores) != reference.leaders_of(
                i, GRAPH.matchings, own
            )
            x[i] = reference.followed_row(i, GRAPH.matchings, W, scores, *C) @ y
    assert followed  # else the judges could not be told apart
    for epoch in range(2):
        trainer.train_epoch(epoch)
    np.testing.assert_allclose(trainer.workers.parameters.double().numpy(), x, rtol=0, atol=3e-5)
    passes = {"second": 1, "shared": 20 / 16, "receiver": 4}[judge]
    assert trainer.record(2, torch.zeros(8))[-1]["modelled_compute_s"] == pytest.approx(
        0.01 * 2 * trainer.steps * (1 + passes / 3)
    )


def test_a_steep_worker_is_no_leader():
    """By the norm of the gradient of this step, which is smallest where the next move is."""
    algorithm, models = ALDSGD(DPSGD(GRAPH), *C, judge="gradient"), torch.zeros(8, 8, dtype=torch.float64)
    gradients = torch.eye(8, dtype=torch.float64) * torch.tensor([5.0, 3, 8, 1, 6, 2, 7, 4])[:, None]
    take(algorithm, 0, LocalNetwork(8), models, gradients, 0.1, torch.zeros(8, dtype=torch.float64))
    alpha = algorithm.description()["alpha"][0]
    W = np.stack([reference.gossip_of(i, GRAPH.matchings, np.eye(8), alpha) for i in range(8)])
    norms = gradients.norm(dim=1).numpy()
    slow = [reference.followed_row(i, GRAPH.matchings, W, norms, *C) @ (-0.1 * gradients.numpy()) for i in range(8)]
    np.testing.assert_allclose(models.numpy(), slow, rtol=0, atol=1e-12)


def test_judging_leaves_no_trace_in_what_batchnorm_tracks():
    def build():
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 10))

    still = dict(c1=0.0, c2=0.0, p1=0.0, p2=0.0)
    runs = [
        train(ALDSGD(DPSGD(GRAPH), **still, judge=judge), build, DATA, epochs=1)
        for judge in ("batch", "second", "receiver")
    ]
    for plain, *others in zip(*(run.workers.modules for run in runs), strict=True):
        for other in others:
            for name, value in plain.state_dict().items():
                assert torch.equal(value, other.state_dict()[name]), name


@pytest.mark.parametrize("judge", JUDGES)
def test_every_judge_trains_and_judges_differ(judge):
    row = train(ALDSGD(DPSGD(GRAPH), judge=judge), net, DATA, epochs=1, lr=0.05).final
    other = train(ALDSGD(DPSGD(GRAPH)), net, DATA, epochs=1, lr=0.05).final
    assert (row["averaged_loss"] == other["averaged_loss"]) == (judge == "batch")


def test_unknown_judges_are_refused():
    with pytest.raises(ConfigError, match="unknown judge 'best'"):
        ALDSGD(DPSGD(GRAPH), judge="best")
    with pytest.raises(ConfigError, match="what a step judges by has to travel as losses do"):
        Step(judge="second")


def test_a_wrapper_judges_as_what_it_wraps():
    """A second draw inside local steps and below a merge: the trainer draws it, and the last step still goes by it."""
    inner = ALDSGD(DPSGD(GRAPH), judge="second", c1=0.9, c2=0.4)
    around = LocalSteps(inner, tau=2, merge=3)
    assert around.draw == "second" and around.coefficients == inner.coefficients == {"c1 + c2": 1.3, "p1 + p2": 0.4}
    assert around.step(3).judge == "second" and len(around.step(3).after) == 2
    assert train(LocalSteps(ALDSGD(DPSGD(GRAPH), judge="second"), tau=2), net, DATA, epochs=1, lr=0.05).final
