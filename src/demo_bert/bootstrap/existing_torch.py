"""The torch that an interpreter has already: a vendor's container brings one that must stay."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from demo_bert.bootstrap.interpreter import Distribution, distributions
from demo_bert.bootstrap.requirements import TORCH, is_within, read_ranges


@dataclass(frozen=True)
class Kept:
    """A torch that is used as it is, and all that can be imported with it.

    Attributes:
        torch: The distribution.
        directories: Where the interpreter's distributions lie, in the order of its search path.
    """

    torch: Distribution
    directories: tuple[str, ...]

    def is_vendors(self) -> bool:
        """Whether no package index has it: its build is named, and is none of torch's own."""
        _, _, build = self.torch.version.partition("+")
        return bool(build) and not re.fullmatch(r"cpu|cu[0-9]+", build)

    def is_there(self) -> bool:
        """Whether it is still what it was."""
        return distributions(self.directories).get(TORCH) == self.torch


def find_torch(
    search_path: Sequence[str], pyproject: Path
) -> tuple[Kept | None, Distribution | None]:
    """Looks for a torch of the supported range.

    Args:
        search_path: The interpreter's.
        pyproject: pyproject.toml, which has the range.

    Returns:
        The torch to keep, or None; and a torch that is there and outside of the range, or None.

    Raises:
        DataError: pyproject.toml is missing or cannot be read.
    """
    found = distributions(search_path)
    torch = found.get(TORCH)
    if torch is None:
        return None, None
    if not is_within(torch.version, read_ranges(pyproject)[TORCH]):
        return None, torch
    holders = {distribution.directory for distribution in found.values()}
    directories = dict.fromkeys(os.path.abspath(path) for path in search_path)
    return Kept(torch, tuple(path for path in directories if path in holders)), None
