"""A run that was stopped, killed or damaged ends with the same bits as one that was not."""

import os
import random
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from demo_bert.report.tensorboard import TensorBoardWriter
from small_run import ENVIRONMENT, Program, events, losses, read_json, start, weights

# 7 steps of 10 rows, 4 to a micro-batch; epochs of 50 rows end with step 5 and in step 10.
LONG = ("-i", "7", "--global-batch-size", "10", "--eval-every", "3")


@pytest.fixture
def straight(program: Program, root: Path) -> Path:
    """The run that nothing disturbs; made once."""
    directory = root / "straight"
    if not directory.exists():
        assert program.run(directory, *LONG).code == 0
    return directory


def assert_same(directory: Path, straight: Path) -> None:
    assert losses(directory) == losses(straight)
    assert weights(directory) == weights(straight)
    name = "predictions.tsv"
    assert (directory / name).read_bytes() == (straight / name).read_bytes()
    found, expected = (read_json(path / "results.json") for path in (directory, straight))
    for key in ("status", "metrics", "steps", "epochs", "global_batch_size", "learning_rate"):
        assert found[key] == expected[key]
    scores = [
        {e["step"]: (e["loss"], e["metrics"]) for e in events(path, "evaluation")}
        for path in (directory, straight)
    ]
    assert scores[0] == scores[1]


@pytest.mark.parametrize("step", [1, 3, 4, 5])
def test_a_stop_after_any_step_changes_nothing(
    program: Program, straight: Path, tmp_path: Path, stop_at: list[int], step: int
) -> None:
    stop_at.append(step)
    stopped = program.run(tmp_path / "run", *LONG)
    assert stopped.code == 75
    assert f"stopped by SIGTERM after step {step + 1} of 7, saved" in stopped.err
    assert read_json(tmp_path / "run" / "results.json")["status"] == "stopped"
    stop_at.clear()
    assert program.run(tmp_path / "run", *LONG).code == 0
    assert [event["step"] for event in events(tmp_path / "run", "resume")] == [step + 1]
    assert [event["step"] for event in events(tmp_path / "run", "step")] == [1, 2, 3, 4, 5, 6, 7]
    assert_same(tmp_path / "run", straight)


def test_one_stop_after_the_other_changes_nothing(
    program: Program, straight: Path, tmp_path: Path, stop_at: list[int]
) -> None:
    stop_at += (1, 3, 5)
    codes = [program.run(tmp_path / "run", *LONG).code for _ in range(4)]
    assert codes == [75, 75, 75, 0]
    assert [event["step"] for event in events(tmp_path / "run", "end")] == [2, 4, 6, 7]
    assert [event["attempt"] for event in events(tmp_path / "run", "end")] == [0, 1, 2, 3]
    assert_same(tmp_path / "run", straight)


@pytest.mark.parametrize("step", [3, 7])
def test_a_stop_before_an_evaluation_leaves_it_to_the_next_call(
    program: Program, straight: Path, tmp_path: Path, stop_at: list[int], step: int
) -> None:
    stop_at.append(step - 1)
    assert program.run(tmp_path / "run", *LONG).code == 75
    assert [event["step"] for event in events(tmp_path / "run", "step")][-1] == step
    scored = [event["step"] for event in events(tmp_path / "run", "evaluation")]
    assert step not in scored
    stop_at.clear()
    assert program.run(tmp_path / "run", *LONG).code == 0
    scored = [event["step"] for event in events(tmp_path / "run", "evaluation")]
    assert scored == [3, 6, 7]
    assert_same(tmp_path / "run", straight)


def test_a_step_that_is_saved_anyway_is_saved_once_at_a_stop(
    program: Program, tmp_path: Path, stop_at: list[int]
) -> None:
    stop_at.append(2)
    assert program.run(tmp_path / "run", "-i", "7", "--save-every", "3").code == 75
    assert [event["step"] for event in events(tmp_path / "run", "checkpoint")] == [3]
    assert events(tmp_path / "run", "evaluation") == [], "a stop does not wait for scores"


def test_kills_at_random_moments_change_nothing(
    program: Program, straight: Path, tmp_path: Path
) -> None:
    drawn = random.Random(os.urandom(8))
    argv = program.argv(tmp_path / "run", *LONG, "--save-every", "1", "--log-every", "1")
    for _ in range(2):
        process = start(argv, tmp_path)
        assert process.stderr is not None
        with process:
            # It runs on while this is read: where it is then is up to the machine.
            for seen, line in enumerate(process.stderr):
                if f" {drawn.randint(1, 7)}/7 " in line or (seen > 60 and drawn.random() < 0.1):
                    break
            process.kill()
    last = program.run(tmp_path / "run", *LONG)
    assert last.code == 0, last.err
    assert_same(tmp_path / "run", straight)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    program: Program, straight: Path, tmp_path: Path, stop_at: list[int]
) -> None:
    stop_at.append(4)
    directory = tmp_path / "run"
    assert program.run(directory, *LONG, "--save-every", "2").code == 75
    flip(directory / "checkpoints" / "step-5" / "model.safetensors")
    stop_at.clear()
    resumed = program.run(directory, *LONG, "--save-every", "2")
    assert resumed.code == 0
    assert "step-5: damaged (model.safetensors is not what was saved); going on from step-4" in (
        resumed.err
    )
    assert_same(directory, straight)


def test_without_an_undamaged_checkpoint_it_starts_anew_and_says_so(
    program: Program, straight: Path, tmp_path: Path, stop_at: list[int]
) -> None:
    stop_at.append(2)
    directory = tmp_path / "run"
    assert program.run(directory, *LONG).code == 75
    (directory / "checkpoints" / "step-3" / "manifest.json").unlink()
    stop_at.clear()
    resumed = program.run(directory, *LONG)
    assert "step-3: damaged" in resumed.err
    assert "going on from the starting weights" in resumed.err
    assert_same(directory, straight)


def test_the_one_checkpoint_that_is_kept_is_never_a_damaged_one(
    program: Program, straight: Path, tmp_path: Path, stop_at: list[int]
) -> None:
    stop_at.append(5)
    directory = tmp_path / "run"
    options = (*LONG, "--save-every", "1", "--keep", "1")
    assert program.run(directory, *options).code == 75
    flip(directory / "checkpoints" / "step-6" / "optimizer.safetensors")
    stop_at[:] = [2]
    assert program.run(directory, *options).code == 75
    stop_at.clear()
    assert program.run(directory, *options).code == 0
    assert [event["step"] for event in events(directory, "resume")] == [3]
    assert_same(directory, straight)


def test_a_finished_run_can_be_taken_up_from_a_step(
    program: Program, straight: Path, tmp_path: Path, stop_at: list[int]
) -> None:
    directory = tmp_path / "run"
    assert program.run(directory, *LONG, "--save-every", "2", "--keep", "9").code == 0
    stop_at.append(5)
    stopped = program.run(directory, *LONG, "--resume", "4")
    assert stopped.code == 75
    assert read_json(directory / "results.json")["status"] == "stopped"
    stop_at.clear()
    command = shlex.split(stopped.err.splitlines()[-1].split("goes on with: ")[1])
    assert "4" not in command, "it would begin at step 4 again"
    assert program.call(*command[1:]).code == 0
    assert [event["step"] for event in events(directory, "resume")] == [4, 6]
    assert_same(directory, straight)


def test_a_kill_after_a_finished_run_was_taken_up_does_not_leave_it_finished(
    program: Program, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "run"
    assert program.run(directory, *LONG, "--save-every", "2", "--keep", "9").code == 0

    class Killed(BaseException):
        """Nobody catches it."""

    def die(self: TensorBoardWriter, event: dict[str, object]) -> None:
        if event.get("step") == 5:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(TensorBoardWriter, "add", die)
        with pytest.raises(Killed):
            program.run(directory, *LONG, "--resume", "4")
    again = program.run(directory, *LONG)
    assert again.code == 0
    assert "this run is finished" not in again.err
    assert_same(directory, straight)


@pytest.mark.parametrize("more", [(), ("--save-every", "2")])
def test_a_command_that_names_the_directory_alone_goes_on(
    program: Program, straight: Path, tmp_path: Path, stop_at: list[int], more: tuple[str, ...]
) -> None:
    stop_at.append(2)
    assert program.run(tmp_path / "run", *LONG, *more).code == 75
    stop_at.clear()
    options = ("--device", "cpu", "--eval-every", "3")
    assert program.call("finetuning", "-o", str(tmp_path / "run"), *options).code == 0
    assert_same(tmp_path / "run", straight)


def test_the_printed_command_goes_on_in_a_shell(
    program: Program, straight: Path, tmp_path: Path, stop_at: list[int]
) -> None:
    stop_at.append(3)
    stopped = program.run(tmp_path / "a run's directory", *LONG)
    (line,) = [line for line in stopped.err.splitlines() if "goes on with: " in line]
    command = line.split("goes on with: ")[1]
    (tmp_path / "demo_bert").write_text(f'#!/bin/sh\nexec {sys.executable} -m demo_bert "$@"\n')
    (tmp_path / "demo_bert").chmod(0o755)
    answer: Any = subprocess.run(
        command,
        shell=True,
        cwd=tmp_path,
        env=ENVIRONMENT | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    assert_same(tmp_path / "a run's directory", straight)


def test_two_equal_runs_are_equal_and_another_seed_is_not(
    program: Program, straight: Path, tmp_path: Path
) -> None:
    assert program.run(tmp_path / "again", *LONG).code == 0
    assert_same(tmp_path / "again", straight)
    assert program.run(tmp_path / "other", *LONG, "--seed", "43").code == 0
    assert losses(tmp_path / "other") != losses(straight)
