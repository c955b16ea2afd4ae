"""What a worker leaves for who watches it: how far it is, and whether it waits for the others.

Standard library alone. A worker whose launcher named a directory writes a few numbers to a file of
its own there; the watcher reads them. The one that has entered the fewest sums while the others
wait in the next one is the one that does not answer.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from demo_bert.launchers import place

VARIABLE = "DEMO_BERT_HEARTBEATS"
"""Names the directory; set by the launcher."""
GOES_ON = "DEMO_BERT_GOES_ON"
"""Names the run directory that an attempt after the first is to go on in; set by the launcher."""

_RUN = "run"
_LAYOUT = struct.Struct("<qqqq")


@dataclass(frozen=True)
class Beat:
    """How far a worker is.

    Attributes:
        step: Updates done; -1 before the first is told.
        sums: Meetings with other workers that it has entered.
        is_waiting: Whether it waits in one now: 0 or 1.
        has_lost: Whether it ended because another worker was gone: 0 or 1.
        at: Unix time at which it showed this.
    """

    step: int = -1
    sums: int = 0
    is_waiting: int = 0
    has_lost: int = 0
    at: float = 0.0


class _Pulse:
    """This worker's own beat, and the file that shows it."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._values = {"step": -1, "sums": 0, "is_waiting": 0, "has_lost": 0}
        self.show()

    def show(self, **values: int) -> None:
        """Writes the values that have changed."""
        self._values |= values
        os.pwrite(self._file, _LAYOUT.pack(*self._values.values()), 0)

    def enter(self) -> None:
        """One more meeting is entered."""
        self.show(sums=self._values["sums"] + 1, is_waiting=1)


@contextmanager
def meeting() -> Iterator[None]:
    """Within it the worker waits for the others."""
    pulse = _pulse(os.environ.get(VARIABLE))
    if pulse is None:
        yield
        return
    pulse.enter()
    yield
    pulse.show(is_waiting=0)


def tell_step(step: int) -> None:
    """Shows how far the worker is.

    Args:
        step: Updates done.
    """
    if (pulse := _pulse(os.environ.get(VARIABLE))) is not None:
        pulse.show(step=step)


def tell_loss() -> None:
    """Shows that the worker ends because another one is gone."""
    if (pulse := _pulse(os.environ.get(VARIABLE))) is not None:
        pulse.show(has_lost=1)


def tell_run(directory: Path) -> None:
    """Shows which run directory the worker has taken, for a next attempt to go on in it.

    Args:
        directory: The run's.
    """
    if place().is_first and (beats := os.environ.get(VARIABLE)):
        Path(beats, _RUN).write_text(str(directory.absolute()), encoding="utf-8")


def told_run(directory: Path) -> str | None:
    """The run directory that the workers have taken.

    Args:
        directory: What `VARIABLE` named.

    Returns:
        Its path; None where none was taken yet.
    """
    path = directory / _RUN
    return path.read_text("utf-8") if path.exists() else None


def read(directory: Path) -> dict[int, Beat]:
    """The beats of all workers that write to a directory.

    Args:
        directory: What `VARIABLE` named.

    Returns:
        Rank -> beat.
    """
    found: dict[int, Beat] = {}
    for path in directory.glob("rank-*"):
        content = path.read_bytes()
        if len(content) == _LAYOUT.size:
            rank = int(path.name.removeprefix("rank-"))
            found[rank] = Beat(*_LAYOUT.unpack(content), at=path.stat().st_mtime)
    return found


@cache
def _pulse(directory: str | None) -> _Pulse | None:
    return _Pulse(Path(directory) / f"rank-{place().rank}") if directory else None
