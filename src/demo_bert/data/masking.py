"""Which tokens are to be predicted, and what stands in their place: the published rules.

Of each example 15 % of the tokens are chosen, [CLS] and [SEP] never; of these 80 % become [MASK],
10 % a random piece, 10 % stay. Which, is drawn from the example's key alone, so that an example has
the same masks whatever stands beside it in a batch.

Shapes: T tokens, B examples, M masked tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from demo_bert.data.order import as_fractions, drawn
from demo_bert.errors import ModelError

CHOSEN_FRACTION = 0.15
"""Of an example's tokens, those to predict."""
_MASK_FRACTION = 0.8
_RANDOM_FRACTION = 0.1
_PUBLISHED_MOST = {128: 20, 512: 80}
_PLACE_BITS = 16
_ORDER_BITS = 32
_CHOICE, _REPLACEMENT, _PIECE = 0x6D61736B, 0x7265706C, 0x70696563  # keys of the draws
_NUM_PLACES = np.uint64(1 << _PLACE_BITS)


@dataclass(frozen=True)
class Pieces:
    """What masking knows of a vocabulary.

    Attributes:
        size: V.
        cls: Id of [CLS].
        sep: Id of [SEP].
        mask: Id of [MASK].
        goes_on: (V,) bool, the pieces that continue a word.
    """

    size: int
    cls: int
    sep: int
    mask: int
    goes_on: np.ndarray


def pieces_of(vocabulary: Sequence[str]) -> Pieces:
    """What masking knows of a vocabulary.

    Args:
        vocabulary: The entries in the order of their ids.

    Returns:
        Its special ids, and which pieces continue a word.

    Raises:
        ModelError: An entry is missing that pre-training needs.
    """
    missing = [name for name in ("[CLS]", "[SEP]", "[MASK]") if name not in vocabulary]
    if missing:
        raise ModelError(
            f"the vocabulary lacks {', '.join(missing)}, which pre-training needs; use one of a"
            " BERT, or make one with demo_bert prepare vocab"
        )
    return Pieces(
        size=len(vocabulary),
        cls=vocabulary.index("[CLS]"),
        sep=vocabulary.index("[SEP]"),
        mask=vocabulary.index("[MASK]"),
        goes_on=np.array([entry.startswith("##") for entry in vocabulary]),
    )


def most_masked(max_seq_length: int) -> int:
    """Masked tokens of one example, at most.

    Args:
        max_seq_length: Longest example in tokens.

    Returns:
        The published 20 at 128 and 80 at 512, else 15 % of the length, at least 1.

    Example:
        >>> most_masked(128), most_masked(512), most_masked(64)
        (20, 80, 9)
    """
    return _PUBLISHED_MOST.get(max_seq_length, max(1, int(CHOSEN_FRACTION * max_seq_length)))


def num_masked(lengths: np.ndarray, *, max_seq_length: int) -> np.ndarray:
    """Masked tokens of examples.

    Args:
        lengths: (B,) int64 tokens, [CLS] and [SEP] included.
        max_seq_length: Longest example in tokens.

    Returns:
        (B,) int64, at least 1.

    Example:
        >>> num_masked(np.array([4, 60, 128]), max_seq_length=128).tolist()
        [1, 9, 19]
    """
    wanted = np.rint(lengths * CHOSEN_FRACTION).astype(np.int64)
    return np.clip(wanted, 1, most_masked(max_seq_length))


def choose(
    is_candidate: np.ndarray,
    bounds: np.ndarray,
    *,
    keys: np.ndarray,
    counts: np.ndarray,
    goes_on: np.ndarray | None = None,
) -> np.ndarray:
    """The tokens to predict.

    Args:
        is_candidate: (T,) bool, False for [CLS] and [SEP].
        bounds: (B+1,) int64, the first token of each example, and T.
        keys: (B,) uint64, one for each example.
        counts: (B,) int64, how many to choose; no more than there are candidates.
        goes_on: (T,) bool, the tokens that continue a word; None: words are not kept together.

    Returns:
        (M,) int64 ascending places in [0, T). With words kept together an example may have fewer
        than its count: a word that does not fit any more is passed over, as published.
    """
    places = np.flatnonzero(is_candidate)
    owners = np.searchsorted(bounds, places, "right") - 1
    inside = places - bounds[owners]
    assert len(keys) < _NUM_PLACES and inside.max(initial=0) < _NUM_PLACES
    if goes_on is not None:
        # All pieces of a word draw with the word's first; a word begins anew after [SEP].
        is_first = ~goes_on[places]
        is_first |= np.diff(places, prepend=-2) > 1
        word = np.cumsum(is_first) - 1
        inside_word = inside[is_first][word]
        return places[_whole_words(owners, inside_word, word, keys=keys, counts=counts)]
    order = drawn(keys[owners] + inside.astype(np.uint64), key=_CHOICE) >> np.uint64(_ORDER_BITS)
    packed = owners.astype(np.uint64) << np.uint64(_PLACE_BITS + _ORDER_BITS)
    packed |= order << np.uint64(_PLACE_BITS)
    packed |= inside.astype(np.uint64)
    packed.sort()
    sizes = np.bincount(owners, minlength=len(keys))
    first = np.concatenate([[0], np.cumsum(sizes)])
    rank = np.arange(len(packed)) - np.repeat(first[:-1], sizes)
    chosen = rank < np.repeat(counts, sizes)
    taken = (packed[chosen] & (_NUM_PLACES - np.uint64(1))).astype(np.int64)
    found = taken + bounds[:-1][np.repeat(np.arange(len(keys)), np.minimum(counts, sizes))]
    found.sort()
    return found


def replace(
    ids: np.ndarray, chosen: np.ndarray, bounds: np.ndarray, *, keys: np.ndarray, pieces: Pieces
) -> np.ndarray:
    """What the model sees in place of the chosen tokens.

    Args:
        ids: (T,) int64, changed in place.
        chosen: (M,) int64 places.
        bounds: (B+1,) int64, the first token of each example, and T.
        keys: (B,) uint64, one for each example.
        pieces: Of the vocabulary.

    Returns:
        (M,) int64, the ids that stood there: what is to be predicted.
    """
    owners = np.searchsorted(bounds, chosen, "right") - 1
    counters = keys[owners] + (chosen - bounds[owners]).astype(np.uint64)
    labels: np.ndarray = ids[chosen]
    fractions = as_fractions(drawn(counters, key=_REPLACEMENT))
    others = (as_fractions(drawn(counters, key=_PIECE)) * pieces.size).astype(np.int64)
    seen = np.where(fractions < _MASK_FRACTION, pieces.mask, labels)
    is_other = fractions >= 1 - _RANDOM_FRACTION
    ids[chosen] = np.where(is_other, others, seen)
    return labels


def _whole_words(
    owners: np.ndarray,
    inside: np.ndarray,
    word: np.ndarray,
    *,
    keys: np.ndarray,
    counts: np.ndarray,
) -> np.ndarray:
    """Indices of the candidates in chosen words: words in a random order, while they fit."""
    num_words = int(word[-1]) + 1 if len(word) else 0
    sizes = np.bincount(word, minlength=num_words)
    first = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    owner = owners[first]
    order = drawn(keys[owner] + inside[first].astype(np.uint64), key=_CHOICE)
    queue = np.lexsort((order, owner))
    left = counts.copy()
    is_chosen = np.zeros(num_words, bool)
    while len(queue):
        queue = queue[sizes[queue] <= left[owner[queue]]]  # what does not fit now never will
        if not len(queue):
            break
        total = np.cumsum(sizes[queue])
        begins = np.flatnonzero(np.diff(owner[queue], prepend=-1))
        before = np.repeat(total[begins] - sizes[queue][begins], np.diff(begins, append=len(queue)))
        fits = total - before <= left[owner[queue]]
        taken = queue[fits]
        is_chosen[taken] = True
        np.subtract.at(left, owner[taken], sizes[taken])
        queue = queue[~fits]
    return np.flatnonzero(is_chosen[word])
