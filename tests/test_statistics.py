"""Intervals against closed forms, a hand-worked example and their own promise of coverage."""

import math

import numpy as np
import pytest
from scipy import stats

from aldsgd.errors import ConfigError
from aldsgd.statistics import (
    Interval,
    by_seed,
    corrected,
    holm,
    mean_interval,
    p_value,
    paired_by_seed,
    paired_interval,
    verdict,
)


def test_hand_worked_example():
    # 1, 2, 3: mean 2, standard deviation 1, t_{0.975} with 2 degrees of freedom 4.302653, over sqrt(3).
    interval = mean_interval([1, 2, 3])
    assert interval.mean == 2 and interval.n == 3
    assert interval.half_width == pytest.approx(4.302652729911275 / math.sqrt(3), rel=1e-9)
    assert interval.low == pytest.approx(-0.484138, abs=1e-6)
    assert interval.high == pytest.approx(4.484138, abs=1e-6)


def test_two_values_closed_form():
    # With one degree of freedom t is Cauchy, so t_{0.975} = tan(0.475 pi); s / sqrt(2) = |a - b| / 2.
    assert mean_interval([0.0, 1.0]).half_width == pytest.approx(math.tan(0.475 * math.pi) / 2, rel=1e-10)


@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
@pytest.mark.parametrize("n", [2, 5, 30])
def test_against_scipy_t(n, level):
    values = np.random.default_rng(n).normal(3, 2, n)
    low, high = stats.t.interval(level, n - 1, values.mean(), stats.sem(values))
    interval = mean_interval(values, level)
    assert (interval.low, interval.high) == pytest.approx((low, high), rel=1e-12)
    assert interval.level == level


def test_paired_is_the_inverse_of_the_paired_t_test():
    # The interval at level 1 - p of the paired t test touches zero exactly.
    a, b = np.random.default_rng(0).normal(0, 1, (2, 8))
    p = stats.ttest_rel(a, b).pvalue
    touching = paired_interval(a, b, level=1 - p)
    assert min(abs(touching.low), abs(touching.high)) == pytest.approx(0, abs=1e-12)


def test_pairing_removes_what_the_seeds_share():
    seeds = np.array([0.1, 0.5, 0.9, 0.3, 0.7])
    assert paired_interval(seeds + 0.01, seeds).half_width < 1e-12 < mean_interval(seeds).half_width


def test_rounding_is_no_difference():
    a = [0.9, 0.8, 0.7, 0.6, 0.5]
    b = [value * (1 - 2.3e-16) for value in a]
    assert a != b
    assert paired_interval(a, b) == Interval(0.0, 0.0, 5) and verdict(paired_interval(a, b)) == ""
    assert paired_interval([1.0 + 1e-12], [1.0]).mean > 0
    assert math.isnan(paired_interval([math.nan, 1.0], [1.0, 1.0]).mean)


def test_coverage():
    values = np.random.default_rng(7).normal(0, 1, (4000, 5))
    covered = np.mean([abs(interval.mean) <= interval.half_width for interval in map(mean_interval, values)])
    assert 0.94 < covered < 0.96


def test_paired_by_seed_uses_the_shared_seeds_only():
    difference = paired_by_seed({0: 1.0, 1: 5.0, 9: 100.0}, {1: 2.0, 0: 0.5, 4: -7.0})
    assert difference == paired_interval([1.0, 5.0], [0.5, 2.0])
    assert difference.n == 2 and difference.mean == 1.75
    assert paired_by_seed({0: 1.0}, {1: 1.0}) is None


def test_a_seed_counts_once():
    assert by_seed([(1, 0.5), (0, 2.0)]) == {1: 0.5, 0: 2.0}
    with pytest.raises(ConfigError, match="seed 0 is counted twice"):
        by_seed([(0, 0.5), (1, 0.5), (0, 0.5)])


def test_single_and_non_finite_values():
    single = mean_interval([0.25])
    assert single.mean == 0.25 and single.n == 1 and math.isnan(single.half_width)
    assert math.isnan(mean_interval([1.0, math.nan, 2.0]).mean)
    assert mean_interval([1.0, math.inf]).mean == math.inf
    assert math.isnan(mean_interval([1.0, math.inf]).half_width)


@pytest.mark.parametrize(
    ("values", "level", "message"),
    [
        ([], 0.95, "one value"),
        ([[1.0, 2.0]], 0.95, "one value"),
        ([1.0, 2.0], 0.0, "at 0.0"),
        ([1.0, 2.0], 1.0, "at 1"),
    ],
)
def test_bad_input(values, level, message):
    with pytest.raises(ValueError, match=message):
        mean_interval(values, level)


def test_unpaired_input():
    with pytest.raises(ValueError, match="2 and 1"):
        paired_interval([1.0, 2.0], [1.0])


@pytest.mark.parametrize(
    ("mean", "half", "n", "level", "word"),
    [
        (2.0, 1.0, 5, 0.95, "better"),
        (-2.0, 1.0, 5, 0.95, "worse"),
        (2.0, 1.0, 4, 0.95, ""),  # too few seeds
        (2.0, 2.0, 5, 0.95, ""),  # touches zero
        (-2.0, 2.0, 5, 0.95, ""),
        (0.5, 1.0, 50, 0.95, ""),
        (2.0, 1.0, 9, 0.90, ""),  # too lenient an interval
        (2.0, 0.0, 5, 0.95, "better"),
        (0.0, 0.0, 5, 0.95, ""),
        (math.nan, math.nan, 5, 0.95, ""),
        (math.inf, math.nan, 5, 0.95, ""),
    ],
)
def test_verdict(mean, half, n, level, word):
    opposite = {"better": "worse", "worse": "better", "": ""}
    assert verdict(Interval(mean, half, n, level)) == word
    assert verdict(Interval(mean, half, n, level), higher_is_better=False) == opposite[word]


def test_verdict_without_pairs():
    assert verdict(None) == ""


def test_p_values_and_holm_are_those_of_the_textbook():
    draws = np.random.default_rng(3)
    for n in (5, 9):
        a, b = draws.normal(size=n), draws.normal(size=n) + 0.4
        assert p_value(paired_interval(a, b)) == pytest.approx(stats.ttest_rel(a, b).pvalue, rel=1e-12)
    assert p_value(mean_interval([0.0, 0.0])) == 1 and p_value(mean_interval([2.0, 2.0])) == 0
    # Holm 1979: the smallest times m, the next times m - 1, never below one before it, never above one.
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.5}) == pytest.approx(
        {"a": 0.04, "c": 0.09, "b": 0.09, "d": 0.5}
    )
    assert holm({"a": 0.01, "b": 0.3}, tests=8) == pytest.approx({"a": 0.08, "b": 1.0})
    for order in ("ab?", "?ab", "a?b"):  # wherever a NaN stands
        found = holm({name: {"a": 0.01, "b": 0.02, "?": float("nan")}[name] for name in order})
        assert (found["a"], found["b"]) == pytest.approx((0.03, 0.04)) and np.isnan(found["?"])


def test_only_differences_with_enough_seeds_are_corrected():
    clear, few = Interval(0.3, 0.1, 5), Interval(0.3, 0.1, 4)
    p = p_value(clear)
    assert corrected({"clear": clear, "few": few, "none": None}) == pytest.approx({"clear": 3 * p})
    assert corrected({"clear": clear}, tests=8) == pytest.approx({"clear": 8 * p})
