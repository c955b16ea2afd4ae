"""Shards of a store, put together from parts."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from demo_bert.corpus.parts import read_column
from demo_bert.corpus.store import ShardEntry, write_shard
from demo_bert.files import sha256_of, write_text

SHARD_TOKENS = 1 << 24
"""Tokens after which the next document begins a new shard."""


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
    path: Path, segments: np.ndarray, *, parts: Sequence[Path], id_dtype: str, record: Path
) -> ShardEntry:
    """Makes a shard, or keeps one that is there and whole.

    Args:
        path: The shard's file.
        segments: `selection.SEGMENT`: its documents.
        parts: Directories of the parts, in order.
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
        part = parts[int(run["part"][0])]
        for column, begin, size, kept in (
            ("ids", "token", "tokens", ids),
            ("sentences", "sentence", "sentences", lengths),
        ):
            first = int(run[begin][0])
            count = int(run[size].sum(dtype=np.int64))
            values = read_column(part, column, id_dtype=id_dtype)
            kept.append(np.array(values[first : first + count]))
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


def _finished(path: Path, record: Path) -> ShardEntry | None:
    try:
        entry = ShardEntry(**json.loads(record.read_text("utf-8")))
        return entry if sha256_of(path) == entry.sha256 else None
    except (OSError, ValueError, TypeError):
        return None
