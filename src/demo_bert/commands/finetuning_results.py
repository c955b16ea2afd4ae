"""What a fine-tuning run writes about itself in results.json."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from demo_bert.commands.run_results import results_frame
from demo_bert.data.order import rows_at
from demo_bert.report.events import read_events
from demo_bert.run_directory import RunDirectory

if TYPE_CHECKING:
    from demo_bert.commands.worker import Worker


def finetuning_results(
    *,
    status: str,
    worker: "Worker",
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
    plan = worker.plan
    frame = results_frame(
        "finetuning",
        status=status,
        worker=worker,
        events=[dict(event) for event in read_events(directory.events)],
        started=started,
        record=record,
        operations=lambda steps: _operations(worker, steps),
    )
    return frame | {
        "epochs": worker.step / plan.steps_per_epoch,
        "global_batch_size": plan.global_batch_size,
        "learning_rate": plan.learning_rate,
        "metrics": dict(worker.scores.metrics) if worker.scores else {},
        "is_collapsed": worker.is_collapsed,
    }


def _operations(worker: "Worker", steps: Sequence[Mapping[str, Any]]) -> float:
    """Floating-point operations of the forward passes of these steps, their very examples."""
    batch = worker.plan.global_batch_size
    operations = 0
    for event in steps:
        rows = rows_at(
            (event["step"] - 1) * batch,
            batch,
            num_rows=len(worker.lengths),
            seed=worker.settings.seed,
        )
        operations += worker.task.flops(
            worker.start.config,
            [worker.lengths[row] for row in rows],
            num_labels=len(worker.data.labels),
        )
    return operations
