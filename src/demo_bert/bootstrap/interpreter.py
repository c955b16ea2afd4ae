"""What the interpreter that starts demo_bert has already: the modules it needs, perhaps a torch."""

import importlib.util
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from demo_bert.errors import UserError

_METADATA = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)(-py[0-9.]+)?\.(dist|egg)-info")


@dataclass(frozen=True)
class Distribution:
    """A package that an interpreter can import.

    Attributes:
        version: As its metadata's name has it.
        directory: The entry of the search path that it lies in.
    """

    version: str
    directory: str


def canonical(name: str) -> str:
    """A distribution's name as all its spellings agree on it.

    Args:
        name: A name with dots, dashes or underscores.

    Returns:
        Lower case, with single dashes.

    Example:
        >>> canonical("huggingface_hub")
        'huggingface-hub'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def distributions(search_path: Sequence[str]) -> dict[str, Distribution]:
    """The distributions on a search path, by the names of their metadata; nothing is imported.

    Args:
        search_path: Directories in the order of `sys.path`; those that are not there are passed
            over.

    Returns:
        Canonical name -> the distribution that an import would find.
    """
    found: dict[str, Distribution] = {}
    for directory in search_path:
        try:
            entries = sorted(os.listdir(directory or "."))
        except OSError:
            continue
        for entry in entries:
            if match := _METADATA.fullmatch(entry):
                distribution = Distribution(match["version"], os.path.abspath(directory))
                found.setdefault(canonical(match["name"]), distribution)
    return found


def require_venv() -> None:
    """Makes sure that this interpreter can make virtual environments.

    Raises:
        UserError: Its module venv or ensurepip is missing, as Debian ships it.
    """
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if missing:
        minor = sys.version_info.minor
        raise UserError(
            f"this Python ({sys.executable}, 3.{minor}) has no module {' and no '.join(missing)}"
            " and cannot make .venv without; on Debian and Ubuntu: apt install python3-venv"
            f" (or python3.{minor}-venv), then call again"
        )
