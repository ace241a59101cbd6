"""Defences of a worker against its neighbours: how it combines what it hears, and for how long it lets one lead.

Each takes the place of x_i <- sum_j C_ij x_j = x_i + sum_j C_ij (x_j - x_i), where C are the coefficients of the
exchange, rows sum to one, and j runs over the d neighbours that are heard. None changes what is sent.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from aldsgd.errors import ConfigError, checked_counts, checked_numbers


def plain(own: Tensor, heard: Tensor, weights: Tensor, defence: "Defence") -> Tensor:
    """x_i + sum_j C_ij (x_j - x_i): no defence."""
    return own + weights @ (heard - own)


def clipped(own: Tensor, heard: Tensor, weights: Tensor, defence: "Defence") -> Tensor:
    """x_i + sum_j C_ij clip(x_j - x_i, tau), clip(z, tau) = z min(1, tau / ||z||).

    Clipped gossip (He, Karimireddy, Jaggi 2022, arXiv 2202.01545, equation of ClippedGossip), with a radius tau that
    is given.
    """
    pulls = heard - own
    share = (defence.radius / pulls.norm(dim=1).clamp(min=1e-30)).clamp(max=1.0)
    return own + (weights * share) @ pulls


def trimmed(own: Tensor, heard: Tensor, weights: Tensor, defence: "Defence") -> Tensor:
    """In each coordinate the b largest and b smallest of what is heard count as x_i itself.

    The trimmed mean (Yin et al. 2018, arXiv 1803.01498) among neighbours, as in BRIDGE (Yang and Bajwa 2019, arXiv
    1908.08098), with the weights of the exchange; it withstands b faulty neighbours where d is 2 b + 1 or more, and a
    worker with d <= 2 b is left alone.
    """
    d, b = len(heard), defence.trim
    if d <= 2 * b:
        return own.clone()
    ranks = heard.argsort(dim=0).argsort(dim=0)
    pulls = (heard - own).masked_fill((ranks < b) | (ranks >= d - b), 0.0)
    return own + weights @ pulls


def median(own: Tensor, heard: Tensor, weights: Tensor, defence: "Defence") -> Tensor:
    """x_i + (sum_j C_ij) (m - x_i), m the median of x_i and what is heard, coordinate by coordinate.

    The coordinate-wise median (Yin et al. 2018, arXiv 1803.01498; in a network BRIDGE-M, arXiv 1908.08098), with the
    total weight of the exchange; of an even number it is the mean of the middle two. Who leads has no influence left.
    """
    middle = torch.cat([own[None], heard]).sort(dim=0).values
    half = (len(middle) - 1) // 2, len(middle) // 2
    return own + weights.sum() * ((middle[half[0]] + middle[half[1]]) / 2 - own)


DEFENCES: dict[str, Callable] = {"none": plain, "clip": clipped, "trimmed": trimmed, "median": median}


@dataclass(frozen=True)
class Defence:
    """kind: of ``DEFENCES``. radius: of "clip". trim: b of "trimmed". cap: steps after which a neighbour that has led a
    worker all the time may not lead it for one, None for any number; for methods with leaders among neighbours.

    Raises ConfigError for values that make no sense.
    """

    kind: str = "none"
    radius: float = 1.0
    trim: int = 1
    cap: int | None = None

    def __post_init__(self):
        if self.kind not in DEFENCES:
            raise ConfigError(f"unknown defence '{self.kind}'; choose one of: {', '.join(DEFENCES)}")
        checked_numbers(dict(radius=self.radius))
        checked_counts(dict(trim=self.trim) | ({} if self.cap is None else dict(lead_cap=self.cap)))

    def combine(self, own: Tensor, heard: Tensor, weights: Tensor) -> Tensor:
        """The new row (P,) of a worker with row ``own`` that hears ``heard`` (d, P) with weights (d,), 1 less their sum
        being its own."""
        return DEFENCES[self.kind](own, heard, weights, self) if len(heard) else own.clone()


def barred(losses: Tensor, hood, who: Tensor, run: Tensor, cap: int) -> Tensor:
    """Losses (E,) in which a neighbour that has led a worker for ``cap`` steps on end comes last.

    who, run: (w,), the leader of each worker, and for how many steps it has led. No source: a plain limit.
    """
    led = (run >= cap)[hood.row] & (who[hood.row] == hood.col) & ~hood.itself
    return losses.masked_fill(led & losses.isfinite(), torch.finfo(losses.dtype).max)


def breakdown(kind: str, degree: int, trim: int = 1) -> float:
    """How many faulty neighbours a worker of this degree withstands: its new model stays within the range of what
    honest ones sent, in each coordinate, or for "clip" within a bound that the faulty cannot choose.

    "none": 0. "trimmed": b where the degree is 2 b + 1 or more; below, a worker hears nobody, and nothing can break it.
    "median": those of the closed neighbourhood, d + 1 values, of which floor(d / 2) may be anything: the middle one, or
    both middle ones, lie between honest values as long as 2 k < d + 1. "clip": any number, at most ``radius`` times
    their weight away.
    """
    if kind == "none":
        return 0
    if kind == "trimmed":
        return trim if degree > 2 * trim else degree
    if kind == "median":
        return degree // 2
    return math.inf
