"""Learning-rate schedules."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo_bert.errors import UsageError
from demo_bert.optim import SCHEDULES, make_schedule
from demo_bert.optim.schedule import constant, linear

STEPS = st.integers(1, 400)


@given(STEPS, st.integers(0, 500), st.sampled_from(sorted(SCHEDULES)))
@settings(max_examples=60)
def test_every_step_of_every_schedule_has_a_factor_above_0_and_up_to_1(
    num_steps: int, warmup_steps: int, name: str
) -> None:
    factor = SCHEDULES[name](num_steps, warmup_steps)
    factors = [factor(step) for step in range(num_steps)]
    assert all(0 < f <= 1 for f in factors)
    peak = factors.index(max(factors))
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    if warmup_steps <= num_steps:
        assert max(factors) == 1.0


@given(STEPS, st.integers(0, 400))
@settings(max_examples=40)
def test_linear_falls_by_the_same_share_each_step_towards_0(
    num_steps: int, warmup_steps: int
) -> None:
    factor = linear(num_steps, warmup_steps)
    assert factor(num_steps) == pytest.approx(0.0)
    rest = [factor(step) for step in range(min(warmup_steps, num_steps), num_steps + 1)]
    falls = [a - b for a, b in zip(rest, rest[1:], strict=False)]
    assert falls == pytest.approx([1 / max(1, len(rest) - 1)] * len(falls))


def test_the_warm_up_ends_at_the_peak() -> None:
    for schedule in (linear(100, 10), constant(100, 10)):
        assert [schedule(step) for step in (0, 4, 9, 10)] == [0.1, 0.5, 1.0, 1.0]


def test_without_warm_up_the_first_step_has_the_peak() -> None:
    assert linear(10, 0)(0) == constant(10, 0)(0) == 1.0


def test_one_step_is_a_step() -> None:
    assert linear(1, 0)(0) == linear(1, 1)(0) == linear(1, 5)(0) == 1.0


def test_an_unknown_name_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match="liner.*linear"):
        make_schedule("liner", num_steps=1, warmup_steps=0)


def test_the_published_decay_jumps_where_the_warm_up_ends() -> None:
    factor = make_schedule("polynomial", num_steps=7038, warmup_steps=2000)
    assert factor(0) == pytest.approx(1 / 2000)
    assert factor(1999) == 1
    assert factor(2000) == pytest.approx((1 - 2000 / 7038) ** 0.5)
    assert factor(2000) == pytest.approx(0.8461, abs=1e-4)
    assert factor(7037) == pytest.approx((1 / 7038) ** 0.5)


def test_the_rebased_decay_does_not_jump() -> None:
    factor = make_schedule("polynomial-rebased", num_steps=7038, warmup_steps=2000)
    assert (factor(1999), factor(2000)) == (1, 1)
    assert factor(2000 + 5038 // 2) == pytest.approx(0.5**0.5)
