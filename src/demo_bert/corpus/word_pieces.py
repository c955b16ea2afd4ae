"""Sentences to WordPiece ids: `tokenizers`, behind an exact cache of words.

BERT's rules never look beyond white space, so what stands between two spaces has the same ids
wherever it stands; most words of a text were met before. Words of ASCII that were not are cut here
(a call of `tokenizers` costs more than the work), all others by `tokenizers`.
"""

import json
import re
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_MOST_WORDS = 400_000
_MOST_CACHED_CHARACTERS = 64
_PYTHONS_OWN_SPACES = re.compile(r"[\x0b\x0c\x1c-\x1f\x85]")
"""Where Python splits, and BERT's rules drop the character and join what it stands between."""

_PARTS = re.compile(r"[A-Za-z0-9]+|[^A-Za-z0-9]")
"""What BERT's rules make of ASCII: runs of letters and digits, and each other character alone."""


class _Words(dict[str, bytes]):
    """Word -> its ids as bytes; a word that is missing is looked up."""

    def __init__(self, tokenizer: "Tokenizer", dtype: np.dtype[np.unsignedinteger]) -> None:
        super().__init__()
        description = json.loads(tokenizer.to_str())
        self._tokenizer = tokenizer
        self._dtype = dtype
        self._is_lower_case: bool = description["normalizer"]["lowercase"]
        self._unknown: str = description["model"]["unk_token"]
        self._longest: int = description["model"]["max_input_chars_per_word"]
        ids: dict[str, int] = description["model"]["vocab"]
        self._pieces = {entry: np.array(place, dtype).tobytes() for entry, place in ids.items()}

    def __missing__(self, word: str) -> bytes:
        if not (word.isascii() and word.isprintable()):
            ids = self._tokenizer.encode(word, add_special_tokens=False).ids
            found = np.array(ids, self._dtype).tobytes()
        elif word.isalnum():
            found = self._longest_first(word.lower() if self._is_lower_case else word)
        else:
            parts = _PARTS.findall(word)
            found = self._character(word) if len(parts) == 1 else self._all(parts)
        if len(word) <= _MOST_CACHED_CHARACTERS:
            if len(self) >= _MOST_WORDS:
                self.clear()
            self[word] = found
        return found

    def _all(self, parts: Sequence[str]) -> bytes:
        return b"".join(map(self.__getitem__, parts))

    def _character(self, mark: str) -> bytes:
        return self._pieces.get(mark, self._pieces[self._unknown])

    def _longest_first(self, word: str) -> bytes:
        """WordPiece of one word of ASCII letters and digits."""
        unknown = self._pieces[self._unknown]
        if len(word) > self._longest:
            return unknown
        found: list[bytes] = []
        begin, prefix = 0, ""
        while begin < len(word):
            for end in range(len(word), begin, -1):
                piece = self._pieces.get(prefix + word[begin:end])
                if piece is not None:
                    break
            else:
                return unknown
            found.append(piece)
            begin, prefix = end, "##"
        return b"".join(found)


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

    def __getstate__(self) -> dict[str, object]:
        """What travels: not the cache."""
        return {"_description": self._description, "_dtype": self._dtype}

    def __call__(self, words: Sequence[str]) -> bytes:
        """The ids of a sentence.

        Args:
            words: From `words_of`.

        Returns:
            Its ids, as bytes of the type.
        """
        return b"".join(map(self._words.__getitem__, words))

    @cached_property
    def _words(self) -> _Words:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(self._description)
        tokenizer.encode_special_tokens = True
        return _Words(tokenizer, self._dtype)


def words_of(sentence: str) -> list[str]:
    r"""What stands between the spaces of a sentence.

    Args:
        sentence: Any text.

    Returns:
        Words, with their punctuation.

    Example:
        >>> words_of("It is\xa0wet, s\x0bo what?")
        ['It', 'is', 'wet,', 'so', 'what?']
    """
    if not sentence.isprintable() and _PYTHONS_OWN_SPACES.search(sentence):
        sentence = _PYTHONS_OWN_SPACES.sub("", sentence)
    return sentence.split()
