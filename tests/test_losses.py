"""Losses are sums over labelled rows, in float32."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from demo_bert.losses import IGNORED, classification_loss


def by_hand(logits: list[list[float]], labels: list[int]) -> float:
    total = 0.0
    for row, label in zip(logits, labels, strict=True):
        if label != IGNORED:
            top = max(row)
            total += top + math.log(sum(math.exp(x - top) for x in row)) - row[label]
    return total


@given(
    st.lists(
        st.tuples(
            st.lists(st.floats(-50, 50, width=32), min_size=3, max_size=3),
            st.sampled_from([IGNORED, 0, 1, 2]),
        ),
        min_size=1,
        max_size=12,
    )
)
@settings(max_examples=40)
def test_it_is_the_sum_of_the_rows_cross_entropies(rows: list[tuple[list[float], int]]) -> None:
    logits, labels = [row for row, _ in rows], [label for _, label in rows]
    found = classification_loss(torch.tensor(logits), torch.tensor(labels))
    assert found.dtype == torch.float32
    assert found.shape == ()
    assert math.isclose(float(found), by_hand(logits, labels), rel_tol=1e-4, abs_tol=1e-4)


def test_parts_of_a_batch_add_up_to_the_whole() -> None:
    logits, labels = torch.randn(9, 4), torch.tensor([0, 1, 2, 3, -100, 1, 0, 2, 2])
    parts = sum(classification_loss(logits[a : a + 2], labels[a : a + 2]) for a in range(0, 9, 2))
    torch.testing.assert_close(parts, classification_loss(logits, labels))


def test_rows_without_label_have_neither_loss_nor_gradient() -> None:
    logits = torch.randn(3, 2, requires_grad=True)
    loss = classification_loss(logits, torch.full((3,), IGNORED))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert logits.grad.abs().max() == 0.0
