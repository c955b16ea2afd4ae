"""Re-reads a token store, every byte, and says where it is not what was written."""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from demo_bert.corpus.store import CHECKED_BYTES, Shard, TokenStore, checksums, vocabulary_sha256
from demo_bert.errors import DataError


def verify(
    store: TokenStore, vocabulary: Sequence[str], *, report: Callable[[int, int], None]
) -> None:
    """Checks hashes and that ids and ends are possible.

    Args:
        store: The store.
        vocabulary: The entries of its vocab.txt.
        report: Told the number of checked shards and of all.

    Raises:
        DataError: The first shard that is not as written, and the first byte, or mebibyte, of it
            that differs.
    """
    if vocabulary_sha256(vocabulary) != store.vocabulary_sha256:
        raise DataError(
            f"{store.vocabulary_path}: is not the vocabulary of this store; copy it again"
        )
    for number, shard in enumerate(store.shards):
        _check_content(shard)
        _check_values(shard, vocab_size=len(vocabulary))
        report(number + 1, len(store.shards))


def _check_content(shard: Shard) -> None:
    try:
        content = shard.path.read_bytes()
    except OSError as error:
        raise DataError(f"{shard.path}: cannot be read ({error.strerror})") from error
    found = checksums(content)
    for place, (is_now, was) in enumerate(zip(found, shard.entry.crc32, strict=False)):
        if is_now != was:
            begin = place * CHECKED_BYTES
            end = min(begin + CHECKED_BYTES, len(content)) - 1
            raise DataError(
                f"{shard.path}: differs from what was written at byte {begin} or after it, up to"
                f" byte {end}; copy the shard again, or prepare the store again"
            )
    if hashlib.sha256(content).hexdigest() != shard.entry.sha256:
        raise DataError(
            f"{shard.path}: differs from what was written at byte 0 or after it (SHA-256); copy the"
            " shard again, or prepare the store again"
        )


def _check_values(shard: Shard, *, vocab_size: int) -> None:
    """What a damaged manifest, or a program with a mistake, would leave."""
    entry = shard.entry
    ids_begin = 4 * (entry.sentences + entry.documents)
    columns = (
        ("sentence end", shard.sentence_ends, 0, entry.tokens),
        ("document end", shard.document_ends, 4 * entry.sentences, entry.sentences),
    )
    for name, ends, begin, total in columns:
        steps = np.diff(ends.astype(np.int64), prepend=0)
        wrong = np.flatnonzero(steps <= 0)
        place = int(wrong[0]) if len(wrong) else len(ends) - 1
        if len(wrong) or (len(ends) and ends[-1] != total):
            raise DataError(
                f"{shard.path}: {name} {place} at byte {begin + 4 * place} is {ends[place]}, which"
                " cannot be; prepare the store again"
            )
    if len(shard.ids) and shard.ids.max() >= vocab_size:
        place = int(np.argmax(shard.ids >= vocab_size))
        raise DataError(
            f"{shard.path}: id {place} at byte {ids_begin + shard.ids.itemsize * place} is"
            f" {shard.ids[place]}, and the vocabulary has {vocab_size} entries; prepare the store"
            " again"
        )
