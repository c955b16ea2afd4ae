"""What a run has written about itself, without shared storage: on every host, for any to go on.

At the start of an attempt every host gets what rank 0's has. With each checkpoint the second host
gets the events since the one before too: where the first host is lost, it has the run whole, up to
that checkpoint.
"""

import os
import struct
from pathlib import Path

import torch

from demo_bert.commands.checkpoint_copies import has_copies
from demo_bert.distributed import (
    World,
    broadcast_bytes,
    leave_note,
    read_note,
    remove_note,
    wait_for_all,
)
from demo_bert.errors import DiskError
from demo_bert.files import write_bytes
from demo_bert.run_directory import RunDirectory

_LENGTHS = "length of the copied events"
_OFFSET = struct.Struct("<q")


def give_records(directory: RunDirectory, *, world: World, device: torch.device) -> None:
    """Gives every host run.json, results.json and the events that rank 0's has; all call it.

    Args:
        directory: The run's, the same on each host.
        world: This worker's place.
        device: Where the process group sends.

    Raises:
        DiskError: They cannot be read, or not be written here.
    """
    if not has_copies():
        return
    for path in (directory.record_path, directory.results_path, directory.events):
        data = broadcast_bytes(_whole_lines(path) if world.is_first else None, world, device)
        if data and world.local_rank == 0 and not world.is_first and _whole_lines(path) != data:
            write_bytes(path, data)
    wait_for_all(world)


class EventCopies:
    """The events up to each checkpoint, from rank 0's host to the second.

    Args:
        path: The run's events.jsonl, on this host.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._copied: int | None = None
        self._ends: dict[int, int] = {}

    def begin(self) -> None:
        """On the second host: says how many bytes of them it has from the start."""
        leave_note(_LENGTHS, _OFFSET.pack(self._path.stat().st_size if self._path.exists() else 0))

    def send(self, step: int) -> None:
        """On the first host: sends those that the other does not have for certain.

        Args:
            step: Of the checkpoint that is about to be saved.
        """
        if self._copied is None:
            (self._copied,) = _OFFSET.unpack(read_note(_LENGTHS))
        new = _whole_lines(self._path, self._copied)
        self._ends[step] = self._copied + len(new)
        leave_note(_name(step), _OFFSET.pack(self._copied) + new)

    def take(self, step: int) -> None:
        """On the second host: writes what was sent with a checkpoint.

        Args:
            step: Its step.

        Raises:
            DiskError: It cannot be written.
        """
        sent = read_note(_name(step))
        (offset,) = _OFFSET.unpack_from(sent)
        try:
            with self._path.open("r+b" if self._path.exists() else "w+b") as file:
                file.truncate(offset)
                file.seek(offset)
                file.write(sent[_OFFSET.size :])
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise DiskError(f"{self._path}: cannot be written ({error.strerror})") from error

    def arrived(self, step: int) -> None:
        """On the first host: what was sent with a checkpoint is there.

        Args:
            step: Its step.
        """
        self._copied = self._ends.pop(step, self._copied)
        remove_note(_name(step))


def _name(step: int) -> str:
    return f"events up to step {step}"


def _whole_lines(path: Path, begin: int = 0) -> bytes:
    """A file's lines from a byte on, without half a one at the end; empty where it is not there."""
    try:
        with path.open("rb") as file:
            file.seek(begin)
            data = file.read()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise DiskError(f"{path}: cannot be read ({error.strerror})") from error
    return data[: data.rfind(b"\n") + 1]
