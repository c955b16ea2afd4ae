import io
import logging
import re
import subprocess
import sys

import pytest

from demo_bert.report.console import Console, round_step
from report.runs import ENVIRONMENT

COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Screen(io.StringIO):
    """A terminal that keeps what was sent to it."""

    def isatty(self) -> bool:
        return True


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(autouse=True)
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)


def step(number: int, *, seconds: float = 1.0, loss: object = 0.5) -> dict:
    return {
        "event": "step",
        "time": 1000 + seconds * number,
        "attempt": 0,
        "step": number,
        "loss": loss,
        "learning_rate": 9.1e-5,
        "examples_per_s": 412.0,
    }


EVALUATION = {
    "event": "evaluation",
    "step": 40,
    "split": "validation",
    "metrics": {"accuracy": 0.80147, "f1": 0.8664},
    "loss": 0.4482,
    "seconds": 3.21,
}


def test_a_pipe_gets_plain_lines():
    stream = io.StringIO()
    with Console(stream, 344) as console:
        for number in range(1, 41):
            console.on_event(step(number))
        console.on_event(EVALUATION)
        console.on_event({"event": "checkpoint", "step": 40, "path": "checkpoints/step-40"})
        console.on_event({"event": "resume", "step": 40})
        console.on_event({"event": "fault", "step": 41, "kind": "nonfinite", "tensor": "loss"})
        console.on_event({"event": "news of a later version"})
    assert stream.getvalue().splitlines() == [
        "step  20/344  loss 0.500  lr 9.1e-05  412 examples/s  5:24 left",
        "step  40/344  loss 0.500  lr 9.1e-05  412 examples/s  5:04 left",
        "step  40/344  validation  accuracy 0.8015  F1 0.8664  loss 0.448  (3.2 s)",
        "step  40/344  saved checkpoints/step-40",
        "going on after step 40 of 344",
        "warning: step  41/344  nonfinite (tensor loss)",
    ]


@pytest.mark.parametrize("total", [1, 7, 20, 344, 7038])
def test_a_run_has_about_twenty_lines(total):
    stream = io.StringIO()
    console = Console(stream, total)
    for number in range(1, total + 1):
        console.on_event(step(number, seconds=0.001))
    lines = stream.getvalue().splitlines()
    assert min(total, 8) <= len(lines) <= 21
    assert lines[-1].startswith(f"step {total}/{total}")


def test_no_silence_is_longer_than_thirty_seconds():
    stream, clock = io.StringIO(), Clock()
    console = Console(stream, 10_000, clock=clock)
    said_at: list[float] = []
    for number in range(1, 100):
        clock.now_s += 7.0
        console.on_event(step(number))
        if stream.getvalue():
            said_at.append(clock.now_s)
            stream.truncate(stream.seek(0))
    console.progress("evaluating", done=1, total=9)
    assert stream.getvalue() == ""
    clock.now_s += 40
    console.progress("evaluating", done=5, total=9)
    assert stream.getvalue() == "evaluating 5/9\n"
    assert max(b - a for a, b in zip(said_at, said_at[1:], strict=False)) <= 35.0


def test_log_every_counts_steps():
    stream = io.StringIO()
    console = Console(stream, 100, log_every=30)
    for number in range(1, 101):
        console.on_event(step(number, seconds=0.001))
    starts = [line.split("/")[0] for line in stream.getvalue().splitlines()]
    assert starts == ["step  30", "step  60", "step  90", "step 100"]


@pytest.mark.parametrize("name", ["dumb", ""])
def test_a_terminal_that_can_do_no_more_gets_plain_lines(name, monkeypatch):
    monkeypatch.setenv("TERM", name)
    screen = Screen()
    with Console(screen, 2) as console:
        console.on_event(step(1))
    assert screen.getvalue().startswith("step 1/2") and "\x1b" not in screen.getvalue()


def test_the_smoothed_loss_forgets_a_value_that_is_not_finite():
    stream = io.StringIO()
    console = Console(stream, 3, log_every=1)
    console.on_event(step(1, loss=0.7))
    console.on_event(step(2, loss="NaN"))
    console.on_event(step(3, loss=0.6))
    assert [line.split("  ")[1] for line in stream.getvalue().splitlines()] == [
        "loss 0.700",
        "loss nan",
        "loss 0.600",
    ]


def test_the_loss_is_smoothed():
    stream = io.StringIO()
    console = Console(stream, 400, log_every=400)
    for number in range(1, 401):
        console.on_event(step(number, loss=1.0 + (-1) ** number))
    loss = float(re.search(r"loss (\S+)", stream.getvalue()).group(1))
    assert 0.9 < loss < 1.1


def test_a_terminal_has_a_display_of_two_lines_and_is_left_clean():
    screen = Screen()
    with Console(screen, 344, label="fine-tuning") as console:
        for number in (1, 2, 3):
            console.on_event(step(number))
        console.on_event(EVALUATION)
        during = screen.getvalue()
    assert "fine-tuning" in during and "loss 0.500" in during and "/344" in during
    assert "validation  accuracy 0.8015" in during
    after = screen.getvalue()[len(during) :]
    assert "\x1b[2K" in after and after.rindex("\x1b[?25h") >= 0
    # The cursor is never left hidden, whatever ends the program.
    assert during.rindex("\x1b[?25h") > during.rindex("\x1b[?25l")


def test_an_evaluation_shows_its_own_bar():
    screen = Screen()
    with Console(screen, 344) as console:
        console.progress("evaluating validation", done=96, total=408)
    assert "evaluating validation" in screen.getvalue() and "96/408" in screen.getvalue()


def test_a_narrow_terminal_drops_what_matters_least(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    screen = Screen()
    with Console(screen, 344) as console:
        console.on_event(step(1))
        console._view._drawn_s = 0.0  # the display is redrawn ten times a second at most
        console.on_event(step(2))
    lines = COLOUR.sub("", screen.getvalue()).splitlines()
    figures = [line for line in lines if "left" in line]
    assert figures and all("lr" not in line and len(line.strip()) <= 40 for line in figures)


def test_no_color_is_obeyed(monkeypatch):
    def colours() -> list[str]:
        screen = Screen()
        with Console(screen, 344) as console:
            console.on_event(step(1))
            console.warn("careful")
        return re.findall(r"\x1b\[[0-9;]*3[0-9][0-9;]*m", screen.getvalue())

    assert colours()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colours()


def test_log_records_are_lines_above_the_display():
    stream = io.StringIO()
    console = Console(stream, 10)
    logger = logging.Logger("test")
    logger.addHandler(console.handler())
    logger.info("read %d examples", 5)
    logger.warning("half of them are empty")
    assert stream.getvalue() == "read 5 examples\nwarning: half of them are empty\n"


def test_markup_in_a_line_is_text():
    screen = Screen()
    with Console(screen, 10) as console:
        console.note("[bold]a[/bold] :smile:")
    assert "[bold]a[/bold] :smile:" in screen.getvalue()


def test_rich_is_imported_on_a_terminal_only():
    program = (
        "import io, sys; from demo_bert.report.console import Console\n"
        "Console(io.StringIO(), 3).on_event({'event': 'step', 'step': 3})\n"
        "sys.exit('rich' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env=ENVIRONMENT)


def test_round_steps_are_not_below_what_they_round():
    assert [round_step(value) for value in (0, 0.4, 1, 1.1, 4, 5.5, 10, 11, 351.9)] == [
        1, 1, 1, 2, 5, 10, 10, 20, 500,
    ]  # fmt: skip
