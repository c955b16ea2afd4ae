"""Stop requests: SIGTERM, SIGINT, SIGUSR1 and a time limit ask; the loop stops where it is safe."""

import os
import signal
import threading
import time
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopRequests:
    """Listens for requests while it is entered.

    Args:
        max_time_s: Seconds after which the run is asked to stop; None for no limit.
        is_supervised: Whether the process that started this one is to outlive it: its end asks too.
    """

    def __init__(self, max_time_s: float | None = None, *, is_supervised: bool = False) -> None:
        self._supervisor = os.getppid() if is_supervised else None
        self._deadline = None if max_time_s is None else time.monotonic() + max_time_s
        self._signal: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "StopRequests":
        """Starts to listen; outside the main thread only the time limit works."""
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *details: object) -> None:
        """Puts the former handlers back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[bad-argument-type]  # as it was given
        self._previous = {}

    @property
    def reason(self) -> str | None:
        """Why the run is to stop, in words; None while nobody asked."""
        if self._signal is not None:
            return signal.Signals(self._signal).name
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return "the time limit"
        if self._supervisor is not None and os.getppid() != self._supervisor:
            return "the end of the process that started the workers"
        return None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._signal is not None:
            raise KeyboardInterrupt
        self._signal = number
