"""TensorBoard's file of a run: the scalars of the events, written while they happen.

A thread of its own writes, so that no step waits for the import or for the disk. When a run goes
on, the file is made anew from `events.jsonl` up to the step where it goes on, and the old one is
emptied: whoever reads the directory, TensorBoard that is open included, finds each step once.
"""

import importlib
import logging
import os
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from demo_bert.report.events import Event, read_events
from demo_bert.report.fields import mapping, number, text, whole

_LOG = logging.getLogger(__name__)
_STEP_SCALARS = (
    "loss",
    "mlm_loss",
    "nsp_loss",
    "learning_rate",
    "grad_norm",
    "examples_per_s",
    "real_tokens_per_s",
)


class TensorBoardWriter:
    """Writes what `tensorboard --logdir` shows; without the package it warns once, no more.

    Args:
        directory: Where the event files lie. The run's `events.jsonl` beside it, if it is there,
            gives what earlier attempts did.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._queue: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def add(self, event: Event) -> None:
        """Takes an event and returns at once.

        Args:
            event: An event of `EventLog`; those without scalars are passed over.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="tensorboard", daemon=True)
            self._thread.start()
        self._queue.put(event)

    def close(self) -> None:
        """Waits until everything is on disk; twice is harmless."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        try:
            self._write_all()
        except ImportError as error:
            _LOG.warning(
                "no TensorBoard files are written: %s; 'pip install tensorboard' mends it", error
            )
        except OSError as error:
            _LOG.warning(
                "%s: cannot be written (%s); training goes on without TensorBoard files",
                self._directory,
                error.strerror,
            )

    def _write_all(self) -> None:
        first = self._queue.get()
        while first is not None and whole(first.get("step")) is None:
            first = self._queue.get()
        if first is None:
            return
        attempt = whole(first.get("attempt")) or 0
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._directory / f"events.out.tfevents.{int(time.time()):010d}.attempt-{attempt}"
        old = [file for file in self._directory.glob("events.out.tfevents.*") if file != path]
        with path.open("wb") as file:
            records = _Records(file)
            for event in _before(first, self._directory.parent / "events.jsonl", attempt=attempt):
                records.write(event)
            file.flush()
            for stale in old:
                _take_away(stale)
            event: Event | None = first
            while event is not None:
                records.write(event)
                if self._queue.empty():
                    file.flush()  # who watches sees it now; no step waits for it
                event = self._queue.get()


def _take_away(stale: Path) -> None:
    """Empties a file, and deletes one that is empty.

    A TensorBoard that is open cannot get past a file that vanished, but it goes on from an empty
    one to the next.
    """
    if stale.stat().st_size:
        os.truncate(stale, 0)
    else:
        stale.unlink()


def scalars(event: Event) -> Iterator[tuple[str, float]]:
    """The scalars of an event, named as TensorBoard groups them.

    Args:
        event: An event of `EventLog`.

    Yields:
        Tag and value: `train/loss`, `eval/validation/accuracy`, ...
    """
    if event.get("event") == "step":
        named: dict[str, object] = {f"train/{key}": event.get(key) for key in _STEP_SCALARS}
    elif event.get("event") == "evaluation":
        group = f"eval/{text(event.get('split')) or 'validation'}"
        metrics = mapping(event.get("metrics")).items()
        named = {f"{group}/loss": event.get("loss")} | {f"{group}/{k}": v for k, v in metrics}
    else:
        return
    for tag, entry in named.items():
        value = number(entry)
        if value is not None:
            yield tag, value


def _before(first: Event, log: Path, *, attempt: int) -> list[Event]:
    """What earlier attempts did, up to the step where this one goes on."""
    step = whole(first.get("step")) or 0
    last = step if first.get("event") not in ("step", "evaluation") else step - 1
    return [
        event
        for event in read_events(log)
        if (whole(event.get("attempt")) or 0) < attempt and (whole(event.get("step")) or 0) <= last
    ]


class _RecordWriter(Protocol):
    """What is used of TensorBoard's writer of records."""

    def write(self, data: bytes) -> None:
        """Writes one record with its length and checksums."""
        ...


class _Records:
    """Turns events into TensorBoard's records."""

    def __init__(self, file: BinaryIO) -> None:
        # These two modules import no TensorFlow, also where there is one; the messages are made
        # at run time, so a type checker cannot know them.
        from tensorboard.summary.writer.record_writer import RecordWriter

        messages = importlib.import_module("tensorboard.compat.proto.event_pb2")
        self._event = messages.Event
        self._writer: _RecordWriter = RecordWriter(file)
        version = self._event(wall_time=time.time(), file_version="brain.Event:2")
        self._writer.write(version.SerializeToString())
        # At each of these but the first, a TensorBoard that is open forgets what it has read.
        session = messages.SessionLog(status=messages.SessionLog.START)
        start = self._event(wall_time=time.time(), step=0, session_log=session)
        self._writer.write(start.SerializeToString())

    def write(self, event: Event) -> None:
        found = list(scalars(event))
        if not found:
            return
        record = self._event(
            wall_time=number(event.get("time")) or 0.0, step=whole(event.get("step")) or 0
        )
        for tag, value in found:
            record.summary.value.add(tag=tag, simple_value=value)
        self._writer.write(record.SerializeToString())
