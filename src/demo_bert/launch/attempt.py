"""One attempt of a job on several hosts: what its agents told, and how it ended."""

import logging
import math
import signal
import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from demo_bert.heartbeat import Beat
from demo_bert.launch.job import Job
from demo_bert.launch.placement import named

_LOG = logging.getLogger(__name__)

SILENT_S = 20.0
"""After this long without a word a host counts as lost; agents speak every 2 s."""

_SILENT_AFTER_FAILURE_S = 8.0
_START_S = 60.0
_AFTER_FAILURE_S = 20.0
_AFTER_EARLY_STOP_S = 5.0
_HANG_GRACE_S = 15.0
_LAST_WORDS = 20  # lines
_USER_ERROR, _STOPPED, _INTERRUPTED, _FAILURE = 2, 75, 130, 1


@dataclass(frozen=True)
class Verdict:
    """How an attempt ended.

    Attributes:
        code: The exit code, where nothing follows.
        cause: What went wrong, in one line; empty where nothing did.
        is_worth_another: Whether starting the workers again may help.
        words: The last words of the worker that was the cause.
    """

    code: int
    cause: str = ""
    is_worth_another: bool = False
    words: tuple[str, ...] = ()


@dataclass
class Attempt:
    """What is known of an attempt while it runs.

    Attributes:
        job: What was started.
        timeout_s: How long a worker may not answer; infinite where workers see to it themselves.
        requests: Signals that asked to stop.
    """

    job: Job
    timeout_s: float
    requests: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Nothing is known yet."""
        self._began = self._moved_at = time.monotonic()
        self._heard: dict[int, float] = {}
        self._failing: list[tuple[int, int]] = []
        self._failed_at: float | None = None
        self._ends: dict[int, int] = {}
        self._beats: dict[int, Beat] = {}
        self._words: dict[int, deque[str]] = {}
        self._torn_down = False
        self._lost_host = ""
        self._partial: dict[tuple[int, bool], str] = {}

    def take(self, record: Mapping[str, Any]) -> None:
        """Takes what an agent told.

        Args:
            record: Of `channel`.
        """
        kind = record["kind"]
        if "host" in record:
            self._heard[record["host"]] = time.monotonic()
        if kind == "beat":
            beats = {int(rank): Beat(*values) for rank, values in record["ranks"].items()}
            if any(self._beats.get(rank) != beat for rank, beat in beats.items()):
                self._moved_at = time.monotonic()
            self._beats |= beats
        elif kind == "cores":
            self._tell_cores(record)
        elif kind == "failing":
            self._failing.append((record["rank"], record["code"]))
            self._failed_at = self._failed_at or time.monotonic()
        elif kind == "end":
            self._ends[record["rank"]] = record["code"]

    def _tell_cores(self, record: Mapping[str, Any]) -> None:
        first = record["host"] * self.job.workers
        cores = named(record["shares"])
        _LOG.info(
            "%s: ranks %d to %d, threads of each: %s, cores: %s",
            *(self.job.hosts[record["host"]], first, first + self.job.workers - 1),
            *(record["threads"], cores),
        )

    def show(self, record: Mapping[str, Any]) -> None:
        """Shows a line of a worker: those of rank 0 as they are, the others with their rank.

        Args:
            record: Of the kind "line".
        """
        rank, is_error = record["rank"], record["is_error"]
        text = self._partial.pop((rank, is_error), "") + record["text"]
        if not record["is_whole"]:
            self._partial[rank, is_error] = text
            return
        self._words.setdefault(rank, deque(maxlen=_LAST_WORDS)).append(text)
        if rank == 0:
            stream = sys.stderr if is_error else sys.stdout
            stream.write(f"{text}\n")
        else:
            stream = sys.stderr
            stream.write(f"[rank {rank}, {self.job.host_of(rank)}] {text}\n")
        stream.flush()

    @property
    def is_up(self) -> bool:
        """Whether every agent has spoken, and so listens."""
        return len(self._heard) == len(self.job.hosts)

    def why_end(self) -> str | None:
        """Why the attempt is to be torn down now; None while it may go on."""
        now = time.monotonic()
        # Where workers miss one another, a silent host is soon the reason.
        patience_s = SILENT_S if self._failed_at is None else _SILENT_AFTER_FAILURE_S
        for index, host in enumerate(self.job.hosts):
            if index not in self._heard and now - self._began > _START_S:
                self._lost_host = f"{host}: its agent did not start in {_START_S:.0f} s"
            elif index in self._heard and not self._has_ended(index):
                if now - self._heard[index] > patience_s:
                    self._lost_host = f"{host}: does not answer any more"
        reason = self._lost_host or None
        since_failure_s = 0.0 if self._failed_at is None else now - self._failed_at
        if reason is None and since_failure_s > _AFTER_FAILURE_S:
            reason = "some of them failed"
        if reason is None and since_failure_s > _AFTER_EARLY_STOP_S and self._is_early_stop():
            reason = "some have stopped with nothing to save, and the others wait for them"
        if reason is None and self._heard and now - self._moved_at > self.timeout_s + _HANG_GRACE_S:
            reason = f"none has gone on for {self.timeout_s:.0f} s"
        self._torn_down = self._torn_down or reason is not None
        return reason

    def _is_early_stop(self) -> bool:
        """Whether it was asked to stop, and no worker has done a step that might be saved."""
        return bool(self.requests) and all(beat.step < 0 for beat in self._beats.values())

    def verdict(self, code: int, said: list[str]) -> Verdict:
        """How it ended.

        Args:
            code: The exit code of mpirun; what agents told goes first.
            said: What mpirun and ssh themselves said.

        Returns:
            The verdict.
        """
        codes = {**dict(self._failing), **self._ends}
        if len(self._ends) == self.job.world_size and not any(codes.values()):
            return Verdict(0)
        if self.requests and codes and not self._torn_down:
            return Verdict(self._code_of_stop(codes))
        own = [(rank, code) for rank, code in self._failing if not self._beat_of(rank).has_lost]
        if own:
            return self._of_worker(*min(own, key=lambda end: end[1] == -signal.SIGKILL))
        if self._lost_host:
            return Verdict(_FAILURE, self._lost_host, is_worth_another=True)
        if self._failing or self._torn_down:
            return self._of_silence()
        last = " ".join(line.strip("- ") for line in said if line.strip("- "))
        return Verdict(_FAILURE, f"mpirun ended with {code}: {last[:600]}", is_worth_another=True)

    def _code_of_stop(self, codes: Mapping[int, int]) -> int:
        """The code of a job that was asked to stop; workers that missed another do not count."""
        own = {rank: code for rank, code in codes.items() if not self._beat_of(rank).has_lost}
        codes = own or codes
        for code in (_INTERRUPTED, _USER_ERROR, _FAILURE, _STOPPED):
            if code in codes.values():
                return code
        # Killed before they listened.
        return _STOPPED if len(self.requests) == 1 else _INTERRUPTED

    def _of_worker(self, rank: int, code: int) -> Verdict:
        where = f"rank {rank} on {self.job.host_of(rank)}"
        step = self._beat_of(rank).step
        when = f" after step {step}" if step >= 0 else ""
        words = tuple(self._words.get(rank, ())) if rank else ()
        if code < 0:
            name = signal.Signals(-code).name
            return Verdict(_FAILURE, f"{where}: killed by {name}{when}", True, words)
        cause = "" if code == _STOPPED else f"{where}: ended with {code}{when}"
        return Verdict(code, cause, words=words)

    def _of_silence(self) -> Verdict:
        """All that ended did so because others were silent: one hangs, or the network does."""
        failed = {rank for rank, _ in self._failing}
        silent = [rank for rank in range(self.job.world_size) if rank not in failed]
        fewest = min((self._beat_of(rank).sums for rank in silent), default=0)
        behind = [rank for rank in silent if self._beat_of(rank).sums == fewest]
        if not failed:  # the time limit of nobody has come: those that wait are not the cause
            behind = [rank for rank in behind if not self._beat_of(rank).is_waiting]
        if behind:
            names = ", ".join(f"rank {rank} on {self.job.host_of(rank)}" for rank in behind)
            if math.isinf(self.timeout_s):
                return Verdict(_FAILURE, f"{names}: did not answer")
            step = max(self._beat_of(behind[0]).step, 0)
            return Verdict(
                _FAILURE,
                f"{names}: did not answer for {self.timeout_s:.0f} s; last step {step}",
            )
        return Verdict(_FAILURE, "the connection between workers was lost", True)

    def _beat_of(self, rank: int) -> Beat:
        return self._beats.get(rank, Beat())

    def _has_ended(self, index: int) -> bool:
        first = index * self.job.workers
        return all(rank in self._ends for rank in range(first, first + self.job.workers))
