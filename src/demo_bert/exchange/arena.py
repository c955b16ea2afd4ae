"""One flat tensor with a place for every parameter's gradient, cut into the buckets of the sum.

The places are in the reverse order of the parameters, which is about the order in which a backward
pass makes the gradients: the first buckets are on their way while the rest is computed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from demo_bert.exchange.forecast import FULL_BUCKET

BUCKET_ELEMENTS = FULL_BUCKET
"""A bucket is full with so many numbers; a larger parameter has one of its own."""

_ALIGNED = 16
"""Numbers between which parameters and shares begin: a line of the cache."""


@dataclass(frozen=True)
class Bucket:
    """What is summed at once.

    Attributes:
        start: Its first number in the arena.
        end: The one after its last; the size is a multiple of the shares' number.
        members: Places of its parameters among all.
    """

    start: int
    end: int
    members: tuple[int, ...]


@dataclass(frozen=True)
class Piece:
    """The part of a parameter that lies in a worker's share.

    Attributes:
        index: The parameter's place among all.
        first: The part's first number within the parameter.
        start: Its first number in the arena.
        end: The one after its last.
    """

    index: int
    first: int
    start: int
    end: int


class Arena:
    """Room for the gradients of all parameters.

    Args:
        parameters: In the model's order, all on one device.
        num_shares: Workers; every bucket is divided evenly among them.
        bucket_elements: When a bucket is full.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        *,
        num_shares: int,
        bucket_elements: int = BUCKET_ELEMENTS,
    ) -> None:
        self.num_shares = num_shares
        starts = [0] * len(parameters)
        self.bucket_of = [0] * len(parameters)
        self.buckets: list[Bucket] = []
        first = end = 0
        members: list[int] = []
        for index in reversed(range(len(parameters))):
            starts[index] = end
            end += _rounded_up(parameters[index].numel(), _ALIGNED)
            members.append(index)
            self.bucket_of[index] = len(self.buckets)
            if end - first >= bucket_elements or index == 0:
                end = first + _rounded_up(end - first, _ALIGNED * num_shares)
                self.buckets.append(Bucket(first, end, tuple(members)))
                first = end
                members.clear()
        device = parameters[0].device if parameters else None
        self.starts = starts
        self.sizes = [parameter.numel() for parameter in parameters]
        self.flat = torch.zeros(end, device=device)
        self.views = self.views_of(self.flat, parameters)

    def views_of(self, flat: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
        """The parameters' places in a tensor of the arena's shape.

        Args:
            flat: As `self.flat`.
            parameters: As given.

        Returns:
            A view for each, in its parameter's shape.
        """
        return [
            flat[start : start + parameter.numel()].view(parameter.shape)
            for start, parameter in zip(self.starts, parameters, strict=True)
        ]

    def share(self, bucket: Bucket, rank: int) -> tuple[int, int]:
        """A worker's share of a bucket.

        Args:
            bucket: One of `buckets`.
            rank: The worker.

        Returns:
            Its first number in the arena and the one after its last.
        """
        size = (bucket.end - bucket.start) // self.num_shares
        return bucket.start + rank * size, bucket.start + (rank + 1) * size

    def pieces(self, rank: int) -> list[Piece]:
        """The parts of parameters in a worker's shares.

        Args:
            rank: The worker.

        Returns:
            At most one for each parameter, in the parameters' order.
        """
        found: list[Piece] = []
        for index, (start, size) in enumerate(zip(self.starts, self.sizes, strict=True)):
            begin, end = self.share(self.buckets[self.bucket_of[index]], rank)
            low, high = max(begin, start), min(end, start + size)
            if low < high:
                found.append(Piece(index, low - start, low, high))
        return found


def _rounded_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
