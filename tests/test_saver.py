"""Saves in the background: at most one in flight, taken over by whoever has to wait for it."""

import errno
import os
import sys
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from demo_bert import checkpoint
from demo_bert.saver import Saver


def saved_steps(directory: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in directory.glob("step-*"))


class Gate:
    """Holds `checkpoint.saving` back until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened, self.entered = threading.Event(), threading.Event()
        inner = checkpoint.saving

        def gated(*arguments: Any, **options: Any) -> Generator[None, None, Path]:
            self.entered.set()
            assert self.opened.wait(timeout=60)
            return (yield from inner(*arguments, **options))

        monkeypatch.setattr(checkpoint, "saving", gated)


@pytest.fixture
def nothing_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the states of tests are saved in the background."""
    monkeypatch.setattr(Saver, "small_bytes", 0)


def begin(saver: Saver, step: int, model: dict[str, Tensor], **options: Any) -> None:
    options = {"free_bytes": None} | options
    saver.start(step=step, state={"at": step}, model=model, optimizer={}, **options)


@pytest.mark.usefixtures("nothing_is_small")
def test_training_goes_on_while_a_copy_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    saver = Saver(tmp_path, keep=2)
    weights = {"w": torch.zeros(1000)}
    begin(saver, 1, weights)
    weights["w"] += 1  # the next update, while the file is not yet there
    assert gate.entered.wait(timeout=60)
    assert saver.finished() == []
    assert checkpoint.newest(tmp_path) == (None, [])
    gate.opened.set()
    (outcome,) = saver.wait()
    assert (outcome.step, outcome.message, outcome.lacked_memory) == (1, None, False)
    assert outcome.path == tmp_path / "step-1"
    assert outcome.stalled_s <= outcome.seconds
    found, _ = checkpoint.newest(tmp_path)
    assert found is not None
    assert torch.equal(found.tensors("model")["w"], torch.zeros(1000))
    assert saver.wait() == []


@pytest.mark.usefixtures("nothing_is_small")
def test_at_most_one_save_is_in_flight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    saver = Saver(tmp_path, keep=5)
    begin(saver, 1, {"w": torch.ones(2)})
    assert gate.entered.wait(timeout=60)
    second = threading.Thread(target=begin, args=(saver, 2, {"w": torch.ones(2)}))
    second.start()
    second.join(timeout=0.2)
    assert second.is_alive(), "the second waits for the first"
    gate.opened.set()
    second.join(timeout=60)
    assert [outcome.step for outcome in saver.wait()] == [1, 2]
    assert saved_steps(tmp_path) == [1, 2]


@pytest.mark.usefixtures("nothing_is_small")
def test_a_copy_that_does_not_fit_in_memory_is_not_made(tmp_path: Path) -> None:
    saver = Saver(tmp_path, keep=5)
    begin(saver, 1, {"w": torch.ones(100)}, free_bytes=400)
    (outcome,) = saver.finished()  # without waiting
    assert outcome.lacked_memory
    assert outcome.stalled_s == outcome.seconds
    begin(saver, 2, {"w": torch.ones(100)}, free_bytes=401)
    (outcome,) = saver.wait()
    assert not outcome.lacked_memory
    assert outcome.stalled_s < outcome.seconds


def test_what_is_written_in_a_moment_is_written_at_once(tmp_path: Path) -> None:
    saver = Saver(tmp_path, keep=5)
    begin(saver, 1, {"w": torch.ones(100)})
    (outcome,) = saver.finished()  # without waiting
    assert outcome.path == tmp_path / "step-1"
    assert outcome.stalled_s == outcome.seconds
    assert not outcome.lacked_memory


@pytest.mark.usefixtures("nothing_is_small")
def test_a_full_disk_in_the_background_is_told_and_the_next_save_may_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saver = Saver(tmp_path, keep=5)
    begin(saver, 1, {"w": torch.ones(2)})
    saver.wait()

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", full)
        begin(saver, 2, {"w": torch.ones(2)})
        (outcome,) = saver.wait()
    assert outcome.path is None
    assert "step-2: checkpoint not written (No space" in str(outcome.message)
    begin(saver, 3, {"w": torch.ones(2)})
    assert [one.path for one in saver.wait()] == [tmp_path / "step-3"]
    assert saved_steps(tmp_path) == [1, 3]


class Crew:
    """Stands in for `checkpoint.saving`: some pieces, and who did each of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, num_pieces: int) -> None:
        self.workers: list[threading.Thread] = []
        self.priorities: list[int] = []
        self.at_second, self.go_on = threading.Event(), threading.Event()

        def saving(directory: Path, **options: Any) -> Generator[None, None, Path]:
            for number in range(num_pieces):
                self.workers.append(threading.current_thread())
                self.priorities.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
                if number == 1:
                    self.at_second.set()
                    assert self.go_on.wait(timeout=60)
                yield
            return directory / f"step-{options['step']}"

        monkeypatch.setattr(checkpoint, "saving", saving)


@pytest.mark.usefixtures("nothing_is_small")
def test_whoever_waits_writes_the_rest_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crew = Crew(monkeypatch, 5)
    saver = Saver(tmp_path, keep=2)
    begin(saver, 7, {"w": torch.ones(2)})
    assert crew.at_second.wait(timeout=60)
    assert saver.is_busy
    threading.Timer(0.05, crew.go_on.set).start()
    waited_s = saver.hurry()
    (outcome,) = saver.finished()
    assert not saver.is_busy
    assert outcome.path == tmp_path / "step-7"
    assert 0 < waited_s <= outcome.stalled_s <= outcome.seconds
    own = threading.current_thread()
    assert [worker is own for worker in crew.workers] == [False, False, True, True, True]
    assert saver.hurry() == 0.0


@pytest.mark.skipif(sys.platform != "linux", reason="a single thread has no priority there")
@pytest.mark.usefixtures("nothing_is_small")
def test_what_writes_in_the_background_gives_way_to_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crew = Crew(monkeypatch, 2)
    crew.go_on.set()
    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    saver = Saver(tmp_path, keep=2)
    begin(saver, 7, {"w": torch.ones(2)})
    assert crew.at_second.wait(timeout=60)
    saver.wait()
    assert crew.priorities[0] == 19
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before < 19


@pytest.mark.usefixtures("nothing_is_small")
def test_a_fault_of_the_program_itself_is_not_lost_in_the_background(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **options: object) -> Generator[None, None, Path]:
        raise ZeroDivisionError
        yield

    monkeypatch.setattr(checkpoint, "saving", broken)
    saver = Saver(tmp_path, keep=2)
    begin(saver, 7, {"w": torch.ones(2)})
    with pytest.raises(ZeroDivisionError):
        saver.wait()
