"""`plan`: the forecast of a training command, from its own settings, examples and model."""

import re
from pathlib import Path

import pytest

from small_run import Program, events, tree


@pytest.fixture
def program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Program:
    return Program(tmp_path, capsys)


def test_a_fine_tuning_command_is_forecast_and_nothing_is_written(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path)
    done = program.call("plan", *program.arguments, "-e", "2")
    assert done.code == 0, done.err
    assert tree(tmp_path) == before
    assert "finetuning classification" in done.out
    assert "25 of 4 examples" in done.out
    assert "2 epochs" in done.out
    for word in ("time", "memory", "disk", "measured"):
        assert any(line.startswith(word) for line in done.out.splitlines()), word
    assert max(map(len, done.out.splitlines())) <= 80
    # The run has the steps and the tokens that were forecast.
    program.run(tmp_path / "run", "-e", "2")
    steps = events(tmp_path / "run", "step")
    tokens = sum(step["tokens"] for step in steps)
    assert len(steps) == 25
    assert f"{tokens:,} tokens" in done.out


def test_pretraining_is_forecast_phase_by_phase(program: Program) -> None:
    done = program.call(
        *("plan", "pretraining", "-d", "fp32", "-m", str(program.model), "--device", "cpu"),
        *("-t", "bookswiki", "-s", "16", "24", "-b", "4", "4", "-i", "3", "2"),
        *("--global-batch-size", "8", "8"),
    )
    assert done.code == 0, done.err
    assert "phase 1" in done.out
    assert "phase 2" in done.out
    assert "3 of 8 examples" in done.out
    assert "2 micro-steps of 4 examples" in done.out


def test_workers_share_the_steps(program: Program) -> None:
    done = program.call("plan", *program.arguments, "-e", "2", "-v", "2")
    assert done.code == 0, done.err
    assert "2 workers" in done.out
    assert "of 8 examples" in done.out
    assert " ms of it waiting for other workers" in done.out
    assert "link       1,000 MB/s assumed within a host, 50 us a message" in done.out
    assert "scaling    computed, a step with 8 " in done.out
    assert "scaling    over 125 MB/s assumed between hosts" in done.out
    assert max(map(len, done.out.splitlines())) <= 80


def test_seeds_and_checkpoints_that_stay_count(program: Program) -> None:
    once = program.call("plan", *program.arguments, "-e", "2")
    assert "seeds" not in once.out
    assert ": 3 checkpoints and the model" in once.out
    done = program.call("plan", *program.arguments, "-e", "2", "--seeds", "3", "--keep-every", "10")
    assert done.code == 0, done.err
    assert ": 5 checkpoints and the model" in done.out  # of steps 10 and 20 of 25
    (once_s,) = re.findall(r"^time +(\d+):(\d\d) in all", done.out, re.MULTILINE)
    (thrice_s,) = re.findall(r"3 such runs, one after the other: about (\d+):(\d\d),", done.out)
    seconds = [60 * int(minutes) + int(rest) for minutes, rest in (once_s, thrice_s)]
    assert abs(seconds[1] - 3 * seconds[0]) <= 2, "each is rounded to a second"


def test_several_hosts_are_said_to_have_a_gigabit(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MULTI_HLS_IPS", "10.0.0.1,10.0.0.2")
    done = program.call("plan", *program.arguments, "-e", "2", "-v", "2")
    assert done.code == 0, done.err
    assert "4 workers" in done.out
    assert "link       125 MB/s assumed between hosts" in done.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("plan",), "COMMAND"),
        (("plan", "finetuning", "-d", "fp32", "-m", "tiny"), "--task"),
        (("plan", "finetuning", "-d", "fp32", "-m", "tiny", "-t", "mrcp"), "mrpc"),
        (("plan", "finetuning", "-d", "fp32", "-m", "tiny", "-t", "mrpc", "-s", "9999"), "512"),
    ],
)
def test_what_is_wrong_is_one_line(
    program: Program, arguments: tuple[str, ...], words: str
) -> None:
    done = program.call(*arguments, *(["--sample"] if "9999" in arguments else []))
    assert (done.code, done.out) == (2, "")
    assert words in done.err
    assert len([line for line in done.err.splitlines() if "error" in line]) == 1
