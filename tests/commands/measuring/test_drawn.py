"""Drawn examples are as long as those that they stand for."""

import numpy as np
import pytest

from demo_bert.commands.measuring.drawn import drawn_documents, drawn_examples
from demo_bert.data.pairs import PairSource


@pytest.mark.parametrize(
    ("task", "mean", "deviation", "longest"),
    [("mrpc", 53.2, 13.0, 103), ("squad", 178.5, 68.5, 384)],
)
def test_lengths_are_those_of_the_data(
    task: str, mean: float, deviation: float, longest: int
) -> None:
    rows = drawn_examples(task, vocab_size=30522, max_seq_length=longest, seed=1)
    lengths = np.array([len(row.input_ids) for row in rows])
    assert lengths.mean() == pytest.approx(mean, rel=0.02)
    assert lengths.std() == pytest.approx(deviation, rel=0.08)
    assert lengths.max() <= longest
    assert all(0 < row.first_segment < len(row.input_ids) for row in rows)
    assert all(row.input_ids.max() < 30522 for row in rows)


@pytest.mark.parametrize(
    ("length", "is_long", "least", "most"), [(128, True, 0.93, 0.97), (512, False, 0.47, 0.52)]
)
def test_long_documents_fill_the_examples_and_short_ones_half_of_them(
    length: int, is_long: bool, least: float, most: float
) -> None:
    shard = drawn_documents(max_seq_length=length, is_long=is_long, vocab_size=30522, seed=1)
    source = PairSource([shard], max_seq_length=length, seed=1)
    tokens = source.pairs(0, np.arange(2000)).num_tokens
    assert least < tokens.mean() / length < most
