"""Micro-batches: the same rows whoever computes them; prepared ahead, in order, and ended."""

import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo_bert.data.loader import MicroBatch, ahead, micro_batches, token_batches
from demo_bert.data.order import rows_at
from demo_bert.data.packing import Batch, Example

EXAMPLES = [Example(np.arange(1 + number % 5), 1, number) for number in range(23)]


def dealt(
    world_size: int, global_batch: int, micro_batch: int, *, first_step: int = 0, num_steps: int = 3
) -> list[list[MicroBatch]]:
    """The micro-batches of each worker."""
    return [
        list(
            micro_batches(
                EXAMPLES,
                seed=7,
                first_step=first_step,
                num_steps=num_steps,
                global_batch_size=global_batch,
                micro_batch_size=micro_batch,
                rank=rank,
                world_size=world_size,
            )
        )
        for rank in range(world_size)
    ]


def rows_of(workers: list[list[MicroBatch]]) -> dict[tuple[int, int], list[int]]:
    """(step, k) -> the rows, over all workers; a row is told by its label."""
    found: dict[tuple[int, int], list[int]] = {}
    for micro in (micro for worker in workers for micro in worker):
        if micro.batch is not None:
            assert (micro.step, micro.index) not in found, "two workers have the same one"
            found[micro.step, micro.index] = micro.batch.labels.tolist()
    return found


@given(st.integers(1, 4), st.integers(1, 40), st.integers(1, 16))
@settings(max_examples=10)
def test_the_rows_of_a_micro_batch_do_not_depend_on_the_workers(
    world_size: int, global_batch: int, micro_batch: int
) -> None:
    alone = rows_of(dealt(1, global_batch, micro_batch))
    assert rows_of(dealt(world_size, global_batch, micro_batch)) == alone


@given(st.integers(1, 4), st.integers(1, 40), st.integers(1, 16))
@settings(max_examples=10)
def test_micro_batch_k_has_rows_from_k_times_b_of_the_step(
    world_size: int, global_batch: int, micro_batch: int
) -> None:
    found = rows_of(dealt(world_size, global_batch, micro_batch))
    parts = -(-global_batch // micro_batch)
    assert set(found) == {(step, k) for step in range(3) for k in range(parts)}
    for (step, k), rows in found.items():
        whole = rows_at(step * global_batch, global_batch, num_rows=len(EXAMPLES), seed=7)
        assert rows == whole[k * micro_batch : (k + 1) * micro_batch].tolist()


@given(st.integers(1, 4), st.integers(1, 40), st.integers(1, 16))
@settings(max_examples=10)
def test_every_worker_ends_every_step_once(
    world_size: int, global_batch: int, micro_batch: int
) -> None:
    for rank, worker in enumerate(dealt(world_size, global_batch, micro_batch)):
        assert [micro.step for micro in worker if micro.is_last] == [0, 1, 2]
        assert [(m.step, m.index) for m in worker] == sorted((m.step, m.index) for m in worker)
        assert all(micro.num_rows == global_batch for micro in worker)
        assert {micro.num_in_step for micro in worker} == {-(-global_batch // micro_batch)}
        assert all(micro.index % world_size == rank for micro in worker if micro.batch)


@given(st.integers(1, 4), st.integers(1, 40), st.integers(1, 16))
@settings(max_examples=10)
def test_in_the_order_of_the_tree_they_are_the_same(
    world_size: int, global_batch: int, micro_batch: int
) -> None:
    workers = [
        list(
            micro_batches(
                EXAMPLES,
                seed=7,
                first_step=0,
                num_steps=3,
                global_batch_size=global_batch,
                micro_batch_size=micro_batch,
                rank=rank,
                world_size=world_size,
                is_canonical=True,
            )
        )
        for rank in range(world_size)
    ]
    assert rows_of(workers) == rows_of(dealt(1, global_batch, micro_batch))
    assert all([m.step for m in worker if m.is_last] == [0, 1, 2] for worker in workers)


def test_a_worker_without_work_has_one_micro_batch_without_rows() -> None:
    workers = dealt(4, global_batch=10, micro_batch=5)
    assert [[micro.batch is None for micro in worker] for worker in workers] == [
        [False] * 3,
        [False] * 3,
        [True] * 3,
        [True] * 3,
    ]
    assert all(micro.is_last for micro in workers[3])


def test_a_later_start_goes_on_where_an_earlier_one_would_be() -> None:
    whole, rest = rows_of(dealt(2, 10, 4)), rows_of(dealt(2, 10, 4, first_step=2))
    assert rest == {key: rows for key, rows in whole.items() if key[0] == 2}
    assert rows_of(dealt(1, 10, 4, first_step=3)) == {}


def test_a_batch_is_filled_up_where_the_device_wants_it() -> None:
    def fill(batch: Batch) -> Batch:
        return replace(batch, max_seqlen=99)

    options = {"seed": 1, "first_step": 0, "num_steps": 2, "micro_batch_size": 4}
    found = list(micro_batches(EXAMPLES, global_batch_size=8, fill=fill, **options))
    assert [micro.batch.max_seqlen for micro in found if micro.batch] == [99] * 4


@given(
    st.lists(st.integers(1, 50), max_size=60),
    st.integers(1, 100),
    st.integers(1, 10),
)
@settings(max_examples=10)
def test_groups_for_evaluation_hold_every_row_once_within_their_limits(
    lengths: list[int], max_tokens: int, max_examples: int
) -> None:
    groups = token_batches(lengths, max_tokens=max_tokens, max_examples=max_examples)
    assert sorted(row for group in groups for row in group) == list(range(len(lengths)))
    for group in groups:
        assert 1 <= len(group) <= max_examples
        assert len(group) == 1 or sum(lengths[row] for row in group) <= max_tokens
    heads = [lengths[group[0]] for group in groups]
    assert heads == sorted(heads, reverse=True)


def loaders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "loader"]


@given(st.lists(st.integers(), max_size=30))
@settings(max_examples=10)
def test_items_prepared_ahead_keep_their_order(items: list[int]) -> None:
    assert list(ahead(iter(items))) == items
    assert loaders() == []


def test_an_error_is_raised_in_its_place() -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise KeyError("broken")

    seen = []
    with pytest.raises(KeyError, match="broken"):
        for item in ahead(items()):
            seen.append(item)
    assert seen == [0, 1, 2]
    assert loaders() == []


def test_items_are_prepared_while_one_is_used_but_not_without_end() -> None:
    made, enough = [], threading.Event()

    def items() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            if len(made) >= 4:
                enough.set()
            yield number

    stream = ahead(items())
    assert next(stream) == 0
    assert enough.wait(10), "nothing is prepared ahead"
    stream.close()
    assert len(made) <= 8


def test_closing_ends_the_thread_and_what_it_reads_from() -> None:
    is_closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from range(10**9)
        finally:
            is_closed.set()

    stream = ahead(items())
    assert [next(stream) for _ in range(6)] == list(range(6))
    stream.close()
    assert loaders() == []
    assert is_closed.wait(10)


def test_an_early_end_of_the_loop_ends_the_thread() -> None:
    for item in ahead(iter(range(10**9))):
        if item == 3:
            break
    del item
    assert loaders() == []
