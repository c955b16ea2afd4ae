"""What is kept of a text to find it again: a hash of all of it, and MinHash of its words.

Source: Broder 1997, "On the resemblance and containment of documents": the share of equal places in
two signatures estimates the Jaccard similarity of the two sets of word 5-grams. Here a word is a
word of WordPiece's (its pieces together), punctuation left out, and the hash functions are
multiplications of mixed 32-bit values by odd numbers, the high bits deciding.
"""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

NUM_BANDS = 21
NUM_BAND_ROWS = 6
NUM_HASHES = NUM_BANDS * NUM_BAND_ROWS
"""Length of a signature. Two documents with similarity 0.8 agree in a whole band with probability
1 - (1 - 0.8 ** 6) ** 21 = 0.998; with 0.5, 0.28."""

_NUM_GRAM_WORDS = 5
_GRAMS_AT_A_TIME = 2048
_ODD_CONSTANT = 0x9E3779B97F4A7C15


def text_hash(words: Iterable[Sequence[str]]) -> tuple[int, int]:
    """The hash of a normalised text: case and white space do not count.

    Args:
        words: The words of each sentence.

    Returns:
        64 bits, the same in every version and on every machine; and the text's size in bytes.
    """
    text = " ".join(map(" ".join, words)).lower().encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little"), len(text)


class Signatures:
    """Makes MinHash signatures of ids.

    Args:
        vocabulary: The entries in the order of their ids.
    """

    def __init__(self, vocabulary: Sequence[str]) -> None:
        digests = (hashlib.blake2b(entry.encode(), digest_size=8).digest() for entry in vocabulary)
        self._values = np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)
        self._is_start = np.array([not entry.startswith("##") for entry in vocabulary])
        self._is_word = np.array([any(map(str.isalnum, entry)) for entry in vocabulary])
        state = np.random.Generator(np.random.PCG64(20261122))
        multipliers = state.integers(0, 1 << 32, NUM_HASHES, dtype=np.uint32) | np.uint32(1)
        self._multipliers = multipliers[:, None]
        self._offsets = state.integers(0, 1 << 32, NUM_HASHES, dtype=np.uint32)[:, None]

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        """The signature of a text.

        Args:
            ids: Of its pieces.

        Returns:
            (NUM_HASHES,) uint32. Texts of fewer than five words count as one gram.
        """
        grams = self._grams(ids)
        lowest = np.full(NUM_HASHES, 0xFFFFFFFF, np.uint32)
        for begin in range(0, len(grams), _GRAMS_AT_A_TIME):
            part = grams[None, begin : begin + _GRAMS_AT_A_TIME]
            np.minimum(lowest, ((part ^ self._offsets) * self._multipliers).min(axis=1), out=lowest)
        return lowest

    def _grams(self, ids: np.ndarray) -> np.ndarray:
        """A mixed value for each word 5-gram, uint32."""
        pieces = ids[self._is_word[ids]]
        starts = np.flatnonzero(self._is_start[pieces])
        if not len(starts):
            return np.zeros(1, np.uint32)
        words = np.add.reduceat(self._values[pieces], starts)
        count = max(len(words) - _NUM_GRAM_WORDS + 1, 1)
        mixed = np.zeros(count, np.uint64)
        for place in range(min(_NUM_GRAM_WORDS, len(words))):
            mixed *= np.uint64(_ODD_CONSTANT)
            mixed += words[place : place + count]
        mixed ^= mixed >> np.uint64(29)
        mixed *= np.uint64(0xBF58476D1CE4E5B9)
        return (mixed >> np.uint64(32)).astype(np.uint32)
