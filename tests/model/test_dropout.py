"""Masks are drawn with the right probability, repeatably, and mean what torch's dropout means."""

import math
from itertools import product

import numpy as np
import pytest
import torch

from demo_bert.model.dropout import Masks, dropped, mask_, masked


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.999])
def test_the_share_that_is_dropped_is_the_one_asked_for(dtype: torch.dtype, dropout: float) -> None:
    torch.manual_seed(0)
    masks = Masks(dropout, dtype)
    mask = masks.draw(1000, 1003)
    share = (mask == 0).double().mean().item()
    deviation = (dropout * (1 - dropout) / mask.numel()) ** 0.5
    assert abs(share - dropout) < 1e-5 + 4 * deviation
    assert abs(masks.scale - 1 / (1 - dropout)) < 0.01 / (1 - dropout)
    assert set(mask.unique().tolist()) == {-1, 0}
    again = masks.draw(1000, 1003)
    both = ((mask == 0) & (again == 0)).double().mean().item()
    assert abs(both - share**2) < 5e-3  # draws do not depend on one another


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_mask_keeps_elements_bit_for_bit_or_makes_them_zero(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    values = torch.randn(7, 9).to(dtype)
    mask = Masks(0.4, dtype).draw(7, 9)
    expected = torch.where(mask == -1, values, torch.zeros((), dtype=dtype))
    assert torch.equal(masked(values, mask), expected)
    assert torch.equal(mask_(values.clone(), mask), expected)


class EveryValue:
    """A generator whose first draw has each value of 16 bits once."""

    def random_raw(self, count: int) -> np.ndarray:
        assert count == 1 << 14
        return np.arange(1 << 16).astype(np.uint16).view(np.uint64)


@pytest.mark.parametrize("dropout", [0.05, 0.1, 0.15, 0.2, 0.3, 0.5])
def test_four_elements_of_one_draw_are_as_good_as_independent(dropout: float) -> None:
    masks = Masks(dropout, torch.bfloat16)
    masks._bits = EveryValue()  # type: ignore[assignment]
    dropped_ones = masks.draw(4, 1 << 16).eq(0)  # (4, every value)
    share = round(dropout * 65536) / 65536
    assert dropped_ones.double().mean(1).tolist() == [share] * 4  # each has its probability
    codes = (dropped_ones * torch.tensor([[1], [2], [4], [8]])).sum(0)
    found = codes.bincount(minlength=16) / 65536
    expected = torch.tensor(
        [
            math.prod(share if is_dropped else 1 - share for is_dropped in reversed(each))
            for each in product((0, 1), repeat=4)
        ]
    )
    assert float((found - expected).abs().sum()) / 2 < 4e-4  # total variation


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 6, 7, 9, 17, 30])
def test_tensors_of_any_size_are_covered(count: int) -> None:
    mask = Masks(0.5, torch.bfloat16).draw(count)
    assert mask.shape == (count,) and set(mask.tolist()) <= {-1, 0}


def test_draws_follow_the_generator_of_torch() -> None:
    torch.manual_seed(3)
    first = dropped(torch.ones(50), 0.5)
    second = dropped(torch.ones(50), 0.5)
    torch.manual_seed(3)
    assert torch.equal(dropped(torch.ones(50), 0.5), first)
    assert not torch.equal(first, second)


def test_gradients_pass_where_values_passed() -> None:
    torch.manual_seed(0)
    values = torch.randn(20, 30, requires_grad=True)
    output = dropped(values, 0.25)
    output.sum().backward()
    is_kept = output != 0
    torch.testing.assert_close(output[is_kept], values[is_kept] / 0.75, rtol=1e-4, atol=0)
    torch.testing.assert_close(values.grad, is_kept / 0.75, rtol=1e-4, atol=0)
    assert dropped(values, 0.0) is values
