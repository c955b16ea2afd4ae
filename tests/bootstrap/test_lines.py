"""Progress on a terminal and in a pipe."""

import io

import pytest

from demo_bert.bootstrap import lines
from demo_bert.bootstrap.lines import Lines


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(lines.time, "monotonic", lambda: now[0])
    return now


def test_a_pipe_gets_a_plain_line_every_ten_seconds(clock: list[float]) -> None:
    stream = io.StringIO()
    shown = Lines(stream)
    shown.say("step 1 of 2")
    for second in range(1, 25):
        clock[0] = 100.0 + second
        shown.progress(f"{second} s")
    shown.clear()
    assert stream.getvalue() == "demo_bert: step 1 of 2\ndemo_bert:   10 s\ndemo_bert:   20 s\n"


def test_a_terminal_gets_one_line_that_is_rewritten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "30")
    stream = Terminal()
    shown = Lines(stream)
    shown.progress("1 of 2 packages")
    shown.progress("2 of 2 packages, and more than fits on the line")
    shown.say("done")
    first, second, last = stream.getvalue().split("\r\x1b[K")[1:]
    assert first == "demo_bert:   1 of 2 packages"
    assert len(second) == 29
    assert last == "demo_bert: done\n"


def test_a_terminal_that_cannot_rewrite_is_a_pipe(
    monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    Lines(stream).progress("1 of 2")
    assert stream.getvalue() == ""
