"""From flags, environment and file to the settings of a command, every problem told at once."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from demo_bert.choices import unknown_name_message
from demo_bert.errors import RunDirectoryError, UsageError
from demo_bert.settings import layers
from demo_bert.settings.argv import Given
from demo_bert.settings.checks import problems_of
from demo_bert.settings.option import PHASED, SIZES, TRAINING, Option
from demo_bert.settings.origin import Origin, Source, redact, shown
from demo_bert.settings.recorded import RUN_FILE, differences, values_of
from demo_bert.settings.table import options_of, phased

if TYPE_CHECKING:
    from demo_bert.settings.typed import Settings

_S = TypeVar("_S", bound="Settings")
_OWN_FILES_TASK = "classification"
_GIVEN: tuple[Source, ...] = ("flag", "environment", "file")


def resolve(
    command: str,
    flags: Mapping[str, Given],
    environ: Mapping[str, str],
    *,
    tasks: Sequence[str] = (),
    planned_tasks: Sequence[str] = (),
    recorded: Mapping[str, object] | None = None,
    problems: Sequence[str] = (),
) -> tuple["Settings", dict[str, Origin]]:
    """The settings of a command, and where each came from.

    Args:
        command: A command's name.
        flags: What the command line gave, from `read_argv`.
        environ: The environment.
        tasks: Names that `-t` takes in fine-tuning; empty: any.
        planned_tasks: Names that it will take one day.
        recorded: What the run in the output directory was started with, from `read_recorded`;
            settings that shape its result keep their value.
        problems: What is wrong already; told together with what is found here.

    Returns:
        (settings, origins by name). None stands where a recipe or the command decides.

    Raises:
        UsageError: Something is wrong with the settings.
        RunDirectoryError: They differ from those of the run that would go on.
        ImportError: The settings file is YAML, and pyyaml is not installed.
    """
    values, origins, found = _values(command, flags, environ)
    found = [*problems, *found]
    if values.get("new") or values.get("resume") == "never":
        recorded = None
    changes = _go_on(command, values, origins, recorded=recorded) if recorded else []
    found += _defaults(command, values, origins)
    found += _tasks(command, values, origins, names=(tasks, planned_tasks))
    found += problems_of(command, values, origins)
    if found or changes:
        wrong = UsageError if found else RunDirectoryError
        raise wrong(redact("; ".join(dict.fromkeys((*found, *changes)))))
    return _settings(command, values), origins


def run_dir_of(command: str, flags: Mapping[str, Given], environ: Mapping[str, str]) -> Path | None:
    """The run directory that flags, environment or file name: by `-o`, to score one by MODEL.

    Args:
        command: A command's name.
        flags: What the command line gave.
        environ: The environment.

    Returns:
        The directory; None where the command has none, nobody named one, or it cannot be told, for
        `resolve` says why.

    Raises:
        ImportError: The settings file is YAML, and pyyaml is not installed.
    """
    if command not in (*TRAINING, "evaluate"):
        return None
    name = _run_dir_option(command)
    values, _, _ = _values(command, flags, environ, names=("config", name))
    found = values.get(name)
    return Path(found) if isinstance(found, str) else None


def with_defaults(
    settings: _S,
    origins: Mapping[str, Origin],
    defaults: Mapping[str, object],
    *,
    source: Source = "recipe",
    where: str = "",
) -> tuple[_S, dict[str, Origin]]:
    """The settings with what nobody set filled in.

    Args:
        settings: From `resolve`.
        origins: From `resolve`.
        defaults: Values by name. A tuple has one value for each phase: where fewer were given, the
            rest is taken from here. `epochs` is left out where `iters` was set, and the reverse.
        source: What the origins say.
        where: What the origins say beside: the recipe's name.

    Returns:
        (settings, origins).

    Raises:
        UsageError: More values were given than there are phases.
    """
    values, origins = values_of(settings), dict(origins)
    problems: list[str] = []
    for name, default in defaults.items():
        value = values[name]
        twin = {"epochs": "iters", "iters": "epochs"}.get(name)
        if value is None and (twin is None or values[twin] is None):
            values[name] = default
            origins[name] = Origin(source, where)
        elif name in phased() and isinstance(value, tuple) and isinstance(default, tuple):
            if len(value) > len(default):
                problems.append(
                    f"{origins[name]} takes {len(default)} value{'s'[: len(default) - 1]} here"
                    f" (one for each phase), got {shown(value)}"
                )
            elif len(value) < len(default):
                values[name] = (*value, *default[len(value) :])
                origins[name] = replace(origins[name], where=f"{origins[name]}, then {source}")
    if problems:
        raise UsageError("; ".join(problems))
    if "values" in {field.name for field in fields(settings)}:
        values = {"values": values}
    return replace(settings, **cast("dict[str, Any]", values)), origins


def _values(
    command: str,
    flags: Mapping[str, Given],
    environ: Mapping[str, str],
    *,
    names: Sequence[str] = (),
) -> tuple[dict[str, object], dict[str, Origin], list[str]]:
    """Reads what flags, environment and file set: values, origins, problems."""
    values: dict[str, object] = {}
    origins: dict[str, Origin] = {}
    problems: list[str] = []
    file: Mapping[str, layers.Texts] = {}
    options = [option for option in options_of(command) if not names or option.name in names]
    # The settings file first: the others may stand in it.
    for option in sorted(options, key=lambda option: option.name != "config"):
        path = str(values.get("config", ""))
        found = layers.find(option, flags, environ, file=file, file_name=path)
        if found is None:
            continue
        texts, origins[option.name] = found
        if not texts:
            continue
        try:
            values[option.name] = option.read(texts)
            if option.name == "config":
                file = layers.read_file(texts[-1], command)
        except UsageError as error:
            is_file = option.name == "config" and option.name in values
            problems.append(str(error) if is_file else f"{origins[option.name]}: {error}")
    if {"epochs", "iters"} <= values.keys():
        problems += _choose_length(values, origins)
    return values, origins, problems


def _choose_length(values: dict[str, object], origins: dict[str, Origin]) -> list[str]:
    """Epochs and steps say the same thing: the higher place wins, one place may not say both."""
    ranks = {name: _GIVEN.index(origins[name].source) for name in ("epochs", "iters")}
    if ranks["epochs"] == ranks["iters"]:
        return [f"{origins['epochs']} and {origins['iters']} exclude each other; give one of them"]
    loser = max(ranks, key=lambda name: ranks[name])
    del values[loser], origins[loser]
    return []


def _go_on(
    command: str,
    values: dict[str, object],
    origins: dict[str, Origin],
    *,
    recorded: Mapping[str, object],
) -> list[str]:
    """Takes over the settings of a former run; returns what was set otherwise now."""
    changed: list[str] = []
    if command in TRAINING:
        given = {name: values[name] for name in values if origins[name].source in _GIVEN}
        changed = differences(command, given, recorded)
    _fill_recorded(command, values, origins, recorded=recorded)
    if not changed:
        return []
    return [
        f"{values.get('output_dir')} holds a run with other settings: {', '.join(changed)}; name"
        " another directory by -o, or add --new"
    ]


def _fill_recorded(
    command: str,
    values: dict[str, object],
    origins: dict[str, Origin],
    *,
    recorded: Mapping[str, object],
) -> None:
    """Takes from a former run what shapes its result; of a model that is scored, its task."""
    where = str(values.get(_run_dir_option(command), ""))
    for option in options_of(command):
        is_kept = option.shapes_result if command in TRAINING else option.name == "task"
        if not is_kept or recorded.get(option.name) is None:
            continue
        before = layers.texts_of(recorded[option.name], is_repeatable=option.arity == "repeatable")
        if before is None:
            continue
        try:
            value = option.read(before)
        except UsageError:
            # A run of another version of the program; its command will say what is wrong.
            continue
        if option.name not in values:
            values[option.name] = value
            origins[option.name] = Origin("run", str(Path(where) / RUN_FILE))
        elif option.arity == "one-or-two":
            now, kept = values[option.name], value
            if isinstance(now, tuple) and isinstance(kept, tuple):
                values[option.name] = (*now, *kept[len(now) :])


def _defaults(command: str, values: dict[str, object], origins: dict[str, Origin]) -> list[str]:
    """Fills in the table's defaults; returns what is missing."""
    problems: list[str] = []
    for option in options_of(command):
        if option.name in values or option.name in origins:
            continue
        if option.is_required:
            problems.append(_missing(option, command))
        values[option.name] = option.default
        origins[option.name] = Origin("default")
    return problems


def _missing(option: Option, command: str) -> str:
    if option.group == "positional":
        return f"{command} needs {option.label}: {option.help[0].lower()}{option.help[1:-1]}"
    wants = "|".join(option.choices) or option.metavar
    if option.name == "model":
        wants = f"{', '.join(SIZES)}, a directory or a hub name"
    return f"{option.label} is required: {wants}"


def _tasks(
    command: str,
    values: dict[str, object],
    origins: dict[str, Origin],
    *,
    names: tuple[Sequence[str], Sequence[str]],
) -> list[str]:
    """Checks `-t` of what is fine-tuned or scored, and sets it for the user's own files."""
    if command not in ("finetuning", "evaluate") or "task" not in values:
        return []
    tasks, planned = names
    task = values["task"]
    if task is None and values.get("dataset_path"):
        values["task"] = _OWN_FILES_TASK
        origins["task"] = Origin("default", "for --dataset-path")
    elif task is None:
        known = f" ({', '.join(tasks)})" if tasks else ""
        return [f"-t/--task is required{known}, or --dataset-path with your own files"]
    elif task in planned:
        return [f"{origins['task']} {task}: not here yet; there are {', '.join(tasks)}"]
    elif tasks and task not in tasks:
        return [f"{origins['task']}: {unknown_name_message('task', str(task), tasks)}"]
    return []


def _run_dir_option(command: str) -> str:
    return "output_dir" if command in TRAINING else "model"


def _settings(command: str, values: Mapping[str, object]) -> "Settings":
    from demo_bert.settings.typed import SETTINGS_OF, OtherSettings

    if command not in SETTINGS_OF:
        return OtherSettings(values=values)
    if command not in PHASED and command != "finetuning":
        # One value, in commands that know no phases.
        values = {
            option.name: value[0]
            if option.arity == "one-or-two" and isinstance(value := values[option.name], tuple)
            else values[option.name]
            for option in options_of(command)
        }
    return SETTINGS_OF[command](**cast("dict[str, Any]", values))
