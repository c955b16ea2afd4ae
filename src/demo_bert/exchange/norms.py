"""Euclidean norms of tensors, the fastest way that a device has."""

from collections.abc import Sequence

import torch
from torch import Tensor

_PIECE = 1 << 18
"""Numbers that a product sums by itself: one float32 sum of 23 million errs by 0.05 to 0.8 %."""


def norms(tensors: Sequence[Tensor]) -> Tensor:
    """The norm of each tensor.

    Args:
        tensors: At least one, float32, all on one device.

    Returns:
        As many numbers, float32, on that device.
    """
    if not tensors[0].is_cpu:
        return torch.stack(torch._foreach_norm(list(tensors)))
    # torch's norms take one thread there, and twice the time of products with themselves.
    return torch.stack([_square(tensor.reshape(-1)) for tensor in tensors]).sqrt()


def _square(flat: Tensor) -> Tensor:
    """The square of the norm: (N,) -> ()."""
    if len(flat) <= _PIECE:
        return torch.dot(flat, flat)
    return torch.stack([torch.dot(piece, piece) for piece in flat.split(_PIECE)]).sum()
