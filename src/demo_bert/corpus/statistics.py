"""Figures of a token store: lengths, unknown pieces, frequent pieces."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from demo_bert.corpus.store import TokenStore

LENGTH_LIMITS = (1, 5, 10, 20, 40, 80, 160, 320)
"""Where the classes of the length histogram begin, in tokens."""


@dataclass(frozen=True)
class Statistics:
    """Figures of a store."""

    sentences_by_length: tuple[int, ...]
    """For each class of LENGTH_LIMITS."""
    tokens_by_length: tuple[int, ...]
    unknown_fraction: float
    most_frequent: tuple[tuple[str, int], ...]
    """Pieces and how often they come."""
    held_out_documents: int
    longest_sentence_tokens: int


def statistics_of(store: TokenStore, vocabulary: Sequence[str], *, most: int = 20) -> Statistics:
    """Reads all of a store.

    Args:
        store: The store.
        vocabulary: Its entries.
        most: Frequent pieces that are listed.

    Returns:
        The figures.
    """
    counts = np.zeros(len(vocabulary), np.int64)
    sentences = np.zeros(len(LENGTH_LIMITS), np.int64)
    tokens = np.zeros(len(LENGTH_LIMITS), np.int64)
    held_out = longest = 0
    for shard in store.shards:
        counts += np.bincount(shard.ids, minlength=len(vocabulary))
        lengths = np.diff(shard.sentence_ends.astype(np.int64), prepend=0)
        classes = np.searchsorted(LENGTH_LIMITS, lengths, side="right") - 1
        sentences += np.bincount(classes, minlength=len(LENGTH_LIMITS))
        tokens += np.bincount(classes, weights=lengths, minlength=len(LENGTH_LIMITS)).astype(int)
        held_out += int(np.count_nonzero(shard.is_held_out))
        longest = max(longest, int(lengths.max(initial=0)))
    order = np.argsort(-counts, kind="stable")[:most]
    return Statistics(
        sentences_by_length=tuple(map(int, sentences)),
        tokens_by_length=tuple(map(int, tokens)),
        unknown_fraction=float(counts[vocabulary.index("[UNK]")] / max(counts.sum(), 1)),
        most_frequent=tuple((vocabulary[one], int(counts[one])) for one in order if counts[one]),
        held_out_documents=held_out,
        longest_sentence_tokens=longest,
    )
