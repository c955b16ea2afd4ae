"""Checkpoints while training goes on: copied at once, written in the background by what is left.

Writing takes most of a second of a processor for each gigabyte, nearly all of it for SHA-256. On a
CPU that also trains, the thread that writes has the lowest priority: it takes what training leaves
idle. Whoever has to wait for it writes the rest itself, at the common priority.
"""

import os
import sys
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from demo_bert import checkpoint
from demo_bert.choices import Duration
from demo_bert.errors import DiskError

_LOWEST = 19


@dataclass(frozen=True)
class Outcome:
    """How a save ended.

    Attributes:
        step: Updates done.
        path: The checkpoint; None where it could not be written.
        seconds: From the request to the end.
        stalled_s: How much of that training waited.
        lacked_memory: Whether training waited for all of it, as a copy did not fit in memory.
        message: What was in the way, in one line; None where it was written.
    """

    step: int
    path: Path | None
    seconds: float
    stalled_s: float
    lacked_memory: bool = False
    message: str | None = None


class Saver:
    """Saves in the background: training waits for a copy of the state, not for the disk.

    At most one save is in flight; the next one waits for it. A state that is written in a moment
    (less than `small_bytes`) is written at once. A save that fails leaves the checkpoints before
    it as they are, and says so in its outcome.

    Args:
        directory: The run's `checkpoints/`; made where it is missing.
        keep: As `checkpoint.saving`.
        keep_every: As `checkpoint.saving`.

    Raises:
        DiskError: The directory cannot be made.
    """

    small_bytes = 64 << 20

    def __init__(self, directory: Path, *, keep: int, keep_every: Duration | None = None) -> None:
        self._directory, self._keep, self._keep_every = directory, keep, keep_every
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DiskError(f"{directory}: cannot be made ({error.strerror})") from error
        self._flight: _Flight | None = None
        self._outcomes: list[Outcome] = []

    def start(
        self,
        *,
        step: int,
        state: Mapping[str, Any],
        model: Mapping[str, Tensor],
        optimizer: Mapping[str, Tensor],
        free_bytes: int | None,
    ) -> None:
        """Begins to save; the tensors may change afterwards.

        Args:
            step: Updates done.
            state: As `checkpoint.saving`.
            model: Names and weights.
            optimizer: Names and moments.
            free_bytes: Memory of the host that a copy may take; where it does not fit, nothing is
                copied and this call returns when all is written. None: not known, it fits.
        """
        self.hurry()
        began_s = time.monotonic()
        size = sum(t.numel() * t.element_size() for t in (*model.values(), *optimizer.values()))
        lacks_memory = free_bytes is not None and size >= free_bytes
        is_background = size >= self.small_bytes and not lacks_memory
        if is_background:
            model, optimizer = _copied(model), _copied(optimizer)
        stalled_s = time.monotonic() - began_s
        pieces = checkpoint.saving(
            self._directory,
            step=step,
            state=state,
            model=model,
            optimizer=optimizer,
            keep=self._keep,
            keep_every=self._keep_every,
        )
        flight = _Flight(pieces, step, began_s=began_s)
        if is_background:
            flight.stalled_s = stalled_s
            flight.begin()
            self._flight = flight
            return
        outcome = flight.finish()
        self._outcomes.append(
            replace(outcome, stalled_s=outcome.seconds, lacked_memory=lacks_memory)
        )

    @property
    def is_busy(self) -> bool:
        """Whether a save is in flight whose end was not told yet."""
        return self._flight is not None

    def finished(self) -> list[Outcome]:
        """The saves that have ended since the last question, the oldest first."""
        if self._flight is not None and self._flight.is_done:
            self.hurry()
        outcomes = list(self._outcomes)
        self._outcomes.clear()
        return outcomes

    def wait(self) -> list[Outcome]:
        """Waits for the save in flight.

        Returns:
            As `finished`.
        """
        self.hurry()
        return self.finished()

    def hurry(self) -> float:
        """Writes what is left of the save in flight, in this thread.

        Returns:
            Seconds that it took; they count as time that training waited.
        """
        if self._flight is None:
            return 0.0
        is_done, began_s = self._flight.is_done, time.monotonic()
        outcome = self._flight.finish()
        waited_s = 0.0 if is_done else time.monotonic() - began_s
        stalled_s = min(outcome.stalled_s + waited_s, outcome.seconds)
        self._outcomes.append(replace(outcome, stalled_s=stalled_s))
        self._flight = None
        return waited_s


class _Flight:
    """A save that is under way: piece by piece in the background, until someone takes over.

    Args:
        pieces: The save.
        step: Updates done.
        began_s: Monotonic time at which it was asked for.
    """

    def __init__(self, pieces: Generator[None, None, Path], step: int, *, began_s: float) -> None:
        self._pieces, self._step, self._began_s = pieces, step, began_s
        self.stalled_s = 0.0
        self._outcome: Outcome | None = None
        self._error: BaseException | None = None
        self._is_taken_over = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_done(self) -> bool:
        """Whether it has ended, one way or the other."""
        return self._outcome is not None or self._error is not None

    def begin(self) -> None:
        """Starts the thread in the background."""
        self._thread = threading.Thread(target=self._work, name="checkpoint", daemon=True)
        self._thread.start()

    def finish(self) -> Outcome:
        """Does what is left, in this thread."""
        self._is_taken_over.set()
        if self._thread is not None:
            self._thread.join()
        while not self.is_done:
            self._advance()
        if self._error is not None:
            raise self._error
        assert self._outcome is not None
        return self._outcome

    def _work(self) -> None:
        _give_way()
        while not (self.is_done or self._is_taken_over.is_set()):
            self._advance()

    def _advance(self) -> None:
        path = message = None
        try:
            next(self._pieces)
            return
        except StopIteration as end:
            path = end.value
        except DiskError as error:
            message = str(error)
        except BaseException as error:  # a fault of ours: it ends the thread that asks
            self._error = error
            return
        seconds = time.monotonic() - self._began_s
        self._outcome = Outcome(
            self._step, path, seconds=seconds, stalled_s=self.stalled_s, message=message
        )


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}


def _give_way() -> None:
    """Gives the calling thread the lowest priority; Linux alone has one for a single thread."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST)
