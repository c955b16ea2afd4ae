"""The embedded text: openings of novels in the public domain, as a shard in memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files as resources
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tokenizers import Tokenizer

NAME = "openings of 20 novels (the embedded text)"
SOURCE = "computationalstylistics/100_english_novels, openings"
LICENCE = "public domain"
_HELD_OUT_EVERY = 10


@dataclass(frozen=True)
class MemoryShard:
    """A shard of a token store that is not on disk; see `corpus/store.py`.

    Attributes:
        ids: (tokens,) uint32.
        sentence_ends: (sentences,) uint32.
        document_ends: (documents,) uint32.
        is_held_out: (documents,) bool.
    """

    ids: np.ndarray
    sentence_ends: np.ndarray
    document_ends: np.ndarray
    is_held_out: np.ndarray


def sample_documents() -> list[list[str]]:
    """The embedded documents.

    Returns:
        Sentences of each.
    """
    text = resources(__name__).joinpath("novels.txt").read_text("ascii")
    return [document.splitlines() for document in text.split("\n\n") if document.strip()]


def shard_of_text(documents: Sequence[Sequence[str]], tokenizer: "Tokenizer") -> MemoryShard:
    """Documents as ids; every tenth is held out.

    Args:
        documents: Sentences of each.
        tokenizer: The model's, without truncation.

    Returns:
        The shard; sentences without a piece are left out.
    """
    lengths: list[int] = []
    pieces: list[int] = []
    counts: list[int] = []
    for document in documents:
        encoded = tokenizer.encode_batch(list(document), add_special_tokens=False)
        found = [one.ids for one in encoded if one.ids]
        pieces += [piece for ids in found for piece in ids]
        lengths += map(len, found)
        counts.append(len(found))
    return MemoryShard(
        ids=np.array(pieces, np.uint32),
        sentence_ends=np.cumsum(lengths, dtype=np.uint32),
        document_ends=np.cumsum(counts, dtype=np.uint32),
        is_held_out=np.arange(len(counts)) % _HELD_OUT_EVERY == _HELD_OUT_EVERY - 1,
    )
