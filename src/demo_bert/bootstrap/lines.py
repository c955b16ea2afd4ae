"""Lines on standard error while the environment is made: calm on a terminal, plain in a pipe."""

import os
import shutil
import time
from typing import TextIO

_CLEAR_LINE = "\r\x1b[K"
_INTERVAL_S = 10.0


def counted(number: int, noun: str) -> str:
    """A number of things in words.

    Args:
        number: At least 0.
        noun: For one thing; an s is put behind it for more.

    Returns:
        The number and the noun.

    Example:
        >>> counted(1, "file"), counted(2, "file")
        ('1 file', '2 files')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


class Lines:
    """Shows lines that stay, and how far the work is.

    Args:
        stream: A terminal shows progress in one line that is rewritten; any other stream gets
            it as a line of its own at most every ten seconds.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._rewrites = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._shown_s = time.monotonic()
        self._has_progress = False

    def say(self, text: str) -> None:
        """Shows a line that stays.

        Args:
            text: One line, without the program's name.
        """
        self.clear()
        self._shown_s = time.monotonic()
        self._write(f"demo_bert: {text}\n")

    def progress(self, text: str) -> None:
        """Shows how far the work is; what it showed before is replaced where that can be done.

        Args:
            text: One line.
        """
        if self._rewrites:
            columns = shutil.get_terminal_size().columns
            self._write(_CLEAR_LINE + f"demo_bert:   {text}"[: columns - 1])
            self._has_progress = True
        elif time.monotonic() - self._shown_s >= _INTERVAL_S:
            self.say(f"  {text}")

    def clear(self) -> None:
        """Takes the progress away."""
        if self._has_progress:
            self._has_progress = False
            self._write(_CLEAR_LINE)

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
