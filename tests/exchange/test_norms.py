"""Norms of tensors, against float64."""

import pytest
import torch

from demo_bert.exchange.norms import norms


def test_norms_are_those_of_the_tensors() -> None:
    tensors = [torch.tensor([3.0, -4.0]), torch.zeros(2, 3), torch.tensor(2.0), torch.ones(0)]
    assert norms(tensors).tolist() == [5.0, 0.0, 2.0, 0.0]


@pytest.mark.parametrize("count", [1 << 18, (1 << 18) + 1, 1 << 23])
def test_the_sum_of_many_numbers_is_not_worn_away(count: int) -> None:
    numbers = torch.full((count,), 0.1)
    (found,) = norms([numbers]).tolist()
    assert found == pytest.approx(float(numbers.double().norm()), rel=1e-4)
