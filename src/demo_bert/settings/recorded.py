"""What a run was started with: kept in run.json, compared when it goes on, digested in its name."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from demo_bert.errors import RunDirectoryError
from demo_bert.settings.checks import looks_like_path
from demo_bert.settings.option import Option
from demo_bert.settings.origin import Origin, as_json, redact, shown
from demo_bert.settings.readers import path as path_reader
from demo_bert.settings.table import options_of

if TYPE_CHECKING:
    from demo_bert.settings.typed import Settings

# Options that take a name as well as a path.
_NAMES = ("model", "init_checkpoint")
# How long a run is: it may become longer.
_LENGTHS = ("iters", "epochs")
# What says where and how a run goes on, and nothing about it.
_OF_THE_CALL = ("output_dir", "new", "resume", "config")

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
        `name`, `value`, `source`, `variable` of each option; secrets are hidden, paths to data and
        weights are absolute, for the run may go on from another directory.
    """
    values = values_of(settings)
    return [
        {
            "name": option.name,
            "value": _as_place(option, as_json(values[option.name])),
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
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunDirectoryError(
            f"{path}: damaged; the settings of the run cannot be read, give another directory"
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
        if option.name == "reproducible" and now is False:
            continue  # the promise may be given up, but not made later
        if option.name in _LENGTHS and _is_longer(now, before):
            continue
        if not _is_same(option, now, before):
            found.append(_difference(option.name, now, before))
    return found


def changes(
    now: Sequence[Mapping[str, object]], recorded: Sequence[Mapping[str, object]]
) -> list[str]:
    """What a run goes on with that was otherwise before, allowed as it is.

    Args:
        now: From `as_records`.
        recorded: Those in run.json.

    Returns:
        One text for each setting, as `differences` has it.
    """
    before = {record["name"]: record["value"] for record in recorded}
    return [
        _difference(str(record["name"]), record["value"], before[record["name"]])
        for record in now
        if record["name"] in before
        and record["name"] not in _OF_THE_CALL
        and record["value"] != before[record["name"]]
    ]


def is_longer(settings: "Settings", recorded: Sequence[Mapping[str, object]]) -> bool:
    """Whether a run is to have more steps or epochs than before.

    Args:
        settings: As resolved.
        recorded: The settings in run.json.

    Returns:
        True where it is.
    """
    values = values_of(settings)
    before = {record["name"]: record["value"] for record in recorded}
    return any(_is_longer(as_json(values[name]), before.get(name)) for name in _LENGTHS)


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


def _difference(name: str, now: object, before: object) -> str:
    texts = [shown(tuple(v) if isinstance(v, list) else v) for v in (now, before)]
    return f"{name} is {texts[0]}, was {texts[1]}"


def _is_longer(now: object, before: object) -> bool:
    """Whether the last phase has more than before, and those before it as much."""
    new, old = _numbers(now), _numbers(before)
    return len(new) == len(old) > 0 and new[:-1] == old[:-1] and new[-1] > old[-1]


def _numbers(value: object) -> list[float]:
    """The values of the phases; empty where there are none."""
    values = value if isinstance(value, list) else [value]
    return [one for one in values if isinstance(one, int | float)]


def _is_same(option: Option, now: object, before: object) -> bool:
    if now == before:
        return True
    if option.arity == "one-or-two" and isinstance(now, list) and isinstance(before, list):
        # One value sets the first phase; the second keeps what it had.
        return now == before[: len(now)]
    return _as_place(option, now) == _as_place(option, before)


def _as_place(option: Option, value: object) -> object:
    """The value, absolute where it is a path that shapes the result."""
    if option.parse is not path_reader or not option.shapes_result:
        return value
    if isinstance(value, list):
        return [_as_place(option, item) for item in value]
    if not isinstance(value, str) or (option.name in _NAMES and not looks_like_path(value)):
        return value
    return os.path.abspath(value)
