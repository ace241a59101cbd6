"""Whom a worker follows: rows of a selection matrix S over its neighbourhood, from scores, ranks or degrees.

- "argmin": the paper's S_N, one on the candidate with the smallest score l_j.
- "soft": W tilted toward small scores, S_ij ~ W_ij exp(-a (l_j - l_i) / s) with s the spread (largest less smallest)
  of the candidates' scores. a = 0 is W itself, bit for bit; a to infinity is argmin among the candidates with W_ij > 0.
- "rank": the same with l_j replaced by the number of candidates with a smaller score, so that only order counts.

Negative weights of W, such as a worker's own where equal weights overshoot, stay as they are and lead nobody; the rest,
P = max(W, 0), keeps its sum. Its rows need not be positive then, but sum to one.
"""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from aldsgd.neighbourhood import Neighbourhood

CANDIDATES = ("closed", "neighbours")
SELECTIONS = ("argmin", "soft", "rank")


def best_worker(hood: "Neighbourhood", losses: "Tensor", candidates: str = "closed") -> "Tensor":
    """Entry (w,) of the adjacent best worker b_i, the candidate with the smallest mini-batch loss; ``losses``: (E,)."""
    return hood.first_smallest(_eligible(hood, losses, losses.double(), candidates))


def maximum_degree_worker(hood: "Neighbourhood", losses: "Tensor", candidates: str = "closed") -> "Tensor":
    """Entry (w,) of the adjacent maximum-degree worker m_i, by the instantaneous degree; ``losses``: (E,)."""
    return hood.first_smallest(_eligible(hood, losses, -hood.degree, candidates))


def _eligible(hood, losses, score, candidates: str):
    # An excluded candidate scores infinity: if all do, the first entry wins, which is the worker itself.
    barred = ~losses.isfinite()
    if candidates == "neighbours":
        barred = barred | hood.itself
    return score.masked_fill(barred, math.inf)


def selections(hood, losses, candidates: str) -> tuple["Tensor", "Tensor"]:
    """S_N and S_tau as row coefficients (E,) over the neighbourhood."""
    return (
        hood.select(best_worker(hood, losses, candidates)),
        hood.select(maximum_degree_worker(hood, losses, candidates)),
    )


def tilted(hood, losses, W: "Tensor", a: float, candidates: str, ranked: bool) -> "Tensor":
    """Row coefficients (E,) of "soft", or of "rank" where ``ranked``; W: (E,), losses: (E,)."""
    positive = W.clamp(min=0)
    score = _eligible(hood, losses, losses.double(), candidates).masked_fill(positive == 0, math.inf)
    if ranked:
        score = hood.ranks(score).masked_fill(score.isinf(), math.inf)
    least, largest = hood.extreme(score, "amin"), hood.extreme(score.masked_fill(score.isinf(), -math.inf), "amax")
    # exp(-a ...) - 1 up to a factor common to the row: exactly 0 at a = 0, and -1 for whoever must not lead.
    above = ((score - least) / (largest - least)).nan_to_num(0.0, posinf=0.0)
    tilt = (-a * above).expm1().masked_fill(score.isinf(), -1.0)
    mass = hood.sums(positive)
    total = 1 + hood.sums(positive * tilt) / mass
    followed = (positive * (1 + tilt) / total).where(total > 0, hood.itself * mass)
    return W + (followed - positive)
