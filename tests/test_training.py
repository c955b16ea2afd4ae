"""The training loop: the same update however a step is split, and nothing broken in the weights."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from demo_bert.data.loader import MicroBatch, micro_batches
from demo_bert.data.order import rows_at
from demo_bert.data.packing import Batch, Example, pack
from demo_bert.distributed import World
from demo_bert.errors import TrainingError
from demo_bert.hardware.backend import Dtype
from demo_bert.hardware.cpu import CpuBackend
from demo_bert.model.bert import initialise
from demo_bert.model.heads import SequenceClassifier
from demo_bert.optim.adamw import AdamW
from demo_bert.seeds import derive
from demo_bert.tasks import load_task
from demo_bert.training import Actions, Faults, StepClock, TooManySkipped, train
from small_run import CONFIG

DRAWN = np.random.default_rng(1)
EXAMPLES = [
    Example(DRAWN.integers(5, CONFIG.vocab_size, 3 + number % 9), 3, number % 2)
    for number in range(100)
]
NO_DROPOUT = replace(CONFIG, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
loss_sum = load_task("classification").loss_sum


class Plain:
    """Gradient descent that remembers the gradients it was given."""

    def __init__(self, parameters: dict[str, Tensor]) -> None:
        self.parameters = parameters
        self.rates: list[float] = []
        self.norms: list[float] = []

    @torch.no_grad()
    def step(self, learning_rate: float, step: int, *, norm: float, factor: float) -> None:
        assert step == len(self.rates)
        self.rates.append(learning_rate)
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        found = float(torch.cat([g.flatten() for g in gradients]).norm())
        assert norm == pytest.approx(found, rel=1e-5)
        for gradient in gradients:
            gradient *= factor
        self.norms.append(factor * found)
        for parameter in self.parameters.values():
            if parameter.grad is not None:
                parameter -= learning_rate * parameter.grad


class Run:
    """A model, an optimizer and what happened to them."""

    def __init__(self, config: Any = NO_DROPOUT, optimizer: Any = AdamW) -> None:
        self.model = SequenceClassifier(config, 2)
        initialise(self.model, initializer_range=0.2, seed=3)
        self.optimizer = optimizer(dict(self.model.named_parameters()))
        self.events: list[dict[str, Any]] = []
        self.calls: list[str] = []

    def train(
        self,
        *,
        global_batch: int = 12,
        micro_batch: int = 12,
        first_step: int = 0,
        num_steps: int = 4,
        loss: Callable[[nn.Module, Batch], Tensor] = loss_sum,
        clip_norm: float | None = None,
        dtype: Dtype = "fp32",
        seed: int = 5,
        backend: Any = None,
        batches: Iterator[MicroBatch] | None = None,
        parts: tuple[str, ...] = ("loss",),
        faults: Faults | None = None,
        **actions: Any,
    ) -> str | None:
        backend = backend or CpuBackend()
        backend.prepare()
        defaults: dict[str, Any] = {
            "emit": lambda event, **fields: self.events.append({"event": event, **fields}),
            "evaluate": lambda step: self.calls.append(f"evaluate {step}"),
            "save": lambda step: self.calls.append(f"save {step}"),
            "is_evaluation_due": lambda step: False,
            "is_save_due": lambda step: False,
            "stop_reason": lambda: None,
        }
        return train(
            self.model,
            self.optimizer,
            batches=batches
            or micro_batches(
                EXAMPLES,
                seed=seed,
                first_step=first_step,
                num_steps=num_steps,
                global_batch_size=global_batch,
                micro_batch_size=micro_batch,
            ),
            num_steps=num_steps,
            loss_sum=loss,
            schedule=lambda step: 1 / (1 + step),
            peak_rate=1e-2,
            clip_norm=clip_norm,
            dtype=dtype,
            seed=seed,
            backend=backend,
            world=World(),
            actions=Actions(**(defaults | actions)),
            parts=parts,
            faults=faults,
        )

    def bits(self) -> dict[str, bytes]:
        """All weights and moments, to the bit."""
        state = {**self.model.state_dict(), **getattr(self.optimizer, "state", {})}
        return {name: tensor.detach().numpy().tobytes() for name, tensor in state.items()}


def weights(run: Run) -> Tensor:
    return torch.cat([p.detach().flatten() for p in run.model.parameters()])


@pytest.mark.parametrize(("global_batch", "micro_batch"), [(64, 8), (64, 1), (64, 24), (10, 3)])
def test_accumulated_micro_batches_make_the_update_of_the_whole_batch(
    global_batch: int, micro_batch: int
) -> None:
    # Plain descent, for Adam's first steps turn the smallest gradient into a whole step.
    whole, split = Run(optimizer=Plain), Run(optimizer=Plain)
    whole.train(global_batch=global_batch, micro_batch=global_batch)
    split.train(global_batch=global_batch, micro_batch=micro_batch)
    torch.testing.assert_close(weights(split), weights(whole), rtol=0, atol=1e-6)
    for one, other in zip(whole.events, split.events, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], abs=1e-6)
        assert other["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-5)
        assert (other["examples"], other["tokens"]) == (one["examples"], one["tokens"])


def test_the_loss_of_a_step_is_the_mean_over_its_rows() -> None:
    run = Run()
    rows = [EXAMPLES[row] for row in rows_at(0, 10, num_rows=len(EXAMPLES), seed=5)]
    with torch.no_grad():
        each = [float(loss_sum(run.model, pack([example]))) for example in rows]
    run.train(global_batch=10, micro_batch=4, num_steps=1)
    (event,) = run.events
    assert event["loss"] == pytest.approx(math.fsum(each) / 10, rel=1e-6)
    assert event["tokens"] == sum(len(example.input_ids) for example in rows)
    assert (event["step"], event["examples"]) == (1, 10)
    assert event["examples_per_s"] == pytest.approx(10 / event["seconds"])
    assert event["real_tokens_per_s"] == pytest.approx(event["tokens"] / event["seconds"])


def test_the_learning_rate_is_the_peak_times_the_schedules_factor() -> None:
    run = Run(optimizer=Plain)
    run.train(num_steps=3)
    assert run.optimizer.rates == pytest.approx([1e-2, 1e-2 / 2, 1e-2 / 3])
    assert [event["learning_rate"] for event in run.events] == run.optimizer.rates


class Seeds(CpuBackend):
    """Notes what the generators are set to."""

    def __init__(self) -> None:
        super().__init__()
        self.seeds: list[int] = []

    def seed(self, seed: int) -> None:
        self.seeds.append(seed)
        super().seed(seed)


def test_draws_depend_on_seed_step_and_micro_batch_alone() -> None:
    backend = Seeds()
    Run(CONFIG).train(micro_batch=4, first_step=2, num_steps=4, backend=backend)
    assert backend.seeds == [derive(5, "dropout", step, k) for step in (2, 3) for k in (0, 1, 2)]


def test_the_generators_state_before_the_run_means_nothing() -> None:
    runs = [Run(CONFIG) for _ in range(3)]
    for number, run in enumerate(runs):
        torch.manual_seed(number)
        run.train(micro_batch=5, seed=5 if number < 2 else 6)
    assert runs[0].bits() == runs[1].bits()
    assert runs[0].bits() != runs[2].bits()


def test_dropout_is_on_and_differs_between_micro_batches_of_the_same_rows() -> None:
    same = [EXAMPLES[0]] * 8
    losses = []

    def noted(model: nn.Module, batch: Batch) -> Tensor:
        loss = loss_sum(model, batch)
        losses.append(float(loss.detach()))
        return loss

    batches = micro_batches(
        same, seed=1, first_step=0, num_steps=1, global_batch_size=8, micro_batch_size=2
    )
    Run(CONFIG).train(batches=batches, loss=noted, num_steps=1)
    assert len(set(losses)) == 4


def test_steps_after_a_state_was_put_back_are_the_same_to_the_bit() -> None:
    straight = Run(CONFIG)
    straight.train(micro_batch=5, num_steps=6)
    first, second = Run(CONFIG), Run(CONFIG)
    first.train(micro_batch=5, num_steps=6, stop_reason=lambda: len(first.events) == 3 or None)
    assert len(first.events) == 3
    second.model.load_state_dict(first.model.state_dict())
    for name, tensor in first.optimizer.state.items():
        second.optimizer.state[name].copy_(tensor)
    second.train(micro_batch=5, first_step=3, num_steps=6)
    assert second.bits() == straight.bits()
    keys = ("step", "loss", "grad_norm", "learning_rate")
    parts = [{key: event[key] for key in keys} for event in (*first.events, *second.events)]
    assert parts == [{key: event[key] for key in keys} for event in straight.events]


@pytest.mark.parametrize("clip_norm", [0.05, 1e6, None])
def test_gradients_are_clipped_to_the_norm_and_reported_as_they_were(
    clip_norm: float | None,
) -> None:
    free, clipped = Run(optimizer=Plain), Run(optimizer=Plain)
    free.train(num_steps=1)
    clipped.train(num_steps=1, clip_norm=clip_norm)
    (norm,) = free.optimizer.norms
    assert clipped.events[0]["grad_norm"] == pytest.approx(norm, rel=1e-5)
    assert clipped.optimizer.norms == pytest.approx([min(norm, clip_norm or norm)], rel=1e-5)
    assert norm > 0.05


def test_no_gradient_is_carried_into_the_next_step() -> None:
    run = Run()
    run.train(num_steps=2)
    assert {parameter.grad for parameter in run.model.parameters()} == {None}


def poisoned(value: float, *, at: int) -> Callable[[nn.Module, Batch], Tensor]:
    """A loss that is the value at one micro-batch."""
    seen = [0]

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        seen[0] += 1
        return loss_sum(model, batch) * (value if seen[0] == at else 1.0)

    return loss


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at", [1, 5, 6])
def test_a_loss_that_is_not_finite_never_reaches_the_weights(value: float, at: int) -> None:
    good, bad = Run(CONFIG), Run(CONFIG)
    done = (at - 1) // 3  # three micro-batches to a step
    if done:
        good.train(
            micro_batch=4, num_steps=4, stop_reason=lambda: "enough" if good.events else None
        )
        assert len(good.events) == 1
    with pytest.raises(TrainingError, match=f"step {done + 1}: the loss is not finite") as caught:
        bad.train(micro_batch=4, loss=poisoned(value, at=at))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1
    assert bad.bits() == good.bits()
    assert [event["event"] for event in bad.events] == ["step"] * done + ["fault"]
    assert bad.events[-1] == {
        "event": "fault",
        "kind": "nonfinite",
        "step": done + 1,
        "tensor": "loss",
        "rank": 0,
        "micro_batches": [(at - 1) % 3],
        "first_example": 12 * done,
        "skipped": False,
    }


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    "name", ["classifier.bias", "bert.embeddings.word.weight", "bert.layers.0.attention.qkv.bias"]
)
def test_a_gradient_that_is_not_finite_never_reaches_the_weights(value: float, name: str) -> None:
    run = Run(CONFIG)
    before = run.bits()

    def hook(gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        gradient.view(-1)[-1] = value
        return gradient

    dict(run.model.named_parameters())[name].register_hook(hook)
    with pytest.raises(TrainingError, match=f"the gradient of {name} is not finite"):
        run.train(clip_norm=1.0)
    assert run.bits() == before
    assert [event["event"] for event in run.events] == ["fault"]
    assert run.events[0]["tensor"] == f"gradient of {name}"


def test_a_step_that_is_skipped_consumes_its_examples_and_changes_nothing() -> None:
    faults = Faults(skips=True)
    whole, skipping = Run(CONFIG), Run(CONFIG)
    whole.train(num_steps=1)
    skipping.train(num_steps=2, loss=poisoned(math.nan, at=2), faults=faults)
    assert skipping.bits() == whole.bits()
    assert [event["event"] for event in skipping.events] == ["step", "fault", "step"]
    assert [event.get("skipped") for event in skipping.events] == [None, True, True]
    assert faults.counters() == {"in_a_row": 1, "skipped": 1, "returns": 0}
    more = Run(CONFIG)
    more.train(num_steps=3, loss=poisoned(math.nan, at=2), faults=Faults(skips=True))
    assert more.events[-1]["step"] == 3 and "skipped" not in more.events[-1]
    assert more.bits() != whole.bits()


def test_three_skipped_steps_in_a_row_are_too_many() -> None:
    faults = Faults(skips=True)
    run = Run(CONFIG)
    before = run.bits()
    with pytest.raises(TooManySkipped, match="third step in a row"):
        run.train(num_steps=9, loss=lambda m, b: loss_sum(m, b) * math.nan, faults=faults)
    assert faults.counters() == {"in_a_row": 3, "skipped": 3, "returns": 0}
    assert run.bits() == before


def test_a_good_step_between_starts_the_count_again() -> None:
    faults = Faults(skips=True)
    seen = [0]

    def sometimes(model: nn.Module, batch: Batch) -> Tensor:
        seen[0] += 1
        return loss_sum(model, batch) * (1.0 if seen[0] % 3 == 0 else math.nan)

    assert Run(CONFIG).train(num_steps=9, loss=sometimes, faults=faults) is None
    assert faults.counters() == {"in_a_row": 0, "skipped": 6, "returns": 0}


def test_a_loss_in_parts_is_divided_by_the_count_of_each() -> None:
    def parts(model: nn.Module, batch: Batch) -> Tensor:
        return torch.stack([loss_sum(model, batch) * 7, loss_sum(model, batch)])

    def counted() -> Iterator[MicroBatch]:
        for micro in micro_batches(
            EXAMPLES,
            seed=5,
            first_step=0,
            num_steps=2,
            global_batch_size=12,
            micro_batch_size=4,
        ):
            yield replace(micro, own_masked=42)

    one, two = Run(optimizer=Plain), Run(optimizer=Plain)
    one.train(num_steps=2, micro_batch=4, loss=lambda m, b: loss_sum(m, b) * 3)
    two.train(num_steps=2, loss=parts, batches=counted(), parts=("mlm_loss", "nsp_loss"))
    torch.testing.assert_close(weights(two), weights(one), rtol=0, atol=1e-6)
    for found, wanted in zip(two.events, one.events, strict=True):
        assert found["mlm_loss"] == pytest.approx(wanted["loss"] * 2 / 3, rel=1e-5)
        assert found["nsp_loss"] == pytest.approx(wanted["loss"] / 3, rel=1e-5)
        assert found["loss"] == pytest.approx(wanted["loss"], rel=1e-5)


def test_a_norm_that_overflows_is_refused_too() -> None:
    run = Run()
    before = run.bits()
    with pytest.raises(TrainingError, match="gradient of all"):
        run.train(loss=lambda model, batch: loss_sum(model, batch) * 3e37, clip_norm=1.0)
    assert run.bits() == before


def test_evaluation_and_saving_come_after_the_update_in_this_order() -> None:
    run = Run()
    run.train(
        is_evaluation_due=lambda step: step % 2 == 0,
        is_save_due=lambda step: step in (2, 3),
        emit=lambda event, **fields: run.calls.append(f"{event} {fields['step']}"),
    )
    assert run.calls == [
        *("step 1", "step 2", "evaluate 2", "save 2", "step 3", "save 3", "step 4", "evaluate 4"),
    ]


def test_the_model_trains_again_after_an_evaluation() -> None:
    evaluated, plain = Run(CONFIG), Run(CONFIG)
    evaluated.train(
        is_evaluation_due=lambda step: True, evaluate=lambda step: evaluated.model.eval()
    )
    plain.train()
    assert evaluated.bits() == plain.bits()


def heard_at(question: int) -> Callable[[], str | None]:
    """Answers that somebody asked for a stop, from the given question on."""
    questions = itertools.count(1)
    return lambda: "SIGTERM" if next(questions) >= question else None


def test_a_stop_in_the_last_micro_step_comes_after_the_step_and_what_is_due_with_it() -> None:
    run = Run()
    reason = run.train(
        stop_reason=heard_at(4),  # asked before and after the micro-batch of a step
        is_evaluation_due=lambda step: True,
        is_save_due=lambda step: True,
    )
    assert reason == "SIGTERM"
    assert [event["step"] for event in run.events] == [1, 2]
    assert run.calls == ["evaluate 1", "save 1", "evaluate 2", "save 2"]


@pytest.mark.parametrize("question", range(1, 9))
def test_a_stop_within_a_step_drops_it_and_waits_for_no_further_micro_step(question: int) -> None:
    """Three micro-batches to a step: asked before each of them, and after the last."""
    straight, stopped = Run(CONFIG), Run(CONFIG)
    computed = 0

    def counted(model: nn.Module, batch: Batch) -> Tensor:
        nonlocal computed
        computed += 1
        return loss_sum(model, batch)

    reason = stopped.train(micro_batch=4, loss=counted, stop_reason=heard_at(question))
    assert reason == "SIGTERM"
    steps, rest = divmod(question, 4)
    assert [event["step"] for event in stopped.events] == list(range(1, steps + 1))
    assert computed == 3 * steps + max(0, rest - 1)
    if steps:
        straight.train(micro_batch=4, stop_reason=heard_at(4 * steps))
    assert stopped.bits() == straight.bits()
    assert all(parameter.grad is None for parameter in stopped.model.parameters())


def test_a_stop_in_the_last_step_is_the_end() -> None:
    run = Run()
    assert run.train(num_steps=1, stop_reason=heard_at(2)) is None
    assert len(run.events) == 1


def test_a_run_without_steps_left_changes_nothing() -> None:
    run = Run()
    before = run.bits()
    assert run.train(first_step=4, num_steps=4) is None
    assert run.bits() == before
    assert run.events == []


def test_bf16_keeps_weights_and_moments_in_float32_and_stays_near() -> None:
    narrow, exact = Run(), Run()
    narrow.train(dtype="bf16", num_steps=3)
    exact.train(num_steps=3)
    state = {**narrow.model.state_dict(), **narrow.optimizer.state}
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    for one, other in zip(narrow.events, exact.events, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=0.05)


def test_it_learns() -> None:
    run = Run(CONFIG)
    labels = [int(example.input_ids[0]) % 2 for example in EXAMPLES]
    examples = [replace(e, label=label) for e, label in zip(EXAMPLES, labels, strict=True)]
    batches = micro_batches(
        examples, seed=1, first_step=0, num_steps=120, global_batch_size=50, micro_batch_size=50
    )
    run.train(batches=batches, num_steps=120)
    first, last = (
        math.fsum(e["loss"] for e in part) / 5 for part in (run.events[:5], run.events[-5:])
    )
    assert last < 0.8 * first


def test_a_step_tells_where_its_time_went() -> None:
    run = Run()
    run.train(micro_batch=4, num_steps=3)
    for event in run.events:
        assert list(event["parts_s"]) == [
            "data",
            "forward",
            "backward",
            "communication",
            "optimizer",
        ]
        assert 0.5 * event["seconds"] < sum(event["parts_s"].values()) <= event["seconds"]


def test_a_clock_that_synchronises_waits_before_each_reading() -> None:
    waited: list[int] = []
    clock = StepClock(lambda: waited.append(1))
    clock.start()
    for part in ("forward", "backward", "forward"):
        clock.lap(part)
    assert len(waited) == 3
    assert set(clock.parts) == {"forward", "backward"}
    clock.start()
    assert clock.parts == {}
