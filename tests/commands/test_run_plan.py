"""The numbers of a run, from settings, recipe, model and data."""

from dataclasses import replace
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo_bert.commands.run_plan import RunPlan, plan_run
from demo_bert.errors import UsageError
from demo_bert.settings import TrainingSettings, flags_of, resolve
from demo_bert.tasks.mrpc import TASK

MRPC_TRAIN = 3668


def plan(
    *flags: str,
    hidden_size: int = 768,
    num_examples: int = MRPC_TRAIN,
    num_workers: int = 1,
    max_positions: int = 512,
) -> RunPlan:
    argv = ["-d", "fp32", "-m", "tiny", "-t", "mrpc", *flags]
    resolved, _ = resolve("finetuning", flags_of(argv, "finetuning"), {})
    return plan_run(
        cast("TrainingSettings", resolved),
        TASK.recipe,
        hidden_size=hidden_size,
        max_positions=max_positions,
        num_examples=num_examples,
        num_workers=num_workers,
    )


def test_the_recipe_decides_where_nobody_else_does() -> None:
    found = plan()
    assert (found.micro_batch_size, found.global_batch_size) == (32, 32)
    assert found.num_steps == 344  # 3 epochs of 114.625 steps, the last one not whole
    assert found.epochs == 3.0
    assert found.warmup_steps == 34
    assert found.learning_rate == 2e-5
    assert found.max_seq_length == 128
    assert found.warnings == ()


def test_bf16_has_its_own_batch_and_its_rate_follows() -> None:
    found = plan("--dtype", "bf16")
    assert (found.micro_batch_size, found.global_batch_size) == (64, 64)
    assert found.learning_rate == pytest.approx(2e-5 * 2**0.5)
    assert found.warmup_steps == round(0.2 * found.num_steps), "a raised rate warms up longer"


@pytest.mark.parametrize(("hidden_size", "rate"), [(128, 1e-4), (767, 1e-4), (768, 2e-5)])
def test_smaller_models_have_another_base_rate(hidden_size: int, rate: float) -> None:
    assert plan(hidden_size=hidden_size).learning_rate == rate


def test_the_rate_is_capped_by_size() -> None:
    assert plan("-b", "1024").learning_rate == 5e-5
    assert plan("-b", "1024", hidden_size=128).learning_rate == 3e-4
    assert plan("-b", "8").learning_rate == 2e-5


def test_a_rate_that_is_given_is_used_as_it_is() -> None:
    found = plan("--learning-rate", "0.5", "-b", "1024", "--lr-scaling", "linear")
    assert (found.learning_rate, found.rate_reason) == (0.5, "as given")
    assert found.warmup_steps == round(0.1 * found.num_steps)


def test_workers_multiply_the_batch_and_the_rate_follows_the_batch() -> None:
    found = plan(num_workers=4)
    assert (found.micro_batch_size, found.global_batch_size) == (32, 128)
    assert found.learning_rate == pytest.approx(4e-5)
    assert plan("--global-batch-size", "32", num_workers=4).learning_rate == 2e-5
    scaled = plan("--lr-scaling", "workers", "--global-batch-size", "32", num_workers=4)
    assert scaled.learning_rate == pytest.approx(8e-5)


def test_a_micro_batch_is_not_larger_than_the_global_one() -> None:
    found = plan("-b", "64", "--global-batch-size", "10")
    assert (found.micro_batch_size, found.global_batch_size) == (10, 10)


def test_steps_may_be_given() -> None:
    found = plan("-i", "573")
    assert found.num_steps == 573
    assert found.epochs == pytest.approx(573 * 32 / MRPC_TRAIN)


@pytest.mark.parametrize(
    ("epochs", "steps"), [("1", 115), ("0.5", 58), ("0.001", 1), ("2", 230), ("8", 917)]
)
def test_epochs_become_the_steps_that_see_every_row(epochs: str, steps: int) -> None:
    assert plan("-e", epochs).num_steps == steps


def test_a_whole_number_of_steps_stays_that() -> None:
    assert plan("-e", "3", num_examples=320).num_steps == 30
    assert plan("-e", "0.1", num_examples=320).num_steps == 1
    assert plan("-e", "1.1", num_examples=320).num_steps == 11


def test_the_warm_up_is_not_longer_than_the_run() -> None:
    assert plan("-i", "10", "-w", "50").warmup_steps == 10
    assert plan("-i", "10", "-w", "0").warmup_steps == 0


def test_few_steps_are_warned_of_in_one_line() -> None:
    (warning,) = plan("-i", "99").warnings
    assert warning.startswith("99 steps")
    assert "--batch-size" in warning
    assert plan("-i", "100").warnings == ()


def test_a_length_above_the_models_is_refused() -> None:
    assert plan("-s", "64", max_positions=64).max_seq_length == 64
    with pytest.raises(UsageError, match=r"--max-seq-length 128: the model takes at most 64"):
        plan(max_positions=64)


@given(st.integers(1, 400), st.integers(1, 90), st.integers(1, 60))
@settings(max_examples=60)
def test_an_epoch_ends_with_the_step_that_takes_its_last_row(
    num_examples: int, batch: int, num_steps: int
) -> None:
    found = replace(
        plan("-i", str(num_steps), "--global-batch-size", str(batch)),
        steps_per_epoch=num_examples / batch,
    )
    for step in range(1, num_steps + 1):
        ends = (step * batch) // num_examples > ((step - 1) * batch) // num_examples
        assert found.is_epoch_end(step) == (ends or step == num_steps), step
