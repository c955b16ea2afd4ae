"""The tree of sums: one shape, whoever computes which part of it."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from demo_bert.exchange.tree import LANES, dealt, is_closer, lane, position, tree_sum

DRAWN = torch.randn(150, 40, generator=torch.Generator().manual_seed(1)) * 10 ** torch.arange(
    -3.0, 1.0, 0.1
)


def recursive(numbers: list[int], level: int = 1) -> Tensor | None:
    """The sum as the docstring says it: even from odd, and so on; a lane in order."""
    if not numbers:
        return None
    if level == LANES:
        total = DRAWN[numbers[0]].clone()
        for number in numbers[1:]:
            total += DRAWN[number]
        return total
    parts = [
        recursive([n for n in numbers if n % (2 * level) == numbers[0] % level + half], 2 * level)
        for half in (0, level)
    ]
    there = [part for part in parts if part is not None]
    return there[0] if len(there) == 1 else there[0] + there[1]


def branch(numbers: list[int]) -> Tensor:
    """What a worker does with its micro-batches, in their order."""
    stack: list[tuple[int, Tensor]] = []
    for place, group in itertools.groupby(numbers, key=lane):
        while len(stack) > 1 and is_closer(stack[-2][0], stack[-1][0], than=place):
            last = stack.pop()[1]
            stack[-1] = (stack[-1][0], stack[-1][1] + last)
        total = torch.zeros(40)
        for at, number in enumerate(group):
            total = total + DRAWN[number] if at else DRAWN[number].clone()
        stack.append((place, total))
    while len(stack) > 1:
        last = stack.pop()[1]
        stack[-1] = (stack[-1][0], stack[-1][1] + last)
    return stack[0][1] if stack else torch.zeros(40)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13, 64, 65, 150])
@pytest.mark.parametrize("workers", [1, 2, 4, 8, 64])
def test_any_number_of_workers_makes_the_same_sum(count: int, workers: int) -> None:
    expected = recursive(list(range(count)))
    assert expected is not None
    leaves = [
        branch(dealt(count, rank=rank, world_size=workers, is_canonical=True))
        for rank in range(workers)
    ]
    found = tree_sum(leaves, present=min(count, workers))
    assert found.numpy().tobytes() == expected.numpy().tobytes()


def test_the_plain_sum_differs() -> None:
    plain = DRAWN[0].clone()
    for row in DRAWN[1:]:
        plain += row
    expected = recursive(list(range(len(DRAWN))))
    assert expected is not None and not torch.equal(plain, expected)


def test_workers_share_all_micro_batches_in_turn() -> None:
    for count, workers in itertools.product((1, 5, 64, 100), (1, 2, 3, 4, 7)):
        for is_canonical in (False, True):
            parts = [
                dealt(count, rank=rank, world_size=workers, is_canonical=is_canonical)
                for rank in range(workers)
            ]
            assert sorted(itertools.chain(*parts)) == list(range(count))
            for rank, part in enumerate(parts):
                assert {number % workers for number in part} <= {rank}


def test_positions_are_bits_in_reverse() -> None:
    for count in (1, 2, 4, 8, 64):
        places = [position(number, count) for number in range(count)]
        assert sorted(places) == list(range(count))
        assert [position(place, count) for place in places] == list(range(count))
        bits = int(np.log2(count))
        assert all(f"{n:0{bits}b}"[::-1] == f"{p:0{bits}b}" for n, p in enumerate(places) if bits)


def test_no_more_sums_are_held_than_the_tree_is_deep() -> None:
    held = most = 0
    stack: list[int] = []
    for place, _ in itertools.groupby(
        dealt(1000, rank=0, world_size=1, is_canonical=True), key=lane
    ):
        while len(stack) > 1 and is_closer(stack[-2], stack[-1], than=place):
            stack.pop()
        stack.append(place)
        held = len(stack)
        most = max(most, held)
    assert most <= 7
