"""How several workers of a session stop together before any of them has trained."""

import os
import signal
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from demo_bert.commands import run_session
from demo_bert.commands.fine_tune import FineTuning
from demo_bert.distributed import World
from demo_bert.errors import FailureError
from demo_bert.stopping import StoppedAtOnce, StopRequests


def session(num_workers: int) -> Any:
    """A session of the first of some workers that has met nobody."""
    made = FineTuning.__new__(FineTuning)
    made.world = World(0, 0, num_workers, num_workers)
    made.stops = StopRequests(is_at_once=True)
    made.__dict__["backend"] = SimpleNamespace(device=lambda: torch.device("cpu"))
    return made


def met(runs: Any, monkeypatch: pytest.MonkeyPatch, *, others: object, is_asked: bool) -> None:
    """Meets workers whose flags sum to `others`, or are lost; asked to stop on the way or not."""

    def sum_numbers(values: list[bool], *_: object) -> list[float]:
        if is_asked:
            os.kill(os.getpid(), signal.SIGTERM)  # noted, for the worker listens no more
            values = [True]
        if isinstance(others, Exception):
            raise others
        return [float(values[0]) + float(others)]  # type: ignore[bad-argument-type]

    monkeypatch.setattr(FineTuning, "_check_alike", lambda *_: None)
    monkeypatch.setattr(run_session, "sum_numbers", sum_numbers)
    with runs.stops, ExitStack() as noting:
        runs._meet({}, noting)
        os.kill(os.getpid(), signal.SIGTERM)
        assert runs.stops.reason == "SIGTERM"


def test_requests_are_noted_after_all_have_met(monkeypatch: pytest.MonkeyPatch) -> None:
    met(session(2), monkeypatch, others=0, is_asked=False)


@pytest.mark.parametrize("others", [0, 1])
def test_a_request_to_one_ends_all_where_they_meet(
    monkeypatch: pytest.MonkeyPatch, others: int
) -> None:
    is_asked = others == 0
    with pytest.raises(StoppedAtOnce, match="SIGTERM" if is_asked else "another worker"):
        met(session(2), monkeypatch, others=others, is_asked=is_asked)


def test_a_worker_that_misses_one_that_stopped_has_stopped_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(StoppedAtOnce, match="SIGTERM"):
        met(session(2), monkeypatch, others=FailureError("gone"), is_asked=True)
    with pytest.raises(FailureError, match="gone"):
        met(session(2), monkeypatch, others=FailureError("gone"), is_asked=False)


def test_one_worker_alone_meets_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoppedAtOnce):
        met(session(1), monkeypatch, others=0, is_asked=False)
