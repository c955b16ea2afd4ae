"""Steps fitted to a time: how fast each phase goes here is measured before it starts.

A few micro-steps of each phase are made at a learning rate of zero, and the moments are cleared
after them, so that a run is the same with and without being measured.
"""

import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from demo_bert.choices import Duration
from demo_bert.commands.held_out import loss_of
from demo_bert.commands.pretraining_plan import Phase
from demo_bert.data.loader import MicroBatch
from demo_bert.data.pretraining import Examples, pretraining_batches
from demo_bert.distributed import sum_numbers
from demo_bert.optim import make_schedule
from demo_bert.training import Actions, Faults, TooManySkipped, train

if TYPE_CHECKING:
    from demo_bert.commands.pretrain_worker import PretrainWorker

_MOST_EVALUATIONS = 10
"""Of a phase, where nobody says how many."""
_EVALUATED_FRACTION = 0.1
"""Of the work of a phase, that evaluations may take; one, at its end, there always is."""
_MOST_STEPS = 50
_SHORTEST_S, _LONGEST_S = 1.0, 20.0
_FORWARD_FRACTION = 1 / 3
"""Of a micro-step, what an example costs that is scored alone."""
_KEPT_BACK = 0.03
"""Share of a time that is left for saving and writing."""
_SAMPLED_EXAMPLES = 2048


@dataclass(frozen=True)
class Pace:
    """How fast a phase goes.

    Attributes:
        micro_s: Seconds of a micro-step, forward and backward.
        update_s: Seconds of what follows the last of a step.
        evaluation_s: Seconds of scoring the held-out examples once.
        num_scored: How many of them there are.
    """

    micro_s: float
    update_s: float
    evaluation_s: float
    num_scored: int

    def step_s(self, phase: Phase) -> float:
        """Seconds of a step.

        Args:
            phase: Whose batch it is.

        Returns:
            The time without evaluations and saving.
        """
        return phase.accumulation_steps * self.micro_s + self.update_s

    def seconds(self, phase: Phase, num_steps: int, *, eval_every: Duration | None) -> float:
        """The time of a phase with so many steps.

        Args:
            phase: Its batch and its length.
            num_steps: Updates.
            eval_every: As the user set it; evaluations by the clock are not counted.

        Returns:
            Seconds.
        """
        phase = replace(phase, num_steps=num_steps)
        evaluations_s = self.evaluations_s(phase, eval_every=eval_every)
        return num_steps * self.step_s(phase) + evaluations_s

    def evaluations_s(self, phase: Phase, *, eval_every: Duration | None) -> float:
        """The time of a phase's evaluations.

        Args:
            phase: Its batch and its length.
            eval_every: As the user set it; evaluations by the clock are not counted.

        Returns:
            Seconds.
        """
        every = steps_between_evaluations(
            phase.num_steps, batch_size=phase.global_batch_size, num_scored=self.num_scored
        )
        if eval_every:
            every = eval_every.steps
        return (math.ceil(phase.num_steps / every) if every else 1) * self.evaluation_s


def steps_between_evaluations(num_steps: int, *, batch_size: int, num_scored: int) -> int:
    """How often a phase is evaluated where nobody says it.

    Args:
        num_steps: Updates of the phase.
        batch_size: Examples of an update.
        num_scored: Examples of an evaluation.

    Returns:
        Steps; as many as ten evaluations, fewer where they would take too much of a short phase.

    Example:
        >>> steps_between_evaluations(1000, batch_size=256, num_scored=1024)
        100
        >>> steps_between_evaluations(27, batch_size=64, num_scored=1024)
        27
    """
    affordable = _EVALUATED_FRACTION * num_steps * batch_size / (num_scored * _FORWARD_FRACTION)
    return -(-num_steps // max(1, min(_MOST_EVALUATIONS, int(affordable))))


def measured(worker: "PretrainWorker", *, budget_s: float) -> dict[int, Pace]:
    """Measures every phase of a run; all workers together.

    Args:
        worker: This worker's share, before its first step.
        budget_s: Seconds that steps are fitted to: a hundredth of it goes into measuring a phase.

    Returns:
        Phase -> pace, the same on every worker.
    """
    for_s = max(_SHORTEST_S, min(_LONGEST_S, 0.01 * budget_s))
    found = {phase.number: _measured(worker, phase, for_s=for_s) for phase in worker.phases}
    for tensor in worker.optimizer.state.values():
        tensor.zero_()
    return found


def fitted_steps(
    phases: Sequence[Phase],
    paces: Mapping[int, Pace],
    *,
    recipe_steps: Mapping[int, int],
    budget_s: float,
    eval_every: Duration | None,
) -> dict[int, int]:
    """As many steps as fit into a time, in the proportion of the recipe's phases.

    Args:
        phases: Those that run.
        paces: From `measured`.
        recipe_steps: Phase -> the recipe's steps.
        budget_s: Seconds from now on.
        eval_every: As the user set it.

    Returns:
        Phase -> steps, at least one each.
    """

    def steps_at(share: float) -> dict[int, int]:
        return {p.number: max(1, round(share * recipe_steps[p.number])) for p in phases}

    def seconds(steps: Mapping[int, int]) -> float:
        return sum(
            paces[p.number].seconds(p, steps[p.number], eval_every=eval_every) for p in phases
        )

    room = budget_s * (1 - _KEPT_BACK)
    low, high = 0.0, 1.0
    while seconds(steps_at(high)) < room:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if seconds(steps_at(middle)) <= room else (low, middle)
    return steps_at(low)


def mean_tokens(examples: Examples) -> float:
    """Tokens of an example, over some of the first epoch.

    Args:
        examples: Of a phase.

    Returns:
        The mean, [CLS] and [SEP] included.
    """
    rows = np.arange(min(len(examples), _SAMPLED_EXAMPLES))
    return float(examples.pairs(np.zeros(len(rows), np.int64), rows).num_tokens.mean())


def _measured(worker: "PretrainWorker", phase: Phase, *, for_s: float) -> Pace:
    size = phase.micro_batch_size * worker.world.world_size
    steps = _steps_at_rate_zero(worker, phase, size=size, for_s=for_s)
    counted = steps[1:] or steps  # the first one meets cold memory
    whole_s = statistics.fmean(step["seconds"] for step in counted)
    update_s = statistics.fmean(
        step["parts_s"]["communication"] + step["parts_s"]["optimizer"] for step in counted
    )
    agreed_s, agreed_update_s = (
        total / worker.world.world_size
        for total in sum_numbers([whole_s, update_s], worker.world, worker.backend.device())
    )
    micro_s = agreed_s - agreed_update_s
    return Pace(
        micro_s=micro_s,
        update_s=agreed_update_s,
        evaluation_s=worker.num_scored(phase) / size * micro_s * _FORWARD_FRACTION,
        num_scored=worker.num_scored(phase),
    )


def _steps_at_rate_zero(
    worker: "PretrainWorker", phase: Phase, *, size: int, for_s: float
) -> list[dict[str, Any]]:
    """The `step` events of steps of one micro-batch for each worker."""
    steps: list[dict[str, Any]] = []

    def emit(event: str, **fields: Any) -> None:
        if event == "step":
            steps.append(fields)

    started = time.perf_counter()

    def stop_reason() -> str | None:
        return "measured" if steps and time.perf_counter() - started >= for_s else None

    # What is not finite is told by the run itself, which does the same steps.
    with suppress(TooManySkipped):
        train(
            worker.model,
            worker.optimizer,
            batches=_batches(worker, phase, size),
            num_steps=_MOST_STEPS,
            loss_sum=partial(loss_of, parts=phase.parts),
            schedule=make_schedule("constant", num_steps=1, warmup_steps=0),
            peak_rate=0.0,
            clip_norm=None,
            dtype=worker.dtype,
            seed=worker.settings.seed,
            backend=worker.backend,
            world=worker.world,
            actions=replace(Actions.of_steps_alone(emit), stop_reason=stop_reason),
            parts=phase.parts,
            faults=Faults(skips=True),
            gradients=worker.gradients,
        )
    return steps


def _batches(worker: "PretrainWorker", phase: Phase, size: int) -> Iterator[MicroBatch]:
    return pretraining_batches(
        worker.examples[phase.number],
        seed=worker.settings.seed,
        first_step=0,
        num_steps=_MOST_STEPS,
        global_batch_size=size,
        micro_batch_size=phase.micro_batch_size,
        rank=worker.world.rank,
        world_size=worker.world.world_size,
        is_canonical=worker.settings.reproducible,
    )
