"""Graphs of pre-training's micro-steps: a phase's shapes, and examples to prove them on."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from demo_bert.commands.graphs import FixedShapes
from demo_bert.commands.pretraining_plan import Phase
from demo_bert.data.capacity import capacities, expected_totals
from demo_bert.data.masking import CHOSEN_FRACTION
from demo_bert.data.packing import Batch
from demo_bert.data.pairs import Pairs
from demo_bert.data.pretraining import Examples
from demo_bert.training import LossSum, MicroStep, divided_losses

if TYPE_CHECKING:
    from demo_bert.commands.pretrain_worker import PretrainWorker

_SAMPLED_EXAMPLES = 2048


def recorded_micro_step(
    worker: "PretrainWorker", phase: Phase, *, loss_sum: LossSum, emit: Callable[..., object]
) -> tuple[MicroStep | None, Callable[[Batch], Batch] | None]:
    """See `Graphs.micro_step`.

    Args:
        worker: Before the phase's next step.
        phase: The phase.
        loss_sum: Its loss.
        emit: Records an event of the phase.

    Returns:
        The micro-step, and what brings batches to its shapes; None and None where there is none.
    """
    if not worker.graphs.is_wanted:
        return None, None
    shapes = _shapes(worker, phase)
    losses_of = partial(
        divided_losses,
        worker.model,
        loss_sum=loss_sum,
        dtype=worker.dtype,
        backend=worker.backend,
    )
    step = worker.step - phase.first_step
    micro_step = worker.graphs.micro_step(shapes, losses_of, emit=emit, step=step)
    return micro_step, None if micro_step is None else shapes.fill


def _shapes(worker: "PretrainWorker", phase: Phase) -> FixedShapes:
    """The shapes of the phase's micro-batches, of the size that they have now."""
    examples, known = worker.examples[phase.number], worker.graphs.sizes
    micro, length = phase.micro_batch_size, phase.max_seq_length
    rows = np.arange(min(len(examples), _SAMPLED_EXAMPLES))
    lengths = _pairs(examples, rows).num_tokens.tolist()
    key = phase.number, micro
    if key not in known:
        totals, share = expected_totals(lengths, micro), CHOSEN_FRACTION * examples.is_masked
        known[key] = capacities(micro, length, totals=totals, masked_fraction=share)
    return FixedShapes(
        known[key],
        max_seq_length=length,
        micro_batch_size=micro,
        lengths=lengths,
        pack=lambda chosen: examples.batch(_pairs(examples, np.asarray(chosen))),
        parts=phase.parts,
    )


def _pairs(examples: Examples, rows: np.ndarray) -> Pairs:
    return examples.pairs(np.zeros_like(rows), rows)
