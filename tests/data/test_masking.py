"""Masks: the published shares, a function of the example alone."""

import numpy as np
import pytest

from data.stores import PIECES, VOCABULARY, drawn_shards
from demo_bert.data.masking import choose, most_masked, num_masked, pieces_of
from demo_bert.data.order import drawn
from demo_bert.data.packing import Batch
from demo_bert.data.pairs import PairSource
from demo_bert.data.pretraining import Examples
from demo_bert.errors import ModelError

SHARDS = drawn_shards(1, 200)


def examples(length: int = 128, *, whole_words: bool = False) -> Examples:
    source = PairSource(SHARDS, max_seq_length=length, seed=1)
    return Examples(source, PIECES, length, whole_words=whole_words)


def batch_of(found: Examples, rows: np.ndarray, epoch: int = 0) -> Batch:
    return found.batch(found.pairs(np.full(len(rows), epoch), rows))


@pytest.mark.parametrize(("length", "most"), [(128, 20), (512, 80), (256, 38), (5, 1)])
def test_no_example_has_more_masks_than_published(length: int, most: int) -> None:
    assert most_masked(length) == most
    assert num_masked(np.array([length]), max_seq_length=length)[0] <= most


def test_fifteen_of_a_hundred_are_chosen_and_eight_in_ten_become_the_mask() -> None:
    found = examples()
    batch = batch_of(found, np.arange(1500))
    assert batch.masked_tokens is not None and batch.masked_labels is not None
    places, labels = batch.masked_tokens.numpy(), batch.masked_labels.numpy()
    seen = batch.input_ids.numpy()[places]
    bounds = batch.cu_seqlens.numpy()
    lengths = np.diff(bounds)
    counts = np.bincount(np.searchsorted(bounds, places, "right") - 1, minlength=len(lengths))
    assert np.array_equal(counts, np.clip(np.rint(lengths * 0.15), 1, 20))
    num = len(places)
    error = 4 * (0.25 / num) ** 0.5
    assert np.mean(seen == PIECES.mask) == pytest.approx(0.8, abs=error)
    is_kept = seen == labels
    assert is_kept.mean() == pytest.approx(0.1 + 0.1 / len(VOCABULARY), abs=error)
    others = seen[(seen != PIECES.mask) & ~is_kept]
    assert len(np.unique(others)) > 0.5 * min(len(VOCABULARY), len(others))


def test_special_tokens_are_never_chosen_and_every_place_is_as_likely() -> None:
    found = examples()
    batch = batch_of(found, np.arange(3000))
    assert batch.masked_labels is not None and batch.masked_tokens is not None
    assert not np.isin(batch.masked_labels.numpy(), (PIECES.cls, PIECES.sep)).any()
    full = np.flatnonzero(np.diff(batch.cu_seqlens.numpy()) == 128)
    positions = batch.position_ids[batch.masked_tokens].numpy()
    owners = np.searchsorted(batch.cu_seqlens.numpy(), batch.masked_tokens.numpy(), "right") - 1
    counts = np.bincount(positions[np.isin(owners, full)], minlength=128)
    assert counts[0] == counts[127] == 0
    middle = counts[1:126]
    assert middle.std() / middle.mean() < 0.15


def test_masks_do_not_depend_on_the_company() -> None:
    found = examples()
    alone, among = batch_of(found, np.array([77])), batch_of(found, np.array([3, 77, 5]))
    start, end = among.cu_seqlens[1:3].tolist()
    assert alone.input_ids.tolist() == among.input_ids[start:end].tolist()


def test_masks_are_fresh_in_each_epoch_unless_they_are_drawn_once() -> None:
    rows = np.arange(20)
    found = examples()
    one, other = batch_of(found, rows), batch_of(found, rows, epoch=1)
    assert one.input_ids.tolist() != other.input_ids.tolist()
    once = Examples(found.source, PIECES, 128, draws_once=True)
    again = batch_of(once, rows, epoch=5)
    assert again.input_ids.tolist() == one.input_ids.tolist()


def test_whole_words_are_masked_together_and_no_more_than_the_count() -> None:
    random = np.random.default_rng(0)
    goes_on = random.random(4000) < 0.4
    is_candidate = np.ones(4000, bool)
    bounds = np.arange(0, 4001, 100)
    is_candidate[bounds[:-1]] = False
    goes_on[bounds[:-1] + 1] = False
    keys, counts = drawn(np.arange(40), key=1), np.full(40, 15)
    chosen = choose(is_candidate, bounds, keys=keys, counts=counts, goes_on=goes_on)
    assert np.array_equal(chosen, np.unique(chosen))
    per_example = np.bincount(chosen // 100, minlength=40)
    assert per_example.max() <= 15
    assert per_example.mean() > 14
    word = np.cumsum(~goes_on)
    is_chosen = np.isin(np.arange(4000), chosen)
    for number in np.unique(word[chosen]):
        members = (word == number) & is_candidate
        assert is_chosen[members].all()


def test_a_vocabulary_without_a_mask_is_refused() -> None:
    with pytest.raises(ModelError, match=r"lacks \[MASK\]"):
        pieces_of(["[PAD]", "[CLS]", "[SEP]", "a"])
