"""The places that settings come from: flags above environment above settings file."""

import os
from collections.abc import Mapping
from pathlib import Path

from demo_bert.choices import guess
from demo_bert.errors import DataError, UsageError
from demo_bert.settings.argv import Given
from demo_bert.settings.option import Option
from demo_bert.settings.origin import Origin
from demo_bert.settings.table import OPTIONS, options_of

Texts = tuple[str, ...]

# "range" asks for a trace over a range of steps that the original fixed in its code.
_PROFILE = {"range": "10:20", "false": "", "0": ""}


def find(
    option: Option,
    flags: Mapping[str, Given],
    environ: Mapping[str, str],
    *,
    file: Mapping[str, Texts],
    file_name: str,
) -> tuple[Texts, Origin] | None:
    """The texts that set an option, from the highest place that has any.

    Args:
        option: A row of the table.
        flags: What the command line gave.
        environ: The environment; an empty variable counts as unset.
        file: What the settings file gave, by name.
        file_name: Its path, for messages.

    Returns:
        The texts and their origin, or None where nobody set it; no texts where it was meant and
        could not be read.
    """
    given = flags.get(option.name)
    if given is not None and not _is_open(option, given):
        return given.texts, Origin("flag", given.flag or option.label)
    for variable in (option.variable, *option.aliases):
        text = _translated(variable, environ.get(variable, ""))
        # NUM_WORKERS_PER_HLS is the number of -v, it does not ask for workers by itself.
        if text and not (variable == "NUM_WORKERS_PER_HLS" and given is None):
            texts = tuple(text.split(os.pathsep)) if option.arity == "repeatable" else (text,)
            return texts, Origin("environment", variable)
    if given is not None:
        return given.texts, Origin("flag", given.flag)
    if option.name in file:
        return file[option.name], Origin("file", f"{file_name}: {option.name}")
    return None


def read_file(path: str, command: str) -> dict[str, Texts]:
    """Reads a settings file.

    Args:
        path: A TOML file, or YAML where its name ends in .yaml or .yml. Keys are names of options;
            a table named after a command holds options of that command alone.
        command: The command that runs.

    Returns:
        Texts by name, as flags would give them.

    Raises:
        UsageError: The file cannot be read, or has a key that is no option of the command.
        ImportError: It is YAML, and pyyaml is not installed.
    """
    content = _parsed(Path(path))
    own = {key: value for key, value in content.items() if not _is_section(key, value)}
    section = content.get(command)
    if isinstance(section, Mapping):
        own |= section
    names = {option.name: option for option in options_of(command) if option.name != "config"}
    found: dict[str, Texts] = {}
    problems: list[str] = []
    for key, value in own.items():
        name = str(key).replace("-", "_")
        if name in names:
            texts = texts_of(value, is_repeatable=names[name].arity == "repeatable")
            if texts is None:
                problems.append(f"{path}: {key}: needs a number, a text, true, false or a list")
            else:
                found[name] = texts
        else:
            problems.append(f"{path}: {_unknown_key(str(key), command, names)}")
    if problems:
        raise UsageError("; ".join(problems))
    return found


def is_yaml(path: str) -> bool:
    """Whether a settings file is YAML, which the standard library cannot read.

    Args:
        path: Its path.

    Returns:
        True where its name says so.
    """
    return Path(path).suffix.lower() in (".yaml", ".yml")


def texts_of(value: object, *, is_repeatable: bool) -> Texts | None:
    """A value of TOML, YAML or JSON as the texts that flags would give.

    Args:
        value: The value.
        is_repeatable: Whether each item of a list is a text of its own.

    Returns:
        The texts, or None where the value is of no such kind.
    """
    if isinstance(value, bool):
        return ("true" if value else "false",)
    if isinstance(value, int | float | str):
        return (str(value),)
    if isinstance(value, Mapping):
        pairs = [f"{key}={item}" for key, item in value.items() if isinstance(item, str)]
        return (",".join(pairs),) if len(pairs) == len(value) else None
    if isinstance(value, list) and value:
        if not all(isinstance(item, bool | int | float | str) for item in value):
            return None
        texts = tuple(str(item) for item in value)
        return texts if is_repeatable else (",".join(texts),)
    return None


def _parsed(path: Path) -> Mapping[object, object]:
    from demo_bert.files import read_text

    try:
        text = read_text(path)
    except DataError as error:
        raise UsageError(f"--config {error}") from error
    content = _yaml(text, path) if is_yaml(str(path)) else _toml(text, path)
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        raise UsageError(f"{path}: needs settings as name: value, got a {type(content).__name__}")
    return content


def _toml(text: str, path: Path) -> object:
    import tomllib

    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: no valid TOML: {error}") from error


def _yaml(text: str, path: Path) -> object:
    import yaml

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # the 99th of a month, say
        raise UsageError(f"{path}: no valid YAML: {' '.join(str(error).split())}") from error


def _is_section(key: object, value: object) -> bool:
    commands = {command for option in OPTIONS for command in option.commands}
    return key in commands and isinstance(value, Mapping)


_SHOWN_CHARACTERS = 60


def _unknown_key(key: str, command: str, names: Mapping[str, Option]) -> str:
    name = key.replace("-", "_")
    found = (owner for row in OPTIONS if row.name == name for owner in row.commands)
    owners = list(dict.fromkeys(found))
    if owners and name != "config":
        return (
            f"{key} is an option of {', '.join(owners)}, not of {command}; put it in [{owners[0]}]"
        )
    short = key if len(key) <= _SHOWN_CHARACTERS else f"{key[:_SHOWN_CHARACTERS]}..."
    return f"unknown setting {short!r}{guess(short, names)}; demo_bert {command} -h lists all"


def _is_open(option: Option, given: Given) -> bool:
    """Whether the flag came without a number, so that the environment may name it."""
    return option.arity == "optional-number" and given.texts[-1:] == ("auto",)


def _translated(variable: str, text: str) -> str:
    if variable == "HABANA_SYNAPSE_LOGGER":
        return _PROFILE.get(text.lower(), text)
    return text
