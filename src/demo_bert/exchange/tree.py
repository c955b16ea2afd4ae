"""The one order of sums whose result has the same bits for 1, 2, 4, ... 64 workers.

A step's micro-batches are dealt to LANES lanes in turn. A lane adds up its own in order; lanes are
added in pairs by a binary tree whose root splits even from odd numbers, the next level those that
leave 0 and 2, 1 and 3 when divided by 4, and so on. Micro-batches dealt to W workers in turn are
whole branches of that tree where W is a power of two: a worker makes the sum of its branch, and
the branches are added as the tree has it. What has no micro-batch is left out.

Two numbers add to the same bits in either order, so a tree is given by what is added to what.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from demo_bert.errors import UsageError

LANES = 64
"""Lanes, and the most workers."""


def position(number: int, count: int) -> int:
    """Where a lane or a worker stands among the leaves of the tree: its bits in reverse.

    Args:
        number: Of the lane or worker, in [0, count).
        count: A power of two.

    Returns:
        A number in [0, count); neighbours are added first.

    Example:
        >>> [position(lane, 8) for lane in range(8)]
        [0, 4, 2, 6, 1, 5, 3, 7]
    """
    bits = count.bit_length() - 1
    return int(f"{number:0{bits}b}"[::-1], 2) if bits else 0


def lane(index: int) -> int:
    """The position of a micro-batch's lane.

    Args:
        index: k, its place in the step.

    Returns:
        A number in [0, LANES).
    """
    return position(index % LANES, LANES)


def dealt(count: int, *, rank: int, world_size: int, is_canonical: bool) -> list[int]:
    """A worker's micro-batches of a step, in the order in which it computes them.

    Args:
        count: Micro-batches of the step.
        rank: The worker.
        world_size: Workers in all; micro-batches are dealt to them in turn.
        is_canonical: In the order of the tree, lane by lane, so that few sums are held at once.

    Returns:
        Their places in the step.

    Example:
        >>> dealt(6, rank=0, world_size=2, is_canonical=False)
        [0, 2, 4]
        >>> dealt(6, rank=0, world_size=2, is_canonical=True)
        [0, 4, 2]
    """
    mine = list(range(rank, count, world_size))
    return sorted(mine, key=lambda index: (lane(index), index)) if is_canonical else mine


def is_closer(one: int, other: int, than: int) -> bool:
    """Whether a leaf is added to the one before it sooner than to the one after it.

    Args:
        one: A position.
        other: The position of the leaf.
        than: A position after it.

    Returns:
        True where the smallest branch with the first two is without the third.

    Example:
        >>> is_closer(0, 1, than=2), is_closer(1, 2, than=3)
        (True, False)
    """
    return (one ^ other).bit_length() < (other ^ than).bit_length()


def tree_sum(leaves: Sequence[Tensor], present: int) -> Tensor:
    """The sum over workers' branches as the tree has it.

    Args:
        leaves: Of the workers, by rank; their number is a power of two. Some are overwritten.
        present: The first so many have a sum; the others had no micro-batch.

    Returns:
        One of the leaves, which holds the sum.
    """
    places = sorted((position(rank, len(leaves)), rank) for rank in range(len(leaves)))
    stack: list[tuple[int, Tensor]] = []
    for place, rank in places:
        if rank >= present:
            continue
        while len(stack) > 1 and is_closer(stack[-2][0], stack[-1][0], than=place):
            _merge(stack)
        stack.append((place, leaves[rank]))
    while len(stack) > 1:
        _merge(stack)
    return stack[0][1] if stack else leaves[0].zero_()


def refuse_other_counts(world_size: int) -> None:
    """Refuses numbers of workers whose branches are none of the tree's.

    Args:
        world_size: Workers in all.

    Raises:
        UsageError: It is no power of two up to LANES.
    """
    if world_size > LANES or world_size & (world_size - 1):
        raise UsageError(
            f"--reproducible with {world_size} workers: it goes with 1, 2, 4, 8, 16, 32 or"
            f" {LANES}; give -v such a number"
        )


def _merge(stack: list[tuple[int, Tensor]]) -> None:
    _, last = stack.pop()
    torch.add(stack[-1][1], last, out=stack[-1][1])
