"""Checkpoints of a run: in the background, in spite of a disk that is full for a while."""

from collections.abc import Generator
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
from demo_bert.saver import Outcome
from small_run import Program, events, losses, read_json, weights

OPTIONS = ("-i", "6", "--save-every", "1", "--keep", "9")


def fail_at(monkeypatch: pytest.MonkeyPatch, *steps: int) -> None:
    """Lets the disk be full when these steps are saved."""
    saving = checkpoint.saving

    def full(directory: Path, **options: Any) -> Generator[None, None, Path]:
        if options["step"] in steps:
            raise DiskError(f"{directory}: full")
        return (yield from saving(directory, **options))

    monkeypatch.setattr(checkpoint, "saving", full)


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


def run_saver_of(every: Duration, *, keep_every: Duration | None = None) -> RunSaver:
    settings = SimpleNamespace(save_every=every, keep=9, keep_every=keep_every)
    return RunSaver(cast(Any, settings), is_first=True)


def due_steps(saver: RunSaver, steps: range) -> list[int]:
    """Where a save is due, if one is begun at each such step."""
    found = []
    for step in steps:
        if saver.is_due(step, last_step=10_000, world=World(), backend=CpuBackend()):
            found.append(step)
            saver.saved_step = step
    return found


@pytest.mark.parametrize(("write_s", "due_s"), [(0.0, 60.0), (12.0, 45.0), (50.0, 30.0)])
def test_a_save_by_time_begins_so_early_that_it_is_on_disk_in_time(
    monkeypatch: pytest.MonkeyPatch, write_s: float, due_s: float
) -> None:
    now = [100.0]
    monkeypatch.setattr(run_saver.time, "monotonic", lambda: now[0])
    saver = run_saver_of(Duration(seconds=60.0))
    saver._write_s = write_s
    found = []
    for passed_s in (due_s - 0.1, due_s):
        now[0] = 100.0 + passed_s
        found.append(saver.is_due(7, last_step=9, world=World(), backend=CpuBackend()))
    assert found == [False, True]


@pytest.mark.parametrize(
    ("write_s", "steps"),
    [
        (0.0, [100, 200, 300]),
        (8.0, [89, 178, 267]),  # 8 s and a quarter more are 10 steps, and one for what is begun
        (800.0, [50, 100, 150, 200, 250, 300]),
    ],
)
def test_a_save_by_steps_begins_so_early_that_it_is_on_disk_in_time(
    write_s: float, steps: list[int]
) -> None:
    saver = run_saver_of(Duration(steps=100))
    saver._is_small = False
    saver._write_s = write_s
    saver._step_s.extend([1.5, 1.0, 3.0])
    assert due_steps(saver, range(1, 301)) == steps


def test_small_states_are_saved_at_just_the_steps_that_were_asked_for() -> None:
    saver = run_saver_of(Duration(steps=100))
    saver.go_on_from(137)
    assert due_steps(saver, range(138, 401)) == [200, 300, 400]


def test_what_is_to_be_kept_for_good_is_saved_at_its_step() -> None:
    saver = run_saver_of(Duration(steps=100), keep_every=Duration(steps=150))
    saver._is_small = False
    saver._write_s = 8.0
    saver._step_s.append(1.0)
    assert due_steps(saver, range(1, 351)) == [89, 150, 239, 300]


class Disk:
    """Stands in for `Saver`: a save is on disk when the test says so, or someone waits."""

    small_bytes = 0

    def __init__(self, *arguments: object, **options: object) -> None:
        self.step: int | None = None
        self.newest = 0
        self.seconds = 30.0
        self.ended: list[int] = []
        self.waited: list[int] = []

    def start(self, *, step: int, **options: object) -> None:
        assert self.step is None, "two in flight"
        self.step = step

    @property
    def is_busy(self) -> bool:
        return self.step is not None

    def end(self) -> None:
        assert self.step is not None
        self.newest, self.step = self.step, None
        self.ended.append(self.newest)

    def hurry(self) -> float:
        self.end()
        self.waited.append(self.newest)
        return 1.0

    def finished(self) -> list[Outcome]:
        steps, self.ended = self.ended, []
        paths = {step: Path(f"run/checkpoints/step-{step}") for step in steps}
        return [Outcome(n, path, self.seconds, stalled_s=0.0) for n, path in paths.items()]

    wait = finished


@pytest.mark.parametrize("every", [1, 2, 3, 10, 40])
@pytest.mark.parametrize("took_steps", [0, 1, 4, 25, 1000])
def test_a_kill_at_any_step_costs_no_more_than_the_interval(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, every: int, took_steps: int
) -> None:
    monkeypatch.setattr(run_saver, "Saver", Disk)
    saver = run_saver_of(Duration(steps=every))
    with saver.opened(tmp_path, emit=lambda *a, **b: None, num_weights=10**9):
        disk = cast(Any, saver._saver)
        disk.seconds = took_steps + 0.5
        begun_at = 0
        for step in range(1, 200):
            assert step - disk.newest <= every, "if it is killed now"
            if disk.step is not None and step - begun_at >= took_steps:
                disk.end()
            saver.after_step(step, 1.0)
            if saver.is_due(step, last_step=10_000, world=World(), backend=CpuBackend()):
                saver.save(step, state={}, model={}, optimizer={})
                begun_at = step
    assert bool(disk.waited) == (took_steps > every // 2 or every == 1)


def test_by_time_training_waits_when_the_interval_is_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    now = [100.0]
    monkeypatch.setattr(run_saver.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(run_saver, "Saver", Disk)
    saver = run_saver_of(Duration(seconds=60.0))
    with saver.opened(tmp_path, emit=lambda *a, **b: None, num_weights=10**6):
        disk = cast(Any, saver._saver)
        saver.save(5, state={}, model={}, optimizer={})
        now[0] += 59.0
        saver.after_step(6, 1.0)
        assert disk.waited == []
        now[0] += 1.0
        saver.after_step(7, 1.0)
        assert disk.waited == [5]
    assert "training waited 1.0 s for the checkpoint of step 5" in caplog.text
