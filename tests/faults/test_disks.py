"""A disk that is full, read-only or gone: training goes on, what was saved is untouched.

In a small file system of its own, which only root can mount; elsewhere these tests are not run.
"""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from demo_bert import checkpoint
from demo_bert.report.tensorboard import TensorBoardWriter
from small_run import Program, events, losses, read_json, weights

OPTIONS = ("-i", "8", "--save-every", "1", "--keep", "2")
AtStep = Callable[[int, Callable[[], object]], None]


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True)


@contextmanager
def mounted(place: Path, *words: str) -> Iterator[Path]:
    """A file system at a place; not run where this user may not mount."""
    place.mkdir(exist_ok=True)
    try:
        mount(*words, str(place))
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"NOT RUN: no file system can be mounted here ({error})")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=1m", "none") as place:
        yield place


@pytest.fixture
def straight(program: Program, root: Path) -> Path:
    directory = root / "straight"
    if not directory.exists():
        assert program.run(directory, *OPTIONS).code == 0
    return directory


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> AtStep:
    """Does something when a step is told of, before what is due with it."""
    actions: dict[int, Callable[[], object]] = {}
    add = TensorBoardWriter.add

    def read(self: TensorBoardWriter, event: dict[str, object]) -> None:
        add(self, event)
        step = event.get("step")
        if event["event"] == "step" and isinstance(step, int) and step in actions:
            actions.pop(step)()

    monkeypatch.setattr(TensorBoardWriter, "add", read)
    return actions.__setitem__


def fill(disk: Path) -> None:
    with (disk / "ballast").open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return


def saved(directory: Path) -> list[int]:
    found = (directory / "checkpoints").glob("step-*")
    return sorted(int(path.name.removeprefix("step-")) for path in found)


def test_training_goes_on_while_the_disk_is_full_and_saves_when_there_is_room_again(
    program: Program, disk: Path, straight: Path, at_step: AtStep
) -> None:
    kept: list[list[int]] = []
    at_step(3, lambda: fill(disk))
    at_step(6, lambda: (kept.append(saved(disk / "run")), (disk / "ballast").unlink()))
    outcome = program.run(disk / "run", *OPTIONS)
    assert outcome.code == 0, outcome.err
    assert "No space left on device" in outcome.err
    assert "training goes on and tries again" in outcome.err
    assert "Traceback" not in outcome.err
    assert kept == [[1, 2]], "the last good ones"
    assert saved(disk / "run") == [7, 8]
    assert weights(disk / "run") == weights(straight)
    assert events(disk / "run", "fault")[-1]["kind"] in ("events_dropped", "checkpoint")


def test_a_disk_that_stays_full_is_an_error_of_one_line_and_the_run_goes_on_later(
    program: Program, disk: Path, straight: Path, at_step: AtStep
) -> None:
    at_step(5, lambda: fill(disk))
    outcome = program.run(disk / "run", *OPTIONS)
    assert outcome.code == 1
    assert outcome.err.splitlines()[-1].startswith("demo_bert: error: ")
    assert "No space left on device" in outcome.err.splitlines()[-1]
    assert "Traceback" not in outcome.err
    found, complaints = checkpoint.newest(disk / "run" / "checkpoints")
    assert found is not None and (found.step, complaints) == (4, [])
    (disk / "ballast").unlink()
    assert program.run(disk / "run", *OPTIONS).code == 0
    assert weights(disk / "run") == weights(straight)
    assert losses(disk / "run") == losses(straight)


def test_a_disk_that_is_full_from_the_start_is_an_error_of_one_line(
    program: Program, disk: Path
) -> None:
    fill(disk)
    outcome = program.run(disk / "run", *OPTIONS)
    assert outcome.code == 1
    assert "Traceback" not in outcome.err
    assert outcome.err.splitlines()[-1].startswith("demo_bert: error: ")


def test_a_read_only_disk_is_refused_before_anything_is_read(program: Program, disk: Path) -> None:
    (disk / "there").mkdir()
    mount("-o", "remount,ro", str(disk))
    for place in (disk / "new", disk / "there"):
        outcome = program.run(place, *OPTIONS)
        assert outcome.code == 2
        assert "is not writable; name another place" in outcome.err
        assert len(outcome.err.splitlines()) == 1


def test_checkpoints_that_become_read_only_do_not_stop_training(
    program: Program, disk: Path, straight: Path, at_step: AtStep
) -> None:
    checkpoints = disk / "run" / "checkpoints"

    def protect() -> None:
        mount("--bind", str(checkpoints), str(checkpoints))
        mount("-o", "remount,bind,ro", str(checkpoints))

    at_step(4, protect)
    at_step(6, lambda: subprocess.run(["umount", str(checkpoints)], check=True))
    outcome = program.run(disk / "run", *OPTIONS)
    assert outcome.code == 0, outcome.err
    assert "Read-only file system" in outcome.err
    assert saved(disk / "run") == [7, 8]
    faults = [(event["kind"], event["step"]) for event in events(disk / "run", "fault")]
    assert faults == [("checkpoint", 4), ("checkpoint", 5)]
    assert weights(disk / "run") == weights(straight)


def test_a_lost_mount_is_said_and_nothing_is_written_in_its_place(
    program: Program, disk: Path, tmp_path: Path, straight: Path, at_step: AtStep
) -> None:
    (disk / "store").mkdir()
    with mounted(tmp_path / "place", "--bind", str(disk / "store")) as place:
        beneath: list[list[Path]] = []

        def lose() -> None:
            subprocess.run(["umount", "-l", str(place)], check=True)

        def give_back() -> None:
            beneath.append(list(place.rglob("*")))
            mount("--bind", str(disk / "store"), str(place))

        at_step(4, lose)
        at_step(6, give_back)
        outcome = program.run(place / "run", *OPTIONS)
        assert outcome.code == 0, outcome.err
        assert beneath == [[]], "it was written to the disk beneath"
        assert "checkpoint not written (No such file or directory); training goes on" in outcome.err
        faults = [(event["kind"], event["step"]) for event in events(place / "run", "fault")]
        assert faults == [("checkpoint", 4), ("checkpoint", 5)]
        assert weights(place / "run") == weights(straight)
        assert read_json(place / "run" / "results.json")["status"] == "complete"


def test_a_mount_that_stays_lost_ends_the_run_with_one_line(
    program: Program, disk: Path, tmp_path: Path, at_step: AtStep
) -> None:
    (disk / "store").mkdir()
    with mounted(tmp_path / "place", "--bind", str(disk / "store")) as place:
        at_step(4, lambda: subprocess.run(["umount", "-l", str(place)], check=True))
        began = time.monotonic()
        outcome = program.run(place / "run", *OPTIONS)
        assert outcome.code == 1, outcome.err
        assert "Traceback" not in outcome.err
        assert time.monotonic() - began < 60
        assert list(place.rglob("*")) == []
    found, _ = checkpoint.newest(disk / "store" / "run" / "checkpoints")
    assert found is not None and found.step == 3
