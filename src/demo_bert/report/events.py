"""The event log of a run: one JSON object per line, appended, and read back.

A line has `event`, `time` (Unix time in seconds), `attempt` (0, 1, ... after restarts) and the
event's own fields; `docs/events.md` lists them all. Numbers are written exactly. JSON has no word
for numbers that are not finite: they are the strings "NaN", "Infinity" and "-Infinity", and
`fields.number` reads them back.
"""

import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeAlias, cast, runtime_checkable

from demo_bert.errors import DiskError
from demo_bert.report.fields import whole

Event: TypeAlias = dict[str, object]
"""One line of the log."""

Reader: TypeAlias = Callable[[Event], None]
"""Something that is shown each event as it happens."""

_LOG = logging.getLogger(__name__)
_ONE_PER_STEP = ("step", "evaluation")


class EventLog:
    """Appends events to a file, each handed to the operating system at once.

    A full or vanished disk does not stop training: the event is dropped, said once and counted in
    `dropped`; when there is room again, a `fault` event of kind `events_dropped` keeps the count.
    The readers see every event, also a dropped one.

    Args:
        path: The file; a torn last line is cut off, its directory is made where it is missing.
        attempt: What `attempt` says in each line.
        readers: Called with each event after it was written, in this order.
        clock: Gives Unix time in seconds.

    Raises:
        DiskError: The file cannot be opened for writing.
    """

    def __init__(
        self,
        path: Path,
        attempt: int,
        *,
        readers: Sequence[Reader] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self.attempt = attempt
        self.dropped = 0
        self._unsaid = 0
        self._readers = tuple(readers)
        self._clock = clock
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab", buffering=0)
            self._size = _cut_torn_line(path)
        except OSError as error:
            raise DiskError(f"{path}: cannot be written ({error.strerror})") from error

    @classmethod
    def open(cls, path: Path, *, readers: Sequence[Reader] = ()) -> Self:
        """Opens the log of a run for its next attempt.

        Args:
            path: The file, which may be missing.
            readers: Called with each event.

        Returns:
            The log; its attempt is one more than the file's last, 0 in a file without events.

        Raises:
            DiskError: The file cannot be opened for writing.
        """
        attempts = [whole(event.get("attempt")) or 0 for event in _parsed(path)]
        return cls(path, max(attempts, default=-1) + 1, readers=readers)

    def append(self, event: str, /, **fields: object) -> Event:
        """Writes one event and shows it to the readers.

        Args:
            event: What happened: step, evaluation, checkpoint, ...
            **fields: The event's own fields: text, numbers (also zero-dimensional arrays),
                booleans, None, lists and dictionaries of them.

        Returns:
            The event as its line has it.
        """
        time_s = self._clock()
        record: Event = {"event": event, "time": time_s, "attempt": self.attempt}
        record.update({name: _plain(value) for name, value in fields.items()})
        if self._unsaid:
            gap: Event = {"event": "fault", "time": time_s, "attempt": self.attempt}
            gap.update(kind="events_dropped", count=self._unsaid)
            self._write(gap, is_news=False)
        self._write(record, is_news=True)
        for reader in self._readers:
            reader(record)
        return record

    def close(self) -> None:
        """Closes the file; twice is harmless."""
        self._file.close()

    def __enter__(self) -> Self:
        """Returns the log itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the file."""
        self.close()

    def _write(self, record: Event, *, is_news: bool) -> None:
        # Half a surrogate pair (from a file name, say) becomes the escape that JSON has for it.
        line = json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
        data = line.encode("utf-8", "backslashreplace")
        try:
            written = self._file.write(data)
            if written != len(data):
                raise OSError(None, "no space left")
        except OSError as error:
            self._drop(error, is_news=is_news)
            return
        self._size += len(data)
        if not is_news:
            self._unsaid = 0

    def _drop(self, error: OSError, *, is_news: bool) -> None:
        if is_news:
            if not self.dropped:
                _LOG.warning(
                    "%s: cannot be written (%s); training goes on, events are lost until it can",
                    self.path,
                    error.strerror,
                )
            self.dropped += 1
            self._unsaid += 1
        try:  # half a line must not stand before the next one
            self._file.truncate(self._size)
        except OSError:
            _LOG.debug("%s: half a line could not be cut off", self.path)


def read_events(path: Path) -> list[Event]:
    """All events of a run that stand.

    Args:
        path: An `events.jsonl`, also of a run that is going on; it may be missing.

    Returns:
        The events in the file's order. Where attempts repeated a step or an evaluation, the last
        one stands. A torn last line is left out; damaged lines are left out with a warning.
    """
    events = _parsed(path)
    last = {key: place for place, event in enumerate(events) if (key := _step_key(event))}
    return [
        event
        for place, event in enumerate(events)
        if last.get(_step_key(event) or (), place) == place
    ]


def last_steps(events: Sequence[Event]) -> list[Event]:
    """The `step` events of a run, one for each step.

    Args:
        events: Events in the order in which they were written.

    Returns:
        The last attempt's event of each step, by step.
    """
    last: dict[int, Event] = {}
    for event in events:
        step = whole(event.get("step"))
        if event.get("event") == "step" and step is not None:
            last[step] = event
    return [last[step] for step in sorted(last)]


def _parsed(path: Path) -> list[Event]:
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise DiskError(f"{path}: cannot be read ({error.strerror})") from error
    events: list[Event] = []
    lines = data.split(b"\n")
    for place, line in enumerate(lines[:-1], start=1):  # what follows the last line end is torn
        event = _event_of(line)
        if event is None:
            _LOG.warning("%s: line %d is not an event; it is left out", path, place)
        else:
            events.append(event)
    return events


def _event_of(line: bytes) -> Event | None:
    try:
        value: object = json.loads(line)
    except (ValueError, RecursionError):  # ValueError: not UTF-8, not JSON
        return None
    if not isinstance(value, dict):
        return None
    event = cast("Event", value)
    return event if isinstance(event.get("event"), str) else None


def _step_key(event: Event) -> tuple[object, ...] | None:
    kind, step = event["event"], whole(event.get("step"))
    if kind not in _ONE_PER_STEP or step is None:
        return None
    return (kind, step, str(event.get("split", "")))


def _cut_torn_line(path: Path) -> int:
    """Cuts what follows the last line end and gives the size that is left, in bytes."""
    with path.open("r+b") as file:
        data = file.read()
        size = data.rfind(b"\n") + 1
        if size != len(data):
            file.truncate(size)
    return size


@runtime_checkable
class _Scalar(Protocol):
    """A number of numpy or torch."""

    def item(self) -> object:
        """The number as Python has it."""
        ...


def _plain(value: object) -> object:
    """The value as JSON can say it, numbers that are not finite as text."""
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        entries = cast("Mapping[object, object]", value)
        return {str(name): _plain(entry) for name, entry in entries.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(entry) for entry in cast("Sequence[object]", value)]
    return _plain(value.item()) if isinstance(value, _Scalar) else value
