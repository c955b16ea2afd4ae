"""Batches of pre-training: the same rows whoever computes them, and what they hold."""

import numpy as np
import pytest

from data.stores import PIECES, drawn_shards, shard_of
from demo_bert.data.loader import MicroBatch
from demo_bert.data.masking import pieces_of
from demo_bert.data.packing import Batch
from demo_bert.data.pairs import PairSource
from demo_bert.data.pretraining import Examples, pretraining_batches

SHARDS = drawn_shards(2, 60)


def examples(*, is_masked: bool = True, whole_words: bool = False) -> Examples:
    source = PairSource(SHARDS, max_seq_length=64, seed=1)
    return Examples(source, PIECES, 64, is_masked=is_masked, whole_words=whole_words)


def dealt(found: Examples, *, first_step: int = 0, **options: int) -> list[MicroBatch]:
    numbers = {"num_steps": 3, "global_batch_size": 22, "micro_batch_size": 4} | options
    return list(pretraining_batches(found, seed=5, first_step=first_step, **numbers))  # type: ignore[arg-type]


def content(micro: MicroBatch) -> tuple[int, int, list[int]]:
    assert micro.batch is not None
    return micro.step, micro.index, micro.batch.input_ids.tolist()


def test_an_example_is_laid_out_as_the_model_wants_it() -> None:
    shard = shard_of([[4, 6], [5, 5]])
    source = PairSource([shard], max_seq_length=13, seed=1)
    found = Examples(source, pieces_of(["[MASK]", "[CLS]", "[SEP]"]), 13, is_masked=False)
    for row in range(len(found)):
        pairs = source.pairs(0, np.array([row]))
        batch: Batch = found.batch(pairs)
        (a, b), (first, second) = pairs.starts[0], pairs.lengths[0]
        ids = [1, *shard.ids[a : a + first], 2, *shard.ids[b : b + second], 2]
        assert batch.input_ids.tolist() == ids
        assert batch.token_type_ids.tolist() == [0] * (first + 2) + [1] * (second + 1)
        assert batch.position_ids.tolist() == list(range(len(ids)))
        assert batch.labels.tolist() == [int(pairs.is_random[0])]
        assert batch.masked_tokens is None


def test_labels_of_masks_are_what_stands_in_the_store() -> None:
    found = examples()
    pairs = found.source.pairs(0, np.arange(30))
    masked, plain = found.batch(pairs), examples(is_masked=False).batch(pairs)
    assert masked.masked_tokens is not None and masked.masked_labels is not None
    restored = masked.input_ids.clone()
    restored[masked.masked_tokens] = masked.masked_labels
    assert restored.tolist() == plain.input_ids.tolist()


@pytest.mark.parametrize("is_canonical", [False, True], ids=["in turn", "in the tree"])
@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_any_number_of_workers_makes_the_same_global_batch(
    world_size: int, is_canonical: bool
) -> None:
    found = examples()
    alone = dealt(found)
    shares = [
        dealt(found, rank=rank, world_size=world_size, is_canonical=is_canonical)
        for rank in range(world_size)
    ]
    together = [micro for share in shares for micro in share if micro.batch is not None]
    assert sorted(map(content, together)) == sorted(map(content, alone))
    for step in range(3):
        counts = [next(m.own_masked or 0 for m in share if m.step == step) for share in shares]
        assert sum(counts) == next(m.own_masked for m in alone if m.step == step)


@pytest.mark.parametrize("whole_words", [False, True], ids=["pieces", "words"])
def test_the_masks_of_a_step_are_counted_before_they_are_gathered(whole_words: bool) -> None:
    for step in range(3):
        micros = [m for m in dealt(examples(whole_words=whole_words)) if m.step == step]
        gathered = sum(
            len(m.batch.masked_tokens)
            for m in micros
            if m.batch is not None and m.batch.masked_tokens is not None
        )
        assert {m.own_masked for m in micros} == {gathered}


def test_it_can_begin_at_any_step_also_across_epochs() -> None:
    found = examples()
    size = len(found) // 2 + 3
    whole = dealt(found, global_batch_size=size, num_steps=4, micro_batch_size=50)
    rest = dealt(found, global_batch_size=size, num_steps=4, micro_batch_size=50, first_step=2)
    assert list(map(content, rest)) == [content(m) for m in whole if m.step >= 2]


def test_next_sentence_prediction_alone_masks_nothing() -> None:
    micros = dealt(examples(is_masked=False))
    assert {m.own_masked for m in micros} == {0}
    assert not any((m.batch.input_ids == PIECES.mask).any() for m in micros if m.batch)
