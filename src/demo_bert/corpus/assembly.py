"""Shards of a store, put together from parts."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from demo_bert.corpus.parts import read_column
from demo_bert.corpus.store import Shard, ShardEntry, write_shard
from demo_bert.files import sha256_of, write_text

SHARD_TOKENS = 1 << 24
"""Tokens after which the next document begins a new shard."""


class Origin(Protocol):
    """Where documents are copied from."""

    def ids(self, begin: int, count: int) -> np.ndarray:
        """So many ids."""
        ...

    def lengths(self, begin: int, count: int) -> np.ndarray:
        """Tokens of so many sentences."""
        ...


@dataclass(frozen=True)
class PartOrigin:
    """A finished part."""

    directory: Path
    id_dtype: str

    def ids(self, begin: int, count: int) -> np.ndarray:
        """See `Origin`."""
        return read_column(self.directory, "ids", id_dtype=self.id_dtype)[begin : begin + count]

    def lengths(self, begin: int, count: int) -> np.ndarray:
        """See `Origin`."""
        return read_column(self.directory, "sentences")[begin : begin + count]


@dataclass(frozen=True)
class ShardOrigin:
    """A shard of another store."""

    shard: Shard

    def ids(self, begin: int, count: int) -> np.ndarray:
        """See `Origin`."""
        return self.shard.ids[begin : begin + count]

    def lengths(self, begin: int, count: int) -> np.ndarray:
        """See `Origin`."""
        before = int(self.shard.sentence_ends[begin - 1]) if begin else 0
        ends = self.shard.sentence_ends[begin : begin + count].astype(np.int64)
        return np.diff(ends, prepend=before)


def shard_limits(tokens: np.ndarray, *, shard_tokens: int = SHARD_TOKENS) -> list[int]:
    """Where shards begin.

    Args:
        tokens: Of each document, in order.
        shard_tokens: As SHARD_TOKENS.

    Returns:
        The first document of each shard, and the number of documents.

    Example:
        >>> shard_limits(np.array([3, 3, 3, 9, 1]), shard_tokens=5)
        [0, 2, 4, 5]
    """
    before = np.cumsum(tokens, dtype=np.int64) - tokens
    shards = before // shard_tokens
    starts = np.flatnonzero(np.diff(shards, prepend=-1) > 0)
    return [*map(int, starts), len(tokens)]


def make_shard(
    path: Path, segments: np.ndarray, *, origins: Sequence[Origin], id_dtype: str, record: Path
) -> ShardEntry:
    """Makes a shard, or keeps one that is there and whole.

    Args:
        path: The shard's file.
        segments: `selection.SEGMENT`: its documents; `part` is the number of the origin.
        origins: What they are copied from, in order.
        id_dtype: Type of the ids.
        record: A file that says what the finished shard has.

    Returns:
        Its line for the manifest.

    Raises:
        DiskError: It cannot be written.
    """
    entry = _finished(path, record)
    if entry is not None:
        return entry
    ids: list[np.ndarray] = []
    lengths: list[np.ndarray] = []
    # Documents that follow each other in a part are copied at once.
    is_new = np.ones(len(segments), np.bool_)
    is_new[1:] = (segments["part"][1:] != segments["part"][:-1]) | (
        segments["token"][1:] != segments["token"][:-1] + segments["tokens"][:-1]
    )
    for run in np.split(segments, np.flatnonzero(is_new)[1:]):
        origin = origins[int(run["part"][0])]
        num_tokens = int(run["tokens"].sum(dtype=np.int64))
        num_sentences = int(run["sentences"].sum(dtype=np.int64))
        ids.append(np.array(origin.ids(int(run["token"][0]), num_tokens)))
        lengths.append(np.array(origin.lengths(int(run["sentence"][0]), num_sentences)))
    entry = write_shard(
        path,
        np.concatenate(ids),
        sentence_ends=np.cumsum(np.concatenate(lengths), dtype=np.int64),
        document_ends=np.cumsum(segments["sentences"], dtype=np.int64),
        is_held_out=segments["held_out"],
        id_dtype=np.dtype(id_dtype),
    )
    write_text(record, json.dumps(asdict(entry)) + "\n")
    return entry


def noted_shard(record: Path) -> ShardEntry:
    """The line of a shard that was found or made whole, without reading it again.

    Args:
        record: As `make_shard` was given it.

    Returns:
        The line.

    Raises:
        OSError: It cannot be read.
        ValueError: It is damaged.
    """
    return ShardEntry(**json.loads(record.read_text("utf-8")))


def _finished(path: Path, record: Path) -> ShardEntry | None:
    try:
        entry = noted_shard(record)
        return entry if sha256_of(path) == entry.sha256 else None
    except (OSError, ValueError, TypeError, KeyError):
        return None
