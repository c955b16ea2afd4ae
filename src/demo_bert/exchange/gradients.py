"""A step's gradients: gathered over micro-batches where they lie, summed over workers on the way.

Nothing travels before a worker's last micro-batch of the step. In its backward pass a bucket is on
its way as soon as its last gradient is there, so that most of the exchange is over when the pass
is. A worker without a micro-batch adds zeros.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from demo_bert.distributed import World, sum_numbers
from demo_bert.exchange.arena import BUCKET_ELEMENTS, Arena
from demo_bert.exchange.norms import norms
from demo_bert.exchange.sums import AllReduce, BucketSum, SumOfShares
from demo_bert.exchange.tree import is_closer, lane, refuse_other_counts


class Gradients:
    """The gradients of all parameters, and their sum over micro-batches and workers.

    Args:
        parameters: Names and weights, the same on every worker, in the same order.
        world: This worker's place.
        as_views: Whether gradients live in the buckets that are summed; else they are copied there
            and back.
        dtype: In which gradients travel, "fp32" or "bf16"; they are added in float32.
        is_canonical: Whether they are added in the order of `exchange.tree`, whose result has the
            same bits for any number of workers.
        is_sharded: Whether a worker gets the sum of its share of each bucket only, for
            `optim.sharded`.
        bucket_elements: Numbers of a bucket.

    Raises:
        UsageError: The canonical order is asked for, and there are not 1, 2, 4, ... workers.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        world: World,
        *,
        as_views: bool = True,
        dtype: Literal["fp32", "bf16"] = "fp32",
        is_canonical: bool = False,
        is_sharded: bool = False,
        bucket_elements: int = BUCKET_ELEMENTS,
    ) -> None:
        if is_canonical:
            refuse_other_counts(world.world_size)
        self._names, self._parameters = list(parameters), list(parameters.values())
        self._world, self._as_views, self._is_canonical = world, as_views, is_canonical
        self._is_summed = world.world_size > 1
        self._is_sharded = is_sharded and self._is_summed
        self._has = [False] * len(self._parameters)
        self._expected = set(range(len(self._parameters)))
        if not self._is_summed and not is_canonical:
            return  # gradients are added where autograd puts them
        self.arena = Arena(
            self._parameters, num_shares=world.world_size, bucket_elements=bucket_elements
        )
        self._pieces = self.arena.pieces(world.rank)
        self._sum = self._sum_over_workers(dtype)
        self._branches: list[tuple[int, Tensor]] = []  # sums of lanes before this one, in the tree
        self._lane: int | None = None
        self._awaited: list[set[int]] = []
        self._next, self._is_last = 0, False
        self._checks: list[Tensor] = []
        for index, parameter in enumerate(self._parameters):
            parameter.register_post_accumulate_grad_hook(partial(self._on_gradient, index))
        self.drop()

    def _sum_over_workers(self, dtype: str) -> BucketSum | None:
        if not self._is_summed:
            return None
        if dtype == "fp32" and not (self._is_canonical or self._is_sharded):
            return AllReduce(self.arena, self._world)
        return SumOfShares(
            self.arena,
            self._world,
            dtype=torch.bfloat16 if dtype == "bf16" else torch.float32,
            is_gathered=not self._is_sharded,
            is_canonical=self._is_canonical,
        )

    @property
    def sent_bytes(self) -> int:
        """What this worker sends in a step for the sum."""
        return self._sum.sent_bytes if self._is_summed and self._sum else 0

    def expect_all(self) -> None:
        """Says that the next step may have gradients for other parameters than those before."""
        self._expected = set(range(len(self._parameters)))
        self.drop()

    def before_backward(self, index: int, *, is_last: bool) -> None:
        """Says which micro-batch's gradients come now.

        Args:
            index: k, its place in the step.
            is_last: Whether this worker has no further one in the step.
        """
        self._is_last = is_last
        if not self._is_canonical:
            return
        coming = lane(index)
        if self._lane is not None and coming != self._lane:
            self._set_lane_aside(self._lane, coming)
        self._lane = coming

    def _set_lane_aside(self, done: int, coming: int) -> None:
        """Adds the sum of a lane to the branches that it ends, and begins another."""
        flat = self.arena.flat
        for index in range(len(self._parameters)):
            self._fill(index)
        while self._branches and is_closer(self._branches[-1][0], done, than=coming):
            done, branch = self._branches.pop()
            flat.add_(branch)
        self._branches.append((done, flat.clone()))
        for parameter in self._parameters:
            parameter.grad = None

    def launch(self, num_in_step: int) -> None:
        """Sends what is not yet on its way; called when all micro-batches of the step are done.

        Args:
            num_in_step: Micro-batches of the whole step over all workers.
        """
        if not self._is_summed and not self._is_canonical:
            self._has = [parameter.grad is not None for parameter in self._parameters]
            return
        self._expected = {index for index, has in enumerate(self._has) if has} or self._expected
        if isinstance(self._sum, SumOfShares):
            self._sum.present = min(num_in_step, self._world.world_size)
        while self._next < len(self.arena.buckets):
            self._start(self._next)

    def has(self) -> list[bool]:
        """Whether this worker has a gradient for each parameter.

        Returns:
            As many as there are parameters; known after `launch`.
        """
        return list(self._has)

    def finish(self, present: Sequence[bool]) -> None:
        """Waits for the sums; then every parameter's gradient is that of the step.

        Args:
            present: Whether any worker has a gradient for each parameter; the others get none.
        """
        if self._is_summed and self._sum is not None:
            self._sum.finish()
        if not self._is_summed and not self._is_canonical:
            return
        for index, (parameter, is_there) in enumerate(zip(self._parameters, present, strict=True)):
            if not is_there:
                parameter.grad = None
            elif self._as_views or parameter.grad is None:
                parameter.grad = self.arena.views[index]
            else:
                parameter.grad.copy_(self.arena.views[index])

    def drop(self) -> None:
        """Forgets all gradients; the next step begins."""
        for parameter in self._parameters:
            parameter.grad = None
        self._has = [False] * len(self._parameters)
        if not self._is_summed and not self._is_canonical:
            return
        self._branches.clear()
        self._lane, self._next, self._is_last = None, 0, False
        self._checks.clear()
        self._awaited = [
            {index for index in bucket.members if index in self._expected}
            for bucket in self.arena.buckets
        ]

    def _own(self) -> list[tuple[int, Tensor]]:
        """The gradients that this worker has the sums of: place of the parameter, numbers."""
        if not self._is_sharded:
            return [(i, p.grad) for i, p in enumerate(self._parameters) if p.grad is not None]
        return [
            (piece.index, self.arena.flat[piece.start : piece.end])
            for piece in self._pieces
            if self._parameters[piece.index].grad is not None
        ]

    def norm(self) -> float:
        """The global norm of the gradients.

        Returns:
            0 where there are none.
        """
        own = [gradient for _, gradient in self._own()]
        norm = float(torch.linalg.vector_norm(norms(own))) if own else 0.0
        if not self._is_sharded:
            return norm
        (squares,) = sum_numbers([norm * norm], self._world, self.arena.flat.device)
        return math.sqrt(squares)

    def broken(self) -> str | None:
        """The first parameter whose gradient is not finite; all workers ask together.

        Returns:
            Its name, or None.
        """
        flags = [0.0] * len(self._parameters)
        for index, gradient in self._own():
            flags[index] += float(not bool(torch.isfinite(gradient).all()))
        if self._is_sharded:
            flags = sum_numbers(flags, self._world, self.arena.flat.device)
        return next((name for name, flag in zip(self._names, flags, strict=True) if flag), None)

    def broken_ranks(self) -> list[int]:
        """The workers whose own gradients were not finite; all workers ask together.

        Returns:
            At least one: the first worker where none is found.
        """
        if not self._is_summed:
            return [0]
        is_mine = not all(math.isfinite(float(check)) for check in self._checks)
        flags = [float(is_mine and rank == self._world.rank) for rank in self._ranks()]
        summed = sum_numbers(flags, self._world, self.arena.flat.device)
        return [rank for rank, flag in enumerate(summed) if flag] or [0]

    def _ranks(self) -> range:
        return range(self._world.world_size)

    def _on_gradient(self, index: int, parameter: Tensor) -> None:
        """Called by autograd when a parameter's gradient of a micro-batch has been added."""
        self._has[index] = True
        if self._as_views:
            self._fill(index)
            parameter.grad = self.arena.views[index]
        if not self._is_last:
            return
        for number in self.arena.buckets_of[index]:
            assert number >= self._next, "a gradient came after its bucket was sent"
            self._awaited[number].discard(index)
        while self._next < len(self._awaited) and not self._awaited[self._next]:
            self._start(self._next)

    def _fill(self, index: int) -> None:
        """Brings the arena's place of a parameter up to its gradient."""
        gradient, view = self._parameters[index].grad, self.arena.views[index]
        if gradient is None:
            view.zero_()
        elif gradient is not view:
            view.copy_(gradient)

    def _start(self, number: int) -> None:
        """Sends a bucket on its way; all workers send them in the same order."""
        self._next = number + 1
        bucket = self.arena.buckets[number]
        for index in bucket.members:
            if number == self.arena.buckets_of[index][0]:  # others of its buckets come later
                self._fill(index)
        flat = self.arena.flat[bucket.start : bucket.end]
        for _, branch in reversed(self._branches):
            flat.add_(branch[bucket.start : bucket.end])
        if self._sum is not None:
            self._checks.append(flat.sum())
            self._sum.start(number)
