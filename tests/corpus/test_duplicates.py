"""Signatures estimate similarity; near duplicates are found and the first stays."""

import random

import numpy as np
import pytest

from demo_bert.corpus.duplicates import drop_near, near_pairs
from demo_bert.corpus.fingerprints import NUM_HASHES, Signatures, text_hash

VOCABULARY = ["[PAD]", "[UNK]", ".", ",", *(f"w{n}" for n in range(3000)), "##s"]
SIGNATURES = Signatures(VOCABULARY)


def grams(ids: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(ids[at : at + 5]) for at in range(len(ids) - 4)}


def changed(ids: np.ndarray, share: float, draw: random.Random) -> np.ndarray:
    """The text with that share of its words, one after the other, replaced."""
    copy = ids.copy()
    count = int(share * len(ids))
    copy[:count] = [draw.randrange(4, 3000) for _ in range(count)]
    return copy


@pytest.mark.parametrize("share", [0.0, 0.05, 0.11, 0.3, 1.0])
def test_a_signature_estimates_the_similarity_of_word_5_grams(share: float) -> None:
    draw = random.Random(7)
    errors = []
    for _ in range(40):
        first = np.array([draw.randrange(4, 3000) for _ in range(300)])
        second = changed(first, share, draw)
        one, other = grams(first), grams(second)
        estimate = (SIGNATURES(first) == SIGNATURES(second)).mean()
        errors.append(estimate - len(one & other) / len(one | other))
    # The deviation of one estimate is at most 0.5 / sqrt(126) = 0.045, of the mean of 40 0.007.
    assert abs(np.mean(errors)) < 0.025
    assert np.std(errors) < 0.07


def test_punctuation_does_not_count_and_pieces_of_a_word_are_one() -> None:
    ids = np.arange(4, 40)
    assert (SIGNATURES(ids) == SIGNATURES(np.insert(ids, [3, 9], [2, 3]))).all()
    plural = np.insert(ids, 5, VOCABULARY.index("##s"))
    assert (SIGNATURES(ids) != SIGNATURES(plural)).any()


def test_short_and_empty_texts_have_a_signature() -> None:
    assert SIGNATURES(np.array([5, 6])).shape == (NUM_HASHES,)
    assert (SIGNATURES(np.array([2, 3])) == SIGNATURES(np.array([3]))).all()


def test_near_duplicates_are_found_across_tables_and_others_are_not() -> None:
    draw = random.Random(1)
    texts = [np.array([draw.randrange(4, 3000) for _ in range(400)]) for _ in range(60)]
    texts += [changed(texts[3], 0.02, draw), changed(texts[50], 0.04, draw)]
    texts += [changed(texts[4], 0.5, draw)]
    table = np.stack([SIGNATURES(text) for text in texts])
    pairs = near_pairs([table[:10], table[:0], table[10:]])
    assert pairs.tolist() == [[3, 60], [50, 61]]


def test_many_copies_all_go_but_the_first() -> None:
    draw = random.Random(2)
    text = np.array([draw.randrange(4, 3000) for _ in range(100)])
    other = np.array([draw.randrange(4, 3000) for _ in range(100)])
    table = np.stack([SIGNATURES(other), *[SIGNATURES(text)] * 50])
    is_dropped = drop_near(near_pairs([table]), np.arange(51))
    assert np.flatnonzero(~is_dropped).tolist() == [0, 1]


def test_of_a_chain_the_lower_rank_stays_and_what_is_dropped_drops_nothing() -> None:
    pairs = np.array([[0, 1], [1, 2]])
    assert drop_near(pairs, np.array([0, 1, 2])).tolist() == [False, True, False]
    assert drop_near(pairs, np.array([1, 0, 2])).tolist() == [True, False, True]


def test_no_texts_have_no_near_duplicates() -> None:
    assert near_pairs([np.empty((0, NUM_HASHES), np.uint32)]).shape == (0, 2)


def test_the_hash_of_a_text_is_that_of_its_words_in_order() -> None:
    words = np.array([5, 1 << 63, 7], np.uint64)
    assert text_hash(words) == text_hash(words.copy())
    assert text_hash(words) != text_hash(words[::-1])
    assert text_hash(words) != text_hash(words[:2])


def test_the_least_of_the_parts_of_a_text_is_that_of_the_whole() -> None:
    draw = random.Random(5)
    ids = np.array([draw.randrange(4, 3000) for _ in range(900)])
    parts = [SIGNATURES.lowest(ids[at : at + 300]) for at in range(0, 900, 300)]
    agreeing = SIGNATURES(ids) == SIGNATURES.filled(np.stack(parts).min(axis=0))
    assert agreeing.mean() > 0.95, "only grams that cross from part to part are missing"
