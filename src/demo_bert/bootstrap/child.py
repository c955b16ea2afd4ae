"""Processes that the bootstrap starts: what they say goes to a log, and they end with it."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

_PATIENCE_S = 5.0


class Child:
    """A process that writes to the end of a log.

    Args:
        command: Program and arguments; without credentials, which every user could read there.
        env: Its whole environment.
        log: A file, made where it is missing.
        lock: A descriptor that it inherits, so that a lock on it holds as long as the process
            lives, even where we are killed.
    """

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str], *, log: Path, lock: int
    ) -> None:
        self._log = log
        with log.open("ab") as output:
            self._begin = output.tell()
            self._process = subprocess.Popen(
                command,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(lock,),
            )

    def wait(self, seconds: float) -> int | None:
        """Waits for the process, but not for long.

        Args:
            seconds: At most so many.

        Returns:
            Its exit status, negative for a signal; None where it is still running.
        """
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def written_bytes(self) -> int | None:
        """What it has written to all its files so far; None where the system does not tell."""
        try:
            fields = Path(f"/proc/{self._process.pid}/io").read_text(encoding="ascii").split()
            return int(fields[fields.index("wchar:") + 1])
        except (OSError, ValueError, IndexError):
            return None

    def said(self) -> str:
        """All that it has written so far."""
        with self._log.open("rb") as file:
            file.seek(self._begin)
            return file.read().decode(errors="replace")

    def end(self) -> None:
        """Ends the process where it still runs; it gets some seconds to tidy up."""
        try:
            if self._process.poll() is None:
                self._process.terminate()
                self._process.wait(_PATIENCE_S)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            self._process.kill()
            self._process.wait()
