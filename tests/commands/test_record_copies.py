"""What a run has written about itself, on more hosts than the first."""

from pathlib import Path

import pytest
import torch

from demo_bert.commands import record_copies
from demo_bert.commands.record_copies import EventCopies, give_records
from demo_bert.distributed import World
from demo_bert.run_directory import RunDirectory

CPU = torch.device("cpu")


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """What workers have left for each other."""
    kept: dict[str, bytes] = {}
    monkeypatch.setattr(record_copies, "leave_note", kept.__setitem__)
    monkeypatch.setattr(record_copies, "read_note", kept.__getitem__)
    monkeypatch.setattr(record_copies, "remove_note", kept.__delitem__)
    return kept


def add(path: Path, text: str) -> None:
    """Writes to the end of a file."""
    with path.open("a") as file:
        file.write(text)


def test_the_second_host_has_the_events_up_to_each_checkpoint(
    notes: dict[str, bytes], tmp_path: Path
) -> None:
    here, there = tmp_path / "here.jsonl", tmp_path / "there.jsonl"
    here.write_text("resume\n")
    there.write_text("resume\nwhat was lost then")
    first, second = EventCopies(here), EventCopies(there)
    there.write_text("resume\n")
    second.begin()
    add(here, "1\n2\nhalf a li")
    first.send(2)
    second.take(2)
    assert there.read_text() == "resume\n1\n2\n"
    first.arrived(2)
    add(here, "ne\n4\n")
    first.send(4)  # never written there: its disk was full
    assert notes["events up to step 4"][8:] == b"half a line\n4\n", "what arrived is sent again"
    add(here, "6\n")
    first.send(6)
    second.take(6)
    first.arrived(6)
    assert there.read_text() == here.read_text()
    assert "events up to step 6" not in notes, "the store grows"


def test_a_run_without_events_so_far_gets_them_all(notes: dict[str, bytes], tmp_path: Path) -> None:
    first, second = EventCopies(tmp_path / "here"), EventCopies(tmp_path / "there")
    second.begin()
    add(tmp_path / "here", "start\n1\n")
    first.send(1)
    second.take(1)
    assert (tmp_path / "there").read_text() == "start\n1\n"


def test_every_host_gets_what_makes_the_directory_a_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first, other = RunDirectory(tmp_path / "first"), RunDirectory(tmp_path / "other")
    for directory, number in ((first, 1), (other, 0)):
        directory.path.mkdir()
        directory.write_record({"settings": number})
        directory.events.write_text(f"{number}\n")
    first.write_results({"status": "stopped"})
    sent: list[bytes] = []

    def broadcast(data: bytes | None, world: World, device: torch.device) -> bytes:
        if data is not None:
            sent.append(data)
        return data if data is not None else sent.pop(0)

    monkeypatch.setattr(record_copies, "broadcast_bytes", broadcast)
    monkeypatch.setattr(record_copies, "wait_for_all", lambda world: None)
    give_records(first, world=World(0, 0, 4, 2), device=CPU)
    assert not sent, "storage is shared"
    monkeypatch.setattr(record_copies, "has_copies", lambda: True)
    before = other.record()
    for world in (World(3, 1, 4, 2), World(2, 0, 4, 2)):  # the first worker of a host writes
        give_records(first, world=World(0, 0, 4, 2), device=CPU)
        assert other.record() == before
        give_records(other, world=world, device=CPU)
    assert (other.record(), other.results()) == (first.record(), first.results())
    assert other.events.read_text() == "1\n"
