"""How a bucket is summed over workers while the backward pass goes on.

`start` begins with a bucket and `finish` waits for all; every worker starts the same buckets in the
same order. W workers, N numbers of a bucket.
"""

from typing import Protocol

import torch
from torch import Tensor

from demo_bert.distributed import Pending, World, begin_exchange, begin_gather, begin_sum
from demo_bert.exchange.arena import Arena
from demo_bert.exchange.tree import tree_sum

_UNDER_WAY = 2
"""Buckets that may be on their way to their owners before the oldest of them is added up."""


class BucketSum(Protocol):
    """A way to sum buckets."""

    @property
    def sent_bytes(self) -> int:
        """What a worker sends in a step."""
        ...

    def start(self, number: int) -> None:
        """Begins with a bucket.

        Args:
            number: Its place in `Arena.buckets`; each once in a step, in order.
        """
        ...

    def finish(self) -> None:
        """Waits until the arena holds the sums of all that was started."""
        ...


class AllReduce:
    """The process group's own sum, each bucket's in place.

    Args:
        arena: The gradients.
        world: This worker's place.
    """

    def __init__(self, arena: Arena, world: World) -> None:
        self._arena, self._world = arena, world
        self._pending: list[Pending] = []

    @property
    def sent_bytes(self) -> int:
        """See `BucketSum.sent_bytes`; of a ring."""
        numbers = 2 * self._arena.flat.numel() * (self._world.world_size - 1)
        return 4 * numbers // self._world.world_size

    def start(self, number: int) -> None:
        """See `BucketSum.start`."""
        bucket = self._arena.buckets[number]
        self._pending.append(begin_sum(self._arena.flat[bucket.start : bucket.end]))

    def finish(self) -> None:
        """See `BucketSum.finish`."""
        for pending in self._pending:
            pending.wait()
        self._pending.clear()


class SumOfShares:
    """Every worker adds up its share of each bucket in float32, and hands it to all.

    The same bytes as a ring's sum, but who adds what to what is ours to say: in the order of the
    ranks or of the canonical tree, in float32 though bfloat16 travels, and without the way back
    where each worker needs its own share only.

    Args:
        arena: The gradients.
        world: This worker's place.
        dtype: In which gradients travel; a worker's own part of its share is never rounded, but
            what it hands back is, so that all have the same.
        is_gathered: Whether all workers get all shares.
        is_canonical: Whether shares are added by `tree_sum`.
    """

    present: int
    """Workers that have micro-batches in the step, from rank 0 on; for the canonical tree."""

    def __init__(
        self,
        arena: Arena,
        world: World,
        *,
        dtype: torch.dtype = torch.float32,
        is_gathered: bool = True,
        is_canonical: bool = False,
    ) -> None:
        self._arena, self._world, self._dtype = arena, world, dtype
        self._is_gathered, self._is_canonical = is_gathered, is_canonical
        self.present = world.world_size
        self._coming: list[tuple[int, Pending, Tensor]] = []
        self._going: list[tuple[int, Pending, Tensor]] = []

    @property
    def sent_bytes(self) -> int:
        """See `BucketSum.sent_bytes`; where shares stay, new weights go the way back."""
        back = self._dtype if self._is_gathered else torch.float32
        numbers = self._arena.flat.numel() * (self._world.world_size - 1)
        return (self._dtype.itemsize + back.itemsize) * numbers // self._world.world_size

    def start(self, number: int) -> None:
        """See `BucketSum.start`."""
        while len(self._coming) >= _UNDER_WAY:
            self._add_up()
        bucket = self._arena.buckets[number]
        sent = self._arena.flat[bucket.start : bucket.end].to(self._dtype)  # (N,)
        received = torch.empty_like(sent)  # W shares of N / W
        self._coming.append((number, begin_exchange(received, sent), received))

    def finish(self) -> None:
        """See `BucketSum.finish`."""
        while self._coming:
            self._add_up()
        for number, pending, gathered in self._going:
            pending.wait()
            bucket = self._arena.buckets[number]
            if gathered.dtype != torch.float32:
                self._arena.flat[bucket.start : bucket.end] = gathered
        self._going.clear()

    def _add_up(self) -> None:
        """Adds up the share of the bucket that was started first, and sends it back."""
        number, pending, received = self._coming.pop(0)
        pending.wait()
        bucket = self._arena.buckets[number]
        start, end = self._arena.share(bucket, self._world.rank)
        own = self._arena.flat[start:end]  # (N / W,)
        leaves = list(received.view(self._world.world_size, -1).float())
        leaves[self._world.rank] = own.clone()
        if self._is_canonical:
            own.copy_(tree_sum(leaves, self.present))
        else:
            torch.add(leaves[0], leaves[1], out=own)
            for leaf in leaves[2:]:
                own.add_(leaf)
        if self._is_gathered:
            flat = self._arena.flat[bucket.start : bucket.end]
            gathered = flat if self._dtype == torch.float32 else received
            self._going.append((number, begin_gather(gathered, own.to(self._dtype)), gathered))
