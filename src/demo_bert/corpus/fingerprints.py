"""What is kept of a text to find it again: a hash of all of it, and MinHash of its words.

Source: Broder 1997, "On the resemblance and containment of documents": the share of equal places in
two signatures estimates the Jaccard similarity of the two sets of word 5-grams. The places come of
one hash function whose values are divided into as many ranges (Li, Owen, Zhang 2012, "One
permutation hashing"), the lowest value of each range is kept, and a range without any takes that of
another (Shrivastava 2017, "Optimal densification"). Here a word is a word of WordPiece's (its
pieces together), punctuation left out.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

NUM_BANDS = 21
NUM_BAND_ROWS = 6
NUM_HASHES = NUM_BANDS * NUM_BAND_ROWS
"""Length of a signature. Two documents with similarity 0.8 agree in a whole band with probability
1 - (1 - 0.8 ** 6) ** 21 = 0.998; with 0.5, 0.28."""

_NUM_GRAM_WORDS = 5
_ODD_CONSTANT = 0x9E3779B97F4A7C15
_NONE = 0xFFFFFFFF
_RANGE_STARTS = -(-(np.arange(NUM_HASHES, dtype=np.uint64) << np.uint64(32)) // NUM_HASHES)


def text_hash(word_hashes: np.ndarray) -> int:
    """The hash of a normalised text: case and white space do not count.

    Args:
        word_hashes: Of its words and marks, uint64, as `Encoded` has them.

    Returns:
        64 bits, the same in every version and on every machine.
    """
    content = word_hashes.astype("<u8").tobytes()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


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
        self._others = np.argsort(state.random((NUM_HASHES, NUM_HASHES)), axis=1)
        """For each range, the order in which others are asked where it has no value."""

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        """The signature of a text.

        Args:
            ids: Of its pieces.

        Returns:
            (NUM_HASHES,) uint32. Texts of fewer than five words count as one gram.
        """
        return self.filled(self.lowest(ids))

    def lowest(self, ids: np.ndarray) -> np.ndarray:
        """What a signature is made of; of several parts of a text, the least of each place.

        Args:
            ids: Of its pieces.

        Returns:
            (NUM_HASHES,) uint32, the greatest number in places that have no value.
        """
        grams = np.append(np.sort(self._grams(ids)), np.uint32(_NONE))
        places = np.searchsorted(grams, _RANGE_STARTS.astype(np.uint32))
        is_empty = places == np.append(places[1:], len(grams) - 1)
        return np.where(is_empty, np.uint32(_NONE), grams[places])

    def filled(self, lowest: np.ndarray) -> np.ndarray:
        """The signature, its empty places filled.

        Args:
            lowest: From `lowest`.

        Returns:
            (NUM_HASHES,) uint32.
        """
        is_empty = lowest == _NONE
        if not is_empty.any():
            return lowest
        asked = self._others[is_empty]
        chosen = np.argmax(~is_empty[asked], axis=1)
        filled = lowest.copy()
        filled[is_empty] = lowest[asked[np.arange(len(asked)), chosen]]
        return filled

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


@lru_cache(maxsize=1)
def signatures_of(vocabulary: tuple[str, ...]) -> Signatures:
    """What makes signatures with a vocabulary, made once in a process.

    Args:
        vocabulary: The entries in the order of their ids.

    Returns:
        The maker.
    """
    return Signatures(vocabulary)
