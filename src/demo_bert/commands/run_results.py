"""What every run writes about itself in results.json: its settings, throughput and time."""

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from demo_bert.model.flops import TRAINING_FACTOR
from demo_bert.report.events import last_steps
from demo_bert.report.step_parts import step_parts

if TYPE_CHECKING:
    from demo_bert.commands.run_worker import RunWorker

WARM_UP_STEPS = 3
"""First steps of each attempt and phase that the throughput leaves out."""


def results_frame(
    command: str,
    *,
    status: str,
    worker: "RunWorker",
    events: Sequence[dict[str, Any]],
    started: float,
    record: Mapping[str, Any],
    operations: Callable[[Sequence[Mapping[str, Any]]], float],
) -> dict[str, Any]:
    """What the results of every training command have.

    Args:
        command: The command's name.
        status: "complete", "stopped" or "failed".
        worker: What was trained.
        events: All of the run.
        started: Unix time at which this attempt's command began.
        record: The content of run.json.
        operations: Floating-point operations of the forward passes of some `step` events; asked
            for only where the machine's peak is known.

    Returns:
        Plain values.
    """
    settings = worker.settings
    return {
        "schema_version": 1,
        "status": status,
        "command": command,
        "task": settings.task,
        "model": settings.model,
        "dtype": settings.dtype,
        "device": worker.backend.name,
        "world_size": worker.world.world_size,
        "hosts": list(settings.hosts or [platform.node()]),
        "seed": settings.seed,
        "steps": worker.step,
        "init_checkpoint": record["init_checkpoint"]["name"],
        "throughput": _throughput(
            events,
            operations=operations,
            peak_flops=worker.backend.peak_flops(worker.dtype),
            num_workers=worker.world.world_size,
            runs_ahead=worker.backend.name != "cpu",
        ),
        "wall_s": wall_s(events, started),
        "data": record["data"],
    }


def _throughput(
    events: Sequence[dict[str, Any]],
    *,
    operations: Callable[[Sequence[Mapping[str, Any]]], float],
    peak_flops: float | None,
    num_workers: int,
    runs_ahead: bool,
) -> dict[str, Any]:
    """Of all steps but the first three of each attempt and phase, and those that were traced.

    Evaluation and saving are between steps.
    """
    steps: list[dict[str, Any]] = [dict(event) for event in last_steps(list(events))]
    traced = {
        (event["attempt"], step)
        for event in events
        if event["event"] == "profile"
        for step in range(event["first_step"], event["last_step"] + 1)
    }
    seen: dict[tuple[int, int | None], int] = {}
    counted: list[dict[str, Any]] = []
    for event in steps:
        part = event["attempt"], event.get("phase")
        place = seen[part] = seen.get(part, 0) + 1
        if place > WARM_UP_STEPS and (event["attempt"], event["step"]) not in traced:
            counted.append(event)
    seconds = sum(event["seconds"] for event in counted)
    if not seconds:
        return {"examples_per_s": None, "real_tokens_per_s": None, "model_flops_utilisation": None}
    utilisation = None
    if peak_flops is not None:
        utilisation = TRAINING_FACTOR * operations(counted) / seconds / peak_flops / num_workers
    return {
        "examples_per_s": sum(event["examples"] for event in counted) / seconds,
        "real_tokens_per_s": sum(event["tokens"] for event in counted) / seconds,
        "model_flops_utilisation": utilisation,
        "shares": _shares(counted, runs_ahead=runs_ahead),
        "steps_left_out": len(steps) - len(counted),
        **_exchange(counted, seconds, runs_ahead=runs_ahead),
    }


def _exchange(
    steps: Sequence[Mapping[str, Any]], seconds: float, *, runs_ahead: bool
) -> dict[str, Any]:
    """What the sum of gradients over workers cost; nothing where there was one worker.

    On a device that runs ahead of the host the host waits for the passes there, so what the sum
    took is not known.
    """
    if "sent_bytes" not in steps[-1]:
        return {}
    waited_s = sum(event["parts_s"]["communication"] for event in steps)
    return {
        "sent_bytes_per_step": steps[-1]["sent_bytes"],
        "exchange_fraction": None if runs_ahead else waited_s / seconds,
    }


def _shares(steps: Sequence[Mapping[str, Any]], *, runs_ahead: bool) -> dict[str, float]:
    """Where the time of the steps went on the first worker, each part as a share of the whole."""
    parts: dict[str, float] = {}
    for event in steps:
        for part, seconds in step_parts(event.get("parts_s", {}), runs_ahead=runs_ahead).items():
            parts[part] = parts.get(part, 0.0) + seconds
    whole = sum(event["seconds"] for event in steps)
    return {part: seconds / whole for part, seconds in parts.items()}


def wall_s(events: Sequence[Mapping[str, Any]], started: float) -> float:
    """This attempt's time so far and, of those before, from their command's start to last event.

    Args:
        events: All of the run.
        started: Unix time at which this attempt's command began.

    Returns:
        Seconds.
    """
    spans: dict[int, list[float]] = {}
    for event in events:
        span = spans.setdefault(event["attempt"], [])
        span += [event["time"], event.get("begun", event["time"])]
    earlier = sorted(spans)[:-1]
    return time.time() - started + sum(max(spans[a]) - min(spans[a]) for a in earlier)
