"""How an attempt on several hosts ended, from what its agents told."""

import dataclasses
import signal
import time
from typing import Any

import pytest

from demo_bert.launch import attempt as attempts
from demo_bert.launch.attempt import Attempt, Verdict
from demo_bert.launch.job import Job, from_dict

JOB = Job(
    directory="/tmp/job",
    python="python",
    source="/src",
    cwd="/",
    argv=("finetuning",),
    hosts=("one", "two"),
    workers=2,
    meeting=("one", 1234),
    interface=None,
    map_by=None,
    cores=None,
    output_dir="run",
    global_batch_size=(8,),
    is_shared=True,
)
ALL = range(4)


def told(*records: dict[str, Any], requests: tuple[int, ...] = ()) -> Attempt:
    """An attempt of which agents told this."""
    made = Attempt(JOB, timeout_s=10.0, requests=list(requests))
    for host in (0, 1):
        made.take({"kind": "up", "host": host})
    for record in records:
        made.take(record)
    return made


def ends(**codes: int) -> list[dict[str, Any]]:
    """The ends of all ranks, those that failed first of all."""
    found = {rank: codes.get(f"r{rank}", 0) for rank in ALL}
    failing = [{"kind": "failing", "rank": r, "code": c} for r, c in found.items() if c]
    return [*failing, *({"kind": "end", "rank": r, "code": c} for r, c in found.items())]


def beat(rank: int, step: int, sums: int, *, waits: int = 0, lost: int = 0) -> dict[str, Any]:
    """What a rank showed last."""
    return {"kind": "beat", "host": rank // 2, "ranks": {str(rank): [step, sums, waits, lost]}}


def test_a_job_is_the_same_after_its_journey() -> None:
    assert from_dict(JOB.as_dict()) == JOB
    assert (JOB.world_size, JOB.host_of(1), JOB.host_of(2)) == (4, "one", "two")


def test_all_well_is_0() -> None:
    assert told(*ends()).verdict(0, []) == Verdict(0)


def test_a_killed_worker_is_the_cause_and_not_those_that_lost_it() -> None:
    lost = [beat(rank, 7, 30, lost=1) for rank in (0, 1, 2)]
    made = told(*lost, beat(3, 7, 29), *ends(r0=1, r1=1, r2=1, r3=-9))
    verdict = made.verdict(1, [])
    assert verdict.cause == "rank 3 on two: killed by SIGKILL after step 7"
    assert (verdict.code, verdict.is_worth_another) == (1, True)


@pytest.mark.parametrize("code", [1, 2])
def test_an_error_of_its_own_is_the_exit_code_and_not_tried_again(code: int) -> None:
    lost = [beat(rank, 7, 30, lost=1) for rank in (0, 2, 3)]
    verdict = told(*lost, *ends(r0=1, r1=code, r2=1, r3=1)).verdict(1, [])
    assert (verdict.code, verdict.is_worth_another) == (code, False)
    assert verdict.cause == f"rank 1 on one: ended with {code}"


def test_a_worker_that_the_others_waited_for_is_named_with_its_last_step() -> None:
    lost = [beat(rank, 7, 30, lost=1) for rank in (0, 1, 3)]
    failing = [{"kind": "failing", "rank": rank, "code": 1} for rank in (0, 1, 3)]
    verdict = told(*lost, beat(2, 7, 29), *failing).verdict(1, [])
    assert verdict.cause == "rank 2 on two: did not answer for 10 s; last step 7"
    assert not verdict.is_worth_another


def test_a_network_that_all_lost_is_tried_again() -> None:
    lost = [beat(rank, 7, 30, waits=1, lost=1) for rank in ALL]
    verdict = told(*lost, *ends(r0=1, r1=1, r2=1, r3=1)).verdict(1, [])
    assert (verdict.cause, verdict.is_worth_another) == (
        "the connection between workers was lost",
        True,
    )


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        ({"r0": 75, "r1": 75, "r2": 75, "r3": 75}, 75),
        ({"r0": 75, "r3": 130}, 130),
        ({"r1": -15}, 75),  # it did not listen yet
    ],
)
def test_a_stop_that_was_asked_for_is_its_own_code(codes: dict[str, int], code: int) -> None:
    made = told(*ends(**codes), requests=(signal.SIGTERM,))
    assert made.verdict(0, []) == Verdict(code)


def test_two_requests_that_no_worker_heard_are_an_interrupt() -> None:
    made = told(*ends(r1=-15), requests=(signal.SIGTERM, signal.SIGTERM))
    assert made.verdict(0, []) == Verdict(130)


def test_workers_that_wait_for_one_that_stopped_before_training_are_soon_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failing = {"kind": "failing", "rank": 1, "code": 75}
    asked = told(beat(2, -1, 2, waits=1), failing, requests=(signal.SIGTERM,))
    trained = told(beat(2, 0, 2, waits=1), failing, requests=(signal.SIGTERM,))
    assert asked.why_end() is None
    later = time.monotonic() + 6
    monkeypatch.setattr(attempts.time, "monotonic", lambda: later)
    assert trained.why_end() is None
    assert "some have stopped with nothing to save" in (asked.why_end() or "")
    assert asked.verdict(1, []) == Verdict(75)


def test_agents_hear_of_a_request_when_all_have_spoken() -> None:
    made = Attempt(JOB, timeout_s=10.0)
    made.take({"kind": "up", "host": 1})
    assert not made.is_up
    made.take({"kind": "up", "host": 0})
    assert made.is_up


def test_a_worker_that_misses_one_that_stopped_does_not_make_a_stop_a_failure() -> None:
    codes = {"r0": 1, "r1": 75, "r2": 75, "r3": 75}
    stopped = told(beat(0, -1, 3, lost=1), *ends(**codes), requests=(signal.SIGTERM,))
    assert stopped.verdict(0, []) == Verdict(75)
    failed = told(beat(0, -1, 3), *ends(**codes), requests=(signal.SIGTERM,))
    assert failed.verdict(0, []) == Verdict(1)


def test_a_time_limit_of_the_run_is_no_failure() -> None:
    verdict = told(*ends(r0=75, r1=75, r2=75, r3=75)).verdict(75, [])
    assert verdict == Verdict(75)


def test_a_host_that_is_silent_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    made = told(beat(0, 3, 9), beat(2, 3, 9))
    assert made.why_end() is None
    later = time.monotonic() + attempts.SILENT_S + 1
    monkeypatch.setattr(attempts.time, "monotonic", lambda: later)
    made.take(beat(0, 3, 10))
    assert made.why_end() == "two: does not answer any more"
    verdict = made.verdict(1, [])
    assert (verdict.cause, verdict.is_worth_another) == ("two: does not answer any more", True)


def test_what_mpirun_said_is_told_where_no_worker_was_started() -> None:
    made = Attempt(JOB, timeout_s=10.0)
    verdict = made.verdict(1, ["-----", "ssh: no route", "-----"])
    assert verdict.cause == "mpirun ended with 1: ssh: no route"
    assert verdict.is_worth_another


def test_a_second_attempt_says_why() -> None:
    assert dataclasses.replace(JOB, attempt=1, cause="two: gone").as_dict()["cause"] == "two: gone"


def test_a_host_whose_agent_died_is_the_cause_and_not_its_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost = [beat(rank, 7, 30, lost=1) for rank in (0, 1)]
    failing = [{"kind": "failing", "rank": rank, "code": 1} for rank in (0, 1)]
    made = told(beat(2, 7, 29), *lost, *failing)
    later = time.monotonic() + 9
    monkeypatch.setattr(attempts.time, "monotonic", lambda: later)
    made.take(beat(0, 7, 30, lost=1))
    assert made.why_end() == "two: does not answer any more"
    assert made.verdict(1, []).is_worth_another
