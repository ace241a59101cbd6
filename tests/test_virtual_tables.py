"""From which slowdown on a method overtakes its synchronous form, by hand."""

import math

import pytest

from tables.virtual import crossing, overtaking


def test_a_difference_passes_zero_between_two_factors():
    # -1 at two times, +1 at eight: zero in the middle of the logarithms, at four.
    assert crossing([1.0, 2.0, 8.0], [-3.0, -1.0, 1.0]) == pytest.approx(4.0)
    assert crossing([1.0, 2.0, 8.0], [-2.0, -1.0, 2.0]) == pytest.approx(math.exp(math.log(2) + math.log(4) / 3))


def test_what_counts_is_the_last_time_that_it_passes():
    assert crossing([1.0, 2.0, 4.0, 8.0], [1.0, -1.0, 1.0, 2.0]) == pytest.approx(2 * math.sqrt(2))
    assert crossing([1.0, 2.0, 4.0], [0.5, 1.0, 2.0]) == 1.0
    assert crossing([1.0, 2.0, 4.0], [0.5, 1.0, -0.1]) is None
    assert crossing([1.0, 2.0, 4.0], [-1.0, 0.0, 1.0]) == pytest.approx(2.0)


def test_it_overtakes_from_where_all_later_intervals_lie_above_zero():
    clear, open_, behind = [1.0, 1.1, 0.9, 1.0, 1.0], [1.0, -1.0, 0.5, -0.5, 0.0], [-1.0, -1.1, -0.9, -1.0, -1.0]

    def over(*rows):
        return {2.0**k: dict(enumerate(row)) for k, row in enumerate(rows)}

    assert overtaking(over(behind, clear, clear))[0] == 2.0
    assert overtaking(over(clear, open_, clear))[0] == 4.0
    assert overtaking(over(clear, clear, open_))[0] is None
    assert overtaking(over(behind, clear[:4]))[0] is None, "four seeds decide nothing"
    first, each = overtaking(over(behind, clear))
    assert first == 2.0 and each == [pytest.approx(math.sqrt(2))] * 5
    assert overtaking({}) == (None, [])
