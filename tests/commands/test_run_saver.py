"""Checkpoints of a run: in the background, in spite of a disk that is full for a while."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from demo_bert import checkpoint
from demo_bert.choices import Duration
from demo_bert.commands import run_saver
from demo_bert.commands.run_saver import RunSaver
from demo_bert.distributed import World
from demo_bert.errors import DiskError
from demo_bert.hardware.cpu import CpuBackend
from small_run import Program, events, losses, read_json, weights

OPTIONS = ("-i", "6", "--save-every", "1", "--keep", "9")


def fail_at(monkeypatch: pytest.MonkeyPatch, *steps: int) -> None:
    """Lets the disk be full when these steps are saved."""
    save = checkpoint.save

    def full(directory: Path, **options: Any) -> Path:
        if options["step"] in steps:
            raise DiskError(f"{directory}: full")
        return save(directory, **options)

    monkeypatch.setattr(checkpoint, "save", full)


def saved(directory: Path) -> list[int]:
    found = (directory / "checkpoints").glob("step-*")
    return sorted(int(path.name.removeprefix("step-")) for path in found)


def test_a_disk_that_is_full_for_a_while_costs_a_checkpoint_and_nothing_else(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert program.run(tmp_path / "straight", *OPTIONS).code == 0
    fail_at(monkeypatch, 2, 3)
    outcome = program.run(tmp_path / "run", *OPTIONS)
    assert outcome.code == 0
    assert f"{tmp_path / 'run' / 'checkpoints'}: full; training goes on and tries again" in (
        outcome.err
    )
    faults = [(e["kind"], e["step"]) for e in events(tmp_path / "run", "fault")]
    assert faults == [("checkpoint", 2), ("checkpoint", 3)]
    assert saved(tmp_path / "run") == [1, 4, 5, 6]
    assert losses(tmp_path / "run") == losses(tmp_path / "straight")
    assert weights(tmp_path / "run") == weights(tmp_path / "straight")


def test_a_last_checkpoint_that_cannot_be_written_is_an_error_and_the_run_goes_on_later(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert program.run(tmp_path / "straight", *OPTIONS).code == 0
    with monkeypatch.context() as patched:
        fail_at(patched, 5, 6)
        outcome = program.run(tmp_path / "run", *OPTIONS)
    assert outcome.code == 1
    assert outcome.err.splitlines()[-1].endswith("full")
    assert saved(tmp_path / "run") == [1, 2, 3, 4]
    assert program.run(tmp_path / "run", *OPTIONS).code == 0
    assert weights(tmp_path / "run") == weights(tmp_path / "straight")


def test_events_say_how_long_training_waited(program: Program, tmp_path: Path) -> None:
    assert program.run(tmp_path / "run", *OPTIONS).code == 0
    told = events(tmp_path / "run", "checkpoint")
    assert [event["step"] for event in told] == [1, 2, 3, 4, 5, 6]
    assert all(0 <= event["stalled_s"] <= event["seconds"] for event in told)
    assert told[-1]["path"] == "checkpoints/step-6"
    assert read_json(tmp_path / "run" / "results.json")["status"] == "complete"


def test_every_so_many_steps_a_checkpoint_is_kept_for_good(
    program: Program, tmp_path: Path
) -> None:
    options = ("-i", "7", "--save-every", "1", "--keep", "1", "--keep-every", "3")
    assert program.run(tmp_path / "run", *options).code == 0
    assert saved(tmp_path / "run") == [3, 6, 7]


@pytest.mark.parametrize(("write_s", "due_s"), [(0.0, 60.0), (12.0, 48.0), (50.0, 30.0)])
def test_a_save_by_time_begins_so_early_that_it_is_on_disk_in_time(
    monkeypatch: pytest.MonkeyPatch, write_s: float, due_s: float
) -> None:
    now = [100.0]
    monkeypatch.setattr(run_saver.time, "monotonic", lambda: now[0])
    settings = SimpleNamespace(save_every=Duration(seconds=60.0), keep=1, keep_every=None)
    saver = RunSaver(cast(Any, settings), is_first=True)
    saver._write_s = write_s
    found = []
    for passed_s in (due_s - 0.1, due_s):
        now[0] = 100.0 + passed_s
        found.append(saver.is_due(7, last_step=9, world=World(), backend=CpuBackend()))
    assert found == [False, True]
