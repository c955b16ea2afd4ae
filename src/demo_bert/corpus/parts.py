"""Parts: what a few pieces of input became, kept on disk until the store is put together.

A part is a directory with a file for each column; `part.json` is written last, with the hash of
every column, so a part is whole or it is made again.
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from demo_bert.corpus import sources
from demo_bert.corpus.document import Paragraphs, Piece, Tally
from demo_bert.corpus.fingerprints import NUM_HASHES, signatures_of, text_hash
from demo_bert.corpus.sentences import split
from demo_bert.corpus.word_pieces import WordPieces
from demo_bert.errors import DataError, DiskError
from demo_bert.files import sha256_of, write_text

_CHARACTERS_AT_A_TIME = 1 << 20

BLOCK_SENTENCES = 200
"""Sentences of a block: long documents can be held out block by block."""

DOCUMENT = np.dtype([("sentences", "<u4"), ("tokens", "<u4"), ("hash", "<u8")])
COLUMNS: dict[str, np.dtype] = {
    "ids": np.dtype("<u2"),
    "sentences": np.dtype("<u4"),
    "documents": DOCUMENT,
    "signatures": np.dtype(("<u4", (NUM_HASHES,))),
    "blocks": np.dtype("<u8"),
    "block_signatures": np.dtype(("<u4", (NUM_HASHES,))),
}
"""Column -> type. ids: pieces (uint32 for large vocabularies); sentences: tokens of each;
documents: a row each; signatures: of each document; blocks, block_signatures: hash and signature of
each block of the documents that have more than one."""


@dataclass(frozen=True)
class Rules:
    """How documents become ids; the same for all parts of a store."""

    language: str
    word_pieces: WordPieces
    vocabulary: tuple[str, ...]
    unknown_id: int
    id_dtype: str
    has_signatures: bool
    """Whether near duplicates are to be found."""


@dataclass(frozen=True)
class PartFacts:
    """What part.json says."""

    input_bytes: int
    tokens: int = 0
    unknown_tokens: int = 0
    sentences: int = 0
    documents: int = 0
    tally: dict[str, int] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)


class _Content(NamedTuple):
    """Of a document or a block of it."""

    ids: np.ndarray
    word_hashes: np.ndarray


class PartWriter:
    """Turns documents into columns of a part.

    Args:
        directory: Of the part.
        rules: Of the store.
    """

    def __init__(self, directory: Path, rules: Rules) -> None:
        self._directory = directory
        self._rules = rules
        self._signature_of = signatures_of(rules.vocabulary) if rules.has_signatures else None
        self._counts: Counter[str] = Counter()
        self._waiting: list[list[str]] = []
        self._waiting_characters = 0
        directory.mkdir(parents=True)
        self._files: dict[str, BinaryIO] = {
            name: (directory / name).open("wb", buffering=1 << 20) for name in COLUMNS
        }

    def add(self, paragraphs: Paragraphs) -> None:
        """Adds a document; one without any piece is left out.

        Args:
            paragraphs: Of the document.
        """
        sentences = split(paragraphs, language=self._rules.language).sentences
        self._waiting.append(sentences)
        self._waiting_characters += sum(map(len, sentences))
        if self._waiting_characters > _CHARACTERS_AT_A_TIME:
            self._write_waiting()

    def _write_waiting(self) -> None:
        """Writes the documents that wait, which are looked up together."""
        waiting, self._waiting = self._waiting, list[list[str]]()
        self._waiting_characters = 0
        encoded = self._rules.word_pieces.encode([one for document in waiting for one in document])
        is_kept = encoded.tokens > 0
        lengths = encoded.tokens[is_kept]
        self._write("ids", encoded.ids)
        self._write("sentences", lengths.astype("<u4"))
        token_ends = np.concatenate(([0], np.cumsum(lengths)))
        word_ends = np.concatenate(([0], np.cumsum(encoded.words)))
        word_starts, word_ends = word_ends[:-1][is_kept], word_ends[1:][is_kept]

        def content(begin: int, end: int) -> _Content:
            return _Content(
                encoded.ids[token_ends[begin] : token_ends[end]],
                encoded.word_hashes[word_starts[begin] : word_ends[end - 1]],
            )

        # For each document, the first of its sentences that have pieces, and what comes after them.
        sizes = np.cumsum([0, *map(len, waiting)])
        limits = np.concatenate(([0], np.cumsum(is_kept)))[sizes].tolist()
        for begin, end in zip(limits, limits[1:], strict=False):
            if begin == end:
                self._counts["documents without text"] += 1
                continue
            starts = range(begin, end, BLOCK_SENTENCES)
            blocks = [content(one, min(one + BLOCK_SENTENCES, end)) for one in starts]
            self._write_document(content(begin, end), blocks, num_sentences=end - begin)
        self._counts["sentences"] += len(lengths)
        self._counts["tokens"] += len(encoded.ids)
        unknown = np.count_nonzero(encoded.ids == self._rules.unknown_id)
        self._counts["unknown_tokens"] += int(unknown)

    def _write_document(
        self, whole: _Content, blocks: Sequence[_Content], *, num_sentences: int
    ) -> None:
        row = (num_sentences, len(whole.ids), text_hash(whole.word_hashes))
        self._write("documents", np.array([row], DOCUMENT))
        self._counts["documents"] += 1
        if len(blocks) > 1:
            hashes = [text_hash(block.word_hashes) for block in blocks]
            self._write("blocks", np.array(hashes, "<u8"))
        signature_of = self._signature_of
        if signature_of is None:
            return
        lowest = np.stack([signature_of.lowest(block.ids) for block in blocks])
        if len(blocks) > 1:
            self._write("block_signatures", np.stack(list(map(signature_of.filled, lowest))))
        # The few grams that cross from block to block are left out.
        self._write("signatures", signature_of.filled(lowest.min(axis=0)))

    def close(self) -> None:
        """Closes the columns; without `finish` the part is unfinished."""
        for file in self._files.values():
            file.close()

    def finish(self, *, input_bytes: int, tally: Tally) -> PartFacts:
        """Closes the columns and writes part.json.

        Args:
            input_bytes: Size of the pieces on disk.
            tally: What was counted on the way.

        Returns:
            The facts.
        """
        self._write_waiting()
        self.close()
        if self._counts["documents without text"]:
            tally["documents without text"] += self._counts.pop("documents without text")
        counts = {name: self._counts[name] for name in _COUNTS}
        facts = PartFacts(
            input_bytes=input_bytes,
            tally=dict(sorted(tally.items())),
            sha256={name: sha256_of(self._directory / name) for name in COLUMNS},
            **counts,
        )
        write_text(self._directory / "part.json", json.dumps(asdict(facts), indent=2) + "\n")
        return facts

    def _write(self, column: str, values: np.ndarray) -> None:
        self._files[column].write(values.tobytes())


_COUNTS = ("tokens", "unknown_tokens", "sentences", "documents")


def make_part(
    directory: Path,
    pieces: Sequence[Piece],
    *,
    rules: Rules,
    heartbeat: Callable[[], None] | None = None,
) -> PartFacts:
    """Makes a part, or keeps one that is there and whole.

    Args:
        directory: Of the part.
        pieces: What it is made of.
        rules: Of the store.
        heartbeat: Called after each document; what it raises ends the work.

    Returns:
        Its facts.

    Raises:
        DataError: An input is damaged or cannot be read.
        DiskError: The part cannot be written.
    """
    facts = finished_part(directory)
    if facts is not None:
        return facts
    tally: Tally = Counter()
    try:
        shutil.rmtree(directory, ignore_errors=True)
        with closing(PartWriter(directory, rules)) as writer:
            for piece in pieces:
                for paragraphs in sources.read(piece, tally=tally):
                    writer.add(paragraphs)
                    if heartbeat is not None:
                        heartbeat()
            return writer.finish(input_bytes=sum(piece.num_bytes for piece in pieces), tally=tally)
    except OSError as error:
        raise DiskError(
            f"{directory}: cannot be written ({error.strerror}); what is finished is kept: make"
            " room, then give the same command again"
        ) from error


def finished_part(directory: Path) -> PartFacts | None:
    """The facts of a part that is there and whole.

    Args:
        directory: Of the part.

    Returns:
        Its facts; None where it is missing, unfinished or damaged.
    """
    try:
        facts = noted_facts(directory)
        is_whole = all(sha256_of(directory / name) == facts.sha256[name] for name in COLUMNS)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return facts if is_whole else None


def noted_facts(directory: Path) -> PartFacts:
    """The facts of a part that was found or made whole, without reading it again.

    Args:
        directory: Of the part.

    Returns:
        Its facts.

    Raises:
        OSError: They cannot be read.
        ValueError: They are damaged.
    """
    return PartFacts(**json.loads((directory / "part.json").read_text("utf-8")))


def read_column(directory: Path, column: str, *, id_dtype: str = "<u2") -> np.ndarray:
    """A column of a finished part, mapped.

    Args:
        directory: Of the part.
        column: A key of COLUMNS.
        id_dtype: Type of the ids.

    Returns:
        The column, read-only.

    Raises:
        DataError: It is missing.
    """
    path = directory / column
    dtype = np.dtype(id_dtype) if column == "ids" else COLUMNS[column]
    base, shape = dtype.subdtype or (dtype, ())
    try:
        if not path.stat().st_size:
            return np.empty((0, *shape), base)
        return np.memmap(path, dtype=base, mode="r").reshape(-1, *shape).view(np.ndarray)
    except OSError as error:
        raise DataError(f"{path}: missing ({error.strerror}); prepare again") from error
