"""A table of words in arrays: many words are looked up in one go.

A word of up to sixteen bytes is two numbers of 64 bits, found by open addressing in arrays, a step
for all words at once; longer ones, which are few, are found in a dictionary. Both compare the whole
word, so nothing depends on hashes being different.
"""

import hashlib
import json
from collections.abc import Sequence
from itertools import chain

import numpy as np

_MOST_WORDS = 400_000
_SLOT_BITS = 20
_HALF_BYTES = 8
_MASKS = np.array([(1 << (8 * count)) - 1 for count in range(_HALF_BYTES + 1)], np.uint64)
"""What keeps the first so many bytes of a little-endian number."""
_FIRST_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_SECOND_FACTOR = np.uint64(0xBF58476D1CE4E5B9)


class WordTable:
    """The words that were met: the ids of each, and a hash of it without case.

    Args:
        description: What `Tokenizer.to_str` gives for BERT's tokenizer.
        dtype: Of the ids.
    """

    def __init__(self, description: str, dtype: np.dtype[np.unsignedinteger]) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_str(description)
        self._tokenizer.encode_special_tokens = True
        self._model = self._tokenizer.model
        content = json.loads(description)
        self.is_lower_case: bool = content["normalizer"]["lowercase"]
        self._vocabulary: dict[str, int] = content["model"]["vocab"]
        self._dtype = dtype
        self._forget()

    def numbers_of(self, data: bytes, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """The numbers of words, which are their places in `begins`, `counts` and `hashes`.

        Args:
            data: A text without zero bytes, in lower case where the vocabulary is.
            starts: Where its words begin.
            ends: Where each ends.

        Returns:
            (words,) int64; they hold until the next call.
        """
        if len(self.counts) > _MOST_WORDS:
            self._forget()
        lengths = ends - starts
        # Sixteen bytes from any place can be read, though they are not aligned.
        padded = data + bytes(2 * _HALF_BYTES)
        numbers_at = np.ndarray(len(data) + _HALF_BYTES, "<u8", padded, strides=(1,))
        first = numbers_at[starts] & _MASKS[np.minimum(lengths, _HALF_BYTES)]
        second = numbers_at[starts + _HALF_BYTES * (lengths > _HALF_BYTES)]
        second &= _MASKS[np.clip(lengths - _HALF_BYTES, 0, _HALF_BYTES)]
        is_long = lengths > 2 * _HALF_BYTES
        numbers, is_new = self._short(first, second)
        is_new &= ~is_long
        if is_new.any():
            new = np.flatnonzero(is_new)
            words = _distinct(data, starts[new], ends[new])
            self._add_short(words, self._learn(words))
            numbers[new], _ = self._short(first[new], second[new])
        if is_long.any():
            new = np.flatnonzero(is_long)
            numbers[new] = self._long(data, starts[new], ends[new])
        return numbers

    def _short(self, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of words of up to sixteen bytes, and which are not in the table."""
        numbers = np.full(len(first), -1, np.int64)
        is_new = np.zeros(len(first), np.bool_)
        open_ones = np.arange(len(first))
        slots = _slots(first, second)
        while len(open_ones):
            there = self._slot_numbers[slots]
            is_empty = there < 0
            is_same = (self._slot_keys[0][slots] == first[open_ones]) & ~is_empty
            is_same &= self._slot_keys[1][slots] == second[open_ones]
            numbers[open_ones[is_same]] = there[is_same]
            is_new[open_ones[is_empty]] = True
            is_open = ~(is_same | is_empty)
            open_ones, slots = open_ones[is_open], _next(slots[is_open])
        return numbers, is_new

    def _add_short(self, words: Sequence[bytes], numbers: np.ndarray) -> None:
        """Puts distinct words, none of them in the table, into it."""
        halves = _halves(words)
        waiting = np.arange(len(words))
        slots = _slots(halves[0], halves[1])
        while len(waiting):
            # Of several that want the same free slot, the first gets it.
            _, firsts = np.unique(slots, return_index=True)
            winners = firsts[self._slot_numbers[slots[firsts]] < 0]
            self._slot_numbers[slots[winners]] = numbers[waiting[winners]]
            for keys, half in zip(self._slot_keys, halves, strict=True):
                keys[slots[winners]] = half[waiting[winners]]
            is_waiting = np.ones(len(waiting), np.bool_)
            is_waiting[winners] = False
            waiting, slots = waiting[is_waiting], _next(slots[is_waiting])

    def _long(self, data: bytes, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        places = zip(starts.tolist(), ends.tolist(), strict=True)
        words = [data[begin:end] for begin, end in places]
        new = [word for word in dict.fromkeys(words) if word not in self._long_numbers]
        if new:
            self._long_numbers.update(zip(new, self._learn(new).tolist(), strict=True))
        return np.array([self._long_numbers[word] for word in words], np.int64)

    def _learn(self, words: Sequence[bytes]) -> np.ndarray:
        """Adds words to the columns; returns their numbers."""
        texts = [word.decode() for word in words]
        ids = [self._ids_of(text) for text in texts]
        counts = np.fromiter(map(len, ids), np.int64, len(ids))
        begins = len(self.ids) + np.cumsum(counts) - counts
        flat = np.fromiter(chain.from_iterable(ids), self._dtype, int(counts.sum()))
        numbers = np.arange(len(self.counts), len(self.counts) + len(ids))
        self.ids = np.concatenate((self.ids, flat))
        self.begins = np.concatenate((self.begins, begins))
        self.counts = np.concatenate((self.counts, counts))
        self.hashes = np.concatenate((self.hashes, _hashes(texts)))
        return numbers

    def _ids_of(self, word: str) -> list[int]:
        if not (word.isascii() and word.isalnum()):
            return self._tokenizer.encode(word, add_special_tokens=False).ids
        # ASCII letters and digits are neither changed nor cut before WordPiece.
        known = self._vocabulary.get(word)
        return [known] if known is not None else [one.id for one in self._model.tokenize(word)]

    def _forget(self) -> None:
        """Begins anew, so that memory is bounded."""
        self._slot_numbers = np.full(1 << _SLOT_BITS, -1, np.int32)
        self._slot_keys = np.zeros((2, 1 << _SLOT_BITS), np.uint64)
        self._long_numbers: dict[bytes, int] = {}
        self.ids = np.empty(0, self._dtype)
        """Of all words, one after the other."""
        self.begins = np.empty(0, np.int64)
        """Where the ids of each begin."""
        self.counts = np.empty(0, np.int64)
        """How many each has."""
        self.hashes = np.empty(0, np.uint64)


def _distinct(data: bytes, starts: np.ndarray, ends: np.ndarray) -> list[bytes]:
    places = zip(starts.tolist(), ends.tolist(), strict=True)
    return list(dict.fromkeys(data[begin:end] for begin, end in places))


def _halves(words: Sequence[bytes]) -> np.ndarray:
    """(2, words): the first and the second eight bytes."""
    padded = b"".join(word.ljust(2 * _HALF_BYTES, b"\0") for word in words)
    return np.frombuffer(padded, "<u8").reshape(-1, 2).T.astype(np.uint64)


def _mixed(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    mixed = first * _FIRST_FACTOR + second * _SECOND_FACTOR
    return mixed ^ (mixed >> np.uint64(29))


def _slots(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return (_mixed(first, second) >> np.uint64(64 - _SLOT_BITS)).astype(np.int64)


def _next(slots: np.ndarray) -> np.ndarray:
    return (slots + 1) & ((1 << _SLOT_BITS) - 1)


def _hashes(words: Sequence[str]) -> np.ndarray:
    """64 bits of each word without case, the same in every version and on every machine."""
    plain = [word.lower().encode() for word in words]
    halves = _halves(
        [
            word
            if len(word) <= 2 * _HALF_BYTES
            else hashlib.blake2b(word, digest_size=2 * _HALF_BYTES).digest()
            for word in plain
        ]
    )
    return _mixed(halves[0], halves[1])
