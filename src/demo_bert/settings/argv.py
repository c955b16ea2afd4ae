"""Reads a command line into flags and words, by the table alone.

No argparse: its options with one or two values, or with none or one, swallow the command that
follows them (`-b 64 finetuning`, `-v report`), so that every flag has to be rewritten before it
sees them; and it stops at the first problem, where all are to be told together.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from demo_bert.choices import is_number, near, unknown_name_message
from demo_bert.errors import UsageError
from demo_bert.settings.option import Option
from demo_bert.settings.table import OPTIONS, arities, options_of

_HELP = ("-h", "--help")
_VERSION = "--version"
_INTEGER = re.compile(r"-?[0-9]+(\.[0-9]*)?")


@dataclass(frozen=True)
class Given:
    """What was given for one option."""

    flag: str
    """The flag as it was typed; empty for a positional argument."""
    texts: tuple[str, ...]
    """One text for each time; the values of one time are joined by commas. Empty where it was meant
    and could not be read, which a problem tells."""


@dataclass(frozen=True)
class CommandLine:
    """A command line, read."""

    command: str | None
    """The command; None where there is none, or none that exists."""
    given: Mapping[str, Given]
    """Options of the command, by name."""
    wants_help: bool = False
    wants_version: bool = False
    problems: tuple[str, ...] = ()
    """What is wrong, each in a few words; empty where nothing is."""


@dataclass
class _Scan:
    """Flags with their texts, and words, in the order of the command line."""

    flags: list[tuple[str, str, str | None]]
    """(as typed, with dashes, text or None where it could not be read)."""
    words: list[str]
    unknown: list[str]
    problems: list[str]
    wants_help: bool = False
    wants_version: bool = False


def read_argv(argv: Sequence[str], commands: Iterable[str]) -> CommandLine:
    """Reads a command line; options may stand before or after the command.

    Args:
        argv: The arguments, without the program's name.
        commands: The commands that exist.

    Returns:
        What was asked for, and all that is wrong with it. Values are not read yet.
    """
    known = tuple(commands)
    scan = _scan(argv, known)
    words, problems = scan.words, scan.problems
    wants_help = scan.wants_help
    if words and words[0] == "help":
        wants_help = True
        words = words[1:]
    command: str | None = None
    if scan.unknown and words and words[0] not in known:
        # The word is most likely the value of the flag that is unknown.
        words = [word for word in words if word in known][:1]
    if words and words[0] in known:
        command, words = words[0], words[1:]
    elif words:
        problems.append(unknown_name_message("command", words[0], known))
        words.clear()
    given: dict[str, Given] = {}
    if command is not None:
        problems += _bind(scan, command, given=given, words=words)
    else:
        problems += [_unknown_flag(flag, arities(), None) for flag in scan.unknown]
    return CommandLine(command, given, wants_help, scan.wants_version, tuple(problems))


def flags_of(argv: Sequence[str], command: str) -> Mapping[str, Given]:
    """What a command line without the command's name gives, for callers other than the program.

    Args:
        argv: Flags and arguments.
        command: The command that they are for.

    Returns:
        Options by name, as `resolve` takes them.

    Raises:
        UsageError: Something is wrong with them.
    """
    line = read_argv([command, *argv], [command])
    if line.problems:
        raise UsageError("; ".join(line.problems))
    return line.given


def _scan(argv: Sequence[str], commands: Sequence[str]) -> _Scan:
    scan = _Scan([], [], [], [])
    rest = list(argv)
    while rest:
        token = rest.pop(0)
        if token == "--":
            scan.words += rest
            break
        if not _is_flag(token):
            scan.words.append(token)
        elif token in _HELP:
            scan.wants_help = True
        elif token == _VERSION:
            scan.wants_version = True
        else:
            _take_flag(token, rest, scan=scan, commands=commands)
    return scan


def _take_flag(token: str, rest: list[str], *, scan: _Scan, commands: Sequence[str]) -> None:
    """Takes the values of a flag off the rest."""
    typed, flag, text = _split(token)
    if flag is None:
        scan.unknown.append(typed)
        return
    arity = arities()[flag]
    if text is None and arity == "flag":
        text = rest.pop(0) if rest and rest[0] in ("0", "1") else "true"
    elif text is None and arity == "optional-number":
        text = rest.pop(0) if rest and _INTEGER.fullmatch(rest[0]) else "auto"
    elif text is None:
        text = _value(flag, rest, commands=commands)
        if text is None:
            scan.problems.append(f"{typed} needs {_wanted(flag)}")
    if arity == "one-or-two" and text is not None:
        values = ",".join([text, *_more_values(flag, rest)]).replace(",", " ").split()
        if len(values) > 2:
            scan.problems.append(
                f"{typed} takes one value or two (one for each phase), got {' '.join(values)}"
            )
        text = ",".join(values) if len(values) <= 2 else None
    scan.flags.append((typed, flag, text))


def _split(token: str) -> tuple[str, str | None, str | None]:
    """Parts a token into (flag as typed, flag with dashes or None, text after it or None)."""
    typed, equals, text = token.partition("=")
    flag = _dashed(typed)
    if flag in arities():
        return typed, flag, text if equals else None
    joined = token[2:].removeprefix("=")
    # `-b64`, `-v2`: a value may be joined to a short flag where it cannot be a mistyped long one.
    if token[:2] in arities() and (is_number(joined) or _is_choice(token[:2], joined)):
        return token[:2], token[:2], joined
    return typed, None, None


def _value(flag: str, rest: list[str], *, commands: Sequence[str]) -> str | None:
    """Takes the one value that must follow, or nothing where what follows cannot be it."""
    if not rest or rest[0] == "--":
        return None
    token = rest[0]
    takes_numbers = arities()[flag] == "one-or-two" and not _rows(flag)[0].choices
    # `-b finetuning`: the number is missing. `--text "- a list"`: a text may begin with a dash.
    is_missing = takes_numbers and token in commands
    is_missing |= _is_flag(token) and (" " not in token or _split(token)[1] is not None)
    return None if is_missing else rest.pop(0)


def _more_values(flag: str, rest: list[str]) -> list[str]:
    more: list[str] = []
    while rest and any(row.goes_on(rest[0]) for row in _rows(flag)):
        more.append(rest.pop(0))
    return more


def _bind(scan: _Scan, command: str, *, given: dict[str, Given], words: list[str]) -> list[str]:
    """Gives flags and words to the command's options; returns what is wrong."""
    options = options_of(command)
    owners = {flag: option for option in options for flag in option.all_flags}
    problems: list[str] = []
    for typed in scan.unknown:
        problems.append(_unknown_flag(typed, owners, command))
        for flag in _near_flags(typed, owners)[:1]:
            given[owners[flag].name] = Given(typed, ())
    for typed, flag, text in scan.flags:
        option = owners.get(flag)
        if option is None:
            problems.append(_foreign_flag(typed, flag, command))
        elif text is None:
            given[option.name] = Given(typed, ())
        else:
            if flag == option.off_flag:
                text = {"true": "false", "1": "false", "0": "true"}.get(text, text)
            before = given[option.name].texts if option.name in given else ()
            given[option.name] = Given(typed, (*before, text))
    return problems + _place(scan, command, given=given, words=words)


def _place(scan: _Scan, command: str, *, given: dict[str, Given], words: list[str]) -> list[str]:
    """Gives words to the command's positional arguments; returns what is wrong."""
    places = [option for option in options_of(command) if option.group == "positional"]
    for option in places:
        if words:
            count = len(words) if option.arity == "repeatable" else 1
            given[option.name] = Given("", tuple(words[:count]))
            words = words[count:]
    if not words or scan.unknown:
        return []
    takes = " ".join(option.metavar for option in places) or "no arguments"
    return [f"unexpected {words[0]!r}; {command} takes {takes} beside its options"]


def _unknown_flag(typed: str, flags: Iterable[str], command: str | None) -> str:
    close = _near_flags(typed, flags)
    if close:
        return f"unknown option {typed} (did you mean {' or '.join(close)}?)"
    return f"unknown option {typed}; demo_bert {f'{command} ' if command else ''}-h lists all"


def _near_flags(typed: str, flags: Iterable[str]) -> list[str]:
    # `-epochs` lacks a dash.
    return near(typed if typed.startswith("--") else f"-{typed}", flags)


def _foreign_flag(typed: str, flag: str, command: str) -> str:
    owners = dict.fromkeys(name for row in _rows(flag) for name in row.commands)
    return f"{typed} is an option of {', '.join(owners)}, not of {command}"


def _wanted(flag: str) -> str:
    row = _rows(flag)[0]
    return "|".join(row.choices) if row.choices else row.metavar


def _rows(flag: str) -> list[Option]:
    rows = (*OPTIONS, *options_of("pipeline"))
    return [row for row in rows if flag in row.all_flags]


def _is_choice(flag: str, text: str) -> bool:
    return any(text in row.choices for row in _rows(flag))


def _is_flag(token: str) -> bool:
    return token.startswith("-") and token != "-" and not is_number(token)


def _dashed(flag: str) -> str:
    return flag[:2] + flag[2:].replace("_", "-")
