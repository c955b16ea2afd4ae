"""Sentences to WordPiece ids, those of `tokenizers`, behind an exact table of words.

BERT's rules never look beyond white space or punctuation, so what stands between has the same ids
wherever it stands, and most words of a text were met before. A megabyte of text at a time is cut
into words as bytes and looked up in arrays; only words that are new are given to `tokenizers`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from demo_bert.corpus.word_table import WordTable

_BATCH_CHARACTERS = 1 << 20

_SPACES = b"\t\n\r "
_OTHER_MARKS = "\u2018\u2019\u201c\u201d\u2013\u2014\u2026\u00b7"
"""Punctuation beyond ASCII that is frequent: words are told from it, as BERT's rules do later."""
_NO_BREAK_SPACE = "\u00a0"

_SPACE, _WORD, _MARK = range(3)
_CLASSES = bytes(
    _SPACE if byte in _SPACES else _MARK if 32 < byte < 127 and not chr(byte).isalnum() else _WORD
    for byte in range(256)
)
"""Of each byte. Control characters and all beyond ASCII count as parts of words: `tokenizers` sees
to them, word by word."""


@dataclass(frozen=True)
class Encoded:
    """Sentences as ids."""

    ids: np.ndarray
    """Of all sentences, (tokens,)."""
    tokens: np.ndarray
    """Of each sentence, (sentences,) int64; may be 0."""
    word_hashes: np.ndarray
    """Of each word or mark, case left out, (words,) uint64."""
    words: np.ndarray
    """Words of each sentence, (sentences,) int64."""


class WordPieces:
    """Looks up the ids of sentences; can be sent to another process.

    Args:
        tokenizer: What `Tokenizer.to_str` gives for BERT's tokenizer; names of special tokens in a
            text are words like others.
        dtype: Type of the ids, uint16 or uint32.
    """

    def __init__(self, tokenizer: str, dtype: np.dtype[np.unsignedinteger]) -> None:
        self._description = tokenizer
        self._dtype = dtype

    def encode(self, sentences: Sequence[str]) -> Encoded:
        """The ids of sentences.

        Args:
            sentences: Any texts; memory is needed for a megabyte of them at a time.

        Returns:
            Their ids, in order.
        """
        parts = [self._encode(batch) for batch in _batches(sentences)]
        if len(parts) == 1:
            return parts[0]
        return Encoded(
            np.concatenate([np.empty(0, self._dtype), *(one.ids for one in parts)]),
            np.concatenate([np.empty(0, np.int64), *(one.tokens for one in parts)]),
            np.concatenate([np.empty(0, np.uint64), *(one.word_hashes for one in parts)]),
            np.concatenate([np.empty(0, np.int64), *(one.words for one in parts)]),
        )

    def _encode(self, sentences: Sequence[str]) -> Encoded:
        data = self._lines(sentences)
        starts, word_ends = word_places(data)
        line_ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n"))
        words = np.diff(np.searchsorted(starts, line_ends), prepend=0, append=len(starts))
        table = self._table
        numbers = table.numbers_of(data, starts, word_ends)
        counts = table.counts[numbers]
        ends = np.concatenate(([0], np.cumsum(counts)))
        # Where each word's first id is in the table, less where it comes in the text.
        shift = table.begins[numbers] - ends[:-1]
        places = np.arange(ends[-1]) + np.repeat(shift, counts)
        tokens = np.diff(ends[np.cumsum(words)], prepend=0)
        return Encoded(table.ids[places], tokens, table.hashes[numbers], words)

    def _lines(self, sentences: Sequence[str]) -> bytes:
        """A sentence on each line, in lower case where the vocabulary is."""
        text = "\n".join(sentences)
        if text.count("\n") >= len(sentences):
            text = "\n".join(sentence.replace("\n", " ") for sentence in sentences)
        # BERT's rules drop it.
        text = text.replace("\0", "")
        if not text.isascii():
            text = text.replace(_NO_BREAK_SPACE, " ")
            for mark in _OTHER_MARKS:
                text = text.replace(mark, f" {mark} ")
        data = text.encode()
        return data.lower() if self._table.is_lower_case else data

    @property
    def _table(self) -> WordTable:
        return table_of(self._description, self._dtype)


def word_places(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Where the words and marks of a text begin and end.

    Args:
        data: UTF-8; what is beyond ASCII counts as part of a word.

    Returns:
        Starts and ends, (words,) int64.
    """
    classes = np.frombuffer(data.translate(_CLASSES), np.uint8)
    is_mark, is_word = classes == _MARK, classes == _WORD
    is_start, is_end = is_mark | is_word, is_mark | is_word
    is_start[1:] &= is_mark[1:] | ~is_word[:-1]
    is_end[:-1] &= is_mark[:-1] | ~is_word[1:]
    return np.flatnonzero(is_start), np.flatnonzero(is_end) + 1


@lru_cache(maxsize=1)
def table_of(tokenizer: str, dtype: np.dtype[np.unsignedinteger]) -> WordTable:
    """This process's table of words; it goes from part to part.

    Args:
        tokenizer: As in `WordPieces`.
        dtype: As in `WordPieces`.

    Returns:
        The table.
    """
    return WordTable(tokenizer, dtype)


def _batches(sentences: Sequence[str]) -> Iterable[Sequence[str]]:
    begin = size = 0
    for place, sentence in enumerate(sentences):
        size += len(sentence)
        if size > _BATCH_CHARACTERS:
            yield sentences[begin : place + 1]
            begin, size = place + 1, 0
    if begin < len(sentences):
        yield sentences[begin:]
