"""Near duplicates among many texts, found by their MinHash signatures, in bounded memory."""

from collections.abc import Sequence

import numpy as np

from demo_bert.corpus.fingerprints import NUM_BAND_ROWS, NUM_BANDS

LEAST_SIMILARITY = 0.8
"""Estimated Jaccard similarity from which on two texts are near duplicates."""

_NEIGHBOURS = 16
_PAIRS_AT_A_TIME = 1 << 14
_ROWS_AT_A_TIME = 1 << 16
_ODD_CONSTANT = 0x9E3779B97F4A7C15


def near_pairs(signatures: Sequence[np.ndarray]) -> np.ndarray:
    """The pairs of near duplicates.

    Args:
        signatures: Tables, (rows, NUM_HASHES) each, mapped; texts are numbered through all.

    Returns:
        (pairs, 2) int64, the smaller number first, in rising order. Of more than sixteen texts
        that agree in a band, each is compared with the sixteen before it and with the first.
    """
    table = _Rows(signatures)
    found: list[np.ndarray] = []
    for band in range(NUM_BANDS):
        keys = table.band_keys(band)
        order = np.argsort(keys, kind="stable")
        candidates = _candidates(keys[order], order)
        for begin in range(0, len(candidates), _PAIRS_AT_A_TIME):
            part = candidates[begin : begin + _PAIRS_AT_A_TIME]
            agreeing = table.at(part[:, 0]) == table.at(part[:, 1])
            found.append(part[agreeing.mean(axis=1) >= LEAST_SIMILARITY])
    pairs = np.concatenate(found) if found else np.empty((0, 2), np.int64)
    return np.unique(pairs, axis=0)


def drop_near(pairs: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """Which texts are dropped so that no near duplicates stay.

    Args:
        pairs: From `near_pairs`.
        ranks: For each text; of two near ones the lower rank stays.

    Returns:
        (texts,) bool: whether it is dropped.
    """
    is_dropped = np.zeros(len(ranks), np.bool_)
    first, second = ranks[pairs[:, 0]], ranks[pairs[:, 1]]
    winners = np.where(first < second, pairs[:, 0], pairs[:, 1])
    losers = np.where(first < second, pairs[:, 1], pairs[:, 0])
    # In the order of the losers: whether a winner is dropped itself is settled by then.
    for place in np.argsort(ranks[losers], kind="stable"):
        if not is_dropped[winners[place]]:
            is_dropped[losers[place]] = True
    return is_dropped


class _Rows:
    """Rows of several tables as if they were one."""

    def __init__(self, tables: Sequence[np.ndarray]) -> None:
        self._tables = [table for table in tables if len(table)]
        self._ends = np.cumsum([len(table) for table in self._tables], dtype=np.int64)

    def at(self, rows: np.ndarray) -> np.ndarray:
        """The given rows."""
        tables = np.searchsorted(self._ends, rows, side="right")
        starts = np.concatenate(([0], self._ends))
        found = np.empty((len(rows), self._tables[0].shape[1]), np.uint32)
        for number in np.unique(tables):
            is_here = tables == number
            found[is_here] = self._tables[number][rows[is_here] - starts[number]]
        return found

    def band_keys(self, band: int) -> np.ndarray:
        """A value for each row that is equal where the whole band is."""
        columns = slice(band * NUM_BAND_ROWS, (band + 1) * NUM_BAND_ROWS)
        keys = [
            _mixed(table[begin : begin + _ROWS_AT_A_TIME, columns])
            for table in self._tables
            for begin in range(0, len(table), _ROWS_AT_A_TIME)
        ]
        return np.concatenate(keys) if keys else np.empty(0, np.uint64)


def _mixed(rows: np.ndarray) -> np.ndarray:
    mixed = np.zeros(len(rows), np.uint64)
    for column in rows.T:
        mixed = (mixed ^ column) * np.uint64(_ODD_CONSTANT)
        mixed ^= mixed >> np.uint64(31)
    return mixed


def _candidates(keys: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Pairs of texts with equal keys; `keys` is sorted, `order` has the texts."""
    pairs = []
    for distance in range(1, min(_NEIGHBOURS, len(keys) - 1) + 1):
        is_equal = keys[distance:] == keys[:-distance]
        if not is_equal.any():
            break
        pairs.append(np.stack((order[:-distance][is_equal], order[distance:][is_equal]), axis=1))
    else:
        firsts = np.searchsorted(keys, keys, side="left")
        is_far = np.arange(len(keys)) - firsts > _NEIGHBOURS
        pairs.append(np.stack((order[firsts[is_far]], order[is_far]), axis=1))
    return np.concatenate(pairs) if pairs else np.empty((0, 2), np.int64)
