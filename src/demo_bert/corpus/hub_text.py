"""Text from the hub, streamed: what `prepare` reads where no source was given.

Wikipedia is the Wikimedia Foundation's own extraction, by article; books are Project Gutenberg's
before 1919. Both lie there as Parquet; row groups are read in place, and nothing is kept but ids.
"""

import logging
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from demo_bert.corpus.document import Paragraphs, Piece, Tally
from demo_bert.corpus.parquet import column_of, packed_sizes, texts_of
from demo_bert.corpus.plain_text import one_document
from demo_bert.corpus.wikitext import END_SECTIONS
from demo_bert.errors import DataError, DemoBertError
from demo_bert.hub.remote_files import RemoteFile, data_set
from demo_bert.hub.sources import HubSource

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

_LOG = logging.getLogger(__name__)

WIKIPEDIA = ("wikimedia/wikipedia", "b04c8d1ceb2f5cd4588862100d08de323dccfbaa", "20231101.{}/")
"""Repository, commit, and where the articles of a language lie in it."""
BOOKS = ("emozilla/pg19", None, "data/train-")
"""English alone. No commit is known beforehand: the one that is found is noted in the store."""

_LEAST_LINE_WORDS = 8
_SENTENCE_ENDS = (".", "!", "?", '."', '!"', '?"', ".)", ":")
_HEAD_LINES = 2000


class _NotThereError(DemoBertError):
    """The hub does not have the data set, or does not open it."""


def inputs_of(language: str) -> list[tuple[str, Path]]:
    """What is read where no source was given.

    Args:
        language: A code such as "en".

    Returns:
        Kind and name of each.

    Raises:
        UnreachableError: Nobody answered in time, or requests are forbidden.
        NetworkError: The hub failed, or what answered is not a hub.
        DataError: The hub does not have Wikipedia in this language.
    """
    found: list[tuple[str, Path]] = []
    for repo_id, revision, where in (WIKIPEDIA, BOOKS) if language == "en" else (WIKIPEDIA,):
        try:
            source = data_set(repo_id, revision, refused=_NotThereError)
        except _NotThereError as error:
            if repo_id == WIKIPEDIA[0]:
                raise DataError(f"{error}; give a dump with --wikipedia") from error
            _LOG.warning("%s; books are left out: give them with --books", error)
            continue
        name = f"{repo_id}@{source.revision}/{where.format(language)}"
        files = _files(source, where.format(language))
        if not files:
            raise DataError(f"{name}: the hub has no such files; give a dump with --wikipedia")
        _LOG.info("%s: %.3g GB, licence: %s", name, sum(files.values()) / 1e9, source.licence)
        found.append(("hub", Path(name)))
    return found


def plan(kind: str, path: Path, *, tally: Tally) -> list[Piece]:
    """The pieces of a data set: the row groups of its files.

    Args:
        kind: "hub".
        path: `owner/name@commit/beginning-of-its-files`.
        tally: Not used.

    Returns:
        The pieces, in order.

    Raises:
        DataError: The hub has other files than it had.
        UnreachableError: Nobody answered in time, or requests are forbidden.
        NetworkError: The hub failed.
    """
    del tally
    source, where = _listed(str(path))
    pieces: list[Piece] = []
    for name in _files(source, where):
        file = f"{source.repo_id}@{source.revision}/{name}"
        sizes = packed_sizes(_opened(file), size_bytes=_size_bytes(file))
        pieces += [Piece(kind, file, at, at + 1, size) for at, size in enumerate(sizes)]
    if not pieces:
        raise DataError(f"{path}: the hub has no such files")
    return pieces


def read(piece: Piece, *, tally: Tally) -> Iterator[Paragraphs]:
    """The documents of a row group.

    Args:
        piece: From `plan`.
        tally: Counts rows without text.

    Yields:
        Paragraphs of each document.

    Raises:
        DataError: The file is damaged.
        NetworkError: The hub failed.
    """
    file = _opened(piece.path)
    is_wikipedia = piece.path.startswith(WIKIPEDIA[0])
    for text in texts_of(file, piece, column=column_of(file, piece.path)):
        lines = (text or "").splitlines()
        documents = [_prose(lines)] if is_wikipedia else _book(lines)
        for paragraphs in documents:
            if paragraphs:
                yield paragraphs
            else:
                tally["documents without text"] += 1


def _prose(lines: list[str]) -> Paragraphs:
    """An article's paragraphs without its headings, its items, and the sections at its end."""
    kept: Paragraphs = []
    for raw in lines:
        line = raw.strip()
        if line.lower() in END_SECTIONS:
            break
        if line.endswith(_SENTENCE_ENDS) or line.count(" ") >= _LEAST_LINE_WORDS:
            kept.append(line)
    return kept


def _book(lines: list[str]) -> Iterator[Paragraphs]:
    stripped = [line.strip() for line in lines]
    return one_document("books", iter(stripped), stripped[:_HEAD_LINES])


@lru_cache(maxsize=4)
def _listed(name: str) -> tuple[HubSource, str]:
    """A data set as the hub lists it, and where its files lie."""
    repo_id, _, rest = name.partition("@")
    revision, _, where = rest.partition("/")
    return data_set(repo_id, revision, refused=DataError), where


def _files(source: HubSource, where: str) -> dict[str, int]:
    """Name and size of each Parquet file."""
    return {
        file.path: file.size_bytes or 0
        for file in sorted(source.files, key=lambda one: one.path)
        if file.path.startswith(where) and file.path.endswith(".parquet")
    }


@lru_cache(maxsize=4)
def _opened(name: str) -> "ParquetFile":
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    source, path = _listed_file(name)
    try:
        return ParquetFile(RemoteFile(source, path, size_bytes=_size_bytes(name)))
    except pa.ArrowException as error:
        raise DataError(f"{name}: cannot be read as Parquet ({error})") from error


def _size_bytes(name: str) -> int:
    source, path = _listed_file(name)
    return next(file.size_bytes or 0 for file in source.files if file.path == path)


def _listed_file(name: str) -> tuple[HubSource, str]:
    repo_id, _, rest = name.partition("@")
    revision, _, path = rest.partition("/")
    return _listed(f"{repo_id}@{revision}/")[0], path
