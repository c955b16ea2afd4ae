"""The order of examples is arithmetic: which rows make a step, for any seed, at any position.

A position counts examples consumed since the start of the run. Epoch e is positions
[e*n, (e+1)*n); inside an epoch a keyed permutation of 0..n-1 gives the row.
"""

import numpy as np

from demo_bert.seeds import derive

_ROUNDS = 6
_ODD = 0x9E3779B97F4A7C15


def permuted(positions: np.ndarray, *, size: int, key: int) -> np.ndarray:
    """A keyed permutation of 0..size-1, at the given positions alone.

    Args:
        positions: (N,) int64 in [0, size).
        size: Number of elements, at least 1.
        key: Chooses the permutation.

    Returns:
        (N,) int64 in [0, size): where each position is sent; no two positions collide.

    Source:
        A balanced Feistel network over the next even power of two, walked until it falls inside
        (Black and Rogaway 2002, "cycle walking").

    Example:
        >>> sorted(permuted(np.arange(10), size=10, key=7).tolist()) == list(range(10))
        True
    """
    half_bits = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = np.uint64((1 << half_bits) - 1)
    keys = [np.uint64(derive(key, "feistel", size, r)) for r in range(_ROUNDS)]
    values = positions.astype(np.uint64)
    pending = np.ones(len(values), dtype=bool)
    while pending.any():
        values[pending] = _feistel(values[pending], keys, np.uint64(half_bits), mask)
        pending = values >= np.uint64(size)
    return values.astype(np.int64)


def rows_at(consumed: int, count: int, *, num_rows: int, seed: int) -> np.ndarray:
    """The rows at positions [consumed, consumed + count).

    Args:
        consumed: Examples consumed before, at least 0.
        count: How many rows are wanted.
        num_rows: Rows in the data set, n.
        seed: The run's seed.

    Returns:
        (count,) int64 in [0, n). Each epoch visits every row once, in an order of its own.
    """
    return places_at(consumed, count, num_rows=num_rows, seed=seed)[1]


def places_at(
    consumed: int, count: int, *, num_rows: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Epochs and rows at positions [consumed, consumed + count).

    Args:
        consumed: Examples consumed before, at least 0.
        count: How many rows are wanted.
        num_rows: Rows in the data set, n.
        seed: The run's seed.

    Returns:
        (count,) int64 epochs, ascending, and (count,) int64 rows in [0, n).
    """
    positions = np.arange(consumed, consumed + count, dtype=np.int64)
    epochs = positions // num_rows
    rows = np.empty(count, dtype=np.int64)
    for epoch in np.unique(epochs):
        inside = epochs == epoch
        key = derive(seed, "order", int(epoch))
        rows[inside] = permuted(positions[inside] % num_rows, size=num_rows, key=key)
    return epochs, rows


def drawn(counters: np.ndarray, *, key: int) -> np.ndarray:
    """Random 64-bit words: a function of the counter and the key, and of nothing else.

    Args:
        counters: uint64 or int64 of any shape.
        key: Chooses the function.

    Returns:
        uint64 of the same shape.
    """
    return _mixed(_mixed(counters.astype(np.uint64), np.uint64(key)), np.uint64(_ODD))


def as_fractions(words: np.ndarray) -> np.ndarray:
    """Random words as evenly spread numbers.

    Args:
        words: uint64 from `drawn`.

    Returns:
        float64 in [0, 1).
    """
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _feistel(
    values: np.ndarray, keys: list[np.uint64], half_bits: np.uint64, mask: np.uint64
) -> np.ndarray:
    left, right = values >> half_bits, values & mask
    for key in keys:
        left, right = right, left ^ (_mixed(right, key) & mask)
    return (left << half_bits) | right


def _mixed(values: np.ndarray, key: np.uint64) -> np.ndarray:
    """A well-mixed 64-bit hash of each value (the finaliser of splitmix64)."""
    with np.errstate(over="ignore"):
        z = values + key
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
