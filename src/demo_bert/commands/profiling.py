"""The profiler window: a trace of some steps, and a table of the dearest operations.

A reader of a run's events: it starts when the step before the window is done and ends with the
window's last. A run without a window has no such reader, and pays nothing.
"""

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch.profiler

from demo_bert.report.events import Event
from demo_bert.report.fields import whole

_LOG = logging.getLogger(__name__)
_NUM_OPERATIONS = 10
_STEP = "ProfilerStep"
_QUIET = "6"  # else the tracing library writes to standard error when it starts and stops


class StepProfiler:
    """Traces steps of a run, on the worker whose events it reads.

    Args:
        window: First step of the trace, and the first one after it; steps count from 1.
        directory: Of the trace.
    """

    def __init__(self, window: tuple[int, int], directory: Path) -> None:
        self._first, self._end = max(1, window[0]), max(2, window[1])
        self._directory = directory
        self._profile: torch.profiler.profile | None = None
        self._is_over = False
        self._done = 0
        self.emit: Callable[..., object] = _say_nothing
        """Records the event of the result; the owner of the log sets it."""

    def on_event(self, event: Event) -> None:
        """Starts or ends with the steps of the window.

        Args:
            event: As the log has it.
        """
        kind, step = event.get("event"), whole(event.get("step")) or 0
        if kind not in ("start", "resume", "step") or self._is_over:
            return
        if self._profile is not None:
            self._done = step
            if step >= self._end - 1:
                self._finish()
            else:
                self._profile.step()
        elif self._first - 1 <= step < self._end - 1:
            self._first = step + 1
            os.environ.setdefault("KINETO_LOG_LEVEL", _QUIET)
            self._profile = _profile_of_steps(self._first)
            self._profile.start()

    def close(self) -> None:
        """Ends a trace whose window the run did not fill; says so where there was none."""
        if self._profile is not None and self._done >= self._first:
            self._finish()
        elif self._profile is not None:
            self._profile.stop()
            self._profile = None
        elif not self._is_over:
            _LOG.warning(
                "profile: no step of %d to %d was trained, so there is no trace",
                *(self._first, self._end - 1),
            )
        self._is_over = True

    def _finish(self) -> None:
        """Writes the trace, and tells what it shows."""
        profile, self._profile, self._is_over = self._profile, None, True
        assert profile is not None
        profile.stop()
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._directory / f"rank-0-steps-{self._first}-{self._done}.pt.trace.json.gz"
        profile.export_chrome_trace(str(path))
        found = dearest(profile)
        self.emit(
            "profile",
            step=self._done,
            first_step=self._first,
            last_step=self._done,
            path=f"{self._directory.name}/{path.name}",
            operations=found,
        )
        _LOG.info("profile: steps %d to %d, %s", self._first, self._done, path)
        _LOG.info(
            "profile: %-36s %9s %7s %9s", "the ten dearest operations", "self", "share", "calls"
        )
        for one in found:
            _LOG.info(
                "profile: %-36.36s %7.3f s %5.1f %% %9s",
                *(one["name"], one["self_s"], 100 * one["share"], f"{one['calls']:,}"),
            )


def _profile_of_steps(first: int) -> torch.profiler.profile:
    """A profile whose trace has a bar for each step, `ProfilerStep#<number>`, from this one on."""
    made = torch.profiler.profile(
        activities=torch.profiler.supported_activities(),
        schedule=lambda step: torch.profiler.ProfilerAction.RECORD,
        acc_events=True,
    )
    made.step_num = first
    return made


def dearest(profile: torch.profiler.profile) -> list[dict[str, Any]]:
    """The operations that took most time by themselves, without those that they called.

    Args:
        profile: Stopped.

    Returns:
        Up to ten, the dearest first: `name`, `self_s`, `share` of all, `calls`; on an accelerator
        its own time counts.
    """
    every: Sequence[Any] = profile.key_averages()
    rows = [row for row in every if not row.key.startswith(_STEP)]
    on_device = any(row.self_device_time_total > 0 for row in rows)

    def seconds(row: Any) -> float:
        return (row.self_device_time_total if on_device else row.self_cpu_time_total) / 1e6

    total = sum(map(seconds, rows)) or 1.0
    chosen = sorted(rows, key=seconds, reverse=True)[:_NUM_OPERATIONS]
    return [
        {
            "name": row.key,
            "self_s": seconds(row),
            "share": seconds(row) / total,
            "calls": row.count,
        }
        for row in chosen
    ]


def _say_nothing(event: str, **fields: object) -> None:
    del event, fields
