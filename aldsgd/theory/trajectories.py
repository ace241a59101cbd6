"""What the theory assumes, measured along real training: smoothness, gradient noise, dissimilarity, and who leads.

Objectives are mean cross-entropy plus half the weight decay times the squared norm, so that gradients are those of the
update. Models with BatchNorm are differentiated in training mode, with the statistics of the samples at hand: that is
the function whose gradient SGD follows, although its value at a sample then depends on the batch.
"""

import math

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.func import functional_call

from aldsgd.data import normalise
from aldsgd.selections import best_worker, maximum_degree_worker
from aldsgd.training import Trainer


class Objective:
    """f(theta) = mean cross-entropy over fixed samples + decay/2 ||theta||^2, for flat theta (P,).

    module: gives the architecture, in training mode; its own parameters are not read, its running statistics are
    overwritten. inputs (N, ...), targets (N,).
    """

    def __init__(self, module: nn.Module, inputs: Tensor, targets: Tensor, decay: float = 0.0):
        self.module, self.inputs, self.targets, self.decay = module, inputs, targets, decay
        self.shapes = {name: p.shape for name, p in module.named_parameters() if p.requires_grad}

    def outputs(self, theta: Tensor, inputs: Tensor, statistics: dict | None = None) -> Tensor:
        """Scores of the model theta; with ``statistics`` (its buffers by name) in evaluation mode."""
        parts = theta.split([shape.numel() for shape in self.shapes.values()])
        values = {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}
        self.module.train(statistics is None)
        return functional_call(self.module, {**values, **(statistics or {})}, (inputs,))

    def loss(self, theta: Tensor, rows: Tensor | slice = slice(None)) -> Tensor:
        """f at theta, or over the samples ``rows`` alone."""
        scores = self.outputs(theta, self.inputs[rows])
        return nn.functional.cross_entropy(scores, self.targets[rows]) + 0.5 * self.decay * theta.square().sum()

    def gradient(self, theta: Tensor, rows: Tensor | slice = slice(None)) -> Tensor:
        """grad f (P,) at theta."""
        theta = theta.detach().requires_grad_()
        return torch.autograd.grad(self.loss(theta, rows), theta)[0]


def curvature(objective: Objective, theta: Tensor, iterations: int = 30, seed: int = 0) -> tuple[float, float]:
    """(|largest eigenvalue| of the Hessian at theta, relative residual) by power iteration on Hessian-vector products.

    From below: ||H v|| for a unit v never exceeds ||H||. A small residual ||H v - l v||/|l| means a small error;
    eigenvalues l and -l together leave a large one although ||H v|| is right.
    """
    theta = theta.detach().requires_grad_()
    gradient = torch.autograd.grad(objective.loss(theta), theta, create_graph=True)[0]
    vector = torch.randn(theta.shape, generator=torch.Generator().manual_seed(seed), dtype=theta.dtype)
    size = residual = math.nan
    for _ in range(iterations):
        vector = vector / vector.norm()
        product = torch.autograd.grad(gradient, theta, vector, retain_graph=True)[0]
        size = product.norm().item()
        if size == 0:
            return 0.0, 0.0
        residual = (product - (vector @ product) * vector).norm().item() / size
        vector = product
    return size, residual


def difference_quotient(objective: Objective, a: Tensor, b: Tensor) -> float:
    """||grad f(a) - grad f(b)|| / ||a - b||, at most the largest curvature on the way from a to b."""
    return ((objective.gradient(a) - objective.gradient(b)).norm() / (a - b).norm()).item()


def gradient_variance(objective: Objective, theta: Tensor, batch: int, draws: int, rng: np.random.Generator) -> float:
    """E||g - grad f||^2 of mini-batches of ``batch`` distinct samples at theta, from ``draws`` of them."""
    full = objective.gradient(theta)
    count = len(objective.targets)
    total = 0.0
    for _ in range(draws):
        rows = torch.from_numpy(rng.choice(count, min(batch, count), replace=False))
        total += (objective.gradient(theta, rows) - full).square().sum().item()
    return total / draws


def dissimilarity(objectives: list[Objective], theta: Tensor) -> tuple[float, float]:
    """(zeta^2 = (1/n) sum ||grad f_i - grad F||^2, ||grad F||^2) at theta, F the mean of the f_i."""
    gradients = torch.stack([objective.gradient(theta) for objective in objectives]).double()
    mean = gradients.mean(dim=0)
    return (gradients - mean).square().sum(dim=1).mean().item(), mean.square().sum().item()


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation of two samples (n,), ties at their mean rank; NaN where one of them is constant."""
    if 1 in (len(np.unique(a)), len(np.unique(b))):
        return math.nan
    return float(spearmanr(a, b).statistic)


class LeaderProbe:
    """At every ``every``-th step: do the mini-batch losses, and the leaders chosen by them, tell who is truly better?

    Truly better: lower loss over all training samples at hand, the same for all workers. Rows are collected in
    ``rows``, and for every step how far the leaders are in ``pulls``; models are those before the step, as the method
    sees them.
    """

    def __init__(self, trainer: Trainer, module: nn.Module, every: int):
        self.trainer, self.rows, self.pulls = trainer, [], []
        data, dtype = trainer.data, trainer.workers.dtype
        self.train = Objective(module, normalise(data.train_inputs, data.mean, data.std, dtype), data.train_targets)
        self.test = normalise(data.test_inputs, data.mean, data.std, dtype)
        compute = trainer.workers.compute_gradients

        def probed(inputs, targets, step, which=None):
            truth = None if step % every else self.truth()
            losses = compute(inputs, targets, step, which)
            self.pulls.append({"step": step, **self.pull(step, losses)})
            if truth is not None:
                self.rows.append({"step": step, **self.judge(step, losses.double(), *truth)})
            return losses

        trainer.workers.compute_gradients = probed

    @torch.no_grad()
    def pull(self, step: int, losses: Tensor) -> dict:
        """What the corrective force is made of: the largest ||x_i - x_leader|| over workers and both leaders, and the
        largest norm of a worker's gradient."""
        network, x = self.trainer.hosting, self.trainer.workers.parameters
        hood = network.neighbourhood(self.trainer.algorithm.step(step).links)
        heard = network.exchange_losses(losses, hood)
        leaders = [hood.col[rule(hood, heard)] for rule in (best_worker, maximum_degree_worker)]
        distance = max((x - x[leader]).norm(dim=1).max().item() for leader in leaders)
        return {"distance": distance, "gradient": self.trainer.workers.gradients.norm(dim=1).max().item()}

    @torch.no_grad()
    def truth(self) -> tuple[np.ndarray, np.ndarray]:
        """(loss on all training samples (n,), test accuracy with its own statistics (n,)) of every worker's model."""
        losses, accuracies = [], []
        workers, train, test = self.trainer.workers, self.train, self.trainer.data.test_targets
        for module, row in zip(workers.modules, workers.parameters, strict=True):
            scores = torch.cat([train.outputs(row, part) for part in train.inputs.split(500)])
            losses.append(nn.functional.cross_entropy(scores, train.targets).item())
            own = {name: buffer.clone() for name, buffer in module.named_buffers()}
            predicted = torch.cat([train.outputs(row, part, own).argmax(dim=1) for part in self.test.split(500)])
            accuracies.append((predicted == test).float().mean().item())
        return np.array(losses), np.array(accuracies)

    def judge(self, step: int, losses: Tensor, truth: np.ndarray, accuracy: np.ndarray) -> dict:
        network = self.trainer.hosting
        hood = network.neighbourhood(self.trainer.algorithm.step(step).links)
        heard = network.exchange_losses(losses, hood)
        chosen, largest = hood.col[best_worker(hood, heard)], hood.col[maximum_degree_worker(hood, heard)]
        best = hood.col[best_worker(hood, network.exchange_losses(torch.from_numpy(truth), hood))]
        sizes = torch.diff(hood.pointer)
        choice = sizes > 1  # a worker without active neighbours has nothing to choose
        count = max(int(choice.sum()), 1)
        return {
            "with_loss": rank_correlation(losses.numpy(), truth),
            "with_accuracy": rank_correlation(-losses.numpy(), accuracy),
            "best_hits": float((chosen == best)[choice].sum() / count),
            "degree_hits": float((largest == best)[choice].sum() / count),
            "chance": float((1 / sizes[choice].double()).sum() / count),
            "spread": float(truth.std()),
        }
