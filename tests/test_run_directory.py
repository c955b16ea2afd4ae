"""The run directory: its record, its lock, its neighbours."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from demo_bert.errors import DiskError, RunDirectoryError
from demo_bert.run_directory import RunDirectory, beside
from small_run import ENVIRONMENT, tree


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    assert directory.record() is None
    assert directory.results() is None
    directory.write_record({"seed": 1, "rate": 0.1, "text": "\u00e4"})
    directory.write_results({"status": "complete"})
    assert directory.record() == {"seed": 1, "rate": 0.1, "text": "\u00e4"}
    assert directory.results() == {"status": "complete"}
    assert tree(tmp_path) == {"run/run.json", "run/results.json"}


def test_numbers_that_json_does_not_have_are_a_mistake_of_ours(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        RunDirectory(tmp_path).write_results({"loss": float("nan")})
    assert tree(tmp_path) == set()


def test_an_empty_directory_holds_no_run(tmp_path: Path) -> None:
    assert RunDirectory(tmp_path).record() is None


def test_a_directory_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(RunDirectoryError, match="is not empty and holds no run"):
        RunDirectory(tmp_path).record()


@pytest.mark.parametrize("left", ["run.lock", "logs", ".run.json.x1y2", "seed-42"])
def test_what_a_run_leaves_before_its_record_is_no_obstacle(tmp_path: Path, left: str) -> None:
    (tmp_path / left).mkdir()
    assert RunDirectory(tmp_path).record() is None


@pytest.mark.parametrize("content", ["", "{", "[1]", '"text"', "\xff"])
@pytest.mark.parametrize("name", ["run.json", "results.json"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    directory = RunDirectory(tmp_path)
    with pytest.raises(RunDirectoryError, match=f"{name}: damaged"):
        directory.record() if name == "run.json" else directory.results()


def test_the_lock_makes_the_directory_and_names_its_owner(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "a" / "run")
    with directory.locked():
        assert (
            directory.path / "run.lock"
        ).read_text() == f"{os.getpid()} on {os.uname().nodename}\n"
        with (
            pytest.raises(RunDirectoryError, match=f"process {os.getpid()} on .* is at work in it"),
            RunDirectory(directory.path).locked(),
        ):
            pytest.fail("two hold the lock")
    with directory.locked():
        pass


def test_the_lock_is_given_back_after_an_error(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    with pytest.raises(ValueError, match="broken"), directory.locked():
        raise ValueError("broken")
    with directory.locked():
        pass


def test_the_lock_dies_with_its_owner(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from demo_bert.run_directory import RunDirectory\n"
        "with RunDirectory(Path(sys.argv[1])).locked():\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        assert process.stdout.readline() == "held\n"
        with (
            pytest.raises(RunDirectoryError, match=f"process {process.pid} on .* is at work"),
            RunDirectory(tmp_path).locked(),
        ):
            pytest.fail("two hold the lock")
        process.kill()
        process.wait()
    with RunDirectory(tmp_path).locked():
        assert (tmp_path / "run.lock").read_text() == f"{os.getpid()} on {os.uname().nodename}\n"


def test_a_lock_of_an_owner_with_a_longer_number_is_overwritten_whole(tmp_path: Path) -> None:
    (tmp_path / "run.lock").write_text("99999999999\n")
    with RunDirectory(tmp_path).locked():
        assert (tmp_path / "run.lock").read_text() == f"{os.getpid()} on {os.uname().nodename}\n"


def test_a_place_that_cannot_be_written_is_a_disk_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(DiskError, match="cannot be written"),
        RunDirectory(tmp_path / "file" / "run").locked(),
    ):
        pytest.fail("it was made")


def test_a_new_name_beside_is_the_first_that_is_free(tmp_path: Path) -> None:
    first = tmp_path / "run.v1"
    assert beside(first) == tmp_path / "run.v1-2"
    (tmp_path / "run.v1-2").mkdir()
    (tmp_path / "run.v1-3").write_text(json.dumps({}))
    assert beside(first) == tmp_path / "run.v1-4"
