"""Names and values that a user types: near misses, durations, numbers, ranges.

Each reader takes the text of one value and returns the value, or raises `UsageError` with what is
allowed and what was given; the caller puts in front where the text came from.
"""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from demo_bert.errors import UsageError

_LIKENESS = 0.6
_LARGEST = 2**63 - 1
_WHOLE = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_TIME = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?", re.ASCII)
_ON = ("true", "1", "on", "yes")
_OFF = ("false", "0", "off", "no")


def near(name: str, allowed: Iterable[str], *, limit: int = 3) -> list[str]:
    """The allowed names that a mistyped one most likely meant.

    Args:
        name: What was typed; case, and dashes against underscores, do not count.
        allowed: The names that exist.
        limit: The most names to return.

    Returns:
        Names in falling likeness; empty where nothing is like it.

    Example:
        >>> near("finetunning", ["pretraining", "finetuning", "evaluate"])
        ['finetuning']
        >>> near("pre", ["prepare", "predict", "serve"])
        ['prepare', 'predict']
    """
    from difflib import SequenceMatcher

    typed = _folded(name)
    scored = []
    for place, known in enumerate(allowed):
        folded = _folded(known)
        likeness = SequenceMatcher(None, typed, folded, autojunk=False).ratio()
        if len(typed.strip("-")) >= 2 and folded.startswith(typed):
            likeness = max(likeness, 0.9)
        if likeness >= _LIKENESS:
            scored.append((-likeness, place, known))
    scored.sort()
    # A name that is far less like than the best would only distract.
    return [known for minus, _, known in scored[:limit] if -minus >= -scored[0][0] - 0.2]


def unknown_name_message(kind: str, given: str, allowed: Iterable[str]) -> str:
    """One line for a name that does not exist: the near ones, then all.

    Args:
        kind: What the name stands for ("task").
        given: What was typed.
        allowed: The names that exist.

    Returns:
        The line.

    Example:
        >>> unknown_name_message("task", "mrcp", ["mrpc", "squad"])
        "unknown task 'mrcp' (did you mean 'mrpc'?); there are mrpc, squad"
    """
    names = list(allowed)
    return f"unknown {kind} {given!r}{guess(given, names)}; there are {', '.join(names)}"


def guess(name: str, allowed: Iterable[str]) -> str:
    """The near ones of a mistyped name, ready to follow it in a message.

    Args:
        name: What was typed.
        allowed: The names that exist.

    Returns:
        A text in brackets with a space in front, or an empty one.

    Example:
        >>> guess("larg", ["base", "large"])
        " (did you mean 'large'?)"
    """
    close = near(name, allowed)
    return f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""


@dataclass(frozen=True)
class Duration:
    """How often or how long: a number of optimizer steps, or a time; exactly one of the two.

    `str` gives back what `duration` reads.
    """

    steps: int | None = None
    seconds: float | None = None

    def __str__(self) -> str:
        """The shortest way to type it: `100`, `1h30m`."""
        if self.seconds is None:
            return str(self.steps)
        minutes, seconds = divmod(self.seconds, 60)
        hours, minutes = divmod(int(minutes), 60)
        text = "".join(f"{n}{unit}" for n, unit in ((hours, "h"), (minutes, "m")) if n)
        return f"{text}{seconds:g}s" if seconds or not text else text


def duration(text: str) -> Duration:
    """Reads steps or a time.

    Args:
        text: `100` (steps), `90s`, `10m`, `1h30m`, `2d`.

    Returns:
        A duration above zero.

    Raises:
        UsageError: The text is neither, or is zero.

    Example:
        >>> duration("1h30m")
        Duration(steps=None, seconds=5400.0)
        >>> duration("100")
        Duration(steps=100, seconds=None)
    """
    if _WHOLE.fullmatch(text):
        return Duration(steps=whole_number(1)(text))
    return Duration(seconds=_seconds(text, "needs steps (100) or a time (90s, 10m, 1h30m)"))


def time_span(text: str) -> Duration:
    """Reads a time; a bare number is refused, as its unit would be a guess.

    Args:
        text: `90s`, `10m`, `1h30m`, `2d`.

    Returns:
        A duration above zero, in seconds.

    Raises:
        UsageError: The text is no time, or is zero.

    Example:
        >>> time_span("10m").seconds
        600.0
    """
    return Duration(seconds=_seconds(text, "needs a time with its unit (90s, 10m, 1h30m)"))


def whole_number(least: int, most: int = _LARGEST) -> Callable[[str], int]:
    """A reader of whole numbers.

    Args:
        least: The smallest number allowed.
        most: The largest number allowed.

    Returns:
        The reader.

    Example:
        >>> whole_number(1)("64")
        64
    """

    def read(text: str) -> int:
        # The length limit keeps absurd digit strings away from int(), which refuses them itself.
        if _WHOLE.fullmatch(text) and len(text) < 100 and least <= int(text) <= most:
            return int(text)
        bounds = f"of at least {least}" if most == _LARGEST else f"from {least} to {most}"
        raise UsageError(f"needs a whole number {bounds}, got {text!r}")

    return read


def number(what: str, is_allowed: Callable[[float], bool]) -> Callable[[str], float]:
    """A reader of numbers.

    Args:
        what: The numbers that are allowed, for the message ("a number above 0").
        is_allowed: Whether a finite number is one of them.

    Returns:
        The reader.

    Example:
        >>> number("a number above 0", lambda x: x > 0)("2e-5")
        2e-05
    """

    def read(text: str) -> float:
        if _NUMBER.fullmatch(text):
            value = float(text)
            if math.isfinite(value) and is_allowed(value):
                return value
        raise UsageError(f"needs {what}, got {text!r}")

    return read


def one_of(text: str, allowed: Iterable[str]) -> str:
    """Reads one name of a closed set; a truth value is taken for `on` or `off` where those are.

    Args:
        text: The name.
        allowed: The set.

    Returns:
        The name.

    Raises:
        UsageError: The name is not in the set.
    """
    names = list(allowed)
    if text in names:
        return text
    # YAML reads a bare `on` or `off` as a truth value.
    for truth, name in (("true", "on"), ("false", "off")):
        if text == truth and name in names:
            return name
    raise UsageError(f"needs {_listed(names)}, got {text!r}{guess(text, names)}")


def yes_or_no(text: str) -> bool:
    """Reads a truth value.

    Args:
        text: `true`, `1`, `on`, `yes`, or `false`, `0`, `off`, `no`, in any case.

    Returns:
        The value.

    Raises:
        UsageError: The text is none of these.
    """
    if text.lower() in _ON:
        return True
    if text.lower() in _OFF:
        return False
    raise UsageError(f"needs true or false, got {text!r}")


def some_text(text: str) -> str:
    """Reads a text that is not empty.

    Args:
        text: The text, taken as it is.

    Returns:
        The same text.

    Raises:
        UsageError: The text is empty, or holds a NUL, which no path and no argument can.
    """
    if not text:
        raise UsageError("needs a value, got an empty one")
    if "\0" in text:
        raise UsageError(f"needs a value without NUL, got {text!r}")
    return text


def is_number(text: str) -> bool:
    """Whether the text is a number, or several separated by commas.

    Args:
        text: What was typed.

    Returns:
        True for `64`, `-1`, `6e-3`, `64,8`.
    """
    return all(_NUMBER.fullmatch(part) for part in text.split(","))


def _folded(name: str) -> str:
    return name.lower().replace("_", "-")


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _seconds(text: str, needs: str) -> float:
    match = _TIME.fullmatch(text)
    if match is None or not text or len(text) > 30:
        raise UsageError(f"{needs}, got {text!r}")
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if total <= 0:
        raise UsageError(f"{needs} above zero, got {text!r}")
    return total
