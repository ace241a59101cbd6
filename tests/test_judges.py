"""By what AL-DSGD tells who is best: the mini-batch of the gradient, a second one, a running average, chance."""

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


def test_the_second_draw_is_the_loss_of_the_model_before_its_step_on_samples_of_its_own_shard():
    """All of a short run by hand: autograd on plain tensors, and the leaders from the second walk."""
    algorithm = ALDSGD(DPSGD(GRAPH), *C, judge="second")
    settings = Settings(epochs=1, lr=0.1, seed=3)
    trainer = Trainer(algorithm, net, DATA, settings)
    x = trainer.workers.parameters.double().numpy().copy()
    first, second = (b.epoch(0, range(8)).index for b in (trainer.batches, trainer.second))
    assert not (first == second).all()
    for worker in range(8):
        shard = set(trainer.batches.shards[worker].tolist())
        assert set(second[worker].flatten().tolist()) == set(first[worker].flatten().tolist()) == shard

    def loss_of(row, samples):
        inputs = normalise(DATA.train_inputs[samples], DATA.mean, DATA.std, torch.float64).flatten(1)
        weight, bias = row[:640].view(10, 64), row[640:]
        return nn.functional.cross_entropy(inputs @ weight.T + bias, DATA.train_targets[samples])

    followed = 0
    for k in range(trainer.steps):
        gradients, scores, own = np.empty_like(x), np.empty(8), np.empty(8)
        for i in range(8):
            row = torch.tensor(x[i], requires_grad=True)
            loss = loss_of(row, first[i, k])
            gradients[i] = torch.autograd.grad(loss, row)[0].numpy() + 5e-4 * x[i]
            own[i], scores[i] = loss.item(), loss_of(row, second[i, k]).item()
        followed += scores.argmin() != own.argmin()
        alpha = algorithm.description()["alpha"][0]
        x = reference.released_step(x, gradients, scores, GRAPH.matchings, alpha, 0.1, *C)
    assert followed  # else the two judges could not be told apart
    trainer.train_epoch(0)
    np.testing.assert_allclose(trainer.workers.parameters.double().numpy(), x, rtol=0, atol=2e-5)


def test_judging_by_a_second_draw_leaves_no_trace_in_what_batchnorm_tracks():
    def build():
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 10))

    still = dict(c1=0.0, c2=0.0, p1=0.0, p2=0.0)
    runs = [train(ALDSGD(DPSGD(GRAPH), **still, judge=judge), build, DATA, epochs=1) for judge in ("batch", "second")]
    for a, b in zip(*(run.workers.modules for run in runs), strict=True):
        for name, value in a.state_dict().items():
            assert torch.equal(value, b.state_dict()[name]), name


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
    assert around.second_draw and around.coefficients == inner.coefficients == {"c1 + c2": 1.3, "p1 + p2": 0.4}
    assert around.step(3).judge == "second" and len(around.step(3).after) == 2
    assert train(LocalSteps(ALDSGD(DPSGD(GRAPH), judge="second"), tau=2), net, DATA, epochs=1, lr=0.05).final
