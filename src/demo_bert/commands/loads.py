"""How much work a run has before it, counted from its own examples in their own order."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from demo_bert.choices import Duration
from demo_bert.commands.forecast import Load
from demo_bert.data.order import rows_at
from demo_bert.data.packing import Batch, pack
from demo_bert.model.flops import pretraining_flops
from demo_bert.model.memory import activation_bytes

if TYPE_CHECKING:
    from demo_bert.commands.pretrain_worker import PretrainWorker
    from demo_bert.commands.worker import Worker
    from demo_bert.settings import TrainingSettings

_MOST_COUNTED = 1 << 17
_SAMPLED_EXAMPLES = 2048


def fine_tuning_load(worker: "Worker", first_step: int) -> Load:
    """The rest of a fine-tuning run.

    Args:
        worker: Before its first step.
        first_step: Updates that are done already.

    Returns:
        The load.
    """
    plan, settings = worker.plan, worker.settings
    steps = max(0, plan.num_steps - first_step)
    batch, micro = plan.global_batch_size, plan.micro_batch_size
    counted = max(1, min(steps, _MOST_COUNTED // batch))
    lengths = np.asarray(worker.lengths)
    rows = rows_at(first_step * batch, counted * batch, num_rows=len(lengths), seed=settings.seed)
    starts = (np.arange(counted)[:, None] * batch + np.arange(0, batch, micro)).reshape(-1)
    tokens = np.add.reduceat(lengths[rows], starts)
    kept = np.add.reduceat(activation_bytes(worker.start.config, lengths[rows]), starts)
    labels = len(worker.data.labels)
    flops = worker.task.flops(worker.start.config, lengths[rows].tolist(), num_labels=labels)
    scored = [len(row.input_ids) for row in worker.validation_rows]
    of_evaluation = worker.task.flops(worker.start.config, scored, num_labels=labels)
    ends = sum(plan.is_epoch_end(step) for step in range(first_step + 1, plan.num_steps + 1))
    evaluations = times(settings.eval_every, steps) if settings.eval_every else ends
    saves = sum(
        plan.is_epoch_end(step) or _is_saved(settings, step)
        for step in range(first_step + 1, plan.num_steps + 1)
    )
    return Load(
        name="",
        num_steps=steps,
        examples_per_step=batch,
        micro_batch_size=micro,
        max_seq_length=plan.max_seq_length,
        tokens=float(tokens.mean()),
        most_activations=float(kept.max()),
        example_activations=_longest(worker, plan.max_seq_length),
        flops=flops / len(starts),
        evaluation_flops=float(evaluations * of_evaluation),
        num_saves=saves,
        scoring_bytes=worker.task.scoring_bytes(len(worker.data.splits["validation"])),
        epochs=steps * batch / len(lengths),
    )


def fine_tuning_batch(worker: "Worker", size: int) -> tuple[Batch, float]:
    """Some of a fine-tuning run's examples, and the operations of their forward pass.

    Args:
        worker: Before its first step.
        size: How many.

    Returns:
        The batch, on the host, and the operations.
    """
    chosen = rows_at(0, size, num_rows=len(worker.lengths), seed=worker.settings.seed).tolist()
    lengths = [worker.lengths[row] for row in chosen]
    labels = len(worker.data.labels)
    flops = worker.task.flops(worker.start.config, lengths, num_labels=labels)
    return pack([worker.train_rows[row] for row in chosen]), float(flops)


def pretraining_loads(
    worker: "PretrainWorker", first_step: int, *, scored: Sequence[int], intervals: Sequence[int]
) -> tuple[Load, ...]:
    """The rest of a pre-training run, one load for each phase that is not done.

    Args:
        worker: Before its first step.
        first_step: Updates that are done already.
        scored: Examples of an evaluation, for each phase of the run.
        intervals: Steps between two of them where nothing else was asked for, of each phase.

    Returns:
        The loads, in order.
    """
    found: list[Load] = []
    for phase, count, interval in zip(worker.phases, scored, intervals, strict=True):
        steps = phase.end_step - max(first_step, phase.first_step)
        if steps <= 0:
            continue
        examples = worker.examples[phase.number]
        rows = np.arange(min(len(examples), _SAMPLED_EXAMPLES))
        pairs = examples.pairs(np.zeros_like(rows), rows)
        masked = examples.num_masked(pairs)
        each = pretraining_flops(worker.start.config, pairs.num_tokens.tolist(), masked) / len(rows)
        micro = phase.micro_batch_size
        each_kept = activation_bytes(worker.start.config, pairs.num_tokens)
        kept: np.ndarray = np.add.reduceat(each_kept, np.arange(0, len(rows), micro))
        every = worker.settings.eval_every
        pace = worker.paces.get(phase.number)
        evaluations = times(every or Duration(steps=interval), steps)
        found.append(
            Load(
                name=f"phase {phase.number}",
                num_steps=steps,
                examples_per_step=phase.global_batch_size,
                micro_batch_size=micro,
                max_seq_length=phase.max_seq_length,
                tokens=float(pairs.num_tokens.mean() * micro),
                most_activations=max(float(kept.max()), float(each_kept.mean() * micro)),
                example_activations=_longest(worker, phase.max_seq_length),
                flops=each * micro,
                evaluation_flops=evaluations * count * each,
                num_saves=1 + _saved(worker.settings, phase.end_step - steps + 1, phase.end_step),
                epochs=steps * phase.global_batch_size / len(examples),
                measured_step_s=pace.step_s(phase) if pace else None,
                measured_evaluations_s=pace.evaluations_s(phase, eval_every=every)
                if pace
                else None,
            )
        )
    return tuple(found)


def pretraining_batch(worker: "PretrainWorker", load: Load, size: int) -> tuple[Batch, float]:
    """Some of a phase's examples, and the operations of their forward pass.

    Args:
        worker: Before its first step.
        load: Of the phase.
        size: How many.

    Returns:
        The batch, on the host, and the operations.
    """
    examples = worker.examples[phase_of(load)]
    rows = np.arange(size) % len(examples)
    pairs = examples.pairs(np.zeros_like(rows), rows)
    masked = examples.num_masked(pairs)
    flops = pretraining_flops(worker.start.config, pairs.num_tokens.tolist(), masked)
    return examples.batch(pairs), float(flops)


def _is_saved(settings: "TrainingSettings", step: int) -> bool:
    """Whether a step is saved after by its number; saves by time are not known before."""
    counted = (settings.save_every, settings.keep_every)
    return any(every and every.steps and step % every.steps == 0 for every in counted)


def _saved(settings: "TrainingSettings", first: int, end: int) -> int:
    """How many of these steps, without the last one named, are saved after by their number."""
    return sum(_is_saved(settings, step) for step in range(first, end))


def _longest(worker: "Worker | PretrainWorker", max_seq_length: int) -> float:
    """What the backward pass needs of an example that is as long as allowed."""
    return float(activation_bytes(worker.start.config, [max_seq_length])[0])


def phase_of(load: Load) -> int:
    """The number of the phase that a load is of.

    Args:
        load: From `pretraining_loads`.

    Returns:
        The number.
    """
    return int(load.name.split()[-1])


def times(every: Duration, steps: int) -> int:
    """How often something happens, the end included.

    Args:
        every: Steps; a time counts as never before the end.
        steps: Of the run.

    Returns:
        The number.

    Example:
        >>> times(Duration(steps=4), 10)
        3
    """
    return 1 if every.steps is None else -(-steps // every.steps)
