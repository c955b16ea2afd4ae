"""What a pre-training run writes about itself in results.json."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from demo_bert.commands.pretraining_plan import Phase
from demo_bert.commands.run_results import results_frame
from demo_bert.model.flops import pretraining_flops
from demo_bert.report.events import read_events
from demo_bert.run_directory import RunDirectory

if TYPE_CHECKING:
    from demo_bert.commands.pretrain_worker import PretrainWorker

_SAMPLED_EXAMPLES = 2048


def pretraining_results(
    *,
    status: str,
    worker: "PretrainWorker",
    directory: RunDirectory,
    started: float,
    record: Mapping[str, Any],
) -> dict[str, Any]:
    """The content of results.json.

    Args:
        status: "complete", "stopped" or "failed".
        worker: What was trained.
        directory: The run's.
        started: Unix time at which this attempt's command began.
        record: The content of run.json.

    Returns:
        Plain values.
    """
    begun = [phase for phase in worker.phases if worker.step > phase.first_step]
    scored = [phase for phase in begun if phase.number in worker.scores]
    metrics: dict[str, Any] = dict(worker.scores[scored[-1].number]) if scored else {}
    last = begun[-1] if begun else worker.phases[0]
    frame = results_frame(
        "pretraining",
        status=status,
        worker=worker,
        events=[dict(event) for event in read_events(directory.events)],
        started=started,
        record=record,
        operations=lambda steps: _operations(worker, steps),
    )
    return frame | {
        "epochs": sum(_epochs(worker, phase.number) for phase in worker.phases),
        "global_batch_size": last.global_batch_size,
        "learning_rate": last.learning_rate,
        "fast_perf_only": worker.settings.fast_perf_only,
        "metrics": {
            **metrics,
            "split": worker.split,
            "phases": [_phase(worker, phase) for phase in begun],
        },
        "verdict": worker.verdict,
    }


def _phase(worker: "PretrainWorker", phase: Phase) -> dict[str, Any]:
    """A phase's entry in `metrics`."""
    baseline = worker.baseline(phase)
    return {
        "name": f"phase {phase.number}",
        "steps": min(worker.step, phase.end_step) - phase.first_step,
        "max_seq_length": phase.max_seq_length,
        "global_batch_size": phase.global_batch_size,
        "learning_rate": phase.learning_rate,
        "objectives": phase.objectives,
        "metrics": dict(worker.scores.get(phase.number, {})),
        "baseline": vars(baseline) if baseline else {},
    }


def _epochs(worker: "PretrainWorker", number: int) -> float:
    phase = next(phase for phase in worker.phases if phase.number == number)
    done = min(max(worker.step - phase.first_step, 0), phase.num_steps)
    return done * phase.global_batch_size / len(worker.examples[number])


def _operations(worker: "PretrainWorker", steps: Sequence[Mapping[str, Any]]) -> float:
    """Floating-point operations of the forward passes of these steps."""
    each = {phase.number: _flops_per_example(worker, phase.number) for phase in worker.phases}
    return sum(each[event["phase"]] * event["examples"] for event in steps)


def _flops_per_example(worker: "PretrainWorker", number: int) -> float:
    """The mean over some examples of a phase; their lengths hardly differ between steps."""
    examples = worker.examples[number]
    rows = np.arange(min(len(examples), _SAMPLED_EXAMPLES))
    pairs = examples.pairs(np.zeros(len(rows), np.int64), rows)
    total = pretraining_flops(
        worker.start.config, pairs.num_tokens.tolist(), examples.num_masked(pairs)
    )
    return total / len(rows)
