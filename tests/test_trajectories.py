"""Measurements along training: curvature, noise and dissimilarity against direct computation; leaders against loops."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import rankdata, spearmanr
from torch import nn

from aldsgd import models
from aldsgd.datasets import load
from aldsgd.graphs import paper_graph
from aldsgd.leaders import ALDSGD
from aldsgd.settings import Settings
from aldsgd.theory import trajectories
from aldsgd.training import Trainer
from baselines.dpsgd import DPSGD
from experiments.theory_observed import independent_rate, observe, observed_averaging, product_rate


@pytest.fixture
def small():
    torch.manual_seed(0)
    inputs, targets = torch.randn(30, 4), torch.randint(3, (30,))
    objective = trajectories.Objective(nn.Linear(4, 3), inputs, targets, decay=0.01)
    return objective, torch.randn(15) * 0.3


def test_the_objective_is_what_sgd_follows(small):
    objective, theta = small
    layer = nn.Linear(4, 3)
    nn.utils.vector_to_parameters(theta, layer.parameters())
    loss = nn.functional.cross_entropy(layer(objective.inputs), objective.targets) + 0.005 * theta.square().sum()
    assert objective.loss(theta).item() == pytest.approx(loss.item())
    assert torch.allclose(objective.gradient(theta), torch.autograd.functional.jacobian(objective.loss, theta))


def test_curvature_is_the_largest_eigenvalue(small):
    objective, theta = small
    hessian = torch.autograd.functional.hessian(objective.loss, theta)
    size, residual = trajectories.curvature(objective, theta, iterations=200)
    assert size == pytest.approx(torch.linalg.eigvalsh(hessian).abs().max().item(), rel=1e-3)
    assert residual < 0.05
    near = theta + 1e-2 * torch.randn(15)
    assert trajectories.difference_quotient(objective, theta, near) <= size * 1.05


def test_gradient_variance_of_batches_without_replacement(small):
    objective, theta = small
    single = torch.stack([objective.gradient(theta, torch.tensor([k])) for k in range(30)])
    spread = single.var(dim=0, unbiased=True).sum().item()
    expected = spread / 5 * (1 - 5 / 30)
    found = trajectories.gradient_variance(objective, theta, 5, 2000, np.random.default_rng(0))
    assert found == pytest.approx(expected, rel=0.08)
    assert trajectories.gradient_variance(objective, theta, 30, 3, np.random.default_rng(0)) == pytest.approx(
        0, abs=1e-10
    )


def test_dissimilarity_by_hand(small):
    objective, theta = small
    assert trajectories.dissimilarity([objective, objective], theta)[0] == pytest.approx(0, abs=1e-12)
    other = trajectories.Objective(nn.Linear(4, 3), -objective.inputs, objective.targets, 0.01)
    a, b = objective.gradient(theta), other.gradient(theta)
    zeta2, norm2 = trajectories.dissimilarity([objective, other], theta)
    assert zeta2 == pytest.approx((a - b).square().sum().item() / 4, rel=1e-5)
    assert norm2 == pytest.approx((a + b).square().sum().item() / 4, rel=1e-5)


@pytest.mark.filterwarnings("error")
def test_rank_correlation_is_that_of_the_ranks_and_nothing_of_a_constant():
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(0, 5, 8), rng.standard_normal(8)
        ranks = np.corrcoef(rankdata(a), rankdata(b))[0, 1]
        assert trajectories.rank_correlation(a, b) == pytest.approx(ranks)
    for same in (np.ones(8), np.full(8, np.nan), np.full(8, np.inf)):
        assert math.isnan(trajectories.rank_correlation(same, b)) and math.isnan(trajectories.rank_correlation(b, same))


def test_the_probe_changes_nothing_and_judges_as_loops_do():
    data = load("digits").subset(160, 80)
    graph = paper_graph(53.8)

    def trainer():
        build = partial(models.build, "mlp", data.outputs, data.shape)
        return Trainer(ALDSGD(DPSGD(graph)), build, data, Settings(epochs=1, lr=0.1, seed=3))

    plain, probed = trainer(), trainer()
    probe = trajectories.LeaderProbe(probed, models.build("mlp", data.outputs, data.shape), every=1)
    seen = []
    judge = probe.judge
    probe.judge = lambda *arguments: seen.append(arguments) or judge(*arguments)
    plain.train_epoch(0)
    probed.train_epoch(0)
    assert torch.equal(plain.workers.parameters, probed.workers.parameters)
    assert len(probe.rows) == plain.steps
    _, losses, truth, accuracy = seen[0]
    near = [[i] + [a + b - i for a, b in graph.edges if i in (a, b)] for i in range(8)]
    hits = [min(own, key=lambda j: losses[j]) == min(own, key=lambda j: truth[j]) for own in near]
    large = [max(own, key=lambda j: len(near[j])) == min(own, key=lambda j: truth[j]) for own in near]
    assert probe.rows[0]["best_hits"] == pytest.approx(np.mean(hits))
    assert probe.rows[0]["degree_hits"] == pytest.approx(np.mean(large))
    assert probe.rows[0]["chance"] == pytest.approx(np.mean([1 / len(own) for own in near]))
    assert probe.rows[0]["with_loss"] == pytest.approx(spearmanr(losses, truth)[0])
    assert (0 <= accuracy).all() and (accuracy <= 1).all()


def test_statistics_of_batchnorm_are_left_alone():
    data = load("digits").subset(64, 32)
    build = partial(models.build, "resnet_small", data.outputs, data.shape)
    trainer = Trainer(ALDSGD(DPSGD(paper_graph(53.8))), build, data, Settings(epochs=1, seed=0))
    probe = trajectories.LeaderProbe(trainer, build(), every=1)
    before = [buffer.clone() for module in trainer.workers.modules for buffer in module.buffers()]
    losses, accuracies = probe.truth()
    after = [buffer for module in trainer.workers.modules for buffer in module.buffers()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert losses.shape == accuracies.shape == (8,)


def test_observed_leaders_obey_the_bound_on_the_drift():
    found, distances = observe("53.8", 1, "dpsgd", (0.3, 0.1, 0.2, 0.2), seed=0, epochs=1)
    assert found["steps"] == 12
    assert 0 < found["drift"] <= found["drift_bound"] and found["worst_ratio"] <= 1
    assert 1 <= found["averaged"] <= 8 and found["rate"] < 1
    assert distances.shape == (12,) and (distances > 0).all()
    printed, _ = observe("53.8", 1, "dpsgd", (0.3, 0.1, 0.2, 0.2), 0, 1, order="printed", period=2)
    assert printed["steps"] == 12 and printed["worst_ratio"] <= 1 and printed["rate"] < 1
    keeps, _ = observe("100", 1, "matcha", (0.0, 0.0, 0.0, 0.0), seed=0, epochs=1)
    assert keeps["drift"] < 1e-6 and keeps["averaged"] == pytest.approx(8)


def test_rates_of_products_that_occurred():
    rng = np.random.default_rng(0)
    w = np.full((4, 4), 0.25) + 0.5 * (np.eye(4) - 0.25)
    assert product_rate(np.repeat(w[None], 200, axis=0)) == pytest.approx(0.25, rel=0.02)
    assert independent_rate(np.repeat(w[None], 4, axis=0), 2) == pytest.approx(0.25)
    same = np.repeat(w[None], 20, axis=0)
    assert observed_averaging(same, same) == pytest.approx(4)
    copies = np.repeat(np.eye(4)[[0, 0, 0, 0]][None], 20, axis=0)
    assert observed_averaging(copies, copies) == pytest.approx(1)
    # What one row copies at entry is one worker's noise, however well it is averaged later.
    assert observed_averaging(same, copies) == pytest.approx(1)
    drawn = np.stack([np.eye(4)[rng.permutation(4)] for _ in range(50)])
    assert product_rate(drawn) == pytest.approx(1, abs=0.05)
