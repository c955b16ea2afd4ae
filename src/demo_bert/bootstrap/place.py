"""Where the virtual environment lies, what it was made of, and what is left to do there."""

import dataclasses
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from demo_bert.bootstrap.existing_torch import Kept
from demo_bert.bootstrap.interpreter import Distribution
from demo_bert.errors import UserError
from demo_bert.files import sha256_of

Work = Literal["none", "tools", "pins", "all"]
"""What is left to do: nothing, the tools of ./check, the pins in place, or everything anew."""


@dataclass(frozen=True)
class Record:
    """What a ready environment was made of.

    Attributes:
        lock: The SHA-256 of requirements.lock.
        python: The file that its interpreter is a link to.
        machine: The kind of machine that its packages are for.
        kept: The torch that it was made on top of, or None where it has its own.
    """

    lock: str
    python: str
    machine: str
    kept: Kept | None


@dataclass(frozen=True)
class Place:
    """The files of one checkout and its environment.

    Attributes:
        root: The checkout.
        directory: The virtual environment.
    """

    root: Path
    directory: Path

    @classmethod
    def of(cls, root: Path) -> "Place":
        """The place of a checkout: `.venv` in it, or where DEMO_BERT_VENV says.

        Args:
            root: The checkout.

        Returns:
            The place; nothing is made.
        """
        return cls(root, Path(os.environ.get("DEMO_BERT_VENV") or root / ".venv").absolute())

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.directory / "bin" / "python"

    @property
    def begun(self) -> Path:
        """The file that makes a directory ours; written first."""
        return self.directory / "demo_bert-begun"

    @property
    def ready(self) -> Path:
        """The file with the record; written last."""
        return self.directory / "demo_bert-ready.json"

    @property
    def tools(self) -> Path:
        """The file that says which tools of ./check are there."""
        return self.directory / "demo_bert-tools"

    @property
    def lock(self) -> Path:
        """The file that the process that makes the environment holds a lock on."""
        return self.directory.with_name(self.directory.name + ".lock")

    @property
    def pins(self) -> Path:
        """The exact versions that are installed."""
        return self.root / "requirements.lock"

    @property
    def tool_pins(self) -> Path:
        """The exact versions of what ./check needs beside them."""
        return self.root / "requirements-dev.lock"

    def is_running(self) -> bool:
        """Whether this process runs inside the environment."""
        return os.path.realpath(sys.prefix) == os.path.realpath(self.directory)

    def record_now(self, kept: Kept | None) -> Record:
        """The record of the environment as it would be now.

        Args:
            kept: The torch that it is made on top of, or None.

        Returns:
            What `read_record` gives once it has been written.
        """
        return Record(sha256_of(self.pins), os.path.realpath(self.python), _machine(), kept)


def read_record(path: Path) -> Record | None:
    """Reads a record.

    Args:
        path: A file that `write_record` made; it need not exist.

    Returns:
        The record, or None where there is none that can be read.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if fields["kept"] is not None:
            torch = Distribution(**fields["kept"]["torch"])
            fields["kept"] = Kept(torch, tuple(fields["kept"]["directories"]))
        return Record(**fields)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def record_text(record: Record) -> str:
    """A record as its file has it.

    Args:
        record: What was made.

    Returns:
        JSON, one line.
    """
    return json.dumps(dataclasses.asdict(record)) + "\n"


def tools_text(place: Place) -> str:
    """What the file of the tools has in it once they are there.

    Args:
        place: The checkout.

    Returns:
        One line.
    """
    return f"{sha256_of(place.pins)} {sha256_of(place.tool_pins)}\n"


def require_fit(place: Place, kept: Kept | None) -> None:
    """Makes sure that an environment that is ready is one for this machine and this interpreter.

    It is not made anew where it is not: it may be in use elsewhere, by another machine that shares
    the disk or outside of this container.

    Args:
        place: The checkout.
        kept: The torch that the calling interpreter brings, or None where that does not matter.

    Raises:
        UserError: It was made for another kind of machine, or without the vendor's torch that
            this interpreter brings.
    """
    record = read_record(place.ready)
    if record is None:
        return
    if record.machine != _machine():
        problem = f"was made for {record.machine}, and this is {_machine()}"
    elif kept and kept.is_vendors() and (record.kept is None or record.kept.torch != kept.torch):
        problem = f"was made without the torch {kept.torch.version} that this interpreter has"
    else:
        return
    raise UserError(
        f"{place.directory} {problem}; set DEMO_BERT_VENV to another directory, or delete it"
    )


def work_left(place: Place, *, with_tools: bool) -> Work:
    """What has to be done before the environment can be used.

    An environment that works stays as it is, whichever interpreter calls: a run may be using it.

    Args:
        place: The checkout.
        with_tools: Whether the tools of ./check are needed too.

    Returns:
        The least that makes it ready.
    """
    record = read_record(place.ready)
    if record is None or not place.python.exists():
        return "all"
    if record.python != os.path.realpath(place.python):
        return "all"
    if record.kept is not None and not record.kept.is_there():
        return "all"
    if record.lock != sha256_of(place.pins):
        return "pins"
    if with_tools and not _says(place.tools, tools_text(place)):
        return "tools"
    return "none"


def _machine() -> str:
    system = os.uname()
    return f"{system.sysname} {system.machine}"


def _says(path: Path, text: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") == text
    except OSError:
        return False
