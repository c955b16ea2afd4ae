"""What a pipeline writes about itself: run.json, and results.json made of its stages' own."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from demo_bert.commands.pipeline_stages import Stage
from demo_bert.commands.run_records import versions
from demo_bert.commands.run_results import wall_s
from demo_bert.corpus.store import MANIFEST_NAME, open_store
from demo_bert.report.events import read_events
from demo_bert.run_directory import RunDirectory
from demo_bert.settings import Origin, as_records, redact, result_settings_digest
from demo_bert.settings.typed import OtherSettings

_OF_A_STAGE = ("status", "steps", "epochs", "metrics", "verdict", "throughput", "wall_s", "data")
_OF_FINETUNING = (
    *("dtype", "device", "world_size", "hosts", "seed", "steps", "epochs", "global_batch_size"),
    *("learning_rate", "init_checkpoint", "metrics", "metrics_std", "per_seed", "collapsed"),
    *("is_collapsed", "throughput", "data"),
)


def pipeline_record(
    settings: OtherSettings, origins: Mapping[str, Origin], *, argv: Sequence[str]
) -> dict[str, Any]:
    """The content of run.json; each stage's own has the rest.

    Args:
        settings: As resolved.
        origins: Where each came from.
        argv: The program's arguments.

    Returns:
        Plain values, without secrets.
    """
    return {
        "schema_version": 1,
        "command": "pipeline",
        "argv": [redact(argument) for argument in argv],
        "digest": result_settings_digest("pipeline", settings),
        "settings": as_records("pipeline", settings, origins),
        "versions": versions(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def pipeline_results(
    directory: RunDirectory,
    stages: Sequence[Stage],
    *,
    status: str,
    values: Mapping[str, Any],
    started: float,
) -> dict[str, Any]:
    """The content of results.json: fine-tuning's figures, and what each stage came to.

    Args:
        directory: The pipeline's.
        stages: All of them.
        status: "complete", "stopped" or "failed".
        values: The pipeline's settings by name.
        started: Unix time at which this attempt began.

    Returns:
        Plain values.
    """
    tuned = RunDirectory(stages[-1].directory).results() or {}
    events = [dict(event) for event in read_events(directory.events)]
    return {
        "schema_version": 1,
        "status": status,
        "command": "pipeline",
        "task": values["task"],
        "model": values["model"],
        "dtype": values["dtype"],
        "seed": values["seed"],
        "metrics": {},
        **{name: tuned[name] for name in _OF_FINETUNING if name in tuned},
        "stages": [_stage(stage, events) for stage in stages],
        "wall_s": wall_s(events, started),
    }


def _stage(stage: Stage, events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How far a stage has come."""
    entry: dict[str, Any] = {"name": stage.command, "directory": stage.directory.name}
    if stage.command == "prepare":
        if not (stage.directory / MANIFEST_NAME).exists():
            return entry | {"status": "unfinished"}
        store = open_store(stage.directory)
        marks = [e for e in events if e["event"] == "stage" and e["name"] == "prepare"]
        seconds = sum(
            end["time"] - begin["time"]
            for begin, end in zip(marks, marks[1:], strict=False)
            if (begin["status"], end["status"]) == ("begun", "complete")
        )
        facts = {
            "tokens": store.num_tokens,
            "sentences": store.num_sentences,
            "documents": store.num_documents,
        }
        return entry | {"status": "complete", "wall_s": seconds, "data": facts}
    results = RunDirectory(stage.directory).results() or {"status": "unfinished"}
    return entry | {name: results[name] for name in _OF_A_STAGE if name in results}
