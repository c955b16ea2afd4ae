"""What agents tell the invoking process: one line of JSON each, over mpirun.

Standard library alone.

mpirun passes on what it reads in pieces of a few kilobytes, and pieces of several hosts may come
in turns. So an agent writes less than a piece, and only when the one before has been read: then no
line is torn.
"""

import fcntl
import json
import os
import struct
import termios
import threading
import time
from typing import Any

MARK = "\x1e"
"""Begins each line; others are of mpirun or ssh."""

_PIECE_BYTES = 3500
_LONGEST_WAIT_S = 2.0
_TEXT_CHARACTERS = 500  # at most 6 bytes each in JSON, and room for the other fields


class Channel:
    """The agent's end.

    Args:
        descriptor: Where to write.
    """

    def __init__(self, descriptor: int = 2) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def send(self, kind: str, **fields: Any) -> None:
        """Sends a record.

        Args:
            kind: Its kind.
            **fields: Plain values; less than a few kilobytes in all.
        """
        line = f"{MARK}{json.dumps({'kind': kind, **fields})}\n".encode()
        with self._lock:
            try:
                self._wait_until_read()
                os.write(self._descriptor, line[:_PIECE_BYTES])
            except OSError:  # nobody listens any more; the workers' end is told by their files
                pass

    def send_line(self, rank: int, text: str, *, is_error: bool) -> None:
        """Sends a line of a worker's output, in several records where it is long.

        Args:
            rank: The worker's.
            text: Without a line end.
            is_error: Whether it came from standard error.
        """
        pieces = [text[i : i + _TEXT_CHARACTERS] for i in range(0, len(text), _TEXT_CHARACTERS)]
        for number, piece in enumerate(pieces or [""], start=1):
            is_whole = number >= len(pieces)
            self.send("line", rank=rank, text=piece, is_error=is_error, is_whole=is_whole)

    def _wait_until_read(self) -> None:
        deadline = time.monotonic() + _LONGEST_WAIT_S
        while self._unread() and time.monotonic() < deadline:
            time.sleep(0.0005)

    def _unread(self) -> int:
        answer = fcntl.ioctl(self._descriptor, termios.FIONREAD, b"\0\0\0\0")
        return int(struct.unpack("i", answer)[0])


def parse(line: str) -> dict[str, Any] | None:
    """Reads a line of what mpirun gave.

    Args:
        line: Without a line end.

    Returns:
        The record; None where it is something else.
    """
    if not line.startswith(MARK):
        return None
    try:
        record = json.loads(line.removeprefix(MARK))
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
