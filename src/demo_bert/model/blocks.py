"""Attention on a CPU: examples of similar length as blocks of padded rows, forward and backward.

Attention over each example by itself wastes no product but calls a few dozen small operations an
example and layer; over the whole batch at once it pads every example to the longest. A plan between
the two is made from the lengths alone: sorted, cut where the padding saved outweighs the calls
added. Its costs were swept: others are no faster. The backward pass is written
out; torch's own attention was several times slower on CPU (benchmarks/NOTES.md).

Shapes: T tokens, P rows of all blocks, B examples, G examples of a block, S its longest, H hidden
size, A heads, D head size.
"""

import math
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
        first_pair: Where its G * S * S pairs of query and key begin.
        num_examples: G.
        longest: S.
        bias: (G, 1, 1, S) float32, 0 for keys of the example and -inf for padding; None where all
            are of the same length.
    """

    first_row: int
    first_pair: int
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
        num_pairs: Pairs of query and key of all blocks, for one head.
    """

    blocks: tuple[Block, ...]
    places: Tensor | None
    sources: Tensor | None
    empty: Tensor | None
    num_rows: int
    num_pairs: int

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
    row = pair = 0
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
        blocks.append(Block(row - len(chosen) * longest, pair, len(chosen), longest, bias))
        pair += len(chosen) * longest**2
    is_plain = row == starts[-1] and bool((np.diff(places) == 1).all())
    if is_plain:
        return Layout(tuple(blocks), None, None, None, row, pair)
    sources = np.full(row, -1)  # (P,)
    sources[places] = np.arange(len(places))
    numbers = (places, sources.clip(0), np.flatnonzero(sources < 0))
    return Layout(tuple(blocks), *map(torch.from_numpy, numbers), num_rows=row, num_pairs=pair)


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
    """Keeps queries, keys, values, weights and mask for the backward pass, those of all blocks."""

    @staticmethod
    def forward(  # type: ignore[bad-override]  # autograd.Function is declared with *args
        ctx: Any, qkv: Tensor, layout: Layout, num_heads: int, dropout: float
    ) -> Tensor:
        size = qkv.shape[1] // (3 * num_heads)
        wide = torch.promote_types(qkv.dtype, torch.float32)
        rows = layout.rows(qkv)  # (P, 3H)
        output = rows.new_empty(layout.num_rows, num_heads * size)  # (P, H)
        heads = rows.new_empty(rows.numel())
        weights = rows.new_empty(num_heads * layout.num_pairs)
        mask, ctx.scale = None, 1.0
        if dropout > 0.0:
            masks = Masks(dropout, qkv.dtype)
            mask, ctx.scale = masks.draw(len(weights)), masks.scale
        for block in layout.blocks:
            query, key, value = _heads(rows, block, (3, num_heads, size), into=heads)  # (GA, S, D)
            query.mul_(size**-0.5)
            value.mul_(ctx.scale)
            # In float32: half the time of bfloat16, whose odd lengths are slow (NOTES.md).
            scores = torch.bmm(query, key.transpose(1, 2)).to(wide)  # (GA, S, S)
            if block.bias is not None:
                shape = (block.num_examples, num_heads, block.longest, block.longest)
                scores.view(shape).add_(block.bias)
            found = _pairs(weights, block, num_heads).copy_(scores.softmax(-1))  # (GA, S, S)
            if mask is not None:
                found = masked(found, _pairs(mask, block, num_heads))
            _put(output, block, (1, num_heads, size), torch.bmm(found, value))
        ctx.save_for_backward(heads, weights, mask)
        ctx.layout, ctx.num_heads = layout, num_heads
        return layout.tokens(output)

    @staticmethod
    def backward(  # type: ignore[bad-override]  # autograd.Function is declared with *args
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor, None, None, None]:
        layout, num_heads = ctx.layout, ctx.num_heads
        all_heads, all_weights, all_masks = ctx.saved_tensors
        hidden = grad.shape[1]
        size = hidden // num_heads
        one, three = (1, num_heads, size), (3, num_heads, size)
        grad_rows = layout.rows(grad.contiguous())  # (P, H)
        grad_heads = grad_rows.new_empty(grad_rows.numel())
        grad_qkv = grad_rows.new_empty(layout.num_rows, 3 * hidden)  # (P, 3H)
        for block in layout.blocks:
            query, key, value = _kept(all_heads, block, three)  # (GA, S, D) each
            weights = _pairs(all_weights, block, num_heads)  # (GA, S, S)
            grad_out = _heads(grad_rows, block, one, into=grad_heads)[0]  # (GA, S, D)
            grad_weights = torch.bmm(grad_out, value.transpose(1, 2))  # (GA, S, S)
            dropped = weights
            if all_masks is not None:
                mask = _pairs(all_masks, block, num_heads)
                mask_(grad_weights, mask)
                dropped = masked(weights, mask)
            grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
            found = grad.new_empty(3, *query.shape)  # (3, GA, S, D)
            torch.bmm(grad_scores, key, out=found[0]).mul_(size**-0.5)
            torch.bmm(grad_scores.transpose(1, 2), query, out=found[1])
            torch.bmm(dropped.transpose(1, 2), grad_out, out=found[2]).mul_(ctx.scale)
            _put(grad_qkv, block, three, found)
        return layout.tokens(grad_qkv), None, None, None


def _pairs(flat: Tensor, block: Block, num_heads: int) -> Tensor:
    """A block's part of what there is for each head, query and key: (G * A, S, S)."""
    first, size = num_heads * block.first_pair, num_heads * block.num_examples * block.longest**2
    return flat[first : first + size].view(-1, block.longest, block.longest)


def _kept(flat: Tensor, block: Block, shape: tuple[int, int, int]) -> Tensor:
    """A block's part of numbers of that shape (K, A, D) for each row: (K, G * A, S, D)."""
    width, num_rows = math.prod(shape), block.num_examples * block.longest
    chosen = flat[block.first_row * width : (block.first_row + num_rows) * width]
    return chosen.view(shape[0], -1, block.longest, shape[2])


def _by_heads(rows: Tensor, block: Block, shape: tuple[int, int, int]) -> Tensor:
    """A view of a block's rows: (P, K * A * D) -> (K, G, A, S, D)."""
    examples, longest = block.num_examples, block.longest
    chosen = rows[block.first_row : block.first_row + examples * longest]
    return chosen.view(examples, longest, *shape).permute(2, 0, 3, 1, 4)


def _heads(rows: Tensor, block: Block, shape: tuple[int, int, int], *, into: Tensor) -> Tensor:
    """A copy of a block's rows by heads, in its part of `into`: (K, G * A, S, D)."""
    copy, source = _kept(into, block, shape), _by_heads(rows, block, shape)
    copy.view(source.shape).copy_(source)
    return copy


def _put(rows: Tensor, block: Block, shape: tuple[int, int, int], values: Tensor) -> None:
    """The inverse: (K, G * A, S, D) into a block's rows."""
    target = _by_heads(rows, block, shape)
    target.copy_(values.view(target.shape))
