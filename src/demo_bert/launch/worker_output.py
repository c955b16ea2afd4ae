"""A worker's output on its way to `logs/rank-<r>.log`. Standard library alone.

All of it: progress, log lines, tracebacks, what libraries say.
"""

import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self

_MOST_HELD = 1000  # lines, while the run directory is not there yet


class RankLog:
    """The file of one worker; it is begun only where the run made its directory.

    Args:
        output_dir: The run directory.
        rank: The worker's.
    """

    def __init__(self, output_dir: Path, rank: int) -> None:
        self._path = output_dir / "logs" / f"rank-{rank}.log"
        self._held: list[str] = []
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        """Nothing is opened yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Writes what is held, and closes the file, which is there even if nothing was said."""
        self._held = self._held or [""]
        self._write()
        if self._file is not None:
            self._file.close()

    def add(self, line: str) -> None:
        """Takes a line.

        Args:
            line: Without a line end.
        """
        if len(self._held) < _MOST_HELD:
            self._held.append(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")
        self._write()

    def _write(self) -> None:
        if not self._held or not self._path.parent.is_dir():
            return
        try:
            self._file = self._file or self._path.open("a", encoding="utf-8")
            self._file.writelines(self._held)
            self._file.flush()
        except OSError:  # a full or read-only disk; the line is still passed on
            pass
        self._held.clear()
