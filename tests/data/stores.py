"""Token stores in memory, of the shape that `corpus/store.py` reads."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from demo_bert.data.masking import Pieces, pieces_of

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{n}" for n in range(995))]
PIECES: Pieces = pieces_of(VOCABULARY)


@dataclass(frozen=True)
class Shard:
    """A shard whose arrays are simply there."""

    ids: np.ndarray
    sentence_ends: np.ndarray
    document_ends: np.ndarray
    is_held_out: np.ndarray


def shard_of(documents: Sequence[Sequence[int]], *, held_out: Sequence[int] = ()) -> Shard:
    """A shard of documents given by the lengths of their sentences; each token has its own id."""
    lengths = [length for document in documents for length in document]
    return Shard(
        ids=(np.arange(sum(lengths)) % 50_000 + 5).astype(np.uint16),
        sentence_ends=np.cumsum(lengths).astype(np.uint32),
        document_ends=np.cumsum([len(document) for document in documents]).astype(np.uint32),
        is_held_out=np.isin(np.arange(len(documents)), held_out),
    )


def drawn_shards(num_shards: int, num_documents: int, *, seed: int = 0) -> list[Shard]:
    """Shards of documents with about 40 sentences of about 25 tokens, ids of the vocabulary."""
    random = np.random.default_rng(seed)
    shards = []
    for _ in range(num_shards):
        documents = [
            np.clip(random.lognormal(3.0, 0.6, 2 + random.geometric(1 / 40)), 1, 120).astype(int)
            for _ in range(num_documents)
        ]
        shard = shard_of(documents, held_out=[0, 7])
        ids = random.integers(5, len(VOCABULARY), len(shard.ids)).astype(np.uint16)
        shards.append(Shard(ids, shard.sentence_ends, shard.document_ends, shard.is_held_out))
    return shards
