"""Spectra of graphs and schedules: contraction over a period, and how many workers' noise a worker averages.

The iteration is ``X <- C_t (X - eta G)`` with rows of C_t that sum to one (adapt-then-combine). Disagreement is
``(I - J) X``, J = 11^T/n.
"""

import math
from collections.abc import Sequence

import numpy as np

from aldsgd.errors import ConfigError
from aldsgd.graphs import Topology

TOLERANCE = 1e-8


def check_rows(matrix: np.ndarray) -> np.ndarray:
    """The matrix as float64 (n, n). Raises ConfigError, naming the row, unless it is finite and rows sum to one.

    The weaker half of what ``mixing.check_gossip_matrix`` asks for: leaders' matrices are not symmetric.
    """
    matrix = np.asarray(matrix, dtype=float)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ConfigError(f"a mixing matrix must be square, not of shape {matrix.shape}")
    for wrong, what in (
        (~np.isfinite(matrix).all(axis=1), "holds a number that is not finite"),
        (abs(matrix.sum(axis=1) - 1) > TOLERANCE, "does not sum to one"),
    ):
        if wrong.any():
            raise ConfigError(
                f"row {np.flatnonzero(wrong)[0]} of the mixing matrix {what}: put the rest on its diagonal"
            )
    return matrix


def check_sequence(matrices: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The matrices of a period, checked each; ConfigError too where there is none or sizes differ."""
    matrices = [check_rows(matrix) for matrix in matrices]
    sizes = [len(matrix) for matrix in matrices]
    if not sizes or len(set(sizes)) > 1:
        raise ConfigError(f"the matrices of a period must have one size, not {sizes or 'none at all'}")
    return matrices


def disagreement_basis(n: int) -> np.ndarray:
    """Orthonormal basis U (n, n-1) of the vectors that sum to zero (Helmert's, so no sign is left to a solver)."""
    basis = np.zeros((n, n - 1))
    for k in range(1, n):
        basis[:k, k - 1] = 1
        basis[k, k - 1] = -k
        basis[:, k - 1] /= math.sqrt(k * (k + 1))
    return basis


def disagreement_part(matrix: np.ndarray) -> np.ndarray:
    """U^T C U (n-1, n-1): how a matrix whose rows sum to one maps disagreement to disagreement.

    (I - J) C = (I - J) C (I - J) because C 1 = 1, so products of these parts are the parts of products.
    """
    basis = disagreement_basis(len(matrix))
    return basis.T @ matrix @ basis


def spectrum(topology: Topology) -> np.ndarray:
    """Eigenvalues (n,) of the graph's Laplacian, ascending; what rounding left below zero is zero."""
    return np.maximum(np.linalg.eigvalsh(topology.laplacian), 0)


def circulant_spectrum(n: int, hops: Sequence[int]) -> np.ndarray:
    """Laplacian eigenvalues (n,), ascending, of the circulant graph that joins i and i + h (mod n) for each hop h.

    sum_h m_h (1 - cos(2 pi h k / n)), m_h = 2, or 1 where h = n/2 joins each pair once. Hops [1] are the ring, powers
    of two the static exponential graph, 1..n/2 the complete graph. Davis, Circulant Matrices (1979).
    """
    distinct = sorted({min(hop % n, -hop % n) for hop in hops} - {0})
    k = np.arange(n)
    return np.sort(sum((2 - (2 * h == n)) * (1 - np.cos(2 * np.pi * h * k / n)) for h in distinct))


def fastest_rho(eigenvalues: np.ndarray) -> float:
    """rho = ||W^T W - J|| of W = I - alpha L with the best alpha, ((l_max - l_2)/(l_max + l_2))^2.

    eigenvalues (n,) of L, ascending, of a connected graph. Xiao and Boyd 2004 (section 4.1).
    """
    low, high = eigenvalues[1], eigenvalues[-1]
    return float(((high - low) / (high + low)) ** 2)


def period_product(matrices: Sequence[np.ndarray]) -> np.ndarray:
    """C_T ... C_2 C_1 (n, n) for the matrices in the order of time."""
    matrices = check_sequence(matrices)
    product = np.eye(len(matrices[0]))
    for matrix in matrices:
        product = matrix @ product
    return product


def period_contraction(matrices: Sequence[np.ndarray]) -> dict:
    """How a periodic sequence shrinks disagreement. Keys:

    norm: ||(I - J) C_T ... C_1||_2^2, for doubly stochastic matrices ||product - J||_2^2. rate: norm^(1/T), comparable
    to a static rho. radius: (spectral radius of the product on the disagreement space)^(2/T), the asymptotic rate;
    below one exactly when the sequence averages. mean_shift: sqrt(n) ||(1/n) 1^T product - (1/n) 1^T||, zero exactly
    when the period keeps the mean.
    """
    product = period_product(matrices)
    n, steps = len(product), len(matrices)
    part = disagreement_part(product)
    norm = float(np.linalg.norm(part, 2) ** 2) if n > 1 else 0.0
    radius = float(np.abs(np.linalg.eigvals(part)).max()) if n > 1 else 0.0
    shift = float(math.sqrt(n) * np.linalg.norm(product.mean(axis=0) - 1 / n))
    return {"norm": norm, "rate": norm ** (1 / steps), "radius": radius ** (2 / steps), "mean_shift": shift}


def union_components(n: int, edge_sets: Sequence) -> list[list[int]]:
    """Components of the union of some edge sets: workers of different ones never hear of each other."""
    edges = sorted({tuple(sorted(edge)) for edges in edge_sets for edge in edges})
    return Topology.from_edges(n, edges).components()


def effective_neighbours(second_moment: np.ndarray, decay: float) -> float:
    """How many workers' noise a worker averages, between 1 and n for doubly stochastic matrices.

    Stationary variance of y <- sqrt(decay) y + noise over the mean variance of x <- C (sqrt(decay) x + noise):
    Vogels et al. 2022 (arXiv 2206.03093), which for a fixed symmetric W is
    n_W = 1 / [(1 - decay) (1/n) sum_i l_i^2 / (1 - decay l_i^2)], l_i the eigenvalues of W.

    second_moment: E[C (x) C] (n^2, n^2), the Kronecker square, so that random C_t are covered. decay in [0, 1).
    NaN where the variance grows without end.
    """
    if not 0 <= decay < 1:
        raise ConfigError(f"the decay must be at least 0 and below 1, not {decay}")
    n = math.isqrt(len(second_moment))
    if second_moment.shape != (n * n, n * n):
        raise ConfigError(f"a second moment must be (n^2, n^2), not {second_moment.shape}")
    if decay * np.abs(np.linalg.eigvals(second_moment)).max() >= 1 - 1e-12:
        return math.nan
    noise = second_moment @ np.eye(n).ravel()
    variance = np.linalg.solve(np.eye(n * n) - decay * second_moment, noise).reshape(n, n)
    return float(n / (1 - decay) / np.trace(variance))
