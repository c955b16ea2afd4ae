"""The fixed-shape mode, proven without a device that needs it."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from demo_bert.data.capacity import (
    Capacity,
    capacities,
    capacity_for,
    expected_totals,
    fill,
    fill_masked,
    inert_batches,
    rows_of,
)
from demo_bert.data.packing import Batch, Example, pack
from demo_bert.losses import IGNORED, classification_loss
from demo_bert.model.bert import BertConfig, initialise
from demo_bert.model.heads import PreTrainer, SequenceClassifier

CONFIG = BertConfig(
    vocab_size=97,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=32,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)
LONGEST = 24
ROWS = 6
DATA_DEPENDENT = ("_local_scalar_dense", "nonzero", "masked_select", "unique")


def batch_of(lengths: Sequence[int], seed: int = 0) -> Batch:
    draw = np.random.default_rng(seed)
    return pack(
        [
            Example(draw.integers(1, 97, length), max(1, length // 2), int(draw.integers(3)))
            for length in lengths
        ]
    )


def forward(model: nn.Module, batch: Batch, *more: Tensor) -> Any:
    return model(
        batch.input_ids,
        batch.position_ids,
        batch.token_type_ids,
        batch.cu_seqlens,
        batch.max_seqlen,
        *more,
    )


def gradients(model: nn.Module) -> dict[str, Tensor]:
    taken = {
        name: torch.zeros_like(p) if p.grad is None else p.grad
        for name, p in model.named_parameters()
    }
    model.zero_grad(set_to_none=True)
    return taken


@pytest.fixture(params=["blocks", "padded"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of attention: the CPU's, and the one that a device of fixed shapes takes."""
    monkeypatch.setattr("demo_bert.model.bert.select_path", lambda *args, **kwargs: request.param)
    return str(request.param)


@st.composite
def batches(draw: st.DrawFn) -> tuple[int, int, int, list[int]]:
    longest = draw(st.integers(1, 40))
    rows = draw(st.integers(1, 12))
    lengths = draw(st.lists(st.integers(1, longest), min_size=1, max_size=rows))
    return rows, longest, draw(st.integers(1, 7)), lengths


@settings(max_examples=150, deadline=None)
@given(batches(), st.booleans())
def test_any_batch_fits_one_of_a_few_shapes(
    case: tuple[int, int, int, list[int]], is_fitted: bool
) -> None:
    rows, longest, count, lengths = case
    totals = expected_totals(lengths, rows) if is_fitted else ()
    sizes = capacities(rows, longest, count=count, totals=totals)
    assert 1 <= len(sizes) <= count
    assert sizes[-1].tokens == rows * longest
    assert [size.tokens for size in sizes] == sorted({size.tokens for size in sizes})
    batch = batch_of(lengths)
    filled = fill(batch, sizes, max_seq_length=longest)
    check_filled(batch, filled, capacity_for(batch.num_tokens, sizes), longest)


def check_filled(batch: Batch, filled: Batch, capacity: Capacity, longest: int) -> None:
    tokens, rows = batch.num_tokens, batch.num_examples
    for name in ("input_ids", "position_ids", "token_type_ids"):
        value = getattr(filled, name)
        assert value.shape == (capacity.tokens,) and value.dtype == torch.int64
        assert torch.equal(value[:tokens], getattr(batch, name))
    assert filled.labels.shape == (capacity.sequences,)
    assert torch.equal(filled.labels[:rows], batch.labels)
    assert bool((filled.labels[rows:] == IGNORED).all())
    assert filled.cu_seqlens.shape == (capacity.sequences + 1,)
    assert filled.cu_seqlens.dtype == torch.int32
    assert torch.equal(filled.cu_seqlens[: rows + 1], batch.cu_seqlens)
    lengths = filled.cu_seqlens.diff()
    assert int(filled.cu_seqlens[-1]) == capacity.tokens
    assert int(lengths.min()) >= 0 and int(lengths.max()) <= longest == filled.max_seqlen
    starts = filled.cu_seqlens[:-1].repeat_interleave(lengths)
    assert torch.equal(filled.position_ids, torch.arange(capacity.tokens) - starts)
    assert (filled.num_tokens, filled.num_examples) == (tokens, rows)


@settings(max_examples=50, deadline=None)
@given(batches())
def test_a_batch_without_examples_has_every_shape(case: tuple[int, int, int, list[int]]) -> None:
    rows, longest, count, _ = case
    sizes = capacities(rows, longest, count=count)
    inert = list(inert_batches(sizes, max_seq_length=longest))
    assert [(len(b.input_ids), len(b.labels)) for b in inert] == [
        (size.tokens, size.sequences) for size in reversed(sizes)
    ]
    assert all(b.num_tokens == b.num_examples == 0 for b in inert)
    assert all(int(b.cu_seqlens.diff().max()) <= longest for b in inert)


@pytest.mark.parametrize("lengths", [[1], [24], [24] * 6, [3, 24, 7, 1, 9, 2], [5, 6]])
def test_the_tail_changes_neither_logits_nor_loss_nor_gradients(
    path: str, lengths: list[int]
) -> None:
    model = SequenceClassifier(CONFIG, num_labels=3).double()
    initialise(model, initializer_range=0.5, seed=1)
    batch = batch_of(lengths)
    filled = fill(batch, capacities(ROWS, LONGEST, count=3), max_seq_length=LONGEST)
    assert filled.labels.shape[0] > len(lengths)
    found = []
    for each in (batch, filled):
        logits = forward(model, each)[: batch.num_examples]
        loss = classification_loss(forward(model, each), each.labels)
        loss.backward()
        found.append((logits.detach(), loss.detach(), gradients(model)))
    (logits, loss, gradient), (filled_logits, filled_loss, filled_gradient) = found
    torch.testing.assert_close(filled_logits, logits, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(filled_loss, loss, rtol=1e-6, atol=1e-7)
    for name, value in gradient.items():
        torch.testing.assert_close(filled_gradient[name], value, rtol=1e-6, atol=1e-7)


def test_the_tail_of_masked_tokens_changes_nothing(path: str) -> None:
    model = PreTrainer(CONFIG).double()
    initialise(model, initializer_range=0.5, seed=2)
    batch = batch_of([24, 3, 11, 20])
    sizes = capacities(ROWS, LONGEST, masked_fraction=0.15)
    places, labels = torch.tensor([1, 7, 25, 30, 57]), torch.tensor([5, 6, 7, 8, 9])
    capacity = capacity_for(batch.num_tokens, sizes)
    more_places, more_labels = fill_masked(places, labels, capacity=capacity)
    assert more_places.shape == more_labels.shape == (capacity.masked,)
    found = []
    for each, at, words in (
        (batch, places, labels),
        (fill(batch, sizes, max_seq_length=LONGEST), more_places, more_labels),
    ):
        masked, pairs = forward(model, each, at)
        loss = classification_loss(masked, words)
        loss = loss + classification_loss(pairs, each.labels.clamp(max=1))
        loss.backward()
        found.append((masked[:5].detach(), loss.detach(), gradients(model)))
    torch.testing.assert_close(found[1][:2], found[0][:2], rtol=1e-6, atol=1e-7)
    for name, value in found[0][2].items():
        torch.testing.assert_close(found[1][2][name], value, rtol=1e-6, atol=1e-7)


def test_a_batch_without_examples_has_no_loss_and_no_gradient(path: str) -> None:
    model = SequenceClassifier(CONFIG, num_labels=3)
    initialise(model, initializer_range=0.5, seed=1)
    for batch in inert_batches(capacities(ROWS, LONGEST), max_seq_length=LONGEST):
        loss = classification_loss(forward(model, batch), batch.labels)
        loss.backward()
        assert float(loss.detach()) == 0.0
        assert all(not gradient.any() for gradient in gradients(model).values())


class RefusingDevice(TorchDispatchMode):
    """Stands for a device that compiles: after 20 steps no operation may have a new shape.

    Every operation of the forward and backward passes goes through here. One whose result's shape
    hangs on values, or that asks the device for a value, is refused at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[str, tuple[tuple[int, ...], ...]]] = set()
        self.steps = 0
        self.refused: list[str] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        values = [*args, *(inner for each in args if isinstance(each, list) for inner in each)]
        shapes = tuple(tuple(value.shape) for value in values if isinstance(value, Tensor))
        name = str(func)
        if any(word in name for word in DATA_DEPENDENT):
            self.refused.append(f"step {self.steps}: {name}")
        if (name, shapes) not in self.seen:
            self.seen.add((name, shapes))
            if self.steps >= 20:
                self.refused.append(f"step {self.steps}: {name}{shapes}")
        return func(*args, **(kwargs or {}))


def random_lengths(seed: int, num_batches: int) -> list[list[int]]:
    """Batches as training has them, with a short one now and then and rare extremes."""
    draw = random.Random(seed)
    found = []
    for index in range(num_batches):
        rows = draw.randint(1, ROWS) if draw.random() < 0.15 else ROWS
        low, high = (LONGEST - 1, LONGEST) if index == num_batches - 2 else (2, 16)
        found.append([draw.randint(low, high) for _ in range(rows)])
    return [*found[:-1], [1]]


def run_on_refusing_device(seed: int, prepare: Callable[[Batch], Batch] | None) -> RefusingDevice:
    """Forward, loss, backward over a stream of batches, after one inert batch of each shape."""
    model = SequenceClassifier(replace(CONFIG, num_hidden_layers=1), num_labels=3)
    initialise(model, initializer_range=0.1, seed=3)
    stream = [batch_of(lengths, seed) for lengths in random_lengths(seed, 50)]
    ready = [prepare(batch) for batch in stream] if prepare else stream
    if prepare:
        ready = [*inert_batches(prepare.keywords["sizes"], max_seq_length=LONGEST), *ready]  # type: ignore[attr-defined]
    device = RefusingDevice()
    for batch in ready:
        with device:
            loss = classification_loss(forward(model, batch), batch.labels) / ROWS
            loss.backward()
        device.steps += 1
        model.zero_grad(set_to_none=True)
    return device


@pytest.mark.parametrize(("seed", "is_fitted"), [(0, False), (1, True), (2, True)])
def test_after_20_steps_no_operation_sees_a_new_shape(
    monkeypatch: pytest.MonkeyPatch, seed: int, is_fitted: bool
) -> None:
    monkeypatch.setattr("demo_bert.model.bert.select_path", lambda *args, **kwargs: "padded")
    totals = expected_totals([9] * 50 + [12] * 50, ROWS) if is_fitted else ()
    sizes = capacities(ROWS, LONGEST, totals=totals)
    device = run_on_refusing_device(seed, partial(fill, sizes=sizes, max_seq_length=LONGEST))
    assert device.steps > 50
    assert device.refused == []


def test_without_filling_the_device_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("demo_bert.model.bert.select_path", lambda *args, **kwargs: "padded")
    assert run_on_refusing_device(0, None).refused


def test_fitted_capacities_waste_less_than_even_ones() -> None:
    draw = random.Random(5)
    lengths = [min(103, max(15, round(draw.gauss(53, 13)))) for _ in range(3668)]
    totals = [sum(draw.sample(lengths, 32)) for _ in range(500)]
    waste = []
    for chosen in ((), expected_totals(lengths, 32)):
        sizes = capacities(32, 128, totals=chosen)
        waste.append(sum(capacity_for(t, sizes).tokens for t in totals) / sum(totals) - 1)
    assert waste[1] < 0.04 < 0.15 < waste[0]


def test_the_choice_of_capacities_is_the_best_one() -> None:
    totals = [20, 40, 40, 100, 130, 300]
    fitted = capacities(10, 32, totals=totals, count=3)
    cost = sum(capacity_for(total, fitted).tokens for total in totals)
    others = [
        [Capacity(a, 0, 0), Capacity(b, 0, 0), Capacity(320, 0, 0)]
        for a in range(16, 320, 16)
        for b in range(a + 16, 320, 16)
    ]
    assert cost == min(sum(capacity_for(t, each).tokens for t in totals) for each in others)


def test_equal_lengths_need_one_capacity() -> None:
    sizes = capacities(8, 128, totals=expected_totals([128, 128, 128], 8))
    assert sizes == (Capacity(1024, 16, 0),)


def test_masks_are_filled_with_the_batch() -> None:
    sizes = capacities(ROWS, LONGEST, masked_fraction=0.15)
    places, words = torch.tensor([1, 7, 25]), torch.tensor([5, 6, 7])
    batch = replace(batch_of([24, 3, 11]), masked_tokens=places, masked_labels=words)
    filled = fill(batch, sizes, max_seq_length=LONGEST)
    capacity = capacity_for(batch.num_tokens, sizes)
    (more_places, more_words) = fill_masked(places, words, capacity=capacity)
    assert filled.masked_tokens is not None and filled.masked_labels is not None
    assert torch.equal(filled.masked_tokens, more_places)
    assert torch.equal(filled.masked_labels, more_words)
    (inert,) = (
        each
        for each in inert_batches(sizes, max_seq_length=LONGEST)
        if len(each.input_ids) == capacity.tokens
    )
    assert inert.masked_labels is not None
    assert inert.masked_labels.tolist() == [-100] * capacity.masked


@settings(max_examples=100, deadline=None)
@given(batches())
def test_examples_for_a_capacity_make_a_batch_of_it(case: tuple[int, int, int, list[int]]) -> None:
    rows, longest, count, lengths = case
    below = 0
    for size in capacities(rows, longest, count=count):
        chosen = rows_of(size, lengths, below=below, micro_batch_size=rows)
        if chosen:
            batch = batch_of([lengths[row] for row in chosen])
            assert len(set(chosen)) == len(chosen) <= rows
            assert below < batch.num_tokens <= size.tokens
            check_filled(batch, fill(batch, (size,), max_seq_length=longest), size, longest)
        below = size.tokens


def test_every_capacity_of_a_large_set_gets_examples() -> None:
    draw = random.Random(5)
    lengths = [min(103, max(15, round(draw.gauss(53, 13)))) for _ in range(3668)]
    below = 0
    for size in capacities(32, 128, totals=expected_totals(lengths, 32))[:-1]:
        chosen = rows_of(size, lengths, below=below, micro_batch_size=32)
        assert len(chosen) >= 30
        below = size.tokens


def test_masked_tokens_always_fit_their_capacity() -> None:
    draw = random.Random(1)
    sizes = capacities(16, 64, masked_fraction=0.15)
    for _ in range(300):
        lengths = [draw.randint(1, 64) for _ in range(draw.randint(1, 16))]
        masked = sum(max(1, round(0.15 * length)) for length in lengths)
        assert masked <= capacity_for(sum(lengths), sizes).masked


@pytest.mark.parametrize(
    "lengths", [[24] * 7, [25], [1] * 60], ids=["tokens", "length", "examples"]
)
def test_what_does_not_fit_is_refused(lengths: list[int]) -> None:
    with pytest.raises(AssertionError, match="tokens"):
        fill(batch_of(lengths), capacities(ROWS, LONGEST), max_seq_length=LONGEST)


def test_too_many_masked_tokens_are_refused() -> None:
    many = torch.zeros(50, dtype=torch.int64)
    with pytest.raises(AssertionError, match="50 masked"):
        fill_masked(many, many, capacity=Capacity(100, 10, 49))
