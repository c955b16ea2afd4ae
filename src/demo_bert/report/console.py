"""What a person sees while a run goes on: one calm display on a terminal, plain lines elsewhere.

Everything goes to one stream, standard error as a rule: standard output is for answers. `rich` is
imported on a terminal only.
"""

import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, TextIO

from demo_bert.report import wording
from demo_bert.report.events import Event
from demo_bert.report.fields import finite, number, numbers, text, whole

_NUM_LINES = 20
_LONGEST_SILENCE_S = 30.0
_SMOOTHED_STEPS = 20


@dataclass(frozen=True)
class Status:
    """Where training stands.

    Attributes:
        label: What is going on, in a word or two.
        step: The last step that is done.
        total_steps: Steps of the whole run.
        loss: Smoothed over about 20 steps; None before the first step.
        learning_rate: Of the last step.
        examples_per_s: Smoothed likewise; None where it is unknown.
        left_s: Seconds to the last step at the pace so far, evaluations and saves included.
    """

    label: str
    step: int
    total_steps: int
    loss: float | None = None
    learning_rate: float | None = None
    examples_per_s: float | None = None
    left_s: float | None = None

    def figures(self) -> list[str]:
        """The figures as short texts: loss, learning rate, throughput and time left.

        Returns:
            Those that are known, in this order.
        """
        found: list[str] = []
        if self.loss is not None:
            found.append(f"loss {wording.compact(self.loss)}")
        if self.learning_rate is not None:
            found.append(f"lr {self.learning_rate:.2g}")
        if self.examples_per_s is not None:
            found.append(f"{wording.rate(self.examples_per_s)} examples/s")
        if self.left_s is not None:
            found.append(f"{wording.duration(self.left_s)} left")
        return found


class View(Protocol):
    """A way to show a run: lines that stay, and a state that is replaced."""

    def line(self, line: str, *, is_warning: bool) -> None:
        """Shows a line that stays."""
        ...

    def status(self, status: Status) -> None:
        """Shows where training stands."""
        ...

    def progress(self, label: str, *, done: int, total: int) -> None:
        """Shows how far something beside training is, until the next status or line."""
        ...

    def close(self) -> None:
        """Ends the display; lines may still come."""
        ...


class Console:
    """Shows the events of a run to a person.

    Args:
        stream: Where to write; a terminal gets a live display, everything else plain lines.
        total_steps: Optimizer steps of the whole run.
        label: What the display calls the work.
        log_every: Steps between plain lines; None for about 20 lines a run. A line comes at least
            every 30 s in any case.
        clock: Gives seconds, for the 30 s.
    """

    def __init__(
        self,
        stream: TextIO,
        total_steps: int,
        *,
        label: str = "training",
        log_every: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._label = label
        self._total_steps = total_steps
        self._pace = _Pace()
        every = log_every or round_step(total_steps / _NUM_LINES)
        self._view = _terminal_view(stream) or _PlainLines(stream, every=every, clock=clock)

    def on_event(self, event: Event) -> None:
        """Shows what the event says; kinds without words for people are passed over.

        Args:
            event: An event of `EventLog`, live or read back.
        """
        kind, step = event.get("event"), whole(event.get("step"))
        if kind == "step" and step is not None:
            self._pace.add(event, step)
            self._view.status(self._status(event, step))
        elif kind == "evaluation":
            self.note(self._at(step) + _evaluation_words(event))
        elif kind == "checkpoint":
            self.note(self._at(step) + f"saved {text(event.get('path'))}{_seconds(event)}")
        elif kind == "resume":
            self._pace = _Pace()
            self.note(f"going on after step {step or 0:,} of {self._total_steps:,}")
        elif kind == "fault":
            self.warn(self._at(step) + wording.fault(event))

    def progress(self, label: str, *, done: int, total: int) -> None:
        """Shows how far something beside training is: an evaluation, a download.

        Args:
            label: What is going on.
            done: How much of it is done.
            total: How much there is.
        """
        self._view.progress(label, done=done, total=total)

    def note(self, line: str) -> None:
        """Shows a line that stays.

        Args:
            line: One line of text.
        """
        self._view.line(line, is_warning=False)

    def warn(self, line: str) -> None:
        """Shows a warning that stays.

        Args:
            line: One line of text, without the word "warning".
        """
        self._view.line(f"warning: {line}", is_warning=True)

    def handler(self) -> logging.Handler:
        """A handler that puts log records above the display.

        Returns:
            A new handler; records from WARNING on are shown as warnings.
        """
        return _Handler(self)

    def close(self) -> None:
        """Takes the display away; twice is harmless."""
        self._view.close()

    def __enter__(self) -> Self:
        """Returns the console itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Takes the display away."""
        self.close()

    def _status(self, event: Event, step: int) -> Status:
        phase = text(event.get("phase"))
        return Status(
            label=f"{self._label}, phase {phase}" if phase else self._label,
            step=step,
            total_steps=self._total_steps,
            loss=self._pace.loss,
            learning_rate=finite(event.get("learning_rate")),
            examples_per_s=self._pace.examples_per_s,
            left_s=self._pace.left_s(self._total_steps),
        )

    def _at(self, step: int | None) -> str:
        return "" if step is None else f"{_step_words(step, self._total_steps)}  "


def round_step(steps: float) -> int:
    """The next of 1, 2, 5, 10, 20, 50, ...

    Args:
        steps: Any number.

    Returns:
        The smallest of them that is not below it, at least 1.

    Example:
        >>> round_step(17.2), round_step(0.3), round_step(300)
        (20, 1, 500)
    """
    power = 10 ** max(0, math.floor(math.log10(max(steps, 1))))
    return next((f * power for f in (1, 2, 5) if f * power >= steps), 10 * power)


class _Pace:
    """Figures smoothed over the steps of one attempt."""

    def __init__(self) -> None:
        self.loss: float | None = None
        self.examples_per_s: float | None = None
        self._num_steps = 0
        self._first: tuple[int, float] | None = None
        self._last: tuple[int, float] | None = None

    def add(self, event: Event, step: int) -> None:
        self._num_steps += 1
        # The plain mean of the first steps, then an exponential one.
        share = 1 / min(self._num_steps, _SMOOTHED_STEPS)
        loss = number(event.get("loss"))
        self.loss = _mixed(self.loss, loss, share=share)
        self.examples_per_s = _mixed(
            self.examples_per_s, finite(event.get("examples_per_s")), share=share
        )
        self._last = (step, finite(event.get("time")) or 0.0)
        self._first = self._first or self._last

    def left_s(self, total_steps: int) -> float | None:
        if self._first is None or self._last is None or self._last[0] <= self._first[0]:
            return None
        (first, start_s), (step, now_s) = self._first, self._last
        return max(0.0, now_s - start_s) / (step - first) * max(0, total_steps - step)


class _PlainLines:
    """Plain lines for files, pipes and terminals that can do no more."""

    def __init__(self, stream: TextIO, *, every: int, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._every = every
        self._clock = clock
        self._said_s: float | None = None

    def line(self, line: str, *, is_warning: bool) -> None:
        self._said_s = self._clock()
        print(line, file=self._stream, flush=True)

    def status(self, status: Status) -> None:
        is_due = status.step % self._every == 0 or status.step >= status.total_steps
        if is_due or self._is_silent_too_long():
            figures = "  ".join(status.figures())
            self.line(
                f"{_step_words(status.step, status.total_steps)}  {figures}", is_warning=False
            )

    def progress(self, label: str, *, done: int, total: int) -> None:
        if self._is_silent_too_long():
            self.line(f"{label} {done:,}/{total:,}", is_warning=False)

    def close(self) -> None:
        self._said_s = None

    def _is_silent_too_long(self) -> bool:
        if self._said_s is None:
            self._said_s = self._clock()
        return self._clock() - self._said_s >= _LONGEST_SILENCE_S


class _Handler(logging.Handler):
    """Shows log records as lines of the console."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        show = self._console.warn if record.levelno >= logging.WARNING else self._console.note
        show(self.format(record))


def _terminal_view(stream: TextIO) -> View | None:
    """The live display, where the stream can show one."""
    if not stream.isatty() or os.environ.get("TERM", "").lower() in ("", "dumb", "unknown"):
        return None
    try:
        from demo_bert.report.terminal import TerminalView
    except ImportError:  # the core works without rich
        return None
    return TerminalView(stream)


def _mixed(old: float | None, new: float | None, *, share: float) -> float | None:
    # A loss that is not finite is shown, but does not stay in the mean for ever.
    if new is None or old is None or not math.isfinite(old):
        return old if new is None else new
    return old + share * (new - old)


def _evaluation_words(event: Event) -> str:
    metrics = numbers(event.get("metrics"))
    words = [f"{wording.metric_name(key)} {wording.score(value)}" for key, value in metrics.items()]
    loss = number(event.get("loss"))
    if loss is not None:
        words.append(f"loss {wording.compact(loss)}")
    return "  ".join([text(event.get("split")) or "evaluation", *words]) + _seconds(event)


def _seconds(event: Event) -> str:
    seconds = finite(event.get("seconds"))
    if seconds is None:
        return ""
    return f"  ({seconds:.1f} s)" if seconds < 60 else f"  ({wording.duration(seconds)})"


def _step_words(step: int, total_steps: int) -> str:
    return f"step {step:>{len(str(total_steps))}}/{total_steps}"


def say(lines: Sequence[str]) -> None:
    """Writes lines to standard output, which is for answers and results.

    Args:
        lines: Without line ends.
    """
    for line in lines:
        print(line, flush=True)
