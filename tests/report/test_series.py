import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo_bert.report.series import smoothed, thinned, ticks


def test_smoothing_does_not_pull_the_start_towards_zero():
    found = smoothed([(step, 5.0) for step in range(1, 50)], window=20)
    assert all(y == pytest.approx(5.0) for _, y in found)


def test_smoothing_follows_a_step_within_its_window():
    points = [(step, 0.0 if step < 200 else 1.0) for step in range(400)]
    found = dict(smoothed(points, window=20))
    assert found[199] == 0 and 0.6 < found[219] < 0.7 and found[399] > 0.999


def test_smoothing_passes_over_what_is_not_finite():
    found = smoothed([(1, 1.0), (2, math.nan), (3, math.inf), (4, 1.0)], window=3)
    assert found == [(1, 1.0), (4, 1.0)]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=2000))
def test_thinning_keeps_the_extremes_both_ends_and_the_order(heights):
    points = list(enumerate(heights))
    found = thinned(points, 50)
    assert len(found) <= 102 and set(found) <= set(points) and found == sorted(found)
    assert found[0] == points[0] and found[-1] == points[-1]
    assert max(y for _, y in found) == max(heights) and min(y for _, y in found) == min(heights)


def test_thinning_keeps_a_stretch_without_numbers_as_a_gap():
    points = [(step, math.nan if 4000 <= step < 6000 else 1.0) for step in range(10_000)]
    assert any(math.isnan(y) for _, y in thinned(points))


@given(low=st.floats(-1e9, 1e9), span=st.floats(1e-6, 1e9))
def test_ticks_are_few_and_inside(low, span):
    high = low + span
    if high - low < 1e-9 * max(abs(low), abs(high)):
        return  # the range is below what a float can tell apart
    found = ticks(low, high)
    slack = 1e-6 * (high - low)
    assert 2 <= len(found) <= 7 and found == sorted(set(found))
    assert low - slack <= found[0] and found[-1] <= high + slack
