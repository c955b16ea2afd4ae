"""The published way to pre-training data, written from its description: what `prepare` is held to.

Source: Devlin et al. 2019 and the text around create_pretraining_data: lines are sentences, a blank
line ends a document; sentences are gathered to a target length (in one of ten cases a shorter one),
divided into two segments, in half of the cases the second from another document; 15 % of the pieces
are chosen, of these 80 % masked, 10 % replaced, 10 % kept; every record is padded to the length.
"""

import random
import unicodedata
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

COMPRESSION_LEVEL = 4  # what HDF5's gzip filter takes by default


@dataclass(frozen=True)
class Record:
    """A masked example."""

    ids: list[int]
    first_length: int
    is_random_next: bool
    masked_places: list[int]
    masked_ids: list[int]


class PythonTokenizer:
    """BERT's uncased rules in plain Python."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self._ids = {entry: place for place, entry in enumerate(vocabulary)}

    def __call__(self, text: str) -> list[int]:
        """The ids of a text."""
        return [one for word in self._words(text) for one in self._pieces(word)]

    def _words(self, text: str) -> list[str]:
        found: list[str] = []
        for token in "".join(map(_cleaned, text)).split():
            plain = unicodedata.normalize("NFD", token.lower())
            word = ""
            for character in plain:
                if unicodedata.category(character) == "Mn":
                    continue
                if _is_punctuation(character):
                    found += [word, character] if word else [character]
                    word = ""
                else:
                    word += character
            if word:
                found.append(word)
        return found

    def _pieces(self, word: str) -> list[int]:
        found: list[int] = []
        begin = 0
        while begin < len(word):
            end = len(word)
            while end > begin:
                piece = word[begin:end] if begin == 0 else f"##{word[begin:end]}"
                if piece in self._ids:
                    break
                end -= 1
            if end == begin or len(word) > 200:
                return [self._ids["[UNK]"]]
            found.append(self._ids[piece])
            begin = end
        return found


def read_documents(lines: Iterable[str], tokenizer: PythonTokenizer) -> list[list[list[int]]]:
    """Documents of sentences of ids."""
    documents: list[list[list[int]]] = [[]]
    for line in lines:
        text = line.strip()
        if not text:
            documents.append([])
            continue
        ids = tokenizer(text)
        if ids:
            documents[-1].append(ids)
    return [document for document in documents if document]


def make_records(
    documents: Sequence[Sequence[Sequence[int]]],
    *,
    length: int,
    ids: Mapping[str, int],
    draw: random.Random,
) -> list[Record]:
    """One pass over the documents."""
    found: list[Record] = []
    for number, document in enumerate(documents):
        room = length - 3
        target = draw.randint(2, room) if draw.random() < 0.1 else room
        chunk: list[Sequence[int]] = []
        place = 0
        while place < len(document):
            chunk.append(document[place])
            if place == len(document) - 1 or sum(map(len, chunk)) >= target:
                end = draw.randint(1, len(chunk) - 1) if len(chunk) >= 2 else 1
                first = [one for sentence in chunk[:end] for one in sentence]
                is_random = len(chunk) == 1 or draw.random() < 0.5
                if is_random:
                    second = _random_segment(documents, number, target - len(first), draw)
                    place -= len(chunk) - end
                else:
                    second = [one for sentence in chunk[end:] for one in sentence]
                if first and second:
                    _truncate(first, second, room, draw)
                    found.append(_masked(first, second, is_random, length, ids, draw))
                chunk = []
            place += 1
    return found


def compressed_size(records: Sequence[Record], *, length: int) -> int:
    """Bytes of the records as padded, compressed columns."""
    most = 20 if length <= 128 else 80
    columns = {
        "input_ids": np.zeros((len(records), length), np.int32),
        "input_mask": np.zeros((len(records), length), np.int8),
        "segment_ids": np.zeros((len(records), length), np.int8),
        "masked_lm_positions": np.zeros((len(records), most), np.int32),
        "masked_lm_ids": np.zeros((len(records), most), np.int32),
        "next_sentence_labels": np.zeros(len(records), np.int8),
    }
    for row, record in enumerate(records):
        columns["input_ids"][row, : len(record.ids)] = record.ids
        columns["input_mask"][row, : len(record.ids)] = 1
        columns["segment_ids"][row, record.first_length : len(record.ids)] = 1
        columns["masked_lm_positions"][row, : len(record.masked_places)] = record.masked_places
        columns["masked_lm_ids"][row, : len(record.masked_ids)] = record.masked_ids
        columns["next_sentence_labels"][row] = record.is_random_next
    return sum(len(zlib.compress(one.tobytes(), COMPRESSION_LEVEL)) for one in columns.values())


def _random_segment(
    documents: Sequence[Sequence[Sequence[int]]], number: int, room: int, draw: random.Random
) -> list[int]:
    for _ in range(10):
        other = draw.randrange(len(documents))
        if other != number:
            break
    document = documents[other]
    found: list[int] = []
    for sentence in document[draw.randrange(len(document)) :]:
        found.extend(sentence)
        if len(found) >= room:
            break
    return found


def _truncate(first: list[int], second: list[int], room: int, draw: random.Random) -> None:
    while len(first) + len(second) > room:
        longer = first if len(first) > len(second) else second
        if draw.random() < 0.5:
            del longer[0]
        else:
            longer.pop()


def _masked(
    first: list[int],
    second: list[int],
    is_random: bool,
    length: int,
    ids: Mapping[str, int],
    draw: random.Random,
) -> Record:
    tokens = [ids["[CLS]"], *first, ids["[SEP]"], *second, ids["[SEP]"]]
    special = {0, len(first) + 1, len(tokens) - 1}
    places = [place for place in range(len(tokens)) if place not in special]
    draw.shuffle(places)
    most = 20 if length <= 128 else 80
    chosen = sorted(places[: min(most, max(1, round(0.15 * len(tokens))))])
    originals = [tokens[place] for place in chosen]
    for place in chosen:
        share = draw.random()
        if share < 0.8:
            tokens[place] = ids["[MASK]"]
        elif share < 0.9:
            tokens[place] = draw.randrange(len(ids))
    return Record(tokens, len(first) + 2, is_random, chosen, originals)


def _cleaned(character: str) -> str:
    if character in "\t\n\r" or unicodedata.category(character) == "Zs":
        return " "
    if character in "\0\ufffd" or unicodedata.category(character).startswith("C"):
        return ""
    return f" {character} " if 0x4E00 <= ord(character) <= 0x9FFF else character


def _is_punctuation(character: str) -> bool:
    code = ord(character)
    if 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126:
        return True
    return unicodedata.category(character).startswith("P")
