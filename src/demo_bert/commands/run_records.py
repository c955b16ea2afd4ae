"""What a run writes about itself in run.json, and the checks when it goes on."""

import hashlib
import json
import platform
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from demo_bert import __version__
from demo_bert.commands.starting_weights import StartingWeights
from demo_bert.errors import RunDirectoryError
from demo_bert.run_directory import RunDirectory, beside
from demo_bert.settings import (
    Origin,
    TrainingSettings,
    as_records,
    changes,
    default_output_dir,
    redact,
    result_settings_digest,
)
from demo_bert.tasks.task import TaskData

_PACKAGES = ("torch", "numpy", "tokenizers", "safetensors", "huggingface_hub")


def open_directory(command: str, settings: TrainingSettings) -> RunDirectory:
    """The directory that these settings run in.

    Args:
        command: The command's name.
        settings: The recipe's values filled in.

    Returns:
        The directory: the one that holds the run, or one that is not yet made.

    Raises:
        RunDirectoryError: It holds something else, or nothing where a step is to be taken up.
    """
    directory = RunDirectory(Path(settings.output_dir or default_output_dir(command, settings)))
    recorded = directory.record()
    if recorded is None and isinstance(settings.resume, int):
        raise RunDirectoryError(
            f"--resume {settings.resume}: no run is in {directory.path}; name its directory by -o"
        )
    if recorded is not None and (settings.new or settings.resume == "never"):
        return RunDirectory(beside(directory.path))
    return directory


def run_record(
    command: str,
    settings: TrainingSettings,
    origins: Mapping[str, Origin],
    *,
    argv: Sequence[str],
    data: Mapping[str, Any],
    labels: Sequence[str],
    start: StartingWeights,
    differences: tuple[Sequence[str], Sequence[str]],
    hardware: Mapping[str, object],
) -> dict[str, Any]:
    """The content of run.json.

    Args:
        command: The command's name.
        settings: As they are used.
        origins: Where each came from.
        argv: The program's arguments.
        data: What is trained on: `name`, `sample`, `licence`, `source`, `files`, `counts`.
        labels: Names of the classes, where there are any.
        start: What the weights start from.
        differences: Names missing in the starting weights, and names without a place.
        hardware: Of the backend.

    Returns:
        Plain values, without secrets.
    """
    return {
        "schema_version": 1,
        "command": command,
        "argv": [redact(argument) for argument in argv],
        "digest": result_settings_digest(command, settings),
        "settings": as_records(command, settings, origins),
        "versions": versions(),
        "hardware": dict(hardware),
        "data": dict(data),
        "init_checkpoint": {
            **start.record,
            "missing": list(differences[0]),
            "unexpected": list(differences[1]),
        },
        "model_config": start.config.to_dict(),
        "labels": list(labels),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def data_record(data: TaskData) -> dict[str, Any]:
    """What run.json and results.json say of a task's data.

    Args:
        data: What is trained on.

    Returns:
        Plain values.
    """
    return {
        "name": data.name,
        "sample": data.is_sample,
        "is_pair": data.is_pair,
        "licence": data.licence,
        "source": data.source,
        "files": [dict(file) for file in data.files],
        "counts": {name: len(split) for name, split in data.splits.items()},
    }


def seeds_record(
    record: Mapping[str, Any],
    command: str,
    settings: TrainingSettings,
    origins: Mapping[str, Origin],
) -> dict[str, Any]:
    """The content of run.json above the directories of the seeds.

    Args:
        record: Of the first seed's run.
        command: The command's name.
        settings: With `seeds`.
        origins: Where each came from.

    Returns:
        The same but for what only one seed has.
    """
    whole = {each["name"]: each for each in as_records(command, settings, origins)}
    own = ("seed", "seeds", "output_dir")
    records = [whole[each["name"]] if each["name"] in own else each for each in record["settings"]]
    return {**record, "settings": records}


def keep_record(directory: RunDirectory, record: Mapping[str, Any]) -> list[str]:
    """Writes run.json, or into it what a run that goes on has otherwise now.

    Args:
        directory: The run's.
        record: Of now.

    Returns:
        A text for each setting that is another than before: `settings.changes`.

    Raises:
        DiskError: It cannot be written.
    """
    recorded = directory.record()
    if recorded is None:
        directory.write_record(record)
        return []
    changed = changes(record["settings"], recorded["settings"])
    if changed:
        entry = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "settings": changed}
        history = [*recorded.get("changed", ()), entry]
        now = {name: record[name] for name in ("settings", "digest")}
        directory.write_record({**recorded, **now, "changed": history})
    return changed


def check_same_inputs(record: Mapping[str, Any], recorded: Mapping[str, Any]) -> None:
    """Refuses to go on with other data or other starting weights.

    Args:
        record: Of now.
        recorded: Of the run's beginning.

    Raises:
        RunDirectoryError: Something differs.
    """
    names = ("the data", "the starting weights", "the model's configuration")
    changed = [
        name
        for name, now, then in zip(names, _inputs(record), _inputs(recorded), strict=True)
        if now != then
    ]
    if changed:
        raise RunDirectoryError(
            f"the run was begun with other files: {' and '.join(changed)} changed;"
            " put them back, or start anew with --new"
        )


def inputs_digest(record: Mapping[str, Any]) -> int:
    """A number that is the same where data and starting weights are.

    Args:
        record: The content of run.json.

    Returns:
        256 bits.
    """
    return int(hashlib.sha256(json.dumps(_inputs(record), sort_keys=True).encode()).hexdigest(), 16)


def _inputs(run: Mapping[str, Any]) -> tuple[list[str], list[str], dict[str, Any]]:
    """Hashes of the data and of the starting weights, and the model's configuration."""
    data = [file["sha256"] for file in run["data"]["files"]]
    return data, sorted(run["init_checkpoint"]["sha256"].values()), run["model_config"]


def versions() -> dict[str, str]:
    """The versions of the program and of what it computes with.

    Returns:
        Package -> version, or "not installed".
    """
    found = {"demo_bert": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
