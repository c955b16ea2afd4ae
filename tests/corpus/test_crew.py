"""Several workers under a launcher, one store: the same as one worker alone makes."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from corpus.recipes import files_of, write_books
from demo_bert.corpus import crew as crews
from demo_bert.corpus.crew import Crew
from demo_bert.errors import FailureError, StopRequested
from demo_bert.launchers import World
from small_run import ENVIRONMENT

WORKER = """
import sys
from demo_bert.cli import main
from demo_bert.corpus import recipe
recipe._UNIT_BYTES = 20_000
sys.exit(main(sys.argv[1:]))
"""


def started(rank: int, size: int, port: int, arguments: list[str]) -> subprocess.Popen[str]:
    """A worker as torchrun would start it."""
    place = {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, "prepare", *arguments],
        env={**ENVIRONMENT, **place},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_two_workers_make_the_store_that_one_makes(tmp_path: Path) -> None:
    books = write_books(tmp_path / "books", 8, num_sentences=120)
    arguments = ["--books", str(books), "-o"]
    alone = started(0, 1, 0, [*arguments, str(tmp_path / "one"), "-v", "1"])
    assert alone.communicate(timeout=100)[0]
    port = free_port()
    two = [started(rank, 2, port, [*arguments, str(tmp_path / "two")]) for rank in range(2)]
    said = [worker.communicate(timeout=100) for worker in two]
    assert [worker.returncode for worker in two] == [0, 0], said
    assert files_of(tmp_path / "two") == files_of(tmp_path / "one")
    assert "8 documents" in said[0][0]
    assert said[1] == ("", ""), "only the first worker speaks"


def test_a_worker_that_ends_ends_the_others_and_the_store_goes_on(tmp_path: Path) -> None:
    worker = Crew(tmp_path, World(1, 1, 2, 2), stop_if_asked=lambda: None)
    other = Crew(tmp_path, World(0, 0, 2, 2), stop_if_asked=lambda: None)
    worker._job = other._job = "a"
    worker.tell("parts")
    other.wait_for("parts", [1])
    worker.give_up(FailureError("its disk is full"))
    with pytest.raises(FailureError, match="worker 1 ended: its disk is full"):
        other.wait_for("shards", [1])
    worker.give_up(StopRequested("stopped (SIGTERM)"))
    with pytest.raises(StopRequested, match="worker 1 ended: stopped"):
        other.wait_for_end(lambda: False)
    # A later start is not told of it.
    other._job = "b"
    other.wait_for_end(lambda: True)


def test_a_worker_without_a_sign_is_given_up_one_that_beats_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crews, "_PATIENCE_S", 0.05)
    monkeypatch.setattr(crews, "_POLL_S", 0.02)
    monkeypatch.setattr(crews, "_BEAT_S", 0.0)
    worker = Crew(tmp_path, World(1, 1, 2, 2), stop_if_asked=lambda: None)
    other = Crew(tmp_path, World(0, 0, 2, 2), stop_if_asked=worker.beat)
    worker._job = other._job = "a"
    polls: list[int] = []

    def done() -> bool:
        polls.append(0)
        return len(polls) > 8

    other._wait(1, done)
    alone = Crew(tmp_path, World(0, 0, 2, 2), stop_if_asked=lambda: None)
    alone._job = "a"
    with pytest.raises(FailureError, match="worker 1 gave no sign"):
        alone.wait_for("parts", [1])


def test_shares_are_arithmetic_and_leave_nothing_out() -> None:
    shares = [
        Crew(Path(), World(rank, 0, 3, 3), stop_if_asked=lambda: None).own(10) for rank in range(3)
    ]
    assert [list(share) for share in shares] == [[0, 3, 6, 9], [1, 4, 7], [2, 5, 8]]
