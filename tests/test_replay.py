"""Replayed micro-steps are the plain ones; what cannot be replayed is found out."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from demo_bert.data.capacity import capacities, fill, inert_batches
from demo_bert.data.packing import Batch, Example, pack
from demo_bert.hardware.backend import Dtype
from demo_bert.model.bert import BertConfig, initialise
from demo_bert.model.heads import PreTrainer, SequenceClassifier, SpanPredictor
from demo_bert.replay import ReplayedSteps
from demo_bert.tasks import load_task
from demo_bert.training import divided_losses
from recorded_graphs import Recording, RecordingBackend, as_on_a_gpu

CONFIG = BertConfig(
    vocab_size=97,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=32,
)
NO_DROPOUT = replace(CONFIG, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
LONGEST, ROWS = 24, 6
MAKE_THE_HOST_WAIT = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal")
LossSum = Callable[[nn.Module, Batch], Tensor]


@pytest.fixture(autouse=True)
def _operations_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    as_on_a_gpu(monkeypatch)


def unheard(part: str) -> None:
    del part


def pretraining_losses(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    words, pairs = model(
        batch.input_ids,
        batch.position_ids,
        batch.token_type_ids,
        batch.cu_seqlens,
        batch.max_seqlen,
        batch.masked_tokens,
        batch.masked_labels,
    )
    next_loss = nn.functional.cross_entropy(pairs, batch.labels, ignore_index=-100, reduction="sum")
    return words, next_loss


def pretraining_loss(model: nn.Module, batch: Batch) -> Tensor:
    return torch.stack(pretraining_losses(model, batch))


def words_loss(model: nn.Module, batch: Batch) -> Tensor:
    return pretraining_losses(model, batch)[0]


class Case:
    """A small model of a kind, its examples, and its micro-steps both ways."""

    def __init__(self, kind: str, config: BertConfig = NO_DROPOUT, dtype: Dtype = "fp32") -> None:
        self.kind, self.dtype = kind, dtype
        self.num_parts = 2 if kind == "pretraining" else 1
        models = {
            "classifier": lambda: SequenceClassifier(config, 3),
            "span": lambda: SpanPredictor(config),
            "pretraining": lambda: PreTrainer(config),
        }
        losses: dict[str, LossSum] = {
            "classifier": load_task("classification").loss_sum,
            "span": load_task("squad").loss_sum,
            "pretraining": pretraining_loss,
        }
        self.model = models[kind]().train()
        initialise(self.model, initializer_range=0.3, seed=1)
        self.loss_sum = losses[kind]
        self.backend = RecordingBackend()
        masked = 0.15 if kind == "pretraining" else 0.0
        self.sizes = capacities(ROWS, LONGEST, masked_fraction=masked, count=4)

    def batch(self, lengths: Sequence[int], seed: int = 0, *, is_filled: bool = True) -> Batch:
        draw = np.random.default_rng(seed)

        def label(length: int) -> int | tuple[int, int]:
            if self.kind == "span":
                return int(draw.integers(length)), int(draw.integers(length))
            return int(draw.integers(2))

        batch = pack([Example(draw.integers(1, 97, n), max(1, n // 2), label(n)) for n in lengths])
        if self.kind == "pretraining":
            places = torch.arange(0, batch.num_tokens, 9)
            words = torch.from_numpy(draw.integers(1, 97, len(places)))
            batch = replace(batch, masked_tokens=places, masked_labels=words)
        return fill(batch, self.sizes, max_seq_length=LONGEST) if is_filled else batch

    def losses_of(self, batch: Batch, counts: Tensor) -> Tensor:
        return divided_losses(
            self.model,
            batch,
            counts,
            loss_sum=self.loss_sum,
            dtype=self.dtype,
            backend=self.backend,
        )

    def replayed(self) -> ReplayedSteps:
        return ReplayedSteps(
            inert_batches(
                self.sizes,
                max_seq_length=LONGEST,
                label_shape=(2,) if self.kind == "span" else (),
            ),
            parameters=dict(self.model.named_parameters()),
            losses_of=self.losses_of,
            num_parts=self.num_parts,
            backend=self.backend,
        )

    def plain(self, batch: Batch, counts: Tensor) -> Tensor:
        losses = self.losses_of(batch, counts)
        losses.sum().backward()
        return losses.detach()

    def gradients(self) -> dict[str, Tensor | None]:
        """Of each parameter, taken away."""
        taken = {
            n: None if p.grad is None else p.grad.clone() for n, p in self.model.named_parameters()
        }
        self.model.zero_grad(set_to_none=True)
        return taken

    def difference(self) -> str | None:
        batches = [self.batch([20] * count) for count in (1, 3, 4, 6)]
        return self.replayed().difference(batches, self.dtype)


def steps(seed: int = 0) -> Iterator[list[list[int]]]:
    """Lengths of the micro-batches of some steps: one to three of them, of all capacities."""
    draw = random.Random(seed)
    for _ in range(5):
        yield [
            [draw.randint(1, LONGEST) for _ in range(draw.randint(1, ROWS))]
            for _ in range(draw.randint(1, 3))
        ]


@pytest.mark.parametrize("kind", ["classifier", "span", "pretraining"])
def test_replays_give_the_losses_and_gradients_of_plain_micro_steps(kind: str) -> None:
    case = Case(kind)
    ours = case.replayed()
    assert len(ours) == len(case.sizes) == 4
    seen: set[int] = set()
    for step in steps():
        batches = [case.batch(lengths, seed=k) for k, lengths in enumerate(step)]
        seen |= {len(batch.input_ids) for batch in batches}
        counts = torch.arange(7.0, 7.0 + case.num_parts)
        losses = [case.plain(batch, counts) for batch in batches]
        gradients = case.gradients()
        for batch, loss in zip(batches, losses, strict=True):
            torch.testing.assert_close(ours(batch, counts, unheard), loss, rtol=1e-5, atol=1e-6)
        for name, found in case.gradients().items():
            torch.testing.assert_close(found, gradients[name], rtol=1e-4, atol=1e-6)
        with torch.no_grad():  # the next replays read other weights
            for parameter in case.model.parameters():
                parameter.mul_(0.9)
    assert len(seen) >= 3


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_dropout_is_drawn_by_the_seed_at_the_replay(dtype: Dtype) -> None:
    case = Case("classifier", CONFIG, dtype)
    ours = case.replayed()
    batch, counts = case.batch([20, 9, 3]), torch.tensor([3.0])
    found: dict[int, list[Tensor]] = {1: [], 2: []}
    for seed in (1, 2, 1):
        case.backend.seed(seed)
        plain = case.plain(batch, counts)
        gradients = case.gradients()
        case.backend.seed(seed)
        found[seed].append(ours(batch, counts, unheard))
        torch.testing.assert_close(found[seed][-1], plain, rtol=1e-5, atol=1e-6)
        for name, gradient in case.gradients().items():
            torch.testing.assert_close(gradient, gradients[name], rtol=1e-4, atol=1e-6)
    assert torch.equal(*found[1])
    assert not torch.equal(found[1][0], found[2][0])


def test_a_returned_loss_is_not_overwritten_by_the_next_replay() -> None:
    case = Case("classifier")
    ours = case.replayed()
    counts = torch.tensor([1.0])
    first = ours(case.batch([20, 9], seed=1), counts, unheard)
    before = first.clone()
    assert ours(case.batch([20, 9], seed=2), counts, unheard) != first
    assert torch.equal(first, before)


def test_a_batch_of_another_shape_is_worked_on_plainly() -> None:
    case = Case("classifier")
    ours = case.replayed()
    odd = case.batch([3, 5], is_filled=False)
    counts = torch.tensor([2.0])
    loss = case.plain(odd, counts)
    gradients = case.gradients()
    torch.testing.assert_close(ours(odd, counts, unheard), loss)
    for name, found in case.gradients().items():
        torch.testing.assert_close(found, gradients[name])


def test_parameters_without_a_gradient_keep_none() -> None:
    case = Case("pretraining")
    case.num_parts = 1
    case.loss_sum = words_loss
    ours = case.replayed()
    ours(case.batch([20, 9]), torch.tensor([1.0]), unheard)
    found = case.gradients()
    assert {name for name, gradient in found.items() if gradient is None} == {
        name for name in found if name.startswith(("nsp.", "bert.pooler."))
    }


@pytest.mark.parametrize("kind", ["classifier", "span", "pretraining"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_what_can_be_replayed_passes_its_own_test(kind: str, dtype: Dtype) -> None:
    case = Case(kind, CONFIG, dtype)
    assert case.difference() is None
    assert all(parameter.grad is None for parameter in case.model.parameters())
    names = {str(func) for recording in case.backend.recordings for func, *_ in recording.calls}
    assert "aten.add_.Tensor" in names
    assert not [name for name in names if any(word in name for word in MAKE_THE_HOST_WAIT)]


def from_the_host(model: nn.Module, batch: Batch, loss: LossSum) -> Tensor:
    return loss(model, batch) * (1 + int((batch.labels >= 0).sum()))


def with_a_number(model: nn.Module, batch: Batch, loss: LossSum) -> Tensor:
    return loss(model, batch) * batch.num_examples


@pytest.mark.parametrize("wrong", [from_the_host, with_a_number])
def test_a_number_that_the_host_worked_out_is_found(wrong: Any) -> None:
    case = Case("classifier")
    case.loss_sum = partial(wrong, loss=case.loss_sum)
    reason = case.difference()
    assert reason is not None and "tokens: the losses are" in reason


@pytest.mark.parametrize("kind", ["classifier", "span", "pretraining"])
def test_draws_that_are_baked_in_are_found_in_bfloat16_too(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Recording, "draws_anew", False)
    case = Case(kind, CONFIG, "bf16")
    assert case.difference() is not None


def test_gradients_that_are_not_added_up_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case("classifier")

    def overwritten(self: ReplayedSteps, batch: Batch) -> None:
        before = {n: p.grad for n, p in case.model.named_parameters()}
        case.model.zero_grad(set_to_none=True)
        losses = case.losses_of(batch, self._counts)
        losses.sum().backward()
        self._losses.copy_(losses.detach())
        for name, parameter in case.model.named_parameters():
            if before[name] is not None and parameter.grad is not None:
                before[name].copy_(parameter.grad)
                parameter.grad = before[name]

    monkeypatch.setattr(ReplayedSteps, "_run", overwritten)
    reason = case.difference()
    assert reason is not None and "the gradient of" in reason


def test_values_that_are_not_numbers_differ() -> None:
    case = Case("classifier")
    with torch.no_grad():
        case.model.classifier.bias.fill_(float("nan"))
    assert case.difference() is not None
