"""`finetuning` on a directory that is there already: finished, stopped, or of another run."""

import re
from pathlib import Path

import pytest

from demo_bert import checkpoint
from demo_bert.run_directory import RunDirectory
from small_run import (
    Program,
    contents,
    events,
    going_on,
    losses,
    read_json,
    save_checkpoint,
    save_data,
    save_model,
    tree,
)

SHORT = ("-i", "4")


def test_a_finished_run_prints_its_result_and_changes_nothing(
    program: Program, finished: Path
) -> None:
    before = contents(finished)
    again = program.run(finished, "-i", "8", "--global-batch-size", "10")
    assert again.code == 0
    assert "this run is finished; --new makes another" in again.err
    metrics = read_json(finished / "results.json")["metrics"]
    assert f"accuracy {metrics['accuracy']:.4f}" in again.out
    assert contents(finished) == before
    alone = program.call("finetuning", "-o", str(finished))
    assert (alone.code, alone.out) == (0, again.out)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--learning-rate", "2e-3"), ["learning_rate is 0.002, was 0.001"]),
        (("--seed", "7", "-b", "5"), ["seed is 7, was 42", "batch_size is 5, was 4"]),
        (("-i", "7"), ["iters is 7, was 8"]),
        (("--dropout", "0"), ["dropout is 0, was -"]),
    ],
)
def test_other_settings_in_the_same_directory_are_refused_with_the_differences(
    program: Program, finished: Path, options: tuple[str, ...], told: list[str]
) -> None:
    before = contents(finished)
    outcome = program.run(finished, "-i", "8", "--global-batch-size", "10", *options)
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    assert all(text in line for text in told)
    assert "--new" in line
    assert contents(finished) == before


def test_a_finished_run_goes_on_for_more_steps_and_says_so(
    program: Program, tmp_path: Path, stop_at: list[int]
) -> None:
    assert program.run(tmp_path / "run", *SHORT, "--save-every", "2").code == 0
    stop_at.append(6)
    longer = program.run(tmp_path / "run", "-i", "9", "-v", "1")
    assert longer.code == 75, longer.err
    assert "goes on with another setting: iters is 9, was 4" in longer.err
    assert "goes on with another setting: workers is 1, was -" in longer.err
    assert "goes on with another setting: save_every is 10m, was 2" in longer.err
    assert read_json(tmp_path / "run" / "results.json")["status"] == "stopped"
    stop_at.clear()
    assert program.call("finetuning", "-o", str(tmp_path / "run")).code == 0
    assert [event["step"] for event in events(tmp_path / "run", "step")] == list(range(1, 10))
    results = read_json(tmp_path / "run" / "results.json")
    assert (results["status"], results["steps"]) == ("complete", 9)
    (first, second) = read_json(tmp_path / "run" / "run.json")["changed"]
    assert "iters is 9, was 4" in first["settings"]
    assert "workers is -, was 1" in second["settings"]
    refused = program.run(tmp_path / "run", *SHORT)
    assert refused.code == 2
    assert "iters is 4, was 9" in refused.err


def test_settings_that_do_not_shape_the_result_may_change(
    program: Program, tmp_path: Path, stop_at: list[int]
) -> None:
    stop_at.append(1)
    assert program.run(tmp_path / "run", *SHORT).code == 75
    stop_at.clear()
    options = ("--save-every", "1", "--keep", "1", "--log-every", "1")
    assert program.run(tmp_path / "run", *SHORT, *options).code == 0
    checkpoints = tree(tmp_path / "run" / "checkpoints")
    assert {name.split("/")[0] for name in checkpoints} == {"newest", "step-4"}


def test_other_data_or_weights_under_the_same_name_are_refused(
    program: Program, tmp_path: Path, stop_at: list[int]
) -> None:
    data, model = save_data(tmp_path / "data"), save_model(tmp_path / "model")
    argv = ["finetuning", "-d", "fp32", "-m", str(model), "--dataset-path", str(data), "-b", "4"]
    argv += ["-s", "24", "--device", "cpu", "-o", str(tmp_path / "run"), *SHORT]
    stop_at.append(1)
    assert program.call(*argv).code == 75
    stop_at.clear()
    before = contents(tmp_path / "run")
    save_data(tmp_path / "data", seed=2)
    outcome = program.call(*argv)
    assert outcome.code == 2
    assert "the data changed" in outcome.err.splitlines()[-1]
    save_data(tmp_path / "data")
    save_model(tmp_path / "model", seed=2)
    outcome = program.call(*argv)
    assert outcome.code == 2
    assert "the starting weights changed" in outcome.err.splitlines()[-1]
    after = contents(tmp_path / "run")
    assert {name for name in after if after[name] != before.get(name)} <= {"logs/rank-0.log"}
    save_model(tmp_path / "model")
    assert program.call(*argv).code == 0


def test_a_directory_that_somebody_works_in_is_refused(program: Program, tmp_path: Path) -> None:
    with RunDirectory(tmp_path / "run").locked():
        before = contents(tmp_path)
        outcome = program.run(tmp_path / "run", *SHORT)
        assert outcome.code == 2
        assert "is at work in it" in outcome.err.splitlines()[-1]
        assert contents(tmp_path) == before


def test_a_directory_of_something_else_is_refused(program: Program, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    outcome = program.run(tmp_path, *SHORT)
    assert outcome.code == 2
    assert "holds no run" in outcome.err
    assert tree(tmp_path) == {"thesis.tex"}


def test_new_makes_another_run_beside_and_the_printed_command_goes_on_with_that(
    program: Program, finished: Path, tmp_path: Path, stop_at: list[int]
) -> None:
    assert program.run(tmp_path / "run", *SHORT).code == 0
    before = contents(tmp_path / "run")
    stop_at.append(1)
    stopped = program.run(tmp_path / "run", *SHORT, "--new", "--seed", "3")
    assert stopped.code == 75
    assert read_json(tmp_path / "run-2" / "results.json")["steps"] == 2
    stop_at.clear()
    assert program.call(*going_on(stopped.err)).code == 0
    assert read_json(tmp_path / "run-2" / "results.json")["status"] == "complete"
    assert [event["step"] for event in events(tmp_path / "run-2", "resume")] == [2]
    assert program.run(tmp_path / "run", *SHORT, "--resume", "never").code == 0
    assert losses(tmp_path / "run-3") == losses(tmp_path / "run")
    assert contents(tmp_path / "run") == before


def test_without_o_the_same_command_finds_the_same_directory(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: list[int]
) -> None:
    monkeypatch.chdir(tmp_path)
    argv = [*program.arguments, *SHORT]
    stop_at.append(1)
    stopped = program.call(*argv)
    assert stopped.code == 75
    stop_at.clear()
    assert going_on(stopped.err) == argv
    assert program.call(*argv, "--save-every", "1").code == 0
    (directory,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"finetuning-classification-model-[0-9a-f]{8}", directory.name)
    assert [event["step"] for event in events(directory, "resume")] == [2]
    assert "this run is finished" in program.call(*argv).err
    assert program.call(*argv, "--seed", "8").code == 0
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_a_run_with_another_global_batch_has_another_directory(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for more in ((), ("--global-batch-size", "8")):
        assert program.call(*program.arguments, *SHORT, *more).code == 0
    assert len(list((tmp_path / "runs").iterdir())) == 2
    # The default is told apart by what it comes to: -b 4 of one worker.
    assert "is finished" in program.call(*program.arguments, *SHORT, "--global-batch-size", "4").err


def test_a_checkpoint_of_other_numbers_is_refused(
    program: Program, tmp_path: Path, stop_at: list[int]
) -> None:
    stop_at.append(1)
    assert program.run(tmp_path / "run", *SHORT).code == 75
    stop_at.clear()
    directory = tmp_path / "run" / "checkpoints"
    saved = checkpoint.of_step(directory, 2)
    save_checkpoint(
        directory,
        step=2,
        state=saved.state | {"global_batch_size": 8},
        model=saved.tensors("model"),
        optimizer=saved.tensors("optimizer"),
        keep=2,
    )
    outcome = program.run(tmp_path / "run", *SHORT)
    assert outcome.code == 2
    assert "global_batch_size is 4, was 8" in outcome.err.splitlines()[-1]


@pytest.mark.parametrize("step", ["3", "5"])
def test_a_step_that_was_not_saved_is_answered_with_those_that_were(
    program: Program, finished: Path, tmp_path: Path, step: str
) -> None:
    outcome = program.run(finished, "-i", "8", "--global-batch-size", "10", "--resume", "4")
    assert outcome.code == 2
    assert "no checkpoint of that step; there are 5, 8" in outcome.err
    assert read_json(finished / "results.json")["status"] == "complete"
    outcome = program.run(tmp_path / "new", *SHORT, "--resume", step)
    assert outcome.code == 2
    assert "no run is in" in outcome.err
    assert tree(tmp_path) == set()
