"""Both sides of a measurement follow one course."""

import numpy as np

from demo_bert.commands.measuring.course import POOLED_BATCHES, course_of
from demo_bert.data.order import rows_at

LENGTHS = np.random.default_rng(3).integers(10, 100, 500).tolist()


def test_the_runs_own_order_goes_through_the_course() -> None:
    course = course_of(LENGTHS, batch_size=4, sorted_blocks=[False, True], steps=5, seed=1)
    laid = course.dealt(seed=42)
    for number in range(10):
        places = rows_at(number * 4, 4, num_rows=len(laid), seed=42)
        assert laid[places].tolist() == course.batch(number).tolist()


def test_sorted_blocks_have_batches_of_like_length_from_all_over() -> None:
    lengths = np.array(LENGTHS)
    course = course_of(LENGTHS, batch_size=8, sorted_blocks=[True] * 3, steps=10, seed=1)
    means = []
    for block in range(3):
        batches = [lengths[course.batch(block * 10 + k)] for k in range(10)]
        assert max(np.ptp(batch) for batch in batches) < 15
        means.append(np.mean(batches))
    assert max(means) - min(means) < 9, "no block is of short examples alone"
    assert abs(np.mean(means) - lengths.mean()) < 5
    assert POOLED_BATCHES == 50


def test_drawn_blocks_are_not_sorted() -> None:
    lengths = np.array(LENGTHS)
    course = course_of(LENGTHS, batch_size=8, sorted_blocks=[False], steps=10, seed=1)
    assert min(np.ptp(lengths[course.batch(k)]) for k in range(10)) > 15
