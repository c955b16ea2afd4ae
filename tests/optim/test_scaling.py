"""How the base rate follows the global batch."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo_bert.optim.scaling import scaled_rate

BATCHES = st.integers(1, 100_000)


def rate(rule: str, batch: int, *, cap: float | None = None, workers: int = 1) -> float:
    return scaled_rate(
        1e-4, rule=rule, reference_batch=32, global_batch=batch, num_workers=workers, cap=cap
    ).rate


@pytest.mark.parametrize(
    ("rule", "factor"), [("sqrt", 2.0), ("linear", 4.0), ("workers", 3.0), ("none", 1.0)]
)
def test_each_rule_has_its_factor(rule: str, factor: float) -> None:
    assert rate(rule, 128, workers=3) == pytest.approx(1e-4 * factor)


@given(BATCHES)
def test_sqrt_stays_between_base_and_cap(batch: int) -> None:
    found = rate("sqrt", batch, cap=3e-4)
    assert found == pytest.approx(min(max(1e-4 * math.sqrt(batch / 32), 1e-4), 3e-4))


def test_a_cap_below_the_base_leaves_the_base() -> None:
    assert rate("sqrt", 4096, cap=1e-5) == 1e-4
    assert rate("sqrt", 1, cap=1e-5) == 1e-4


def test_other_rules_know_no_cap() -> None:
    assert rate("linear", 3200, cap=3e-4) == pytest.approx(1e-2)
    assert rate("workers", 32, cap=3e-4, workers=64) == pytest.approx(6.4e-3)


def test_without_cap_there_are_no_bounds() -> None:
    assert rate("sqrt", 8) == pytest.approx(5e-5)
    assert rate("sqrt", 3200) == pytest.approx(1e-3)


def test_the_reason_names_base_factor_cap_and_result() -> None:
    choice = scaled_rate(
        1e-4, rule="sqrt", reference_batch=32, global_batch=1024, num_workers=1, cap=3e-4
    )
    for part in ("0.0001", "32", "sqrt", "1024", "5.657", "0.0003"):
        assert part in choice.reason
    assert choice.is_raised


@given(BATCHES, st.sampled_from(["sqrt", "linear", "workers", "none"]))
def test_raised_means_above_the_base(batch: int, rule: str) -> None:
    choice = scaled_rate(
        1e-4, rule=rule, reference_batch=32, global_batch=batch, num_workers=2, cap=None
    )
    assert choice.is_raised == (choice.rate > 1e-4)
