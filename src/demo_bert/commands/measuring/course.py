"""Which examples make which batch: one course, followed by both sides of a measurement.

A block is a few steps that are timed together. Its examples are drawn, or come from a pool of fifty
batches that was sorted by length, as `transformers` sorts where it groups by length; blocks of the
second kind take batches from all over the pool, so that each has long and short ones.

Shapes: N examples, B of a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from demo_bert.data.order import rows_at

POOLED_BATCHES = 50
"""Batches that are sorted by length together, as in transformers' `LengthGroupedSampler`."""


@dataclass(frozen=True)
class Course:
    """Rows in the order in which they are trained.

    Attributes:
        rows: (N,) int64, of the drawn examples.
        batch_size: B; batch k is rows [k*B, (k+1)*B).
    """

    rows: np.ndarray
    batch_size: int

    def batch(self, number: int) -> np.ndarray:
        """The rows of a batch.

        Args:
            number: From 0; beyond the last it begins again.

        Returns:
            (B,) int64.
        """
        number %= len(self.rows) // self.batch_size
        return self.rows[number * self.batch_size : (number + 1) * self.batch_size]

    def dealt(self, seed: int) -> np.ndarray:
        """The rows laid out so that a run's own order of that seed goes through them one by one.

        Args:
            seed: Of the order.

        Returns:
            (N,) int64: what stands at the place that the order visits k-th is the k-th row.
        """
        places = rows_at(0, len(self.rows), num_rows=len(self.rows), seed=seed)
        laid = np.empty_like(self.rows)
        laid[places] = self.rows
        return laid


def course_of(
    lengths: Sequence[int], *, batch_size: int, sorted_blocks: Sequence[bool], steps: int, seed: int
) -> Course:
    """The batches of some blocks.

    Args:
        lengths: Tokens of each drawn example.
        batch_size: B.
        sorted_blocks: For each block, whether its batches are of examples of like length.
        steps: Batches of a block.
        seed: Of the draw.

    Returns:
        The course.
    """
    random = np.random.default_rng(seed)
    known = np.asarray(lengths)
    pool = random.integers(0, len(known), POOLED_BATCHES * batch_size)
    pool = pool[np.argsort(-known[pool], kind="stable")].reshape(POOLED_BATCHES, batch_size)
    num_sorted = max(1, sum(sorted_blocks))
    found: list[np.ndarray] = []
    done = 0
    for is_sorted in sorted_blocks:
        if not is_sorted:
            found.append(random.integers(0, len(known), steps * batch_size))
            continue
        shift = (done + 0.5) / num_sorted
        chosen = ((np.arange(steps) + shift) * POOLED_BATCHES / steps).astype(int)
        found.append(pool[random.permutation(chosen % POOLED_BATCHES)].reshape(-1))
        done += 1
    return Course(np.concatenate(found).astype(np.int64), batch_size)
