"""What a run was started with: kept in run.json, compared when it goes on, digested in its name."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from demo_bert.errors import RunDirectoryError
from demo_bert.settings.option import Option
from demo_bert.settings.origin import Origin, as_json, redact, shown
from demo_bert.settings.table import options_of

if TYPE_CHECKING:
    from demo_bert.settings.typed import Settings

RUN_FILE = "run.json"
"""Name of the file in a run directory."""


def as_records(
    command: str, settings: "Settings", origins: Mapping[str, Origin]
) -> list[dict[str, object]]:
    """The settings as run.json has them.

    Args:
        command: The command that runs.
        settings: Its settings.
        origins: Where each came from.

    Returns:
        `name`, `value`, `source`, `variable` of each option; secrets are hidden.
    """
    values = values_of(settings)
    return [
        {
            "name": option.name,
            "value": as_json(values[option.name]),
            "source": redact(origins.get(option.name, Origin("default")).full),
            "variable": option.variable,
        }
        for option in options_of(command)
    ]


def read_recorded(run_dir: Path) -> dict[str, object] | None:
    """The settings that a run was started with.

    Args:
        run_dir: A run directory, or any other path.

    Returns:
        Values by name as JSON has them, `command` among them; None where there is no run.

    Raises:
        RunDirectoryError: There is a run.json, and it is damaged.
    """
    import json

    path = run_dir / RUN_FILE
    try:
        content = json.loads(path.read_bytes())
        command = content["command"]
        values = {record["name"]: record["value"] for record in content["settings"]}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise RunDirectoryError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise RunDirectoryError(
            f"{path}: damaged, the settings of the run cannot be read from it; name another"
            " directory by -o"
        ) from error
    return {**values, "command": command}


def differences(
    command: str, given: Mapping[str, object], recorded: Mapping[str, object]
) -> list[str]:
    """How the settings of a run that goes on differ from those it was started with.

    Args:
        command: The command that runs.
        given: Values by name that were set now, by flag, environment or file.
        recorded: What `read_recorded` gave.

    Returns:
        One text for each setting that shapes the result and differs: "batch_size is 64, was 32".
    """
    if recorded.get("command", command) != command:
        return [f"the command is {command}, was {recorded['command']}"]
    found: list[str] = []
    for option in options_of(command):
        if option.name not in given or option.name not in recorded or not option.shapes_result:
            continue
        now, before = as_json(given[option.name]), recorded[option.name]
        if not _is_same(option, now, before):
            texts = [shown(tuple(v) if isinstance(v, list) else v) for v in (now, before)]
            found.append(f"{option.name} is {texts[0]}, was {texts[1]}")
    return found


def result_settings_digest(command: str, settings: "Settings") -> str:
    """A short name of the settings that shape the result.

    Args:
        command: The command that runs.
        settings: Its settings, the recipe's values filled in.

    Returns:
        8 hexadecimal digits; logging, device, workers, saving, the output directory and the time
        limit do not change them.
    """
    import hashlib
    import json

    values = values_of(settings)
    shaping = {
        option.name: as_json(values[option.name])
        for option in options_of(command)
        if option.shapes_result and values[option.name] is not None
    }
    text = json.dumps([command, shaping], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def default_output_dir(command: str, settings: "Settings") -> str:
    """The run directory where none was named.

    Args:
        command: The command that runs.
        settings: Its settings, the recipe's values filled in.

    Returns:
        `runs/<command>-<task>-<model>-<digest>`; of a model's path or hub name the last part.
    """
    values = values_of(settings)
    model = Path(os.path.abspath(str(values["model"]))).name
    return f"runs/{command}-{values['task']}-{model}-{result_settings_digest(command, settings)}"


def values_of(settings: "Settings") -> dict[str, object]:
    """The settings by name.

    Args:
        settings: Of any command.

    Returns:
        Name -> value.
    """
    values = {field.name: getattr(settings, field.name) for field in fields(settings)}
    # OtherSettings has them all in one field.
    return dict(values["values"]) if "values" in values else values


def _is_same(option: Option, now: object, before: object) -> bool:
    if now == before:
        return True
    if option.arity == "one-or-two" and isinstance(now, list) and isinstance(before, list):
        # One value sets the first phase; the second keeps what it had.
        return now == before[: len(now)]
    if option.metavar == "PATH":
        return _absolute(now) == _absolute(before)
    return False


def _absolute(value: object) -> object:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_absolute(item) for item in value]
    return os.path.abspath(value) if isinstance(value, str) else value
