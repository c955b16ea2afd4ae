"""The pins of requirements.lock, and which of them an interpreter makes unnecessary."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from demo_bert.bootstrap.interpreter import Distribution, canonical
from demo_bert.files import read_text

TORCH = "torch"


@dataclass(frozen=True)
class Pin:
    """One line of a lock file.

    Attributes:
        name: The canonical name.
        requirement: The line as pip takes it, perhaps with an environment marker.
    """

    name: str
    requirement: str


def read_pins(path: Path) -> list[Pin]:
    """The pins of a lock file.

    Args:
        path: One `name==version` on a line, a marker after `;`, comments after `#`.

    Returns:
        The pins in the file's order.

    Raises:
        DataError: The file is missing or cannot be read.
    """
    lines = (line.split("#")[0].strip() for line in read_text(path).splitlines())
    return [Pin(canonical(line.split("==")[0].strip()), line) for line in lines if line]


def read_ranges(path: Path) -> dict[str, str]:
    """The versions that demo_bert works with.

    Args:
        path: pyproject.toml.

    Returns:
        Canonical name -> its version clauses, as `>=2.11,<3`.

    Raises:
        DataError: The file is missing or cannot be read.
    """
    import tomllib  # takes longer than all that a call needs which finds everything ready

    dependencies = tomllib.loads(read_text(path))["project"]["dependencies"]
    parts = (re.split(r"(?=[<>=])", dependency, maxsplit=1) for dependency in dependencies)
    return {canonical(name.strip()): clauses for name, clauses in parts}


def is_within(version: str, clauses: str) -> bool:
    """Whether a version is in a range; only its release counts.

    A vendor's `2.11.0a0+build` is its 2.11.0, although the letter of the version scheme has it
    before that.

    Args:
        version: Such as `2.11.0a0+5228986c39.nv26.6`.
        clauses: Joined by commas, each `>=` or `<` and a release.

    Returns:
        True where all clauses hold.

    Example:
        >>> is_within("2.11.0a0+5228986c39.nv26.6", ">=2.11,<3")
        True
    """
    release = _release(version)
    for clause in clauses.replace(" ", "").split(","):
        operator = ">=" if clause.startswith(">=") else "<"
        if (release >= _release(clause.removeprefix(operator))) != (operator == ">="):
            return False
    return True


def not_satisfied(
    pins: list[Pin], ranges: Mapping[str, str], *, present: Mapping[str, Distribution]
) -> list[Pin]:
    """The pins that have to be installed beside what an interpreter has.

    What demo_bert imports must be within its range; of what those need in turn, any version is
    left alone here, and pip replaces it where a package that it installs says so.

    Args:
        pins: All pins.
        ranges: As `read_ranges` gives them.
        present: What the interpreter has, by canonical name.

    Returns:
        Those that are absent, or present in a version that will not do.
    """
    return [
        pin
        for pin in pins
        if pin.name not in present
        or not is_within(present[pin.name].version, ranges.get(pin.name, ">=0"))
    ]


def _release(version: str) -> tuple[int, ...]:
    """The release's numbers without zeros at the end, so that 3 and 3.0 are the same."""
    match = re.match(r"\s*[0-9]+(\.[0-9]+)*", version)
    numbers = [int(number) for number in match[0].split(".")] if match else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
