"""Stop requests: SIGTERM, SIGINT, SIGUSR1 and a time limit ask; the work stops where it is safe.

While a run trains, a request is noted, and the loop asks for it. Where nothing is at risk (imports,
downloads, reading data, `prepare`, whose finished parts are kept) it ends the work where it stands.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

from demo_bert.errors import StopRequested

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StoppedAtOnce(BaseException):
    """Work that was asked to stop while nothing was at risk; its text says by what.

    It is no `Exception`, so that no library takes it for a failure of its own.
    """


class StopRequests:
    """Listens for requests while it is entered.

    Args:
        max_time_s: Seconds after which the run is asked to stop; None for no limit.
        is_supervised: Whether the process that started this one is to outlive it: its end asks too.
        is_at_once: Whether the first signal, and the end of the time, raise `StoppedAtOnce` in the
            main thread, but within `noted`.
    """

    def __init__(
        self,
        max_time_s: float | None = None,
        *,
        is_supervised: bool = False,
        is_at_once: bool = False,
    ) -> None:
        self._supervisor = os.getppid() if is_supervised else None
        self._deadline = None if max_time_s is None else time.monotonic() + max_time_s
        self._signal: int | None = None
        self._is_at_once = is_at_once
        self._is_over = False
        self._has_raised = False
        self._timer: threading.Timer | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "StopRequests":
        """Starts to listen; outside the main thread only the time limit works."""
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._previous[number] = signal.signal(number, self._on_signal)
            if self._is_at_once and self._deadline is not None:
                left_s = max(0.0, self._deadline - time.monotonic())
                self._timer = threading.Timer(left_s, self._end_of_time)
                self._timer.daemon = True
                self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        """Puts the former handlers back.

        Raises:
            StoppedAtOnce: It was raised, and came out as a failure: compiled code that calls
                Python's takes whatever is raised there for an error of its own.
        """
        if self._timer is not None:
            self._timer.cancel()
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[bad-argument-type]  # as it was given
        self._previous = {}
        if self._has_raised and isinstance(error, Exception):
            if not isinstance(error, StopRequested):
                raise StoppedAtOnce(self.reason) from error

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Within it requests are noted for `reason` alone."""
        before, self._is_at_once = self._is_at_once, False
        self._has_raised = False  # what fails from here on fails by itself
        try:
            yield
        finally:
            self._is_at_once = before

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
        if self._is_over and number == signal.SIGUSR1:  # from `_end_of_time`
            self._is_over = False
            self._raise_at_once()
            return
        if self._signal is not None:
            raise KeyboardInterrupt
        self._signal = number
        self._raise_at_once()

    def _raise_at_once(self) -> None:
        if self._is_at_once:
            self._has_raised = True
            raise StoppedAtOnce(self.reason)

    def _end_of_time(self) -> None:
        """On a thread: has the main thread raise, which only a signal can."""
        if self._is_at_once:
            self._is_over = True
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
