"""Every attention path is the textbook's, whatever the lengths."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from demo_bert.model.attention import AttentionPath, Sequences, attention, select_path

_PATHS: tuple[AttentionPath, ...] = ("blocks", "padded")


def _sequences(lengths: list[int], longest: int | None = None) -> Sequences:
    bounds = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
    return Sequences(bounds, longest or max(lengths), num_tokens=sum(lengths))


def _textbook(qkv: torch.Tensor, lengths: list[int], num_heads: int) -> torch.Tensor:
    """softmax(q k^T / sqrt(d)) v for each example and head, by scalars' definition."""
    hidden = qkv.shape[1] // 3
    size = hidden // num_heads
    outputs = []
    for rows in qkv.split(lengths):
        heads = []
        for head in range(num_heads):
            columns = slice(head * size, (head + 1) * size)
            query, key, value = (rows[:, part * hidden :][:, columns] for part in range(3))
            heads.append(((query @ key.T) / size**0.5).softmax(-1) @ value)
        outputs.append(torch.cat(heads, 1))
    return torch.cat(outputs)


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 17), min_size=1, max_size=6),
    num_heads=st.sampled_from([1, 2, 4]),
    path=st.sampled_from(_PATHS),
    seed=st.integers(0, 1000),
)
def test_every_path_is_the_textbook_in_values_and_gradients(
    lengths: list[int], num_heads: int, path: AttentionPath, seed: int
) -> None:
    torch.manual_seed(seed)
    expected_in = torch.randn(sum(lengths), 3 * 8, dtype=torch.float64, requires_grad=True)
    grad = torch.randn(sum(lengths), 8, dtype=torch.float64)
    expected = _textbook(expected_in, lengths, num_heads)
    expected.backward(grad)
    qkv = expected_in.detach().float().requires_grad_()
    output = attention(qkv, _sequences(lengths), num_heads=num_heads, dropout=0.0, path=path)
    output.backward(grad.float())
    torch.testing.assert_close(output.double(), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(qkv.grad.double(), expected_in.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("path", _PATHS)
def test_empty_examples_change_nothing_and_poison_nothing(path: AttentionPath) -> None:
    torch.manual_seed(0)
    qkv = torch.randn(7, 24, requires_grad=True)
    plain = attention(qkv, _sequences([3, 4]), num_heads=2, dropout=0.0, path=path)
    with_empty = attention(
        qkv, _sequences([3, 0, 4, 0, 0], longest=9), num_heads=2, dropout=0.0, path=path
    )
    torch.testing.assert_close(plain, with_empty, rtol=0, atol=1e-6)
    with_empty.sum().backward()
    assert torch.isfinite(qkv.grad).all()


@pytest.mark.parametrize("path", _PATHS)
def test_dropout_keeps_the_mean_and_is_repeatable(path: AttentionPath) -> None:
    torch.manual_seed(0)
    qkv = torch.randn(40, 24)
    sequences = _sequences([30, 10])
    plain = attention(qkv, sequences, num_heads=2, dropout=0.0, path=path)
    draws = [attention(qkv, sequences, num_heads=2, dropout=0.3, path=path) for _ in range(3000)]
    assert not torch.equal(draws[0], draws[1])
    assert (torch.stack(draws).mean(0) - plain).abs().max() < 0.12
    torch.manual_seed(5)
    first = attention(qkv, sequences, num_heads=2, dropout=0.3, path=path)
    torch.manual_seed(5)
    second = attention(qkv, sequences, num_heads=2, dropout=0.3, path=path)
    assert torch.equal(first, second)


def test_gradients_through_dropout_are_those_of_autograd() -> None:
    torch.manual_seed(1)
    qkv = torch.randn(9, 24, dtype=torch.float64, requires_grad=True)
    sequences = _sequences([4, 5])

    def run(values: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(3)
        return attention(values, sequences, num_heads=2, dropout=0.2, path="padded")

    assert torch.autograd.gradcheck(run, (qkv,))
    # Blocks keep its softmax in float32, so finite differences are taken in that precision.
    narrow = qkv.detach().float().requires_grad_()
    direction = torch.randn_like(narrow)

    def along(step: float) -> torch.Tensor:
        torch.manual_seed(3)
        moved = narrow + step * direction
        return attention(moved, sequences, num_heads=2, dropout=0.2, path="blocks").sum()

    along(0.0).backward()
    slope = (along(1e-2) - along(-1e-2)) / 2e-2
    assert torch.isclose((narrow.grad * direction).sum(), slope.detach(), rtol=2e-2, atol=1e-2)


def test_the_path_follows_device_dtype_and_dropout() -> None:
    bf16, fp32 = torch.bfloat16, torch.float32
    assert select_path("cpu", fp32, dropout=0.1, needs_grad=True) == "blocks"
    assert select_path("cuda", bf16, dropout=0.0, needs_grad=True) == "varlen"
    assert select_path("cuda", bf16, dropout=0.1, needs_grad=True) == "padded"
    assert select_path("cuda", fp32, dropout=0.0, needs_grad=True) == "padded"
    assert select_path("hpu", bf16, dropout=0.0, needs_grad=False) == "padded"
