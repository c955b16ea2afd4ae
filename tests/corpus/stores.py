"""Small stores for tests."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from demo_bert.corpus.store import id_dtype_of, write_manifest, write_shard

Documents = Sequence[Sequence[Sequence[int]]]
"""Documents of sentences of ids."""

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{n}" for n in range(95))]


def make_store(
    path: Path,
    shards: Sequence[Documents],
    *,
    held_out: Sequence[Sequence[bool]] | None = None,
    vocabulary: Sequence[str] = VOCABULARY,
) -> Path:
    """Writes a store with the given ids."""
    entries = []
    for number, documents in enumerate(shards):
        sentences = [sentence for document in documents for sentence in document]
        flags = held_out[number] if held_out else [False] * len(documents)
        entries.append(
            write_shard(
                path / f"shard-{number:05d}.bin",
                np.array([one for sentence in sentences for one in sentence], np.uint32),
                sentence_ends=np.cumsum([len(sentence) for sentence in sentences], dtype=np.int64),
                document_ends=np.cumsum([len(one) for one in documents], dtype=np.int64),
                is_held_out=np.array(flags, np.bool_),
                id_dtype=id_dtype_of(len(vocabulary)),
            )
        )
    write_manifest(path, entries, vocabulary=vocabulary, facts={})
    return path
