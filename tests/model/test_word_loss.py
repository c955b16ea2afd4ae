"""Masked LM's loss in blocks: the same as from whole logits, by value and by gradient."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from demo_bert.model import word_loss as module
from demo_bert.model.word_loss import word_loss


def drawn(
    num_rows: int, *, hidden: int = 24, words: int = 97, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(num_rows)
    states = torch.randn(num_rows, hidden, dtype=dtype, requires_grad=True)
    weight = torch.randn(words, hidden, dtype=dtype, requires_grad=True)
    bias = torch.randn(words, dtype=dtype, requires_grad=True)
    return states, weight, bias, torch.randint(0, words, (num_rows,))


def whole(states: Tensor, weight: Tensor, bias: Tensor, labels: Tensor) -> Tensor:
    logits = F.linear(states, weight, bias)
    return F.cross_entropy(logits, labels, ignore_index=-100, reduction="sum")


@settings(max_examples=40, deadline=None)
@given(
    num_rows=st.integers(0, 600),
    unscored=st.sets(st.integers(0, 599)),
    scale=st.floats(-2.0, 2.0),
)
def test_value_and_gradients_are_those_of_whole_logits(
    num_rows: int, unscored: set[int], scale: float
) -> None:
    *tensors, labels = drawn(num_rows, dtype=torch.float64)
    for row in unscored:
        if row < num_rows:
            labels[row] = -100
    expected = whole(*tensors, labels) * scale
    found = word_loss(*tensors, labels, is_rounded=False) * scale
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, tensors), torch.autograd.grad(expected, tensors)
    )


@pytest.mark.parametrize("num_rows", [1, 255, 256, 257, 1000])
def test_bfloat16_products_are_those_that_autocast_makes(num_rows: int) -> None:
    *tensors, labels = drawn(num_rows, hidden=64)
    with torch.autocast("cpu", torch.bfloat16):
        logits = F.linear(*tensors)
        found = word_loss(*tensors, labels, is_rounded=False)
    expected = F.cross_entropy(logits.float(), labels, reduction="sum")
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    pairs = zip(
        torch.autograd.grad(found, tensors), torch.autograd.grad(expected, tensors), strict=True
    )
    for ours, theirs in pairs:
        assert ours.dtype == torch.float32
        assert float((ours - theirs).norm() / theirs.norm()) < 1e-2


def test_rounded_operands_are_multiplied_in_float32() -> None:
    *tensors, labels = drawn(50)
    with torch.no_grad():
        for tensor in tensors[:2]:
            tensor.copy_(tensor.bfloat16())  # so that rounding changes nothing
    found = word_loss(*tensors, labels, is_rounded=True)
    expected = whole(*tensors, labels)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(  # exact but for the slopes, which are rounded too
        torch.autograd.grad(found, tensors),
        torch.autograd.grad(expected, tensors),
        rtol=2**-7,
        atol=0.05,
    )


def test_what_needs_no_gradient_gets_none() -> None:
    states, weight, bias, labels = drawn(5)
    frozen = states.detach()
    word_loss(frozen, weight, bias, labels, is_rounded=False).backward()
    assert frozen.grad is None and weight.grad is not None
    with torch.no_grad():
        found = word_loss(states, weight, bias, labels, is_rounded=False)
    assert not found.requires_grad
    torch.testing.assert_close(found, whole(states, weight, bias, labels).detach())


def test_no_block_has_more_logits_than_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    softmax = torch.softmax

    def watched(logits: Tensor, **options: object) -> Tensor:
        seen.append(tuple(logits.shape))
        return softmax(logits, **options)  # type: ignore[no-matching-overload]

    monkeypatch.setattr(module.torch, "softmax", watched)
    *tensors, labels = drawn(600)
    word_loss(*tensors, labels, is_rounded=False)
    assert seen == [(256, 97), (256, 97), (88, 97)]


def test_a_label_that_is_next_to_impossible_has_a_finite_loss() -> None:
    states, weight, bias, labels = drawn(3)
    with torch.no_grad():
        bias[labels] -= 500.0
    found = word_loss(states, weight, bias, labels, is_rounded=False)
    torch.testing.assert_close(found, whole(states, weight, bias, labels))
