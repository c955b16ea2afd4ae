"""Dropout masks for the CPU, drawn many times faster than torch's there.

torch draws one number of a Mersenne Twister for each element on one thread: 4.4 ns, a third of a
training step (benchmarks/NOTES.md). Here a mask is 16 bits an element, compared against a
threshold, and kept as integers of the tensor's width: all ones where an element stays, zero where
it is dropped. A mask is applied by a bitwise "and", which gives the element itself or exactly 0.

Of each 16 random bits four elements are made, a quarter of the tensor apart: multiplication by an
odd number permutes the 65,536 values, so each element has exactly its probability. For dropout
from 0.05 to 0.5 the four together are within 0.04 % (total variation) of independent ones; a test
counts all values. Draws are a function of torch's own generator, as those of `torch.nn.Dropout`.
"""

from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_LEVELS = 1 << 16
_MULTIPLIERS = (24669, -15595, -10121)
"""From each of the four elements to the next; of 3,000 drawn triples the most independent one."""
_WORDS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Bytes of an element -> integers as wide."""


class Masks:
    """Masks of one probability.

    Args:
        dropout: Probability of dropping an element, above 0 and below 1; it is met to 1/131072.
        dtype: Of the tensors that masks are for.

    Attributes:
        scale: What kept elements are multiplied by so that the mean stays.
    """

    def __init__(self, dropout: float, dtype: torch.dtype) -> None:
        kept = min(_LEVELS - 1, max(1, round((1.0 - dropout) * _LEVELS)))
        self.scale = _LEVELS / kept
        self._threshold = kept - _LEVELS // 2
        self._dtype = _WORDS[dtype.itemsize]
        seed = int(torch.empty((), dtype=torch.int64).random_())
        self._bits = np.random.SFC64(seed)

    def draw(self, *shape: int) -> Tensor:
        """The next mask.

        Args:
            *shape: Of the tensor that it is for.

        Returns:
            Integers as wide as the tensor's elements: -1 for "stays", 0 for "dropped".
        """
        count = int(np.prod(shape))
        part = -(-count // (1 + len(_MULTIPLIERS)))
        words = self._bits.random_raw(-(-part // 4))  # 64 bits each
        bits = torch.from_numpy(words.view(np.int16))[:part]
        mask = bits.new_empty(count)
        for place, multiplier in enumerate((1, *_MULTIPLIERS)):
            if multiplier != 1:
                bits.mul_(multiplier)
            chosen = mask[place * part : (place + 1) * part]
            torch.clamp(bits[: len(chosen)], self._threshold - 1, self._threshold, out=chosen)
        return mask.sub_(self._threshold).to(self._dtype).view(shape)


def masked(values: Tensor, mask: Tensor) -> Tensor:
    """The values that stay, and 0 for the others; not scaled.

    Args:
        values: Of the mask's shape and width.
        mask: From `Masks.draw`.

    Returns:
        A new tensor in the type of `values`.
    """
    return (values.view(mask.dtype) & mask).view(values.dtype)


def mask_(values: Tensor, mask: Tensor) -> Tensor:
    """As `masked`, in place.

    Args:
        values: Of the mask's shape and width; overwritten.
        mask: From `Masks.draw`.

    Returns:
        `values`.
    """
    values.view(mask.dtype).bitwise_and_(mask)
    return values


def dropped(values: Tensor, dropout: float) -> Tensor:
    """`torch.nn.functional.dropout`, on a CPU with these masks.

    Args:
        values: Of any shape.
        dropout: Probability of dropping an element; 0: nothing is done.

    Returns:
        A tensor of the same shape and type.
    """
    if dropout == 0.0:
        return values
    if not values.is_cpu or torch.compiler.is_compiling():
        return F.dropout(values, dropout)
    return cast(Tensor, _Dropout.apply(values, dropout))


class _Dropout(torch.autograd.Function):
    """Keeps the mask alone for the backward pass."""

    @staticmethod
    def forward(  # type: ignore[bad-override]  # autograd.Function is declared with *args
        ctx: Any, values: Tensor, dropout: float
    ) -> Tensor:
        masks = Masks(dropout, values.dtype)
        mask, ctx.scale = masks.draw(*values.shape), masks.scale
        ctx.save_for_backward(mask)
        return masked(values, mask).mul_(ctx.scale)

    @staticmethod
    def backward(  # type: ignore[bad-override]  # autograd.Function is declared with *args
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return masked(grad.contiguous(), mask).mul_(ctx.scale), None
