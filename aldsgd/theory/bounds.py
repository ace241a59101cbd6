"""The bounds of decentralized SGD, ``X <- C_t (X - eta G)``, as functions of its constants."""

import math

from aldsgd.errors import ConfigError


def largest_step(smoothness: float, rho: float) -> float:
    """Largest eta the theorem allows: eta L <= min{1, (rho^(-1/2) - 1)/4} (condition of MATCHA's theorem)."""
    _check_rho(rho)
    network = math.inf if rho == 0 else (rho**-0.5 - 1) / 4
    return min(1.0, network) / smoothness


def consensus_bound(eta: float, smoothness: float, sigma2: float, zeta2: float, n: int, rho: float) -> float:
    """Bound on E||(I - J) X_k||_F^2 / n at every step of adapt-then-combine SGD from a common start.

    W_k symmetric doubly stochastic, independent of the past, rho = ||E[W^T W] - J||; gradients unbiased with variance
    at most sigma2, independent between workers; f_i L-smooth; (1/n) sum ||grad f_i(x) - grad F(x)||^2 <= zeta2. With
    s^2 the quantity bounded, Minkowski and smoothness give

        s'^2 <= rho [((1 + eta L) s + eta zeta)^2 + eta^2 sigma2 (1 - 1/n)].

    eta as in ``largest_step`` makes r = sqrt(rho)(1 + eta L) <= 1 - (3/4)(1 - sqrt(rho)), and with
    (r s + b)^2 <= r s^2 + b^2/(1 - r) the fixed point is at most

        rho eta^2 [4 sigma2 (1 - 1/n) / (3 (1 - sqrt(rho))) + 16 zeta2 / (9 (1 - sqrt(rho))^2)].

    Derived here; the order eta^2 rho (sigma2 + zeta2)/(1 - sqrt(rho))^2 is that of MATCHA's theorem (arXiv 1905.09435).
    Raises ConfigError where eta is too large for it.
    """
    allowed = largest_step(smoothness, rho)
    if not 0 < eta <= allowed * (1 + 1e-12):
        raise ConfigError(
            f"the step {eta:.3g} is outside (0, {allowed:.3g}], where the bound is proved: use a smaller one"
        )
    gap = 1 - math.sqrt(rho)
    return rho * eta**2 * (4 * sigma2 * (1 - 1 / n) / (3 * gap) + 16 * zeta2 / (9 * gap**2))


def rate_bound(
    gap: float, eta: float, steps: int, smoothness: float, sigma2: float, zeta2: float, n: int, rho: float
) -> float:
    """Bound on (1/K) sum_{k=1..K} E||grad F(mean of X_k)||^2, K = steps, gap = F(x_1) - F_inf, from a common start:

        2 gap / (eta K) + eta L sigma2 / n + L^2 * consensus_bound.

    From the descent lemma at the mean, -2<a, b> = ||a - b||^2 - ||a||^2 - ||b||^2, eta L <= 1, and
    ||grad F(mean) - mean of grad f_i(x_i)||^2 <= L^2 ||(I - J) X||_F^2 / n. Assumptions and step as in
    ``consensus_bound``; the first two terms and the order of the third are those of MATCHA's theorem. It holds for
    W_k that keep the mean: nothing is claimed for leaders. eta = sqrt(n/K) gives O(1/sqrt(nK)) + O(n/K).
    """
    network = consensus_bound(eta, smoothness, sigma2, zeta2, n, rho)
    return 2 * gap / (eta * steps) + eta * smoothness * sigma2 / n + smoothness**2 * network


def _check_rho(rho: float) -> None:
    if not 0 <= rho < 1:
        raise ConfigError(f"the bounds need rho in [0, 1), not {rho:.6g}: the graph must be connected")
