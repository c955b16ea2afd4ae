"""Examples are put in blocks by their lengths, each token once, at least cost."""

from itertools import product

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from demo_bert.model.blocks import block_attention, block_bounds, make_layout


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.integers(0, 4000))
def test_each_token_has_its_own_row_within_the_block_of_its_example(
    lengths: list[int], calls: int
) -> None:
    layout = make_layout(lengths, num_heads=2, calls=calls)
    tokens = torch.arange(1, sum(lengths) + 1).float()[:, None]
    rows = layout.rows(tokens)
    assert torch.equal(layout.tokens(rows), tokens)
    assert rows.shape[0] == layout.num_rows
    assert (rows != 0).sum() == sum(lengths)
    for block in layout.blocks:
        end = block.first_row + block.num_examples * block.longest
        inside = rows[block.first_row : end].view(block.num_examples, block.longest)
        if block.bias is None:
            assert (inside > 0).all()
        else:
            assert torch.equal(block.bias[:, 0, 0] == 0, inside > 0)


@settings(max_examples=60)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=7).map(sorted), st.integers(1, 9000))
def test_no_other_cut_costs_less(lengths: list[int], calls: int) -> None:
    def cost(bounds: list[int]) -> int:
        parts = zip(bounds, bounds[1:], strict=False)
        return sum(calls + (end - begin) * lengths[end - 1] ** 2 for begin, end in parts)

    found = block_bounds(lengths, num_heads=1, calls=calls)
    choices = product([False, True], repeat=len(lengths) - 1)
    all_cuts = ([0, *(n for n, cut in enumerate(c, 1) if cut), len(lengths)] for c in choices)
    assert cost(found) == min(map(cost, all_cuts))


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 30), min_size=1, max_size=7).filter(any),
    calls=st.sampled_from([0, 100, 10**9]),
    seed=st.integers(0, 1000),
)
def test_every_way_to_cut_gives_the_textbook_attention(
    lengths: list[int], calls: int, seed: int
) -> None:
    torch.manual_seed(seed)
    qkv = torch.randn(sum(lengths), 24)
    grad = torch.randn(sum(lengths), 8)
    layout = make_layout(lengths, num_heads=2, calls=calls)
    results = []
    for run in (
        lambda values: block_attention(values, layout, num_heads=2, dropout=0.0),
        lambda values: torch.cat([_textbook(rows) for rows in values.split(lengths)]),
    ):
        inputs = qkv.clone().requires_grad_()
        output = run(inputs)
        output.backward(grad)
        results.append((output.detach(), inputs.grad))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=0, atol=1e-5)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-4, atol=1e-5)


def _textbook(rows: torch.Tensor) -> torch.Tensor:
    """softmax(q k^T / sqrt(d)) v of one example with two heads of 4."""
    query, key, value = rows.view(-1, 3, 2, 4).permute(1, 2, 0, 3)
    weights = (query @ key.transpose(1, 2) / 2.0).softmax(-1)
    return (weights @ value).transpose(0, 1).reshape(-1, 8)


def test_blocks_stay_as_small_as_asked() -> None:
    lengths = [10] * 50
    bounds = block_bounds(lengths, num_heads=3, calls=10**9, most_elements=3000)
    assert max(b - a for a, b in zip(bounds, bounds[1:], strict=False)) == 10
    assert block_bounds([500, 500], num_heads=12, most_elements=1) == [0, 1, 2]


def test_gradients_through_dropout_are_those_of_finite_differences() -> None:
    torch.manual_seed(1)
    qkv = torch.randn(9, 24, dtype=torch.float64, requires_grad=True)
    layout = make_layout([3, 4, 2], num_heads=2)
    assert len(layout.blocks) == 1

    def run(values: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(3)
        return block_attention(values, layout, num_heads=2, dropout=0.2)

    assert torch.autograd.gradcheck(run, (qkv,))
