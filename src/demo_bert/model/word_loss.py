"""Masked LM's loss on a CPU without its logits: blocks of rows, gradients in the same pass.

Logits are wide: 140 MB in float32 for the masks of 64 examples of 128 tokens, at V = 30,522. Whole,
they and what their loss keeps take a multiple of that, and as each micro-step has another number of
masks, their buffers leave holes in the heap. In blocks, pre-training `tiny` so took 1.0 GB instead
of 2.2, at the same speed or a little more (benchmarks/NOTES.md).

Shapes: M masked tokens, R rows of a block, H hidden size, V vocabulary.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from demo_bert.losses import IGNORED
from demo_bert.model.linear import is_narrow

_FEWEST_ROWS, _MOST_ROWS = 256, 1024
"""Of a block: as many as the states are wide, as each adds to all of the V x H gradient."""

_Cast = Callable[[Tensor], Tensor]


def word_loss(
    states: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, *, is_rounded: bool
) -> Tensor:
    """Cross entropy of words, summed over the masked tokens.

    Args:
        states: (M, H), of the decoder's input.
        weight: (V, H), the decoder's.
        bias: (V,).
        labels: (M,) int64 in [0, V), or -100 where there is none.
        is_rounded: Round the operands of products to bfloat16 and multiply them in float32.

    Returns:
        The sum, a scalar of float32 or more; it is differentiated once.
    """
    cast_to = _bfloat16 if is_narrow(states) else _rounded if is_rounded else _as_it_is
    return cast(Tensor, _WordLoss.apply(states, weight, bias, labels, cast_to))


def _bfloat16(tensor: Tensor) -> Tensor:
    return tensor.bfloat16()


def _rounded(tensor: Tensor) -> Tensor:
    return tensor.bfloat16().float()


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


class _WordLoss(torch.autograd.Function):
    """Loss and gradients in one pass; the backward pass scales what is there."""

    @staticmethod
    def forward(  # type: ignore[bad-override]  # autograd.Function is declared with *args
        ctx: Any, states: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, cast_to: _Cast
    ) -> Tensor:
        wide = torch.promote_types(states.dtype, torch.float32)
        operands, decoder = cast_to(states), cast_to(weight)  # (M, H), (V, H)
        offsets = bias.to(operands.dtype)
        total = states.new_zeros((), dtype=wide)
        by_states = torch.empty_like(states, dtype=wide)
        by_weight = by_bias = None
        num_rows = min(_MOST_ROWS, max(_FEWEST_ROWS, states.shape[1]))
        for first in range(0, max(1, states.shape[0]), num_rows):
            rows = slice(first, first + num_rows)
            logits = F.linear(operands[rows], decoder, offsets)  # (R, V)
            loss, probabilities = _cross_entropy(logits, labels[rows], wide)
            del logits
            total += loss
            if any(ctx.needs_input_grad):
                slopes = cast_to(_slopes(probabilities, labels[rows]))  # (R, V)
                del probabilities
                by_states[rows] = slopes @ decoder
                by_weight = _added(by_weight, slopes.t() @ operands[rows], wide)
                by_bias = _added(by_bias, slopes.sum(0, dtype=wide), wide)
        ctx.gradients = by_states, by_weight, by_bias
        ctx.types = [tensor.dtype for tensor in (states, weight, bias)]
        return total

    @staticmethod
    @once_differentiable
    def backward(  # type: ignore[bad-override]  # autograd.Function is declared with *args
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        found, ctx.gradients = ctx.gradients, None  # scaled in place: there is one such pass
        scaled = [each.mul_(grad).to(t) for each, t in zip(found, ctx.types, strict=True)]
        needed = zip(scaled, ctx.needs_input_grad, strict=False)
        return (*(each if is_needed else None for each, is_needed in needed), None, None)


def _cross_entropy(logits: Tensor, labels: Tensor, wide: torch.dtype) -> tuple[Tensor, Tensor]:
    """The sum over the labelled rows, and the probabilities, (R, V); `exp` is made once."""
    probabilities = torch.softmax(logits, dim=1, dtype=wide)
    highest = logits.amax(1).to(wide)  # (R,)
    normalisers = highest - probabilities.amax(1).log()  # logarithms of the sums of exponentials
    of_labels = logits.gather(1, labels.clamp(min=0)[:, None])[:, 0]
    return ((normalisers - of_labels) * (labels != IGNORED)).sum(), probabilities


def _slopes(probabilities: Tensor, labels: Tensor) -> Tensor:
    """The loss's gradient by the logits, in the place of the probabilities: (R, V)."""
    scored = labels != IGNORED
    ones = probabilities.new_ones(len(labels), 1)
    slopes = probabilities.scatter_add_(1, labels.clamp(min=0)[:, None], -ones)
    return slopes if bool(scored.all()) else slopes.mul_(scored[:, None])


def _added(total: Tensor | None, more: Tensor, wide: torch.dtype) -> Tensor:
    return more.to(wide) if total is None else total.add_(more)
