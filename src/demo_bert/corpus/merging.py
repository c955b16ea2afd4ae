"""Several token stores to one."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from demo_bert.corpus.assembly import ShardOrigin, make_shard, shard_limits
from demo_bert.corpus.document import Tally
from demo_bert.corpus.duplicates import drop_near, near_pairs
from demo_bert.corpus.fingerprints import NUM_HASHES, Signatures
from demo_bert.corpus.selection import SEGMENT
from demo_bert.corpus.store import Shard, TokenStore, open_store, write_manifest
from demo_bert.corpus.workplace import Workplace
from demo_bert.errors import DataError, RunDirectoryError

_MUST_AGREE = ("id_dtype", "language", "splitter")


def merge(
    stores: Sequence[TokenStore],
    path: Path,
    *,
    vocabulary: Sequence[str],
    dedupe: str,
    command: str,
) -> TokenStore:
    """Writes a store with the documents of several, in order.

    Args:
        stores: With the same vocabulary, rules and splitter.
        path: Directory of the new store.
        vocabulary: The entries of their vocabulary.
        dedupe: "exact", "near" or "off", across the stores; by ids instead of text.
        command: For the manifest.

    Returns:
        The new store.

    Raises:
        DataError: The stores do not belong together.
        RunDirectoryError: There is a store already, or something else.
        DiskError: It cannot be written.
    """
    _refuse_others(stores)
    place = Workplace(path)
    if place.is_finished:
        raise RunDirectoryError(f"-o {path}: holds a finished store; give another directory")
    shards = [shard for store in stores for shard in store.shards]
    with place.locked():
        place.begin({"merge": [str(store.path.resolve()) for store in stores], "dedupe": dedupe})
        rows = np.concatenate([np.empty(0, SEGMENT), *map(_rows, shards, range(len(shards)))])
        is_kept, dropped = _kept(place, shards, rows, vocabulary=vocabulary, dedupe=dedupe)
        kept = rows[is_kept]
        limits = shard_limits(kept["tokens"])
        entries = [
            make_shard(
                place.shard(number),
                kept[begin:end],
                origins=[ShardOrigin(shard) for shard in shards],
                id_dtype=stores[0].manifest["id_dtype"],
                record=place.shard_record(number),
            )
            for number, (begin, end) in enumerate(zip(limits, limits[1:], strict=False))
        ]
        facts = _facts(stores, kept, dropped=dropped, command=command, dedupe=dedupe)
        write_manifest(path, entries, vocabulary=vocabulary, facts=facts)
        place.clear()
    return open_store(path)


def _refuse_others(stores: Sequence[TokenStore]) -> None:
    first = stores[0]
    for other in stores[1:]:
        if other.manifest["vocabulary"] != first.manifest["vocabulary"]:
            raise DataError(
                f"{other.path}: its vocabulary or case rules are not those of {first.path}; prepare"
                " both with the same --vocab"
            )
        for name in _MUST_AGREE:
            if other.manifest.get(name) != first.manifest.get(name):
                raise DataError(
                    f"{other.path}: its {name} is {other.manifest.get(name)}, that of {first.path}"
                    f" {first.manifest.get(name)}; prepare both alike"
                )


def _rows(shard: Shard, number: int) -> np.ndarray:
    """SEGMENT for each document of a shard."""
    rows = np.zeros(len(shard.document_ends), SEGMENT)
    sentences = np.concatenate(([0], shard.document_ends.astype(np.int64)))
    tokens = np.concatenate(([0], shard.sentence_ends.astype(np.int64)))[sentences]
    rows["part"] = number
    rows["sentence"], rows["sentences"] = sentences[:-1], np.diff(sentences)
    rows["token"], rows["tokens"] = tokens[:-1], np.diff(tokens)
    rows["held_out"] = shard.is_held_out
    return rows


def _kept(
    place: Workplace,
    shards: Sequence[Shard],
    rows: np.ndarray,
    *,
    vocabulary: Sequence[str],
    dedupe: str,
) -> tuple[np.ndarray, dict[str, int]]:
    """Which documents stay: held-out ones before others, then the first."""
    ranks = np.arange(len(rows)) + len(rows) * ~rows["held_out"]
    is_kept = np.ones(len(rows), np.bool_)
    if dedupe != "off":
        hashes = np.array([_hash(_ids(shards, row)) for row in rows], np.uint64)
        order = np.argsort(ranks)
        is_kept[:] = False
        is_kept[order[np.unique(hashes[order], return_index=True)[1]]] = True
    num_exact = len(rows) - int(is_kept.sum())
    if dedupe == "near" and len(rows):
        path = place.work / "signatures"
        table = np.memmap(path, dtype="<u4", mode="w+", shape=(len(rows), NUM_HASHES))
        signature_of = Signatures(vocabulary)
        for number, row in enumerate(rows):
            table[number] = signature_of(_ids(shards, row))
        pairs = near_pairs([table.view(np.ndarray)])
        pairs = pairs[is_kept[pairs].all(axis=1)]
        is_kept &= ~drop_near(pairs, ranks)
    num_near = len(rows) - num_exact - int(is_kept.sum())
    return is_kept, {"exact_duplicates": num_exact, "near_duplicates": num_near}


def _ids(shards: Sequence[Shard], row: np.ndarray) -> np.ndarray:
    begin = int(row["token"])
    return shards[int(row["part"])].ids[begin : begin + int(row["tokens"])]


def _hash(ids: np.ndarray) -> int:
    return int.from_bytes(hashlib.blake2b(ids.tobytes(), digest_size=8).digest(), "little")


def _facts(
    stores: Sequence[TokenStore],
    kept: np.ndarray,
    *,
    dropped: dict[str, int],
    command: str,
    dedupe: str,
) -> dict[str, Any]:
    """What the manifest says; sources and counts of reading are those of the stores."""
    manifests = [store.manifest for store in stores]
    tally: Tally = Counter()
    lost: Counter[str] = Counter(dropped)
    for one in manifests:
        tally.update(one.get("tally", {}))
        lost.update(one.get("dropped", {}))
    held_out = kept[kept["held_out"]]
    tokens = sum(store.num_tokens for store in stores)
    unknown = sum(one.get("unknown_fraction", 0.0) * one["tokens"] for one in manifests)
    rules = sorted({one["held_out"]["rule"] for one in manifests if "held_out" in one})
    return {
        **{name: manifests[0].get(name) for name in ("versions", "language", "splitter")},
        "vocabulary": manifests[0]["vocabulary"],
        "dedupe": dedupe,
        "sources": [source for one in manifests for source in one.get("sources", [])],
        "unknown_fraction": unknown / max(tokens, 1),
        "held_out": {
            "rule": "+".join(rules),
            "fraction": max((one["held_out"]["fraction"] for one in manifests), default=0.0),
            "documents": len(held_out),
            "sentences": int(held_out["sentences"].sum(dtype=np.int64)),
            "tokens": int(held_out["tokens"].sum(dtype=np.int64)),
        },
        "dropped": dict(lost),
        "tally": dict(sorted(tally.items())),
        "command": command,
    }
