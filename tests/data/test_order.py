"""The order of examples: a permutation of every epoch, at any position, in any pieces."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo_bert.data.order import permuted, rows_at

SIZES = st.integers(1, 5000)
SEEDS = st.integers(0, 2**63 - 1)


@given(SIZES, SEEDS)
@settings(max_examples=25)
def test_every_position_goes_to_another_row(size: int, key: int) -> None:
    sent = permuted(np.arange(size), size=size, key=key)
    assert sent.dtype == np.int64
    assert np.array_equal(np.sort(sent), np.arange(size))


@pytest.mark.parametrize("size", [*range(1, 18), 255, 256, 257, 4095, 4096, 4097])
def test_sizes_around_powers_of_two_are_permuted(size: int) -> None:
    assert sorted(permuted(np.arange(size), size=size, key=3)) == list(range(size))


@given(SIZES, SEEDS, st.data())
@settings(max_examples=25)
def test_a_position_is_sent_to_the_same_row_whoever_asks(
    size: int, key: int, data: st.DataObject
) -> None:
    whole = permuted(np.arange(size), size=size, key=key)
    some = np.array(data.draw(st.lists(st.integers(0, size - 1), max_size=20)), dtype=np.int64)
    assert np.array_equal(permuted(some, size=size, key=key), whole[some])


@given(st.integers(1, 300), SEEDS, st.integers(0, 2000), st.lists(st.integers(0, 200), max_size=8))
@settings(max_examples=25)
def test_pieces_make_up_the_whole_wherever_it_is_cut(
    num_rows: int, seed: int, start: int, counts: list[int]
) -> None:
    whole = rows_at(start, sum(counts), num_rows=num_rows, seed=seed)
    pieces, at = [np.empty(0, dtype=np.int64)], start
    for count in counts:
        pieces.append(rows_at(at, count, num_rows=num_rows, seed=seed))
        at += count
    assert np.array_equal(np.concatenate(pieces), whole)


@given(st.integers(1, 300), SEEDS, st.integers(0, 5))
@settings(max_examples=15)
def test_each_epoch_has_every_row_once(num_rows: int, seed: int, epoch: int) -> None:
    rows = rows_at(epoch * num_rows, num_rows, num_rows=num_rows, seed=seed)
    assert np.array_equal(np.sort(rows), np.arange(num_rows))


def test_a_global_batch_may_straddle_epochs_and_hold_several() -> None:
    rows = rows_at(7, 25, num_rows=10, seed=1)
    epochs = [rows_at(10 * epoch, 10, num_rows=10, seed=1) for epoch in range(4)]
    assert np.array_equal(rows, np.concatenate(epochs)[7:32])


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = {
        tuple(rows_at(epoch * 50, 50, num_rows=50, seed=seed))
        for epoch in range(4)
        for seed in range(4)
    }
    assert len(orders) == 16


def test_far_positions_cost_no_more_than_near_ones() -> None:
    far = rows_at(10**15, 5, num_rows=10**12, seed=1)
    assert far.min() >= 0
    assert far.max() < 10**12
    assert len(set(far.tolist())) == 5


@pytest.mark.parametrize("size", [5, 16])
def test_every_row_is_as_likely_at_every_place(size: int) -> None:
    num_keys = 1200
    drawn = np.stack([permuted(np.arange(size), size=size, key=key) for key in range(num_keys)])
    for place in range(size):
        counts = np.bincount(drawn[:, place], minlength=size)
        expected = num_keys / size
        chi_squared = float(((counts - expected) ** 2 / expected).sum())
        # Mean size - 1; six standard deviations above it, over all places and sizes.
        assert chi_squared < size - 1 + 6 * (2 * (size - 1)) ** 0.5, place


def test_neighbours_do_not_stay_together() -> None:
    size, num_keys = 1000, 200
    apart = [np.diff(permuted(np.arange(size), size=size, key=key)) for key in range(num_keys)]
    stayed = float((np.abs(np.concatenate(apart)) == 1).mean())
    assert stayed == pytest.approx(2 / size, rel=0.2)


def test_the_order_is_the_same_on_every_machine_and_for_ever() -> None:
    # A change here changes what a checkpoint goes on with.
    assert rows_at(8, 6, num_rows=10, seed=42).tolist() == [8, 3, 5, 0, 8, 7]
