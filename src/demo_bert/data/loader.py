"""Batches ahead of the loop: a thread packs the next micro-batches while this one is computed."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from demo_bert.data.order import rows_at
from demo_bert.data.packing import Batch, Example, pack
from demo_bert.exchange.tree import dealt

Item = TypeVar("Item")
_AHEAD = 4


@dataclass(frozen=True)
class MicroBatch:
    """One forward and backward of a step.

    Attributes:
        step: The step it belongs to, from 0.
        index: k, its place in the step's global batch, from 0; never the rank.
        is_last: Whether this worker has no further one in the step.
        batch: The rows; None for a worker without work in this step, which adds zero.
        num_rows: Rows of the whole step over all workers: the count that losses are divided by.
        num_in_step: Micro-batches of the whole step over all workers.
        own_masked: Masked tokens of this worker's rows of the step: what a masked-LM loss is
            divided by, once they are summed over workers; None without masks.
    """

    step: int
    index: int
    is_last: bool
    batch: Batch | None
    num_rows: int
    num_in_step: int
    own_masked: int | None = None


def micro_batches(
    examples: Sequence[Example],
    *,
    seed: int,
    first_step: int,
    num_steps: int,
    global_batch_size: int,
    micro_batch_size: int,
    rank: int = 0,
    world_size: int = 1,
    is_canonical: bool = False,
    fill: Callable[[Batch], Batch] | None = None,
) -> Iterator[MicroBatch]:
    """A worker's micro-batches from a step on; the same rows whoever computes them.

    Args:
        examples: The training split.
        seed: The run's seed.
        first_step: Where to begin; its rows follow `first_step * global_batch_size` others.
        num_steps: Where to end.
        global_batch_size: G, rows of a step over all workers.
        micro_batch_size: b; micro-batch k holds rows [k*b, (k+1)*b) of the step.
        rank: This worker.
        world_size: Workers in all; micro-batches are dealt round-robin.
        is_canonical: Whether they are computed in the order of `exchange.tree`.
        fill: Brings a batch to one of a few shapes, for backends that need it.

    Yields:
        Micro-batches in order of (step, k), or of (step, the tree); at least one for each step.
    """
    for step in range(first_step, num_steps):
        rows = rows_at(
            step * global_batch_size, global_batch_size, num_rows=len(examples), seed=seed
        )
        parts = -(-global_batch_size // micro_batch_size)
        mine = dealt(parts, rank=rank, world_size=world_size, is_canonical=is_canonical)
        if not mine:
            yield MicroBatch(
                step,
                parts,
                is_last=True,
                batch=None,
                num_rows=global_batch_size,
                num_in_step=parts,
            )
        for index in mine:
            chosen: np.ndarray = rows[index * micro_batch_size : (index + 1) * micro_batch_size]
            batch = pack([examples[row] for row in chosen])
            yield MicroBatch(
                step,
                index,
                is_last=index == mine[-1],
                batch=fill(batch) if fill else batch,
                num_rows=global_batch_size,
                num_in_step=parts,
            )


def token_batches(
    lengths: Sequence[int], *, max_tokens: int, max_examples: int = 1024
) -> list[list[int]]:
    """Groups for evaluation, where order does not matter: by length, cut by tokens.

    Args:
        lengths: Tokens of each example.
        max_tokens: Tokens of a group, at most (one example may be longer).
        max_examples: Examples of a group, at most.

    Returns:
        Row numbers, longest examples first, so that memory peaks at the start.

    Example:
        >>> token_batches([3, 9, 4], max_tokens=8)
        [[1], [2, 0]]
    """
    groups: list[list[int]] = []
    tokens = 0
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if not groups or tokens + lengths[row] > max_tokens or len(groups[-1]) >= max_examples:
            groups.append([])
            tokens = 0
        groups[-1].append(row)
        tokens += lengths[row]
    return groups


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, prepared by a thread a few places ahead.

    Args:
        items: What to prepare; its errors are raised here, at their place in the order.

    Yields:
        The items. Closing this iterator ends the thread.
    """
    slots: queue.Queue[tuple[Item | None, BaseException | None]] = queue.Queue(maxsize=_AHEAD)
    is_closed = threading.Event()

    def put(entry: tuple[Item | None, BaseException | None]) -> None:
        while not is_closed.is_set():
            try:
                return slots.put(entry, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in items:
                put((item, None))
                if is_closed.is_set():
                    return
            put((None, StopIteration()))
        except BaseException as error:
            put((None, error))

    thread = threading.Thread(target=work, name="loader", daemon=True)
    thread.start()
    try:
        while True:
            item, error = slots.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            assert item is not None
            yield item
    finally:
        is_closed.set()
        thread.join()
