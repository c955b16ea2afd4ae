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
from typing import BinaryIO

import numpy as np

from demo_bert.corpus import sources
from demo_bert.corpus.document import Paragraphs, Piece, Tally
from demo_bert.corpus.fingerprints import NUM_HASHES, Signatures, text_hash
from demo_bert.corpus.sentences import split
from demo_bert.corpus.word_pieces import WordPieces
from demo_bert.errors import DataError, DiskError
from demo_bert.files import sha256_of, write_text

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
    text_bytes: int = 0
    """Bytes of the sentences as UTF-8."""
    tally: dict[str, int] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)


class PartWriter:
    """Turns documents into columns of a part.

    Args:
        directory: Of the part.
        rules: Of the store.
    """

    def __init__(self, directory: Path, rules: Rules) -> None:
        self._directory = directory
        self._rules = rules
        self._signature_of = Signatures(rules.vocabulary) if rules.has_signatures else None
        self._counts: Counter[str] = Counter()
        directory.mkdir(parents=True)
        self._files: dict[str, BinaryIO] = {
            name: (directory / name).open("wb", buffering=1 << 20) for name in COLUMNS
        }

    def add(self, paragraphs: Paragraphs) -> None:
        """Adds a document; one without any piece is left out.

        Args:
            paragraphs: Of the document.
        """
        look_up = self._rules.word_pieces
        sentences = split(paragraphs, language=self._rules.language).sentences
        pieces = [
            (words, ids)
            for words in map(look_up.words_of, sentences)
            if (ids := look_up.ids_of(words))
        ]
        if not pieces:
            self._counts["documents without text"] += 1
            return
        words = [one for one, _ in pieces]
        dtype = np.dtype(self._rules.id_dtype)
        lengths = np.array([len(ids) for _, ids in pieces], "<u4") // dtype.itemsize
        ids = np.frombuffer(b"".join(ids for _, ids in pieces), dtype)
        self._write("ids", ids)
        self._write("sentences", lengths)
        value, num_bytes = text_hash(words)
        row = (len(lengths), len(ids), value)
        self._write("documents", np.array([row], DOCUMENT))
        self._add_signatures(ids, lengths)
        if len(lengths) > BLOCK_SENTENCES:
            starts = range(0, len(words), BLOCK_SENTENCES)
            blocks = [text_hash(words[at : at + BLOCK_SENTENCES])[0] for at in starts]
            self._write("blocks", np.array(blocks, "<u8"))
        self._counts["documents"] += 1
        self._counts["sentences"] += len(lengths)
        self._counts["tokens"] += len(ids)
        self._counts["unknown_tokens"] += int(np.count_nonzero(ids == self._rules.unknown_id))
        self._counts["text_bytes"] += num_bytes

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

    def _add_signatures(self, ids: np.ndarray, lengths: np.ndarray) -> None:
        if self._signature_of is None:
            return
        if len(lengths) <= BLOCK_SENTENCES:
            self._write("signatures", self._signature_of(ids))
            return
        ends = np.cumsum(lengths, dtype=np.int64)
        starts = np.concatenate(([0], ends[BLOCK_SENTENCES - 1 : -1 : BLOCK_SENTENCES]))
        stops = [*starts[1:], len(ids)]
        blocks = np.stack(
            [self._signature_of(ids[a:b]) for a, b in zip(starts, stops, strict=True)]
        )
        self._write("block_signatures", blocks)
        # The few grams that cross from block to block are left out.
        self._write("signatures", blocks.min(axis=0))

    def _write(self, column: str, values: np.ndarray) -> None:
        self._files[column].write(values.tobytes())


_COUNTS = ("tokens", "unknown_tokens", "sentences", "documents", "text_bytes")


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
        facts = PartFacts(**json.loads((directory / "part.json").read_text("utf-8")))
        is_whole = all(sha256_of(directory / name) == facts.sha256[name] for name in COLUMNS)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return facts if is_whole else None


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
