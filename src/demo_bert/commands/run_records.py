"""What a run writes about itself in run.json, and the checks when it goes on."""

import platform
import shlex
import sys
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
        "versions": _versions(),
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


def check_same_inputs(record: Mapping[str, Any], recorded: Mapping[str, Any]) -> None:
    """Refuses to go on with other data or other starting weights.

    Args:
        record: Of now.
        recorded: Of the run's beginning.

    Raises:
        RunDirectoryError: Something differs.
    """

    def hashes(run: Mapping[str, Any]) -> tuple[list[str], list[str], dict[str, Any]]:
        data = [file["sha256"] for file in run["data"]["files"]]
        return data, sorted(run["init_checkpoint"]["sha256"].values()), run["model_config"]

    names = ("the data", "the starting weights", "the model's configuration")
    changed = [
        name
        for name, now, then in zip(names, hashes(record), hashes(recorded), strict=True)
        if now != then
    ]
    if changed:
        raise RunDirectoryError(
            f"the run was begun with other files: {' and '.join(changed)} changed;"
            " put them back, or start anew with --new"
        )


def program() -> str:
    """How the user calls the program: the launcher of a checkout by its path, else by name."""
    called = Path(sys.argv[0])
    if called.name != "demo_bert" or not (called.parent / "src" / "demo_bert").is_dir():
        return "demo_bert"
    is_here = called.resolve().parent == Path.cwd()
    return "./demo_bert" if is_here else str(called)


def going_on_command(
    name: str, argv: Sequence[str], settings: TrainingSettings, directory: RunDirectory
) -> str:
    """The command that goes on with a stopped run.

    Args:
        name: The command's name.
        argv: The program's arguments.
        settings: As resolved from them.
        directory: The run's, or the one above those of the seeds.

    Returns:
        One line for a shell: the same command where it finds the directory and its newest
        checkpoint again, else one that names the directory, whose record has the rest.
    """
    if settings.resume == "auto" and not settings.new:
        return shlex.join([program(), *map(redact, argv)])
    command = [program(), name, "-o", str(directory.path)]
    if settings.workers is not None:
        command += ["-v"] if settings.workers == "auto" else ["-v", str(settings.workers)]
    return shlex.join(command)


def _versions() -> dict[str, str]:
    versions = {"demo_bert": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions
