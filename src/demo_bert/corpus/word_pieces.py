"""Sentences to WordPiece ids: `tokenizers`, behind an exact cache of words.

BERT's rules never look beyond white space, so what stands between two spaces has the same ids
wherever it stands; most words of a text were met before. Words of ASCII that were not are cut here
(a call of `tokenizers` costs more than the work), all others by `tokenizers`.
"""

import json
import re
from collections.abc import Sequence
from functools import cached_property

import numpy as np

_MOST_WORDS = 400_000
_MOST_CACHED_CHARACTERS = 64
_PYTHONS_OWN_SPACES = re.compile(r"[\x0b\x0c\x1c-\x1f\x85]")
"""Where Python splits, and BERT's rules drop the character and join what it stands between."""

_MARKS = tuple((mark, f" {mark} ") for mark in ",.()\";:-'")
_OTHER_MARKS = "\u2018\u2019\u201c\u201d\u2013\u2014"

_PARTS = re.compile(r"[A-Za-z0-9]+|[^A-Za-z0-9]")
"""What BERT's rules make of ASCII: runs of letters and digits, and each other character alone."""


class _Words(dict[str, bytes]):
    """Word -> its ids as bytes; a word that is missing is looked up."""

    def __init__(self, description: str, dtype: np.dtype[np.unsignedinteger]) -> None:
        from tokenizers import Tokenizer

        super().__init__()
        self._tokenizer = Tokenizer.from_str(description)
        self._tokenizer.encode_special_tokens = True
        self._dtype = dtype
        content = json.loads(description)
        model = content["model"]
        self.is_lower_case: bool = content["normalizer"]["lowercase"]
        self._longest: int = model["max_input_chars_per_word"]
        pieces = {name: np.array(place, dtype).tobytes() for name, place in model["vocab"].items()}
        self._unknown = pieces[model["unk_token"]]
        self._first = pieces
        self._inner = {name[2:]: ids for name, ids in pieces.items() if name.startswith("##")}

    def __missing__(self, word: str) -> bytes:
        if not (word.isascii() and word.isprintable()):
            ids = self._tokenizer.encode(word, add_special_tokens=False).ids
            found = np.array(ids, self._dtype).tobytes()
        elif word.isalnum():
            found = self._longest_first(word.lower() if self.is_lower_case else word)
        else:
            parts = _PARTS.findall(word)
            if len(parts) == 1:
                found = self._first.get(word, self._unknown)
            else:
                found = b"".join(map(self.__getitem__, parts))
        if len(word) <= _MOST_CACHED_CHARACTERS:
            if len(self) >= _MOST_WORDS:
                self.clear()
            self[word] = found
        return found

    def _longest_first(self, word: str) -> bytes:
        """WordPiece of one word of ASCII letters and digits."""
        length = len(word)
        if length > self._longest:
            return self._unknown
        found = b""
        begin, pieces = 0, self._first
        while begin < length:
            for end in range(length, begin, -1):
                ids = pieces.get(word[begin:end])
                if ids is not None:
                    break
            else:
                return self._unknown
            found += ids
            begin, pieces = end, self._inner
        return found


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

    def words_of(self, sentence: str) -> list[str]:
        """The words and marks of a sentence, more or less: what has the same ids alone.

        Args:
            sentence: Any text.

        Returns:
            Words; punctuation that BERT's rules separate may still be on them.
        """
        if sentence.isascii():
            if self._words.is_lower_case:
                sentence = sentence.lower()
        else:
            for mark in _OTHER_MARKS:
                sentence = sentence.replace(mark, f" {mark} ")
        if not sentence.isprintable() and _PYTHONS_OWN_SPACES.search(sentence):
            sentence = _PYTHONS_OWN_SPACES.sub("", sentence)
        # A mark is a word of its own; without it, far more words were met before.
        for mark, spaced in _MARKS:
            if mark in sentence:
                sentence = sentence.replace(mark, spaced)
        return sentence.split()

    def ids_of(self, words: Sequence[str]) -> bytes:
        """The ids of a sentence.

        Args:
            words: From `words_of`.

        Returns:
            Its ids, as bytes of the type.
        """
        return b"".join(map(self._words.__getitem__, words))

    @cached_property
    def _words(self) -> _Words:
        return _Words(self._description, self._dtype)
