"""Student-t intervals over seeds, and when a difference may be called one.

The unit of observation is a run: the workers of one run exchange models, so they are never counted as
independent. Methods are compared by the differences of runs that share a seed (the paired t interval).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from aldsgd.errors import ConfigError

MIN_PAIRS = 5
#: When ``verdict`` has a word for a difference, as captions say it.
WHEN = f"better and worse need at least {MIN_PAIRS} seeds and an interval that excludes zero"


@dataclass(frozen=True)
class Interval:
    """``mean`` plus or minus ``half_width`` (NaN if unknown) from ``n`` values at confidence ``level``."""

    mean: float
    half_width: float
    n: int
    level: float = 0.95

    @property
    def low(self) -> float:
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        return self.mean + self.half_width


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Two-sided Student-t interval of the mean, mean +- t_{n-1}((1 + level)/2) s / sqrt(n).

    ``s`` is the sample standard deviation (divisor n - 1); the half width of a single value is NaN. Values
    that are not finite make the mean so as well: a diverged run is never left out. Raises ValueError when
    there is no value or the level lies outside (0, 1).
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or sample.size == 0:
        raise ValueError("an interval needs a list of at least one value")
    if not 0 < level < 1:
        raise ValueError(f"the level of an interval lies strictly between 0 and 1, not at {level}")
    n = sample.size
    if not np.isfinite(sample).all():
        return Interval(float(sample.sum()), math.nan, n, level)
    mean = float(sample.mean())
    if n == 1:
        return Interval(mean, math.nan, 1, level)
    # scipy.stats.t.interval gives the same numbers, but takes longer to import than all tables to be made.
    quantile = float(stdtrit(n - 1, (1 + level) / 2))
    return Interval(mean, quantile * float(sample.std(ddof=1)) / math.sqrt(n), n, level)


def paired_interval(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> Interval:
    """Interval of the mean of ``a[i] - b[i]``, entry i of both being the same seed; ValueError if unequal."""
    if len(a) != len(b):
        raise ValueError(f"paired values must be as many as each other, not {len(a)} and {len(b)}")
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    # Equal accuracies that were averaged in another order differ by rounding; t would call that significant.
    equal = np.abs(a - b) <= 8 * np.finfo(np.float64).eps * np.maximum(np.abs(a), np.abs(b))
    return mean_interval(np.where(equal, 0.0, a - b), level)


def by_seed(pairs: Iterable[tuple[int, float]]) -> dict[int, float]:
    """seed -> value. Raises ConfigError where a seed comes twice: one run counted twice would look like certainty."""
    found: dict[int, float] = {}
    for seed, value in pairs:
        if seed in found:
            raise ConfigError(f"seed {seed} is counted twice: give every run a seed of its own")
        found[seed] = value
    return found


def paired_by_seed(a: Mapping[int, float], b: Mapping[int, float], level: float = 0.95) -> Interval | None:
    """``paired_interval`` over the seeds that both hold (seed to value); None when they share none."""
    seeds = sorted(set(a) & set(b))
    return paired_interval([a[s] for s in seeds], [b[s] for s in seeds], level) if seeds else None


def over_seeds(values: Mapping[int, float], level: float = 0.95) -> Interval | None:
    """``mean_interval`` over seeds (seed to value), such as of differences; None without any."""
    return mean_interval([values[s] for s in sorted(values)], level) if values else None


def verdict(difference: Interval | None, higher_is_better: bool = True) -> str:
    """ "better", "worse", or "" for a paired difference; the only place where those words are decided.

    A word needs at least ``MIN_PAIRS`` pairs and an interval of level 0.95 or more that excludes zero.
    """
    if difference is None or difference.n < MIN_PAIRS or difference.level < 0.95:
        return ""
    if difference.low > 0:
        return "better" if higher_is_better else "worse"
    if difference.high < 0:
        return "worse" if higher_is_better else "better"
    return ""


def p_value(difference: Interval) -> float:
    """Two-sided p of the t test that the mean is zero, from an interval of ``n`` values; NaN where it has no width.

    Equal values leave no doubt: 1 where they are all zero, else 0.
    """
    if difference.half_width == 0:
        return 1.0 if difference.mean == 0 else 0.0
    freedom = difference.n - 1
    t = difference.mean / difference.half_width * stdtrit(freedom, (1 + difference.level) / 2)
    return float(2 * stdtr(freedom, -abs(t)))


def holm(p: Mapping[str, float], tests: int | None = None) -> dict[str, float]:
    """Holm's step-down correction (Holm 1979): name -> corrected p, for ``tests`` hypotheses of which these are known.

    Those that are not known count as if they had the largest p, so that a correction never becomes stricter later. A
    NaN counts so as well, and stays one.
    """
    known = {name: value for name, value in p.items() if not math.isnan(value)}
    found, least = dict.fromkeys(p, math.nan), 0.0
    total = len(p) if tests is None else tests
    for place, name in enumerate(sorted(known, key=known.__getitem__)):
        least = max(least, min(1.0, (total - place) * known[name]))
        found[name] = least
    return found


def corrected(differences: Mapping[str, Interval | None], tests: int | None = None) -> dict[str, float]:
    """Holm's corrected p of every paired difference with enough seeds for a word.

    The others count in the number of hypotheses, ``tests``, which is that of all differences where none is given.
    """
    measured = {name: p_value(one) for name, one in differences.items() if one is not None and one.n >= MIN_PAIRS}
    return holm(measured, len(differences) if tests is None else tests)
