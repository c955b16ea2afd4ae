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
"""Numbers of a bucket; a parameter may lie in several."""

_ALIGNED = 16
"""Numbers between which parameters and shares begin: a line of the cache."""


@dataclass(frozen=True)
class Bucket:
    """What is summed at once.

    Attributes:
        start: Its first number in the arena.
        end: The one after its last; the size is a multiple of the shares' number.
        members: Places among all of the parameters that have numbers in it.
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
        bucket_elements: Numbers of a bucket, rounded up to whole shares.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        *,
        num_shares: int,
        bucket_elements: int = BUCKET_ELEMENTS,
    ) -> None:
        self.num_shares = num_shares
        self.starts = [0] * len(parameters)
        self.sizes = [parameter.numel() for parameter in parameters]
        end = 0
        for index in reversed(range(len(parameters))):
            self.starts[index] = end
            end += _rounded_up(self.sizes[index], _ALIGNED)
        unit = _ALIGNED * num_shares
        end, full = _rounded_up(end, unit), _rounded_up(bucket_elements, unit)
        self.buckets = [
            self._bucket(start, min(end, start + full)) for start in range(0, end, full)
        ]
        self.buckets_of: list[list[int]] = [[] for _ in parameters]
        for number, bucket in enumerate(self.buckets):
            for index in bucket.members:
                self.buckets_of[index].append(number)
        self.flat = torch.zeros(end, device=parameters[0].device if parameters else None)
        self.views = self.views_of(self.flat, parameters)

    def _bucket(self, start: int, end: int) -> Bucket:
        members = [
            index
            for index, (first, size) in enumerate(zip(self.starts, self.sizes, strict=True))
            if first < end and first + size > start
        ]
        return Bucket(start, end, tuple(members))

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
            In the parameters' order; at most one for each bucket that a parameter lies in.
        """
        found: list[Piece] = []
        for index, (start, size) in enumerate(zip(self.starts, self.sizes, strict=True)):
            for number in self.buckets_of[index]:
                begin, end = self.share(self.buckets[number], rank)
                low, high = max(begin, start), min(end, start + size)
                if low < high:
                    found.append(Piece(index, low - start, low, high))
        return found


def _rounded_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
