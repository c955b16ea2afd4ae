"""Fixed shapes: a batch filled up to one of a few sizes with an inert tail.

For devices that compile a graph for each new shape (hpu, CUDA graphs). The tail is made of
sequences of its own, so attention never crosses into it; its rows have the label that no loss
sees, and `num_examples` and `num_tokens` stay those of the real rows. Tokens choose the size;
the number of sequences and of masked tokens follow from it, so there are as many shapes as
capacities. Which capacity a batch gets is a function of the batch alone: a run that goes on fills
as one that never stopped.

Shapes: T tokens, B examples, M masked tokens, all after filling; S longest example.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from math import fsum
from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor

from demo_bert.data.packing import Batch
from demo_bert.losses import IGNORED

_STEP_TOKENS = 16  # capacities are multiples of it, but for the largest
_MAX_CANDIDATES = 128
_QUANTILES = 200


@dataclass(frozen=True, slots=True)
class Capacity:
    """One shape of a filled batch.

    Attributes:
        tokens: T.
        sequences: B.
        masked: M; 0 where no tokens are masked.
    """

    tokens: int
    sequences: int
    masked: int


def capacities(
    micro_batch_size: int,
    max_seq_length: int,
    *,
    totals: Sequence[int] = (),
    masked_fraction: float = 0.0,
    count: int = 6,
) -> tuple[Capacity, ...]:
    """The few shapes that batches are filled up to.

    Args:
        micro_batch_size: Examples of a batch, at most.
        max_seq_length: S.
        totals: Tokens of the batches that are to be expected; the capacities are those that fill
            them with the fewest tokens. Empty: evenly spaced.
        masked_fraction: Share of an example's tokens that are masked, rounded for each example and
            at least one, as BERT does; 0: none.
        count: How many, at most.

    Returns:
        Ascending; the last holds any batch.

    Example:
        >>> [size.tokens for size in capacities(32, 128, count=4)]
        [1024, 2048, 3072, 4096]
        >>> [size.tokens for size in capacities(32, 128, totals=[1500, 1700, 1720], count=3)]
        [1504, 1728, 4096]
    """
    largest = micro_batch_size * max_seq_length
    grid = -(-max(_STEP_TOKENS, largest // _MAX_CANDIDATES) // _STEP_TOKENS) * _STEP_TOKENS
    if totals:
        sizes = _cheapest([*range(grid, largest, grid), largest], totals, count)
    else:
        even = (-(-largest * part // (count * grid)) * grid for part in range(1, count))
        sizes = sorted({size for size in even if size < largest} | {largest})
    found: list[Capacity] = []
    for size in sizes:
        # The longest tail: the smallest batch that needs this size, cut into sequences of S.
        smallest = found[-1].tokens + 1 if found else min(micro_batch_size, size)
        sequences = micro_batch_size - (smallest - size) // max_seq_length
        masked = int(masked_fraction * size) + 1 + micro_batch_size if masked_fraction else 0
        found.append(Capacity(tokens=size, sequences=sequences, masked=masked))
    return tuple(found)


def expected_totals(lengths: Sequence[int], micro_batch_size: int) -> list[int]:
    """Tokens of batches of randomly drawn examples, as evenly likely values.

    Args:
        lengths: Tokens of each example of the training split.
        micro_batch_size: Examples of a batch.

    Returns:
        Quantiles of the normal distribution that such sums have, for `capacities`.

    Example:
        >>> totals = expected_totals([40, 60], 32)
        >>> len(totals), sum(totals) // len(totals)
        (200, 1600)
    """
    mean = fsum(lengths) / len(lengths)
    variance = fsum((length - mean) ** 2 for length in lengths) / len(lengths)
    if variance == 0.0:
        return [round(mean * micro_batch_size)] * _QUANTILES
    normal = NormalDist(mean * micro_batch_size, (variance * micro_batch_size) ** 0.5)
    most = max(lengths) * micro_batch_size
    values = (normal.inv_cdf((part + 0.5) / _QUANTILES) for part in range(_QUANTILES))
    return [round(min(max(value, 1.0), most)) for value in values]


def capacity_for(num_tokens: int, sizes: Sequence[Capacity]) -> Capacity:
    """The smallest capacity that holds so many tokens.

    Args:
        num_tokens: Real tokens of the batch.
        sizes: From `capacities`.

    Returns:
        One of them.

    Raises:
        AssertionError: None holds them; the batch is not one that `capacities` was told of.
    """
    for size in sizes:
        if num_tokens <= size.tokens:
            return size
    raise AssertionError(f"{num_tokens} tokens exceed the largest capacity, {sizes[-1].tokens}")


def fill(batch: Batch, sizes: Sequence[Capacity], *, max_seq_length: int) -> Batch:
    """The batch in one of the fixed shapes.

    Args:
        batch: On the host, with at most the examples and lengths that `sizes` was made for.
        sizes: From `capacities`.
        max_seq_length: S.

    Returns:
        The batch, its real rows first: T and B of its capacity, `max_seqlen` S, labels -100 and
        ids 0 in the tail, empty sequences at the end where the tail needs fewer than there are. Of
        a batch with masked tokens M too, as `fill_masked`. Counts are unchanged.

    Raises:
        AssertionError: The batch has more tokens, masked ones or examples than fit, or a longer
            example.
    """
    return _fill_to(batch, capacity_for(batch.num_tokens, sizes), max_seq_length=max_seq_length)


def fill_masked(tokens: Tensor, labels: Tensor, *, capacity: Capacity) -> tuple[Tensor, Tensor]:
    """Masked places and their labels, filled up to the capacity.

    Args:
        tokens: Places of the masked tokens in the flat batch, one-dimensional, int64.
        labels: Their ids, of the same shape.
        capacity: That of the batch, from `capacity_for`.

    Returns:
        (M,) and (M,); place 0 and label -100 in the tail.

    Raises:
        AssertionError: There are more than fit.
    """
    spare = capacity.masked - tokens.shape[0]
    if spare < 0:
        raise AssertionError(f"{tokens.shape[0]} masked tokens exceed {capacity.masked}")
    return (
        torch.cat([tokens, tokens.new_zeros(spare)]),
        torch.cat([labels, labels.new_full((spare,), IGNORED)]),
    )


def inert_batches(
    sizes: Sequence[Capacity], *, max_seq_length: int, label_shape: tuple[int, ...] = ()
) -> Iterator[Batch]:
    """A batch without examples in each shape, with masked tokens where the sizes have them.

    The loop runs them forward and backward once before its first step, and drops the gradients
    (they are zero): then every graph is compiled before a clock runs, however late the data first
    asks for a shape.

    Args:
        sizes: From `capacities`.
        max_seq_length: S.
        label_shape: Of one example's label: () for classes, (2,) for spans.

    Yields:
        Batches on the host, largest first.
    """
    none = torch.zeros(0, dtype=torch.int64)
    empty = Batch(
        input_ids=none,
        position_ids=none,
        token_type_ids=none,
        cu_seqlens=torch.zeros(1, dtype=torch.int32),
        max_seqlen=0,
        labels=none.new_zeros(0, *label_shape),
        num_examples=0,
        num_tokens=0,
        masked_tokens=none if sizes[-1].masked else None,
        masked_labels=none if sizes[-1].masked else None,
    )
    for size in reversed(sizes):
        yield _fill_to(empty, size, max_seq_length=max_seq_length)


def rows_of(
    capacity: Capacity, lengths: Sequence[int], *, below: int, micro_batch_size: int
) -> list[int]:
    """Examples that make a batch of the capacity, as many as there can be.

    Args:
        capacity: One of `capacities`.
        lengths: Tokens of each example.
        below: Tokens of the next smaller capacity; 0: there is none.
        micro_batch_size: Examples of a batch, at most.

    Returns:
        Row numbers, of examples of similar length; empty where such neighbours are not found.

    Example:
        >>> rows_of(Capacity(32, 4, 0), [9, 4, 8, 7], below=16, micro_batch_size=3)
        [1, 3, 2]
    """
    order = np.argsort(lengths, kind="stable")
    ends = np.concatenate([[0], np.cumsum(np.asarray(lengths)[order])])
    for count in range(min(micro_batch_size, len(order)), 0, -1):
        totals = ends[count:] - ends[:-count]  # of neighbours, ascending
        first = int(np.searchsorted(totals, below, side="right"))
        if first < len(totals) and totals[first] <= capacity.tokens:
            return order[first : first + count].tolist()
    return []


def _fill_to(batch: Batch, capacity: Capacity, *, max_seq_length: int) -> Batch:
    tail = capacity.tokens - batch.num_tokens
    spare = capacity.sequences - batch.num_examples
    if tail > spare * max_seq_length or batch.max_seqlen > max_seq_length:
        raise AssertionError(
            f"{batch.num_examples} examples of up to {batch.max_seqlen} tokens, {batch.num_tokens}"
            f" in all, do not fit {capacity} with sequences of {max_seq_length}"
        )
    ends = torch.arange(1, spare + 1).mul(max_seq_length).clamp(max=tail) + batch.num_tokens
    zeros = batch.input_ids.new_zeros(tail)
    unlabelled = batch.labels.new_full((spare, *batch.labels.shape[1:]), IGNORED)
    places, words = batch.masked_tokens, batch.masked_labels
    if places is not None and words is not None:
        places, words = fill_masked(places, words, capacity=capacity)
    return replace(
        batch,
        input_ids=torch.cat([batch.input_ids, zeros]),  # (T,)
        position_ids=torch.cat([batch.position_ids, torch.arange(tail) % max_seq_length]),  # (T,)
        token_type_ids=torch.cat([batch.token_type_ids, zeros]),  # (T,)
        cu_seqlens=torch.cat([batch.cu_seqlens, ends.to(torch.int32)]),  # (B+1,)
        max_seqlen=max_seq_length,
        labels=torch.cat([batch.labels, unlabelled]),  # (B, ...)
        masked_tokens=places,  # (M,)
        masked_labels=words,  # (M,)
    )


def _cheapest(candidates: Sequence[int], totals: Sequence[int], count: int) -> list[int]:
    """At most `count` of the candidates, the last among them, that fill the totals for least.

    Exact: `best[j]` is (tokens after filling, chosen) for the totals up to candidate j, with
    candidate j the largest chosen, and each round allows one more below it.
    """
    counts = [0] * len(candidates)
    for total in totals:
        counts[next(j for j, size in enumerate(candidates) if total <= size)] += 1
    below = list(accumulate(counts, initial=0))  # totals under candidate j, in all
    best = [(below[j + 1] * size, [size]) for j, size in enumerate(candidates)]
    for _ in range(count - 1):
        best = [
            min(
                (
                    best[j],
                    *(
                        (cost + (below[j + 1] - below[i + 1]) * size, [*chosen, size])
                        for i, (cost, chosen) in enumerate(best[:j])
                    ),
                ),
                key=lambda option: (option[0], len(option[1])),
            )
            for j, size in enumerate(candidates)
        ]
    return best[-1][1]
