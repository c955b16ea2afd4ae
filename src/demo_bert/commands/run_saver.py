"""A run's checkpoints while it trains: taken up, due, saved in the background by rank 0."""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from demo_bert.checkpoint import BYTES_PER_WEIGHT, Checkpoint
from demo_bert.choices import Duration
from demo_bert.commands.checkpoint_copies import has_copies, keeps_copy, note_of
from demo_bert.commands.record_copies import EventCopies
from demo_bert.distributed import (
    World,
    has_note,
    leave_note,
    place,
    remove_note,
    sum_numbers,
)
from demo_bert.errors import DemoBertError, DiskError, RunDirectoryError
from demo_bert.hardware import Backend
from demo_bert.hardware.cpu import CpuBackend
from demo_bert.optim import Optimizer
from demo_bert.optim.sharded import load_state
from demo_bert.run_directory import RunDirectory
from demo_bert.saver import Outcome, Saver
from demo_bert.settings import TrainingSettings

_LOG = logging.getLogger(__name__)
_RETRY_S = 60.0
_COPY_WAIT_S = 60.0
_FIRST_BYTES_PER_S = 100e6  # taken for the disk until a save was measured
_LEAD = 1.25  # of the last save's time: the next one may take longer


class RunSaver:
    """Saves a run and tells what became of it; training goes on where the disk does not.

    A kill costs no more than the interval: a save that is written in the background begins as much
    earlier as the last one took, at most half the interval, and where it is not on disk when the
    interval is over, training waits for it.

    Args:
        settings: As resolved: `keep`, `keep_every`, `save_every`.
        is_first: Whether this worker is rank 0, the only one that writes.
    """

    def __init__(self, settings: TrainingSettings, *, is_first: bool) -> None:
        self._settings, self._is_first = settings, is_first
        self._is_copy = not is_first and keeps_copy(place())
        self._wants_copy = is_first and has_copies()
        self._uncopied: dict[int, Outcome] = {}
        self._events: EventCopies | None = None
        self._saver: Saver | None = None
        self._emit: Callable[..., object] | None = None
        self._fields: dict[int, dict[str, object]] = {}
        self._failure: str | None = None
        self._is_small, self._has_waited = True, False
        self._write_s = 0.0
        self._step_s: deque[float] = deque(maxlen=16)
        self.saved_step = self._safe_step = 0
        """Updates done at the last save, or at the checkpoint that the run goes on from."""
        self._saved_at = self._safe_at = time.monotonic()
        self._begun_at: dict[int, float] = {}
        # "safe": of the newest one that is complete; monotonic times at which they were begun.

    def go_on_from(self, step: int) -> None:
        """Takes note of the checkpoint that the run goes on from.

        Args:
            step: Updates done; 0 for the starting weights.
        """
        self.saved_step = self._safe_step = step
        self._saved_at = self._safe_at = time.monotonic()

    def is_due(self, step: int, *, last_step: int, world: World, backend: Backend) -> bool:
        """Whether to save after a step; every worker gets the same answer.

        Args:
            step: Updates done since the run began.
            last_step: At which it is always due.
            world: This worker's place.
            backend: The hardware.

        Returns:
            True where it is due.
        """
        every, kept = self._settings.save_every, self._settings.keep_every
        if kept is not None and kept.steps is not None and step % kept.steps == 0:
            return True
        if every.steps is None or self._is_small:
            lead_s = min(_LEAD * self._write_s, (every.seconds or 0.0) / 2)
            since = self._saved_at - lead_s
            return is_due(
                step, every, last_step=last_step, since=since, world=world, backend=backend
            )
        passed = step - self.saved_step
        if step == last_step or passed >= every.steps:
            return True
        if 2 * passed < every.steps:
            return False
        is_time = world.is_first and passed >= every.steps - self._lead_steps()
        (agreed,) = sum_numbers([is_time], world, backend.device())
        return bool(agreed)

    def _lead_steps(self) -> int:
        """Steps that are done while a checkpoint is written, at the pace of the fastest of late."""
        if not self._write_s:
            return 0
        return 1 + math.ceil(_LEAD * self._write_s / max(min(self._step_s, default=1.0), 1e-6))

    @contextmanager
    def opened(
        self, checkpoints: Path, *, emit: Callable[..., object], num_weights: int
    ) -> Iterator[None]:
        """Within it the run may save; at its end the last save is on disk.

        Args:
            checkpoints: The run's directory of checkpoints.
            emit: Records an event.
            num_weights: Of the model.

        Raises:
            DiskError: The last save could not be written.
        """
        self._saved_at = self._safe_at = time.monotonic()
        size_bytes = num_weights * BYTES_PER_WEIGHT
        self._is_small = size_bytes < Saver.small_bytes
        self._write_s = 0.0 if self._is_small else size_bytes / _FIRST_BYTES_PER_S
        if not self._is_first and not self._is_copy:
            yield
            return
        self._emit = emit
        if self._is_copy or self._wants_copy:
            self._events = EventCopies(RunDirectory(checkpoints.parent).events)
        if self._events is not None and self._is_copy:
            self._events.begin()
        self._saver = Saver(
            checkpoints, keep=self._settings.keep, keep_every=self._settings.keep_every
        )
        try:
            yield
        except DemoBertError:
            self.settle()
            raise
        self.settle()
        if self._failure is not None:
            raise DiskError(self._failure)

    def save(
        self,
        step: int,
        *,
        state: Mapping[str, Any],
        model: Mapping[str, Tensor],
        optimizer: Mapping[str, Tensor],
        **fields: object,
    ) -> None:
        """Begins a save; every worker calls it at the same step.

        Args:
            step: Updates done since the run began.
            state: Plain values for `Checkpoint.state`.
            model: Names and weights.
            optimizer: Names and moments.
            **fields: Further fields of its event.
        """
        begun_at = time.monotonic()
        self.saved_step, self._saved_at = step, begun_at
        if self._saver is None:
            return
        self._fields[step] = fields
        if self._events is not None and self._wants_copy:
            self._events.send(step)
        self._begun_at[step] = begun_at
        self._saver.start(
            step=step,
            state=state,
            model=model,
            optimizer=optimizer,
            free_bytes=CpuBackend().free_memory_bytes(),
        )
        self._wait_if_late(step)

    def after_step(self, step: int, seconds: float) -> None:
        """Records the saves that have ended, and keeps the promise of what a kill costs.

        Args:
            step: Updates done since the run began.
            seconds: That the last one took.
        """
        self._step_s.append(seconds)
        self._wait_if_late(step)

    def _wait_if_late(self, step: int) -> None:
        """Waits for the save in flight where another step would make a kill cost too much."""
        self.tell()
        if self._saver is None or not self._saver.is_busy:
            return
        every = self._settings.save_every
        if every.steps is not None:
            is_late = step - self._safe_step >= every.steps
        else:
            assert every.seconds is not None
            is_late = time.monotonic() - self._safe_at >= every.seconds
        if is_late:
            waited_s = self._saver.hurry()
            _LOG.log(
                logging.DEBUG if self._has_waited else logging.INFO,
                "training waited %.1f s for the checkpoint of step %d, which was not on disk when"
                " --save-every %s was over; what later ones cost is in the events (stalled_s)",
                waited_s,
                self.saved_step,
                every,
            )
            self._has_waited = True
            self.tell()

    def tell(self) -> None:
        """Records the saves that have ended since it was last called."""
        if self._saver is not None:
            self._tell(self._saver.finished())

    def settle(self) -> None:
        """Waits for the save in flight and its copy, and records it."""
        if self._saver is not None:
            self._tell(self._saver.wait())
            deadline = time.monotonic() + _COPY_WAIT_S
            while self._uncopied and time.monotonic() < deadline:
                time.sleep(0.02)
                self._tell([])
            for step in self._uncopied:
                _LOG.warning("the checkpoint of step %d has no copy on a second host", step)
            self._uncopied.clear()

    def _tell(self, outcomes: list[Outcome]) -> None:
        """Records saves that are complete; without shared storage, when the second host says so."""
        for outcome in outcomes:
            begun_at = self._begun_at.pop(outcome.step)
            if outcome.path is not None:
                self._safe_step, self._safe_at = outcome.step, begun_at
            if self._is_copy and outcome.path is not None:
                self._tell_copied(outcome.step)
            elif self._wants_copy and outcome.path is not None:
                self._uncopied[outcome.step] = outcome
        waiting = set(self._uncopied.values())
        copied = [o for o in self._uncopied.values() if has_note(note_of(o.step))]
        for outcome in copied:
            del self._uncopied[outcome.step]
            remove_note(note_of(outcome.step))
            if self._events is not None:
                self._events.arrived(outcome.step)
        self._record([o for o in outcomes if o not in waiting] + copied)

    def _tell_copied(self, step: int) -> None:
        """On the second host: a checkpoint is here, and the events before it."""
        assert self._events is not None
        try:
            self._events.take(step)
        except DiskError as error:
            _LOG.warning("%s; the checkpoint of step %d counts for nothing here", error, step)
        else:
            leave_note(note_of(step))

    def _record(self, outcomes: list[Outcome]) -> None:
        assert self._saver is not None and self._emit is not None
        for outcome in outcomes:
            self._failure = outcome.message
            fields = self._fields.pop(outcome.step)
            if outcome.path is None:
                _LOG.warning("%s; training goes on and tries again", outcome.message)
                self._emit(
                    "fault", kind="checkpoint", step=outcome.step, message=outcome.message, **fields
                )
                every_s = self._settings.save_every.seconds or 0.0
                self._saved_at = time.monotonic() - max(0.0, every_s - _RETRY_S)
                continue
            is_at_once = self._is_small or outcome.lacked_memory
            self._write_s = 0.0 if is_at_once else outcome.seconds
            if outcome.lacked_memory:
                _LOG.info("too little memory for a copy: training waited for the checkpoint")
            self._emit(
                "checkpoint",
                step=outcome.step,
                path=str(outcome.path.relative_to(outcome.path.parents[1])),
                seconds=outcome.seconds,
                stalled_s=outcome.stalled_s,
                **({"copies": 2} if self._wants_copy else {}),
                **fields,
            )


def is_due(
    step: int, every: Duration, *, last_step: int, since: float, world: World, backend: Backend
) -> bool:
    """Whether a step or a time has come; every worker gets the same answer.

    Args:
        step: Updates done.
        every: How often.
        last_step: At which it is always due.
        since: Monotonic time of the last, in seconds.
        world: This worker's place.
        backend: The hardware, which the workers' answers are added on.

    Returns:
        True when it has come.
    """
    if step == last_step:
        return True
    if every.steps is not None:
        return step % every.steps == 0
    assert every.seconds is not None
    is_late = world.is_first and time.monotonic() - since >= every.seconds
    (agreed,) = sum_numbers([is_late], world, backend.device())
    return bool(agreed)


def take_up(
    checkpoint: Checkpoint, *, model: nn.Module, optimizer: Optimizer, changed: Sequence[str]
) -> None:
    """Fills model and optimizer from a checkpoint.

    Args:
        checkpoint: Where the run goes on.
        model: Its weights are set.
        optimizer: Its moments are set.
        changed: What differs from the numbers it was saved with.

    Raises:
        RunDirectoryError: Something differs.
        CheckpointError: A file is damaged.
    """
    if changed:
        raise RunDirectoryError(
            f"{checkpoint.path}: saved with other numbers: {', '.join(changed)};"
            " give the former ones, or start anew with --new"
        )
    model.load_state_dict(checkpoint.tensors("model"))
    load_state(optimizer, checkpoint.tensors("optimizer"))
