"""Steps that are fitted to a time."""

import dataclasses

import pytest

from demo_bert.choices import Duration
from demo_bert.commands.pretraining_plan import Phase, epochs_warning
from demo_bert.commands.pretraining_rate import Pace, fitted_steps, steps_between_evaluations

ONE = Phase(1, "mlm+nsp", 128, 64, 256, 4, 0, 7038, 2000, 1e-3, "")
TWO = dataclasses.replace(
    ONE, number=2, max_seq_length=512, micro_batch_size=8, accumulation_steps=8
)
PACES = {1: Pace(0.5, 0.1, 3.0, 1024), 2: Pace(0.25, 0.1, 20.0, 1024)}
STEPS = {1: 7038, 2: 1563}


def seconds(found: dict[int, int], eval_every: Duration | None = None) -> float:
    return sum(
        PACES[p.number].seconds(p, found[p.number], eval_every=eval_every) for p in (ONE, TWO)
    )


@pytest.mark.parametrize("budget_s", [900.0, 3600.0, 1e6])
def test_steps_fill_the_time_in_the_proportion_of_the_recipe(budget_s: float) -> None:
    found = fitted_steps((ONE, TWO), PACES, recipe_steps=STEPS, budget_s=budget_s, eval_every=None)
    assert 0.93 * budget_s < seconds(found) < budget_s
    assert found[1] / found[2] == pytest.approx(7038 / 1563, rel=0.05)


def test_evaluations_take_their_part_of_the_time() -> None:
    every = Duration(steps=5)
    often = fitted_steps((ONE, TWO), PACES, recipe_steps=STEPS, budget_s=3600.0, eval_every=every)
    seldom = fitted_steps((ONE, TWO), PACES, recipe_steps=STEPS, budget_s=3600.0, eval_every=None)
    assert often[1] < seldom[1]
    assert seconds(often, every) < 3600.0


@pytest.mark.parametrize("num_steps", [1, 7, 27, 300, 5000])
@pytest.mark.parametrize("num_scored", [10, 1024])
def test_evaluations_take_a_tenth_of_a_phase_at_most(num_steps: int, num_scored: int) -> None:
    every = steps_between_evaluations(num_steps, batch_size=64, num_scored=num_scored)
    times = num_steps // every
    assert 1 <= times <= 10
    assert times == 1 or times * num_scored / 3 <= 0.1 * num_steps * 64


def test_there_is_a_step_of_each_phase_however_short_the_time() -> None:
    found = fitted_steps((ONE, TWO), PACES, recipe_steps=STEPS, budget_s=-5.0, eval_every=None)
    assert found == {1: 1, 2: 1}


def test_more_than_forty_epochs_are_warned_of() -> None:
    assert epochs_warning(40.0, is_meant=False) is None
    assert "by heart" in (epochs_warning(41.0, is_meant=False) or "")
    assert epochs_warning(41.0, is_meant=True) is None
