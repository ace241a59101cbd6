"""Leaders that occurred: the mixing matrices of real AL-DSGD runs, and what they did."""

import math
from functools import partial

import numpy as np
import torch
from torch import Tensor

from aldsgd import models
from aldsgd.datasets import load
from aldsgd.graphs import parse_set
from aldsgd.leaders import ALDSGD
from aldsgd.network import LocalNetwork
from aldsgd.selections import best_worker, maximum_degree_worker
from aldsgd.settings import Settings
from aldsgd.theory.leaders import mean_square_radius, operator
from aldsgd.theory.spectra import disagreement_basis
from aldsgd.training import Trainer
from baselines.dpsgd import DPSGD
from baselines.matcha import MATCHA


class Watched(LocalNetwork):
    """A network that keeps every matrix it mixed with, and how far each moved the mean of the workers."""

    def __init__(self, n: int):
        super().__init__(n)
        self.matrices: list[np.ndarray] = []
        self.drifts: list[float] = []

    def mix(self, models, rows, hood, codec=None):
        before = models.double()
        mean = before.mean(dim=0)
        distance = (before - mean).square().sum().item() / self.n
        super().mix(models, rows, hood, codec)
        matrix = np.zeros((self.n, self.n))
        matrix[hood.row, hood.col] = rows.double()
        moved = (matrix.mean(axis=0) - 1 / self.n) @ (before - mean).numpy()
        self.matrices.append(matrix)
        self.drifts.append(float(np.linalg.norm(moved) / math.sqrt(max(distance, 1e-300))))


def observe(
    level: str, count: int, core: str, coefficients, seed: int, epochs: int = 20, **leading
) -> tuple[dict, np.ndarray]:
    """Train AL-DSGD on the digits (MLP, 8 workers, the quickstart's settings) and describe the matrices that occurred,
    C_t, or C_t B_t where the force comes first; leading: order, force_scale and period of ``ALDSGD``. Returns them with
    the largest ||x_i - x_leader|| over workers and both leaders (T,), of the models as each step finds them. Keys:

    steps. column_rms: root mean square of column sums less one. largest_column. drift, drift_bound: of C_t, root mean
    square of ||mean after - mean before|| / sqrt(||(I - J) X||^2/n), measured, and sqrt(n) ||v||, v = (C^T 1 - 1)/n,
    its bound at each C_t; worst_ratio: the largest ratio of the two. rate: per-step rate of the product that occurred
    (squared). independent_rate: of the same C_t drawn independently, so the difference is what time correlation does.
    averaged: 1/||pi||^2, how many workers' noise the consensus averages, over entry times in the run's first half.
    degree_leads: share of workers whose maximum-degree leader is another worker. repeats: share of workers whose best
    leader is the same worker as a period of the graphs before.
    """
    data = load("digits")
    graphs = parse_set(f"paper:{level}", count, 8)
    inner = DPSGD(graphs) if core == "dpsgd" else MATCHA(graphs, 0.5, seed)
    algorithm = ALDSGD(inner, *coefficients, **leading)
    build = partial(models.build, "mlp", data.outputs, data.shape)
    watched = Watched(8)
    trainer = Trainer(algorithm, build, data, Settings(epochs=epochs, lr=0.1, seed=seed), hosting=watched)
    others, leaders, distances = [], [], []
    compute = trainer.workers.compute_gradients

    def measured(inputs, targets, step, which=None):
        losses, x = compute(inputs, targets, step, which), trainer.workers.parameters
        hood = watched.neighbourhood(algorithm.step(step).links)
        chosen = [hood.col[rule(hood, losses[hood.col])] for rule in (best_worker, maximum_degree_worker)]
        distances.append(max((x - x[leader]).norm(dim=1).max().item() for leader in chosen))
        return losses

    trainer.workers.compute_gradients = measured

    def seen(step: int, losses: Tensor):
        hood = watched.neighbourhood(algorithm.step(step).links)
        heard = losses[hood.col]
        others.append(float((hood.col[maximum_degree_worker(hood, heard)] != torch.arange(8)).float().mean()))
        leaders.append(hood.col[best_worker(hood, heard)].numpy())

    for epoch in range(epochs):
        trainer.train_epoch(epoch, seen)
    matrices, last, drifts = by_step(algorithm, watched)
    sums = matrices.sum(axis=1)
    bounds = np.linalg.norm(last.sum(axis=1) - 1, axis=1) / math.sqrt(8)
    period = math.lcm(count, algorithm.period)
    found = {
        "steps": len(matrices),
        "column_rms": float(np.sqrt(np.mean((sums - 1) ** 2))),
        "largest_column": float(sums.max()),
        "drift": float(np.sqrt(np.mean(drifts**2))),
        "drift_bound": float(np.sqrt(np.mean(bounds**2))),
        "worst_ratio": float((drifts[bounds > 0] / bounds[bounds > 0]).max(initial=0.0)),
        "rate": product_rate(matrices),
        "independent_rate": independent_rate(matrices, period),
        "averaged": observed_averaging(matrices, last),
        "degree_leads": float(np.mean(others)),
        "repeats": float(np.mean(np.stack(leaders[count:]) == np.stack(leaders[:-count]))),
    }
    return found, np.array(distances)


def by_step(algorithm: ALDSGD, watched: Watched) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(product of each step's matrices (T, n, n), its last matrix (T, n, n), drift of that (T,)): the last is C_t, and
    where a force comes first the product is C_t B_t."""
    matrices, last, drifts, place = [], [], [], 0
    while place < len(watched.matrices):
        count = len(algorithm.step(len(matrices)).exchanges)
        product = np.eye(watched.n)
        for matrix in watched.matrices[place : place + count]:
            product = matrix @ product
        place += count
        matrices.append(product)
        last.append(watched.matrices[place - 1])
        drifts.append(watched.drifts[place - 1])
    return np.stack(matrices), np.stack(last), np.array(drifts)


def product_rate(matrices: np.ndarray) -> float:
    """||(I - J) C_t ... C_1||_F^2 per step, (T, n, n) in the order of time, rescaled on the way."""
    basis = disagreement_basis(matrices.shape[-1])
    product, log = np.eye(basis.shape[1]), 0.0
    for matrix in matrices:
        product = basis.T @ matrix @ basis @ product
        size = np.linalg.norm(product)
        product, log = product / size, log + math.log(size)
    return math.exp(2 * log / len(matrices))


def independent_rate(matrices: np.ndarray, period: int) -> float:
    """Mean-square rate if the C_t of each phase of the period were drawn independently from those that occurred."""
    n = matrices.shape[-1]
    basis = disagreement_basis(n)
    parts = basis.T @ matrices @ basis
    operators = []
    for phase in range(period):
        own = parts[phase::period]
        operators.append(operator(np.einsum("tik,tjl->ikjl", own, own, optimize=True) / len(own)))
    return mean_square_radius(operators)


def observed_averaging(matrices: np.ndarray, last: np.ndarray) -> float:
    """1 / mean ||C_t^T pi_t||^2 over noise entering in the first half of the run, through ``last`` = C_t (T, n, n);
    pi_t = M_(t+1)^T ... M_T^T 1/n of the steps' products M (T, n, n)."""
    n = matrices.shape[-1]
    weights, sizes = np.full(n, 1 / n), []
    for t in range(len(matrices) - 1, -1, -1):
        if t < len(matrices) // 2:
            sizes.append(float(np.square(last[t].T @ weights).sum()))
        weights = matrices[t].T @ weights
    return 1 / float(np.mean(sizes))
