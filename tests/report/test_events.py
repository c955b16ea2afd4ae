import json
import logging
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo_bert.errors import DiskError
from demo_bert.report.events import EventLog, last_steps, read_events
from demo_bert.report.fields import number
from report.runs import ENVIRONMENT


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@contextmanager
def file_size_limit(num_bytes: int) -> Iterator[None]:
    """Files of this process cannot grow beyond it, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_line_says_event_time_and_attempt_first(tmp_path):
    with EventLog(tmp_path / "events.jsonl", 2, clock=lambda: 1.25) as log:
        log.append("step", step=7, loss=0.5)
    text = (tmp_path / "events.jsonl").read_text()
    assert text == '{"event": "step", "time": 1.25, "attempt": 2, "step": 7, "loss": 0.5}\n'


@given(value=st.floats())
def test_every_float_comes_back_with_the_same_bits(value, tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "events.jsonl"
    with EventLog(path, 0) as log:
        log.append("step", step=1, loss=value)
    (event,) = read_events(path)
    assert np.float64(number(event["loss"])).tobytes() == np.float64(value).tobytes() or (
        np.isnan(value) and np.isnan(number(event["loss"]))
    )


def test_numbers_that_are_not_finite_are_valid_json(tmp_path):
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    path = tmp_path / "events.jsonl"
    with EventLog(path, 0) as log:
        log.append("step", losses=[float("nan"), float("inf")], nested={"x": -float("inf")})
    event = json.loads(path.read_text(), parse_constant=refuse)
    assert event["losses"] == ["NaN", "Infinity"]
    assert event["nested"] == {"x": "-Infinity"}
    assert [float(word) for word in event["losses"]][1] == float("inf")


def test_numbers_of_numpy_are_numbers(tmp_path):
    path = tmp_path / "events.jsonl"
    with EventLog(path, 0) as log:
        log.append("evaluation", count=np.int64(3), loss=np.float32(0.1), counts=[np.int32(1)])
    (event,) = read_events(path)
    assert (
        event["count"] == 3 and event["loss"] == float(np.float32(0.1)) and event["counts"] == [1]
    )


def test_a_file_that_is_opened_again_loses_its_torn_line_and_counts_the_attempt(tmp_path):
    path = tmp_path / "run" / "events.jsonl"
    with EventLog.open(path) as log:
        assert log.attempt == 0
        log.append("step", step=1)
    with path.open("ab") as file:
        file.write(b'{"event": "step", "st')
    assert [event["step"] for event in read_events(path)] == [1]
    with EventLog.open(path) as log:
        assert log.attempt == 1
        log.append("resume", step=1)
    assert [event["event"] for event in lines_of(path)] == ["step", "resume"]


def test_a_line_is_on_its_way_to_disk_when_append_returns(tmp_path):
    path = tmp_path / "events.jsonl"
    program = (
        "import sys; from pathlib import Path; from demo_bert.report.events import EventLog\n"
        "log = EventLog.open(Path(sys.argv[1]))\n"
        "for step in range(1, 10**9):\n"
        "    log.append('step', step=step, loss=1 / step)\n"
        "    print(step, flush=True)\n"
    )
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as child:
        for _ in range(200):
            said = child.stdout.readline()
        child.kill()
    steps = last_steps(read_events(path))
    assert len(steps) >= int(said) == 200
    assert [event["step"] for event in steps] == list(range(1, len(steps) + 1))


def test_the_last_attempt_of_a_step_and_of_an_evaluation_counts(tmp_path):
    path = tmp_path / "events.jsonl"
    for attempt, steps in enumerate(([1, 2, 3, 4], [3, 4, 5])):
        with EventLog.open(path) as log:
            log.append("resume", step=steps[0] - 1)
            for step in steps:
                log.append("step", step=step, loss=attempt + step / 10)
            log.append("evaluation", step=4, split="validation", loss=attempt)
            log.append("evaluation", step=4, split="test", loss=10 + attempt)
    events = read_events(path)
    assert [event["loss"] for event in last_steps(events)] == [0.1, 0.2, 1.3, 1.4, 1.5]
    assert [e["loss"] for e in events if e["event"] == "evaluation"] == [1, 11]
    assert sum(event["event"] == "resume" for event in events) == 2


def test_there_are_no_events_where_there_is_no_file(tmp_path):
    assert read_events(tmp_path / "events.jsonl") == []


def test_damaged_lines_are_left_out_and_named(tmp_path, caplog):
    path = tmp_path / "events.jsonl"
    path.write_bytes(
        b'{"event": "step", "step": 1}\n\x00\x00\x00\n\xff\xfe\n[1]\n{"step": 2}\n'
        b'{"event": "end", "status": "complete"}\n'
    )
    assert [event["event"] for event in read_events(path)] == ["step", "end"]
    assert [record.getMessage().split("line ")[1][0] for record in caplog.records] == list("2345")


def test_any_text_comes_back(tmp_path):
    path = tmp_path / "events.jsonl"
    texts = ["\u0642\u0631\u0627\u0631", "a\nb\r\u2028c\x00", "\udc80 half a pair", "\U0001f600"]
    with EventLog(path, 0) as log:
        for text in texts:
            log.append("note", text=text)
    assert [event["text"] for event in read_events(path)] == texts
    assert path.read_bytes().count(b"\n") == len(texts)


def test_a_full_disk_drops_events_with_one_warning_and_tells_how_many(tmp_path, caplog):
    path = tmp_path / "events.jsonl"
    seen: list[int] = []
    with EventLog(path, 0, readers=[lambda event: seen.append(event["step"])]) as log:
        log.append("step", step=1)
        with file_size_limit(path.stat().st_size + 20), caplog.at_level(logging.WARNING):
            for step in (2, 3, 4):
                log.append("step", step=step)
        assert path.read_bytes().endswith(b"}\n") and log.dropped == 3
        log.append("step", step=5)
        log.append("step", step=6)
    assert seen == [1, 2, 3, 4, 5, 6]
    assert len(caplog.records) == 1 and "training goes on" in caplog.text
    kinds = [(event["event"], event.get("step"), event.get("count")) for event in lines_of(path)]
    assert kinds == [
        ("step", 1, None),
        ("fault", None, 3),
        ("step", 5, None),
        ("step", 6, None),
    ]


def test_a_log_that_cannot_be_opened_is_a_disk_error_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="cannot be written"):
        EventLog.open(tmp_path / "file" / "events.jsonl")


def test_readers_see_the_event_as_the_file_has_it(tmp_path):
    path = tmp_path / "events.jsonl"
    seen: list[dict] = []
    with EventLog.open(path, readers=[seen.append]) as log:
        given = log.append("step", step=1, loss=float("nan"), sizes=(1, 2))
    assert seen == [given] == lines_of(path)
