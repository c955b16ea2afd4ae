"""Pairs of segments: by the published rules, by arithmetic alone, nothing left out."""

import random
from typing import Any

import numpy as np
import pytest

from data.stores import Shard, drawn_shards, shard_of
from demo_bert.data.pairs import NUM_SPECIAL, Pairs, PairSource
from demo_bert.errors import DataError

SHARDS = drawn_shards(3, 300)


def source(shards: list[Shard] | None = None, **options: Any) -> PairSource:
    return PairSource(shards or SHARDS, **({"max_seq_length": 128, "seed": 1} | options))


def everything(found: PairSource, epoch: int = 0) -> Pairs:
    return found.pairs(epoch, np.arange(len(found)))


def sentence_starts(shard: Shard) -> np.ndarray:
    return np.concatenate([[0], shard.sentence_ends[:-1]]).astype(int)


def document_of(shard: Shard, tokens: np.ndarray) -> np.ndarray:
    sentences = np.searchsorted(shard.sentence_ends, tokens, "right")
    return np.searchsorted(shard.document_ends, sentences, "right")


def same(one: Pairs, other: Pairs) -> bool:
    names = ("shards", "starts", "lengths", "is_random", "keys")
    return all(np.array_equal(getattr(one, n), getattr(other, n)) for n in names)


def test_an_example_is_the_same_alone_in_any_company_and_from_a_new_source() -> None:
    whole = everything(source())
    rows = np.random.default_rng(0).integers(0, len(whole), 50)
    some = source().pairs(0, rows)
    assert np.array_equal(some.starts, whole.starts[rows])
    assert np.array_equal(some.keys, whole.keys[rows])
    for place in (0, 17):
        assert same(source().pairs(0, rows[place : place + 1]), some[place : place + 1])


@pytest.mark.parametrize("options", [{"seed": 2}, {}], ids=["another seed", "another epoch"])
def test_another_seed_or_epoch_makes_other_pairs(options: dict[str, int]) -> None:
    epoch = 0 if options else 1
    one, other = everything(source()), everything(source(**options), epoch)
    assert np.mean((one.starts == other.starts).all(1)) < 0.05


def test_every_segment_lies_inside_one_document_for_training() -> None:
    pairs = everything(source())
    assert pairs.lengths.min() >= 1
    assert pairs.num_tokens.max() == 128
    for number, shard in enumerate(SHARDS):
        starts = pairs.starts[pairs.shards == number]
        ends = starts + pairs.lengths[pairs.shards == number]
        first, last = document_of(shard, starts), document_of(shard, ends - 1)
        assert np.array_equal(first, last)
        assert not shard.is_held_out[first].any()


def test_true_pairs_go_on_and_random_ones_come_from_another_document() -> None:
    pairs = everything(source())
    is_true = ~pairs.is_random
    assert np.array_equal(
        pairs.starts[is_true, 0] + pairs.lengths[is_true, 0], pairs.starts[is_true, 1]
    )
    for number, shard in enumerate(SHARDS):
        beside = pairs.is_random & (pairs.shards == number).all(1)
        documents = document_of(shard, pairs.starts[beside])
        assert (documents[:, 0] != documents[:, 1]).all()


def test_segments_begin_where_sentences_do() -> None:
    pairs = everything(source())
    for number, shard in enumerate(SHARDS):
        starts = pairs.starts[pairs.shards == number]
        # But for the end of a document (one in eight chunks here) whose last cell starts none.
        assert np.isin(starts, sentence_starts(shard)).mean() > 0.97


def test_half_of_the_pairs_are_random() -> None:
    # Exactly half of the whole ones; a chunk of one sentence at the end of a document has nothing
    # that follows, and is random as published.
    assert everything(source()).is_random.mean() == pytest.approx(0.5, abs=0.03)


def test_a_tenth_is_shorter_evenly_spread() -> None:
    documents = [[10] * 400 for _ in range(60)]
    found = source([shard_of(documents)])
    pairs = everything(found)
    num_short = round(len(found) * 0.1)
    whole, short = pairs[: len(pairs) - num_short], pairs[len(pairs) - num_short :]
    # Documents end in shorter pairs: one chunk of 32 of the true ones, and random ones likewise.
    assert (whole.num_tokens == 128).mean() > 0.93
    fractions = (short.num_tokens - NUM_SPECIAL) / 125
    assert (fractions < 1).mean() > 0.95
    # A true one ends with its chunk at the latest: a little shorter than even.
    assert fractions.mean() == pytest.approx(0.5, abs=0.08)
    assert np.quantile(fractions, [0.1, 0.9]) == pytest.approx([0.1, 0.85], abs=0.07)


def uses(shard: Shard, pairs: Pairs, number: int) -> np.ndarray:
    """How often each sentence is, at least in part, a first segment or a true continuation."""
    mine = pairs.shards[:, 0] == number
    begins = pairs.starts[mine, 0]
    ends = (
        begins + pairs.lengths[mine, 0] + np.where(pairs.is_random[mine], 0, pairs.lengths[mine, 1])
    )
    changes = np.zeros(len(shard.sentence_ends) + 1, int)
    np.add.at(changes, np.searchsorted(shard.sentence_ends, begins, "right"), 1)
    np.add.at(changes, np.searchsorted(sentence_starts(shard), ends, "left"), -1)
    return np.cumsum(changes)[:-1]


@pytest.mark.parametrize("max_seq_length", [128, 512])
def test_an_epoch_has_every_training_sentence_once_or_twice(max_seq_length: int) -> None:
    found = source(max_seq_length=max_seq_length)
    pairs = everything(found, epoch=3)
    for number, shard in enumerate(SHARDS):
        counts = uses(shard, pairs, number)
        sentences = np.arange(len(counts))
        held_out = shard.is_held_out[np.searchsorted(shard.document_ends, sentences, "right")]
        assert counts[held_out].max() == 0
        assert counts[~held_out].min() == 1
        # Three times: a short pair in a chunk that the pair before reaches through.
        assert (counts[~held_out] > 2).mean() < 0.008


def test_documents_are_drawn_evenly_as_random_segments() -> None:
    pairs = everything(source())
    chosen = pairs.is_random
    documents = np.concatenate(
        [
            1000 * number
            + document_of(shard, pairs.starts[chosen & (pairs.shards[:, 1] == number), 1])
            for number, shard in enumerate(SHARDS)
        ]
    )
    num_documents = source().num_documents
    counts = np.bincount(np.unique(documents, return_inverse=True)[1], minlength=num_documents)
    mean = len(documents) / num_documents
    chi_square = ((counts - mean) ** 2 / mean).sum()
    freedom = num_documents - 1
    assert abs(chi_square - freedom) < 4 * (2 * freedom) ** 0.5


def published(documents: list[list[int]], *, most: int, seed: int) -> list[tuple[int, int, bool]]:
    """Lengths of both segments, by the published algorithm, written from its description."""
    drawn = random.Random(seed)
    found: list[tuple[int, int, bool]] = []
    for document in documents:
        chunk: list[int] = []
        place = 0
        target = most if drawn.random() >= 0.1 else drawn.randint(2, most)
        while place < len(document):
            chunk.append(document[place])
            if place == len(document) - 1 or sum(chunk) >= target:
                end = drawn.randint(1, len(chunk) - 1) if len(chunk) > 1 else 1
                first = sum(chunk[:end])
                is_random = len(chunk) == 1 or drawn.random() < 0.5
                if is_random:
                    other = drawn.choice(documents)
                    start = drawn.randrange(len(other))
                    second = 0
                    for length in other[start:]:
                        second += length
                        if second >= target - first:
                            break
                    place -= len(chunk) - end
                else:
                    second = sum(chunk[end:])
                while first + second > most:
                    if first > second:
                        first -= 1
                    else:
                        second -= 1
                found.append((first, second, is_random))
                chunk = []
                target = most if drawn.random() >= 0.1 else drawn.randint(2, most)
            place += 1
    return found


def test_lengths_of_segments_are_those_of_the_published_algorithm() -> None:
    lengths = np.split(np.diff(SHARDS[0].sentence_ends, prepend=0), SHARDS[0].document_ends[:-1])
    documents = [part.tolist() for part in lengths]
    theirs = [pair for seed in range(3) for pair in published(documents, most=125, seed=seed)]
    ours = everything(source())
    for kind in (False, True):
        a = np.array([first / (first + second) for first, second, r in theirs if r == kind])
        mine = ours.lengths[ours.is_random == kind]
        b = mine[:, 0] / mine.sum(1)
        assert b.mean() == pytest.approx(a.mean(), abs=0.06)
        assert b.std() == pytest.approx(a.std(), abs=0.06)
        total = np.mean([first + second for first, second, r in theirs if r == kind])
        assert mine.sum(1).mean() == pytest.approx(total, rel=0.06)
    assert np.mean([r for *_, r in theirs]) == pytest.approx(ours.is_random.mean(), abs=0.05)


def test_a_store_of_one_document_is_refused_for_next_sentence_prediction() -> None:
    with pytest.raises(DataError, match="1 document to train on.*at least two.*--objectives mlm"):
        source([shard_of([[5, 6, 7]])])


def test_without_random_segments_one_document_is_enough_and_all_pairs_are_true() -> None:
    found = source([shard_of([[5, 6, 7], []])], with_random=False, max_seq_length=16)
    pairs = everything(found)
    assert not pairs.is_random.any()
    assert len(found) == 2
    assert pairs.num_tokens.max() <= 16


def test_documents_that_are_one_sentence_or_one_word_or_very_long_make_examples() -> None:
    shard = shard_of([[1], [100_000], [3], [], [40, 2, 400, 7]])
    for with_random in (True, False):
        found = source([shard], with_random=with_random, max_seq_length=64)
        pairs = everything(found)
        assert pairs.num_tokens.max() == 64
        assert pairs.lengths[:, 0].min() >= 1
        is_inside = pairs.starts + pairs.lengths <= len(shard.ids)
        assert is_inside.all()
        used = np.zeros(len(shard.ids), bool)
        for start, length in zip(pairs.starts[:, 0], pairs.lengths.sum(1), strict=True):
            used[start : start + length] = True
        assert used.mean() > 0.95


def test_held_out_documents_make_the_other_split() -> None:
    pairs = everything(source(split="held_out"))
    for number, shard in enumerate(SHARDS):
        documents = document_of(shard, pairs.starts[pairs.shards == number])
        assert set(documents.tolist()) <= {0, 7}
