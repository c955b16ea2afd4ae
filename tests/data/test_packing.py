"""Examples laid end to end: nothing is padded, nothing is lost."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from demo_bert.data.packing import Example, pack

ROWS = st.lists(
    st.tuples(st.lists(st.integers(0, 30000), min_size=1, max_size=40), st.integers(0, 40)),
    min_size=1,
    max_size=12,
)


@given(ROWS)
@settings(max_examples=25)
def test_each_example_is_found_again_between_its_bounds(
    rows: list[tuple[list[int], int]],
) -> None:
    examples = [
        Example(np.array(ids, dtype=np.int32), min(first, len(ids)), number)
        for number, (ids, first) in enumerate(rows)
    ]
    batch = pack(examples)
    bounds = batch.cu_seqlens.tolist()
    assert bounds[0] == 0
    assert bounds[-1] == len(batch.input_ids) == batch.num_tokens
    assert batch.num_examples == len(rows) == len(bounds) - 1
    assert batch.max_seqlen == max(len(ids) for ids, _ in rows)
    assert batch.labels.tolist() == list(range(len(rows)))
    for example, start, end in zip(examples, bounds, bounds[1:], strict=False):
        length, first = end - start, example.first_segment
        assert batch.input_ids[start:end].tolist() == example.input_ids.tolist()
        assert batch.position_ids[start:end].tolist() == list(range(length))
        assert batch.token_type_ids[start:end].tolist() == [0] * first + [1] * (length - first)


def test_types_are_those_that_the_model_wants() -> None:
    batch = pack([Example(np.array([1, 2], dtype=np.int32), 1)])
    types = {
        "input_ids": torch.int64,
        "position_ids": torch.int64,
        "token_type_ids": torch.int64,
        "cu_seqlens": torch.int32,
        "labels": torch.int64,
    }
    assert {name: getattr(batch, name).dtype for name in types} == types


def test_an_example_without_label_is_one_that_no_loss_sees() -> None:
    assert pack([Example(np.array([1]), 1)]).labels.tolist() == [-100]


def test_a_batch_that_is_on_the_device_is_not_copied() -> None:
    batch = pack([Example(np.array([1]), 1)])
    assert batch.to(torch.device("cpu")) is batch
    moved = batch.to(torch.device("meta"))
    names = ("input_ids", "position_ids", "token_type_ids", "cu_seqlens", "labels")
    assert {getattr(moved, name).device.type for name in names} == {"meta"}
    assert (moved.num_tokens, moved.num_examples) == (batch.num_tokens, batch.num_examples)


def test_no_examples_are_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="need at least one array"):
        pack([])
