"""WordPiece vocabularies from text: a new one, or an old one with more pieces."""

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from demo_bert.corpus import sources
from demo_bert.corpus.document import Tally
from demo_bert.corpus.word_pieces import word_places
from demo_bert.errors import DataError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_MOST_CHARACTERS = 1000
_MOST_COUNTED_WORDS = 2_000_000
_WORDS_OF_A_SIZE = 20
_MOST_BYTES = 4 << 30
"""On disk; more text than this changes a vocabulary little."""
_CHARACTERS_AT_A_TIME = 1 << 20
_PARAGRAPHS_AT_A_TIME = 2000


def train(
    inputs: Sequence[tuple[str, Path]],
    tokenizer: "Tokenizer",
    *,
    size: int,
    special_tokens: Sequence[str],
    announce: Callable[[str], None],
) -> list[str]:
    """A vocabulary of the text of all inputs.

    Args:
        inputs: Kind and path of each.
        tokenizer: With the rules for case, accents and words; its vocabulary is not used.
        size: The most entries.
        special_tokens: What the vocabulary begins with.
        announce: Told how much was read.

    Returns:
        The entries in the order of their ids; fewer than `size` where the text has no more.

    Raises:
        DataError: An input cannot be read, or there is no text.
    """
    counts = _word_counts(inputs, tokenizer, announce)
    characters = Counter[str]()
    for word, count in counts.items():
        for character in set(word):
            characters[character] += count
    ranked = sorted(characters, key=lambda one: (-characters[one], one))
    alphabet = set(ranked[:_MOST_CHARACTERS])
    words = {word: count for word, count in counts.items() if alphabet.issuperset(word)}
    merging = _Merging(words)
    entries = [*special_tokens, *sorted(merging.symbols)]
    known = set(entries)
    while len(entries) < size and (piece := merging.next_piece()) is not None:
        if piece not in known:
            known.add(piece)
            entries.append(piece)
    return entries


def extend(
    inputs: Sequence[tuple[str, Path]],
    tokenizer: "Tokenizer",
    *,
    vocabulary: Sequence[str],
    size: int,
    announce: Callable[[str], None],
) -> list[str]:
    """A vocabulary with more words; the ids of its entries stay.

    Args:
        inputs: Kind and path of each.
        tokenizer: Of the old vocabulary.
        vocabulary: Its entries.
        size: The most entries of the new one.
        announce: Told how much was read.

    Returns:
        The old entries, then the words that save most pieces in the text, the most useful first.

    Raises:
        DataError: An input cannot be read, or there is no text.
    """
    counts = _word_counts(inputs, tokenizer, announce)
    known = set(vocabulary)
    saved: dict[str, int] = {}
    frequent = sorted(counts, key=lambda word: (-counts[word], word))[: _WORDS_OF_A_SIZE * size]
    for word in frequent:
        if word not in known and word.isalnum():
            pieces = tokenizer.encode(word, add_special_tokens=False).tokens
            # An unknown word saves nothing in pieces, and all in meaning.
            saved[word] = counts[word] * (2 if "[UNK]" in pieces else len(pieces) - 1)
    useful = sorted(saved, key=lambda word: (-saved[word], word))
    return [*vocabulary, *useful[: max(size - len(vocabulary), 0)]]


class _Merging:
    """Joins the most frequent pair of neighbours again and again; ties go by the alphabet.

    Source: Sennrich et al. 2016, with WordPiece's marks: what does not begin a word begins with ##.
    The trainer of `tokenizers` does the same, but breaks ties differently in each process.
    """

    def __init__(self, words: Mapping[str, int]) -> None:
        self._counts = list(words.values())
        self._words = [[word[0], *(f"##{one}" for one in word[1:])] for word in words]
        self.symbols = {symbol for word in self._words for symbol in word}
        self._pairs: Counter[tuple[str, str]] = Counter()
        self._places: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
        for number in range(len(self._words)):
            self._count(number, self._counts[number])
        self._heap = [(-count, pair) for pair, count in self._pairs.items()]
        heapq.heapify(self._heap)

    def next_piece(self) -> str | None:
        """Joins one pair; None where no pair comes twice any more."""
        while self._heap:
            minus, pair = heapq.heappop(self._heap)
            count = self._pairs[pair]
            if count == -minus:
                if count < 2:
                    return None
                return self._join(pair)
            if 0 < count < -minus:
                heapq.heappush(self._heap, (-count, pair))
        return None

    def _join(self, pair: tuple[str, str]) -> str:
        first, second = pair
        piece = first + second.removeprefix("##")
        changed: set[tuple[str, str]] = set()
        for number in list(self._places[pair]):
            count, word = self._counts[number], self._words[number]
            self._count(number, -count)
            joined: list[str] = []
            for symbol in word:
                if joined and symbol == second and joined[-1] == first:
                    joined[-1] = piece
                else:
                    joined.append(symbol)
            self._words[number] = joined
            changed |= self._count(number, count)
        for one in changed:
            heapq.heappush(self._heap, (-self._pairs[one], one))
        del self._places[pair]
        return piece

    def _count(self, number: int, count: int) -> set[tuple[str, str]]:
        """Adds a word's pairs, or takes them away where the count is negative."""
        word = self._words[number]
        pairs = list(zip(word, word[1:], strict=False))
        for pair in pairs:
            self._pairs[pair] += count
            if count > 0:
                self._places[pair].add(number)
            else:
                self._places[pair].discard(number)
        return set(pairs)


def _word_counts(
    inputs: Sequence[tuple[str, Path]], tokenizer: "Tokenizer", announce: Callable[[str], None]
) -> Counter[str]:
    """Words of the text as the tokenizer's rules give them; the rarest are forgotten in time."""
    assert tokenizer.normalizer is not None
    assert tokenizer.pre_tokenizer is not None
    raw: Counter[bytes] = Counter()
    for text in _texts(inputs, announce):
        raw.update(_counts_of(text))
        if len(raw) > _MOST_COUNTED_WORDS:
            ranked = sorted(raw, key=lambda word: (-raw[word], word))
            raw = Counter({word: raw[word] for word in ranked[: _MOST_COUNTED_WORDS // 2]})
    counts: Counter[str] = Counter()
    for word, count in raw.items():
        plain = tokenizer.normalizer.normalize_str(word.decode())
        for part, _ in tokenizer.pre_tokenizer.pre_tokenize_str(plain):
            counts[part] += count
    return counts


def _counts_of(text: str) -> Counter[bytes]:
    """What stands between spaces and ASCII's marks, and how often."""
    import pyarrow as pa

    data = text.encode()
    starts, _ = word_places(data)
    offsets = np.append(starts, len(data)).astype(np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    found = pa.Array.from_buffers(pa.binary(), len(starts), buffers).value_counts()
    words = found.field("values").to_pylist()
    counts: Counter[bytes] = Counter()
    for word, count in zip(words, found.field("counts").to_pylist(), strict=True):
        counts[word.rstrip()] += count
    return counts


def _texts(inputs: Sequence[tuple[str, Path]], announce: Callable[[str], None]) -> Iterator[str]:
    """The text of all inputs, about a megabyte at a time; of very much, pieces spread over it."""
    tally: Tally = Counter()
    characters = 0
    planned = [(one, sources.plan([one], tally=tally)) for one in inputs]
    num_bytes = sum(piece.num_bytes for _, pieces in planned for piece in pieces)
    step = -(-num_bytes // _MOST_BYTES) if num_bytes else 1
    for (kind, path), pieces in planned:
        held: list[str] = []
        for piece in pieces[::step]:
            for paragraphs in sources.read(piece, tally=tally):
                held += paragraphs
                size = sum(map(len, paragraphs))
                characters += size
                if size > _CHARACTERS_AT_A_TIME or len(held) > _PARAGRAPHS_AT_A_TIME:
                    yield "\n".join(held)
                    held = []
        if held:
            yield "\n".join(held)
        share = f", one part in {step}" if step > 1 else ""
        announce(f"{kind} {path}: read{share}, {characters / 1e6:.3g} million characters in all")
    if not characters:
        raise DataError("the sources hold no text; no vocabulary was written")
