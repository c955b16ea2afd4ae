"""Readers of values that only one setting has: workers, hosts, columns, a range of steps.

Like the readers of `choices`: text in, value out, or `UsageError` with what is allowed.
"""

import os
import re

from demo_bert.choices import one_of, some_text, unknown_name_message, whole_number
from demo_bert.errors import UsageError

_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:%-]*|\[[0-9A-Fa-f:.%]+\]")
_INTERFACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/,-]*")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_DIGITS = re.compile(r"[0-9]+")
_LEVELS = ("debug", "info", "warning", "error", "critical")
# The numbers that LOG_LEVEL_ALL takes in Gaudi's software; 0 is its "trace", 6 its "off".
_LEVEL_NUMBERS = ("debug", "debug", "info", "warning", "error", "critical", "critical")
_COLUMN_ROLES = {
    "text": "text",
    "sentence1": "text",
    "text_b": "text_b",
    "sentence2": "text_b",
    "label": "label",
}


def count_or_auto(text: str) -> int | str:
    """Reads a number of workers.

    Args:
        text: A number of at least 1, or `auto`.

    Returns:
        The number, or "auto".

    Raises:
        UsageError: The text is neither.
    """
    return text if text == "auto" else whole_number(1)(text)


def count_or_all(text: str) -> int | str:
    """Reads a number of hosts.

    Args:
        text: A number of at least 1, or `all`.

    Returns:
        The number, or "all".

    Raises:
        UsageError: The text is neither.
    """
    return text if text == "all" else whole_number(1)(text)


def resume_point(text: str) -> int | str:
    """Reads where to go on from.

    Args:
        text: `auto`, `never` or the step of a checkpoint.

    Returns:
        "auto", "never" or the step.

    Raises:
        UsageError: The text is none of these.
    """
    if text in ("auto", "never"):
        return text
    if _DIGITS.fullmatch(text):
        return whole_number(0)(text)
    raise UsageError(f"needs auto, never or the step of a checkpoint, got {text!r}")


def phases(text: str) -> tuple[int, ...]:
    """Reads which phases of pre-training run.

    Args:
        text: `1`, `2` or `1,2`.

    Returns:
        (1,), (2,) or (1, 2).

    Raises:
        UsageError: The text is none of these.
    """
    known = {"1": (1,), "2": (2,), "1,2": (1, 2)}
    if text not in known:
        raise UsageError(f"needs 1, 2 or 1,2, got {text!r}")
    return known[text]


def step_range(text: str) -> tuple[int, int]:
    """Reads a range of steps.

    Args:
        text: `10:20` or `10,20`: from step 10 up to, and without, step 20.

    Returns:
        The two ends, the first below the second.

    Raises:
        UsageError: The text is no such range.

    Example:
        >>> step_range("10:20")
        (10, 20)
    """
    first, _, last = text.replace(",", ":").partition(":")
    if _DIGITS.fullmatch(first) and _DIGITS.fullmatch(last):
        ends = whole_number(0)(first), whole_number(0)(last)
        if ends[0] < ends[1]:
            return ends
    raise UsageError(f"needs a range of steps as 10:20, got {text!r}")


def columns(text: str) -> dict[str, str]:
    """Reads which columns of a file hold what.

    Args:
        text: `text=question1,text_b=question2,label=is_duplicate`; `sentence1` and `sentence2` are
            other names of `text` and `text_b`.

    Returns:
        The file's name of `text`, `text_b` and `label`, as far as given.

    Raises:
        UsageError: A part is no `role=column`, or a role is unknown or given twice.

    Example:
        >>> columns("sentence1=q1,label=same")
        {'text': 'q1', 'label': 'same'}
    """
    found: dict[str, str] = {}
    for part in text.split(","):
        role, equals, column = (piece.strip() for piece in part.partition("="))
        if not (role and equals and column):
            raise UsageError(f"needs role=column pairs as text=question1,label=same, got {text!r}")
        if role not in _COLUMN_ROLES:
            raise UsageError(unknown_name_message("column role", role, _COLUMN_ROLES))
        if _COLUMN_ROLES[role] in found:
            raise UsageError(f"names the column of {_COLUMN_ROLES[role]!r} twice in {text!r}")
        found[_COLUMN_ROLES[role]] = column
    return found


def hosts(text: str) -> tuple[str, ...]:
    """Reads a list of hosts.

    Args:
        text: Names or addresses, separated by commas.

    Returns:
        The hosts, each once.

    Raises:
        UsageError: A part is no name and no address (a dash at its start would be read as an
            option by ssh), or comes twice.
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if not _HOST.fullmatch(name):
            raise UsageError(f"needs host names or addresses separated by commas, got {name!r}")
        if names.count(name) > 1:
            raise UsageError(f"names the host {name!r} twice")
    if not names:
        raise UsageError(f"needs at least one host, got {text!r}")
    return names


def log_level(text: str) -> str:
    """Reads how much is logged.

    Args:
        text: `debug`, `info`, `warning`, `error`, `critical`, or Gaudi's 0 (all) to 6 (nothing).

    Returns:
        The name of the level.

    Raises:
        UsageError: The text is none of these.
    """
    if text in ("0", "1", "2", "3", "4", "5", "6"):
        return _LEVEL_NUMBERS[int(text)]
    return one_of(text.lower(), _LEVELS)


def interface(text: str) -> str:
    """Reads network interfaces.

    Args:
        text: Names or subnets, separated by commas: `eno1`, `10.0.0.0/8`.

    Returns:
        The same text.

    Raises:
        UsageError: The text cannot be a list of interfaces.
    """
    if not _INTERFACE.fullmatch(text):
        raise UsageError(f"needs a network interface (eno1) or subnet (10.0.0.0/8), got {text!r}")
    return text


def name(text: str) -> str:
    """Reads the name of a recipe, an optimizer, a schedule, a tracker.

    Args:
        text: Letters, digits and `_ . + -`, no dash first.

    Returns:
        The same text; whether it exists its owner says.

    Raises:
        UsageError: The text cannot be a name.
    """
    if not _NAME.fullmatch(text):
        raise UsageError(f"needs a name, got {text!r}")
    return text


def path(text: str) -> str:
    """Reads a path.

    Args:
        text: The path; `~` at its start is the home directory.

    Returns:
        The path, not looked up.

    Raises:
        UsageError: The text is empty.
    """
    return os.path.expanduser(some_text(text))
