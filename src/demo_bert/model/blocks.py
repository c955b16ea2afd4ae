"""Attention on a CPU: examples of similar length as blocks of padded rows, forward and backward.

Attention over each example by itself wastes no product but calls a few dozen small operations an
example and layer; over the whole batch at once it pads every example to the longest. A plan between
the two is made from the lengths alone: sorted, cut where the padding saved outweighs the calls
added. Its costs were swept: others are no faster. The backward pass is written
out; torch's own attention was several times slower on CPU (benchmarks/NOTES.md).

Shapes: T tokens, P rows of all blocks, B examples, G examples of a block, S its longest, H hidden
size, A heads, D head size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from demo_bert.model.dropout import Masks, mask_, masked

_CALLS = 80_000
"""Cost of a further block, in elements of attention weights (one head, query and key)."""
_MOST_ELEMENTS = 1_500_000
"""Weights of a block of several examples, at most, so that its tensors stay in the cache."""


@dataclass(frozen=True)
class Block:
    """Examples that are worked on together.

    Attributes:
        first_row: Where its G * S rows begin.
        num_examples: G.
        longest: S.
        bias: (G, 1, 1, S) float32, 0 for keys of the example and -inf for padding; None where all
            are of the same length.
    """

    first_row: int
    num_examples: int
    longest: int
    bias: Tensor | None


@dataclass(frozen=True)
class Layout:
    """The rows of all blocks.

    Attributes:
        blocks: In the order of their rows.
        places: (T,) int64, the row of each token; None where each token is its own row.
        sources: (P,) int64, the token of each row, 0 where it has none; None as `places`.
        empty: The rows without a token, int64; None as `places`.
        num_rows: P.
    """

    blocks: tuple[Block, ...]
    places: Tensor | None
    sources: Tensor | None
    empty: Tensor | None
    num_rows: int

    def rows(self, tokens: Tensor) -> Tensor:
        """Tokens laid out in blocks: (T, C) -> (P, C), 0 where a row has no token."""
        if self.sources is None or self.empty is None:
            return tokens
        # Half the time of writing into zeros, which goes row by row.
        return tokens.index_select(0, self.sources).index_fill_(0, self.empty, 0)

    def tokens(self, rows: Tensor) -> Tensor:
        """The inverse: (P, C) -> (T, C)."""
        return rows if self.places is None else rows.index_select(0, self.places)


def block_bounds(
    lengths: Sequence[int],
    *,
    num_heads: int,
    calls: int = _CALLS,
    most_elements: int = _MOST_ELEMENTS,
) -> list[int]:
    """Where to cut sorted lengths so that padding and calls together cost least.

    Args:
        lengths: Ascending, none 0.
        num_heads: A.
        calls: Cost of a block, in attention weights.
        most_elements: Attention weights of a block, at most; one example may have more.

    Returns:
        The first example of each block, and the number of examples.

    Example:
        >>> block_bounds([9, 10, 100, 100], num_heads=12)
        [0, 2, 4]
    """
    sizes = num_heads * np.asarray(lengths, np.float64) ** 2  # (B,)
    best = np.zeros(len(sizes) + 1)
    cuts = np.zeros(len(sizes) + 1, np.int64)
    for end in range(1, len(sizes) + 1):
        first = max(0, min(end - 1, end - int(most_elements // sizes[end - 1])))
        padded = (end - np.arange(first, end)) * sizes[end - 1]
        costs = best[first:end] + calls + padded
        place = int(costs.argmin())
        best[end], cuts[end] = costs[place], first + place
    bounds = [len(sizes)]
    while bounds[-1]:
        bounds.append(int(cuts[bounds[-1]]))
    return bounds[::-1]


def make_layout(lengths: Sequence[int], *, num_heads: int, **costs: int) -> Layout:
    """Lays examples out in blocks.

    Args:
        lengths: Of all examples, in their order; 0 for an empty one.
        num_heads: A.
        **costs: Of `block_bounds`.

    Returns:
        The layout.
    """
    sizes = np.asarray(lengths, np.int64)  # (B,)
    order = np.argsort(sizes, kind="stable")
    order = order[sizes[order] > 0]
    bounds = block_bounds(sizes[order].tolist(), num_heads=num_heads, **costs)
    starts = np.concatenate([[0], np.cumsum(sizes)])  # (B+1,)
    places = np.empty(starts[-1], np.int64)  # (T,)
    blocks: list[Block] = []
    row = 0
    for begin, end in zip(bounds, bounds[1:], strict=False):
        chosen = order[begin:end]  # (G,)
        longest = int(sizes[chosen[-1]])
        for example in chosen:
            size = sizes[example]
            places[starts[example] : starts[example] + size] = np.arange(row, row + size)
            row += longest
        bias = None
        if sizes[chosen[0]] < longest:
            hidden = np.arange(longest) >= sizes[chosen, None]  # (G, S)
            bias = torch.from_numpy(np.where(hidden, -np.inf, 0.0).astype(np.float32))
            bias = bias[:, None, None, :]
        blocks.append(Block(row - len(chosen) * longest, len(chosen), longest, bias))
    is_plain = row == starts[-1] and bool((np.diff(places) == 1).all())
    if is_plain:
        return Layout(tuple(blocks), None, None, None, row)
    sources = np.full(row, -1)  # (P,)
    sources[places] = np.arange(len(places))
    numbers = (places, sources.clip(0), np.flatnonzero(sources < 0))
    return Layout(tuple(blocks), *map(torch.from_numpy, numbers), num_rows=row)


def block_attention(qkv: Tensor, layout: Layout, *, num_heads: int, dropout: float) -> Tensor:
    """Scaled dot-product attention of every example with itself.

    Args:
        qkv: (T, 3H), queries, keys and values side by side, on a CPU.
        layout: Of the examples.
        num_heads: A.
        dropout: Probability of dropping an attention weight.

    Returns:
        (T, H), in the type of `qkv`.
    """
    return cast(Tensor, _BlockAttention.apply(qkv, layout, num_heads, dropout))


class _BlockAttention(torch.autograd.Function):
    """Keeps queries, keys, values, weights and masks of each block for the backward pass."""

    @staticmethod
    def forward(  # type: ignore[bad-override]  # autograd.Function is declared with *args
        ctx: Any, qkv: Tensor, layout: Layout, num_heads: int, dropout: float
    ) -> Tensor:
        hidden = qkv.shape[1] // 3
        size = hidden // num_heads
        wide = torch.promote_types(qkv.dtype, torch.float32)
        rows = layout.rows(qkv)  # (P, 3H)
        output = rows.new_empty(layout.num_rows, hidden)  # (P, H)
        masks = Masks(dropout, qkv.dtype) if dropout > 0.0 else None
        ctx.scale = 1.0 if masks is None else masks.scale
        kept: list[Tensor | None] = []
        for block in layout.blocks:
            query, key, value = _heads(rows, block, num_heads, size).unbind(0)  # (GA, S, D)
            query.mul_(size**-0.5)
            value.mul_(ctx.scale)
            # In float32: half the time of bfloat16, whose odd lengths are slow (NOTES.md).
            scores = torch.bmm(query, key.transpose(1, 2)).to(wide)  # (GA, S, S)
            if block.bias is not None:
                shape = (block.num_examples, num_heads, block.longest, block.longest)
                scores.view(shape).add_(block.bias)
            weights = scores.softmax(-1).to(qkv.dtype)  # (GA, S, S)
            mask = None if masks is None else masks.draw(*weights.shape)
            context = torch.bmm(weights if mask is None else masked(weights, mask), value)
            _put(output, block, context, num_heads)
            kept += [query, key, value, weights, mask]
        ctx.save_for_backward(*kept)
        ctx.layout, ctx.num_heads = layout, num_heads
        return layout.tokens(output)

    @staticmethod
    def backward(  # type: ignore[bad-override]  # autograd.Function is declared with *args
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor, None, None, None]:
        layout, num_heads, kept = ctx.layout, ctx.num_heads, ctx.saved_tensors
        hidden = grad.shape[1]
        size = hidden // num_heads
        grad_rows = layout.rows(grad.contiguous())  # (P, H)
        grad_qkv = grad_rows.new_empty(layout.num_rows, 3 * hidden)  # (P, 3H)
        for number, block in enumerate(layout.blocks):
            query, key, value, weights, mask = kept[5 * number : 5 * number + 5]
            grad_out = _heads(grad_rows, block, num_heads, size)[0]  # (GA, S, D)
            grad_weights = torch.bmm(grad_out, value.transpose(1, 2))  # (GA, S, S)
            dropped = weights
            if mask is not None:
                mask_(grad_weights, mask)
                dropped = masked(weights, mask)
            grad_value = torch.bmm(dropped.transpose(1, 2), grad_out).mul_(ctx.scale)
            grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
            grad_query = torch.bmm(grad_scores, key).mul_(size**-0.5)
            grad_key = torch.bmm(grad_scores.transpose(1, 2), query)
            for part, found in enumerate((grad_query, grad_key, grad_value)):
                _put(grad_qkv, block, found, num_heads, part=part)
        return layout.tokens(grad_qkv), None, None, None


def _heads(rows: Tensor, block: Block, num_heads: int, size: int) -> Tensor:
    """A block's rows by heads, a copy: (P, K * H) -> (K, G * A, S, D)."""
    examples, longest = block.num_examples, block.longest
    chosen = rows[block.first_row : block.first_row + examples * longest]  # (G * S, K * H)
    heads = chosen.view(examples, longest, -1, num_heads, size).permute(2, 0, 3, 1, 4)
    copy = heads.clone(memory_format=torch.contiguous_format)  # (K, G, A, S, D)
    return copy.view(-1, examples * num_heads, longest, size)


def _put(rows: Tensor, block: Block, values: Tensor, num_heads: int, *, part: int = 0) -> None:
    """The inverse for one part of the columns: (G * A, S, D) -> H columns of (P, K * H)."""
    examples, longest = block.num_examples, block.longest
    chosen = rows[block.first_row : block.first_row + examples * longest]
    target = chosen.view(examples, longest, -1, num_heads, values.shape[-1])[:, :, part]
    target.copy_(values.view(examples, num_heads, longest, -1).transpose(1, 2))
