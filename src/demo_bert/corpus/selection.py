"""Which documents of the parts a store has, which are held out, and where long ones are cut.

Held out is what has a small hash, so a document stays held out when others are added. Where that
gives fewer than 200 sentences, blocks of 200 sentences are chosen by their hashes instead: a
held-out block is a document of its own, and so is what stands between two of them. Where no block
has a hash small enough either, the one with the smallest is held out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from demo_bert.corpus.duplicates import drop_near, near_pairs
from demo_bert.corpus.parts import BLOCK_SENTENCES, read_column

HELD_OUT_FRACTION = 0.005
LEAST_HELD_OUT_SENTENCES = 200

SEGMENT = np.dtype(
    [
        ("part", "<u4"),
        ("sentence", "<i8"),
        ("token", "<i8"),
        ("sentences", "<u4"),
        ("tokens", "<u4"),
        ("held_out", "?"),
    ]
)
"""A document of the store: its part, first sentence and token there, its size, and its flag."""

_THRESHOLD = np.uint64(int(HELD_OUT_FRACTION * 2**64))


@dataclass(frozen=True)
class Selection:
    """What a store is put together of."""

    segments: np.ndarray
    """SEGMENT, in the order of the sources."""
    held_out_rule: str
    """"documents", "blocks" or "smallest"."""
    exact_duplicates: int
    near_duplicates: int
    near_held_out: int
    """Blocks of training text that were dropped for being near a held-out one."""


@dataclass(frozen=True)
class _Texts:
    """Documents, or blocks of them: what is held out or dropped as one."""

    rows: np.ndarray
    """SEGMENT; held_out is not set."""
    hashes: np.ndarray
    signatures: list[np.ndarray]
    """Tables with a row for each text, one for each part; empty where there are none."""


def select(parts: Sequence[Path], *, dedupe: str) -> Selection:
    """Chooses the documents of a store.

    Args:
        parts: Directories of finished parts, in order.
        dedupe: "exact", "near" or "off".

    Returns:
        The selection, which depends on the parts' content alone.
    """
    texts = _documents(parts, has_signatures=dedupe == "near")
    num_all = len(texts.rows)
    is_kept = np.ones(num_all, np.bool_)
    if dedupe != "off":
        is_kept[:] = False
        is_kept[np.unique(texts.hashes, return_index=True)[1]] = True
    num_exact = num_all - int(is_kept.sum())
    is_held_out = (texts.hashes < _THRESHOLD) & is_kept
    if texts.rows["sentences"][is_held_out].sum() >= LEAST_HELD_OUT_SENTENCES:
        is_near = _near(texts, is_kept, is_held_out)
        return Selection(
            _flagged(texts, is_held_out)[is_kept & ~is_near],
            held_out_rule="documents",
            exact_duplicates=num_exact,
            near_duplicates=int(is_near.sum()),
            near_held_out=0,
        )
    is_near = _near(texts, is_kept, np.zeros(num_all, np.bool_))
    rows, rule, num_near_held_out = _by_blocks(parts, texts, is_kept & ~is_near, dedupe=dedupe)
    return Selection(
        rows,
        held_out_rule=rule,
        exact_duplicates=num_exact,
        near_duplicates=int(is_near.sum()),
        near_held_out=num_near_held_out,
    )


def _documents(parts: Sequence[Path], *, has_signatures: bool) -> _Texts:
    rows: list[np.ndarray] = []
    hashes: list[np.ndarray] = []
    for number, part in enumerate(parts):
        documents = read_column(part, "documents")
        found = np.zeros(len(documents), SEGMENT)
        found["part"] = number
        for place, size in (("sentence", "sentences"), ("token", "tokens")):
            found[size] = documents[size]
            found[place] = np.cumsum(documents[size], dtype=np.int64) - documents[size]
        rows.append(found)
        hashes.append(np.asarray(documents["hash"]))
    tables = [read_column(part, "signatures") for part in parts] if has_signatures else []
    return _Texts(np.concatenate(rows), np.concatenate(hashes), tables)


def _blocks(
    parts: Sequence[Path], texts: _Texts, *, has_signatures: bool
) -> tuple[_Texts, np.ndarray]:
    """The blocks of all documents, and the number of each block's document."""
    rows: list[np.ndarray] = []
    hashes: list[np.ndarray] = []
    tables: list[np.ndarray] = []
    owners: list[np.ndarray] = []
    counts = -(-texts.rows["sentences"].astype(np.int64) // BLOCK_SENTENCES)
    for number, part in enumerate(parts):
        here = np.flatnonzero(texts.rows["part"] == number)
        repeated = np.repeat(here, counts[here])
        is_long = counts[repeated] > 1
        value = texts.hashes[repeated]
        value[is_long] = read_column(part, "blocks")
        rows.append(_block_rows(part, texts.rows[here], counts[here]))
        hashes.append(value)
        owners.append(repeated)
        if has_signatures and len(here):
            table = read_column(part, "signatures")[repeated - here[0]]
            table[is_long] = read_column(part, "block_signatures")
            tables.append(table)
    blocks = _Texts(np.concatenate(rows), np.concatenate(hashes), tables)
    return blocks, np.concatenate(owners)


def _block_rows(part: Path, documents: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """SEGMENT for each block of a part's documents, which have `counts` of them."""
    found = np.repeat(documents, counts)
    place = np.arange(len(found)) - np.repeat(np.cumsum(counts) - counts, counts)
    found["sentence"] += place * BLOCK_SENTENCES
    found["sentences"] = np.minimum(found["sentences"] - place * BLOCK_SENTENCES, BLOCK_SENTENCES)
    ends = np.cumsum(read_column(part, "sentences"), dtype=np.int64)
    starts = np.concatenate(([0], ends))
    found["token"] = starts[found["sentence"]]
    found["tokens"] = starts[found["sentence"] + found["sentences"]] - found["token"]
    return found


def _near(texts: _Texts, is_kept: np.ndarray, is_held_out: np.ndarray) -> np.ndarray:
    """Texts that are dropped for a near one; a held-out one stays before any other."""
    if not texts.signatures:
        return np.zeros(len(is_kept), np.bool_)
    pairs = near_pairs(texts.signatures)
    pairs = pairs[is_kept[pairs].all(axis=1)]
    ranks = np.arange(len(is_kept)) + len(is_kept) * ~is_held_out
    return drop_near(pairs, ranks)


def _by_blocks(
    parts: Sequence[Path], texts: _Texts, is_kept: np.ndarray, *, dedupe: str
) -> tuple[np.ndarray, str, int]:
    """Segments where blocks are held out, the rule, and blocks dropped for being near to one."""
    blocks, owners = _blocks(parts, texts, has_signatures=dedupe == "near")
    is_here = is_kept[owners]
    is_held_out = (blocks.hashes < _THRESHOLD) & is_here
    rule = "blocks"
    if not is_held_out.any() and is_here.sum() > 1:
        rule = "smallest"
        candidates = np.flatnonzero(is_here)
        is_held_out[candidates[np.argmin(blocks.hashes[candidates])]] = True
    if blocks.signatures and is_held_out.any():
        pairs = near_pairs(blocks.signatures)
        pairs = pairs[is_here[pairs].all(axis=1) & is_held_out[pairs].any(axis=1)]
        ranks = np.arange(len(is_here)) + len(is_here) * ~is_held_out
        is_dropped = drop_near(pairs, ranks)
    else:
        is_dropped = np.zeros(len(is_here), np.bool_)
    if dedupe != "off":
        # The same text may stand in two documents that differ elsewhere.
        held = np.unique(blocks.hashes[is_held_out & is_here])
        is_dropped |= is_here & ~is_held_out & np.isin(blocks.hashes, held)
    rows = _flagged(blocks, is_held_out)[is_here & ~is_dropped]
    return _rejoined(rows, owners[is_here & ~is_dropped]), rule, int(is_dropped.sum())


def _rejoined(rows: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Training blocks that follow each other in a document become one segment again."""
    if not len(rows):
        return rows
    follows = (
        (owners[1:] == owners[:-1])
        & ~rows["held_out"][1:]
        & ~rows["held_out"][:-1]
        & (rows["sentence"][1:] == rows["sentence"][:-1] + rows["sentences"][:-1])
    )
    starts = np.flatnonzero(np.concatenate(([True], ~follows)))
    joined = rows[starts].copy()
    for size in ("sentences", "tokens"):
        joined[size] = np.add.reduceat(rows[size], starts)
    return joined


def _flagged(texts: _Texts, is_held_out: np.ndarray) -> np.ndarray:
    rows = texts.rows.copy()
    rows["held_out"] = is_held_out
    return rows
