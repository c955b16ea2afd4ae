"""The evaluation loop: every example's own outputs, in order, however they are grouped."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from demo_bert import evaluation
from demo_bert.data.packing import Batch, Example, pack
from demo_bert.distributed import World
from demo_bert.evaluation import EvaluationStopped, logits_of
from demo_bert.hardware.cpu import CpuBackend
from demo_bert.model.bert import initialise
from demo_bert.model.heads import SequenceClassifier
from demo_bert.tasks.classification import TASK
from small_run import CONFIG

DRAWN = np.random.default_rng(2)
EXAMPLES = [
    Example(DRAWN.integers(5, CONFIG.vocab_size, length), length // 2 + 1)
    for length in DRAWN.integers(1, 20, 25)
]


@pytest.fixture(scope="module")
def model() -> SequenceClassifier:
    made = SequenceClassifier(CONFIG, 3)
    initialise(made, initializer_range=0.2, seed=4)
    return made


@pytest.fixture(scope="module")
def expected(model: SequenceClassifier) -> np.ndarray:
    """Each example alone."""
    model.eval()
    rows = []
    with torch.no_grad():
        for example in EXAMPLES:
            batch = pack([example])
            rows.append(
                model(
                    batch.input_ids,
                    batch.position_ids,
                    batch.token_type_ids,
                    batch.cu_seqlens,
                    batch.max_seqlen,
                )
            )
    return torch.cat(rows).numpy()


def outputs(model: SequenceClassifier, **options: object) -> np.ndarray:
    defaults = {
        "outputs": TASK.outputs,
        "num_outputs": 3,
        "max_tokens": 64,
        "dtype": "fp32",
        "world": World(),
    }
    return logits_of(model, EXAMPLES, backend=CpuBackend(), **(defaults | options))  # type: ignore[arg-type]


@pytest.mark.parametrize("max_tokens", [1, 30, 64, 10_000])
@pytest.mark.parametrize("max_examples", [1, 4, 1024])
def test_outputs_are_those_of_each_example_alone(
    model: SequenceClassifier, expected: np.ndarray, max_tokens: int, max_examples: int
) -> None:
    found = outputs(model, max_tokens=max_tokens, max_examples=max_examples)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_dropout_is_off_and_no_gradient_is_kept(
    model: SequenceClassifier, expected: np.ndarray
) -> None:
    model.train()
    np.testing.assert_allclose(outputs(model), expected, rtol=0, atol=1e-5)
    assert not model.training
    assert {parameter.grad for parameter in model.parameters()} == {None}


@pytest.mark.parametrize("world_size", [2, 3, 40])
def test_the_shares_of_all_workers_add_up_to_the_whole(
    model: SequenceClassifier,
    expected: np.ndarray,
    world_size: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evaluation, "sum_tensor", lambda tensor, world: tensor)
    shares = [outputs(model, world=World(rank, rank, world_size)) for rank in range(world_size)]
    np.testing.assert_allclose(sum(shares), expected, rtol=0, atol=1e-5)
    rows = np.stack([np.abs(share).sum(1) > 0 for share in shares])
    assert rows.sum(0).tolist() == [1] * len(EXAMPLES), "an example was computed twice"


def test_rows_that_fill_up_a_shape_are_left_out(
    model: SequenceClassifier, expected: np.ndarray
) -> None:
    def fill(batch: Batch) -> Batch:
        size = len(batch.input_ids)
        more = torch.zeros(3, dtype=torch.int64)
        return replace(
            batch,
            input_ids=torch.cat([batch.input_ids, more]),
            position_ids=torch.cat([batch.position_ids, torch.arange(3)]),
            token_type_ids=torch.cat([batch.token_type_ids, more]),
            cu_seqlens=torch.cat([batch.cu_seqlens, torch.tensor([size + 3], dtype=torch.int32)]),
            max_seqlen=max(3, batch.max_seqlen),
            labels=torch.cat([batch.labels, torch.tensor([-100])]),
        )

    np.testing.assert_allclose(outputs(model, fill=fill), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("question", [1, 2])
def test_a_stop_request_ends_it_before_the_next_batch(
    model: SequenceClassifier, question: int
) -> None:
    asked = 0

    def stop_reason() -> str | None:
        nonlocal asked
        asked += 1
        return "SIGTERM" if asked >= question else None

    with pytest.raises(EvaluationStopped):
        outputs(model, max_examples=4, stop_reason=stop_reason)
    assert asked == question, "it went on"


def test_all_workers_end_it_where_one_was_asked(
    model: SequenceClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "sum_numbers", lambda values, world, device: [1.0])
    with pytest.raises(EvaluationStopped):
        outputs(model, world=World(1, 1, 2), stop_reason=lambda: None)
