"""Checkpoints without shared storage: kept on a second host, and given to those that lack one.

The first worker of the second host writes every checkpoint too: its weights and moments have the
bits of rank 0's. When the run goes on, rank 0's host says from where; the files travel to the hosts
that do not have them, and each worker reads and checks its own.
"""

import json
import logging
import shutil
from pathlib import Path

import torch

from demo_bert.checkpoint import Checkpoint, of_step
from demo_bert.distributed import World, broadcast_bytes, sum_numbers, wait_for_all
from demo_bert.errors import DiskError, RunDirectoryError
from demo_bert.files import sync_directory, write_text
from demo_bert.launch.job import own_job

_LOG = logging.getLogger(__name__)
_PIECE_BYTES = 32 << 20


def keeps_copy(world: World) -> bool:
    """Whether this worker writes the second copy of each checkpoint.

    Args:
        world: This worker's place.

    Returns:
        True for the first worker of the second host, where storage is not shared.
    """
    return has_copies() and world.rank == world.local_size


def has_copies() -> bool:
    """Whether checkpoints are kept on a second host."""
    job = own_job()
    return job is not None and not job.is_shared and len(job.hosts) > 1


def note_of(step: int) -> str:
    """The note by which the second host says that it has a checkpoint.

    Args:
        step: The checkpoint's.

    Returns:
        Its name.
    """
    return f"copy of step {step}"


def spread(
    found: Checkpoint | None, checkpoints: Path, *, world: World, device: torch.device
) -> Checkpoint | None:
    """Gives every host the checkpoint that rank 0 goes on from.

    Args:
        found: Rank 0's; what the others found does not count.
        checkpoints: The run's directory of them.
        world: This worker's place.
        device: Where the process group sends.

    Returns:
        The checkpoint, on this host; None where the run begins.

    Raises:
        RunDirectoryError: It did not arrive whole.
        DiskError: It cannot be written here.
    """
    job = own_job()
    if job is None or job.is_shared:
        return found
    own = -1 if found is None or not world.is_first else found.step
    (number,) = sum_numbers([own + 1 if world.is_first else 0], world, device)
    step = int(number) - 1
    if step < 0:
        return None
    sent = found.path if world.is_first and found is not None else None
    manifest = broadcast_bytes(
        (sent / "manifest.json").read_bytes() if sent else None, world, device
    )
    lacks = world.local_rank == 0 and not _has(checkpoints, step, manifest)
    (lacking,) = sum_numbers([lacks], world, device)
    if lacking:
        _receive(sent, checkpoints, step, manifest, lacks=lacks, world=world, device=device)
    wait_for_all(world)
    return of_step(checkpoints, step)


def _has(checkpoints: Path, step: int, manifest: bytes) -> bool:
    """Whether the same checkpoint is here, whole."""
    path = checkpoints / f"step-{step}"
    try:
        return (path / "manifest.json").read_bytes() == manifest and bool(
            of_step(checkpoints, step)
        )
    except (OSError, RunDirectoryError):
        return False


def _receive(
    sent: Path | None,
    checkpoints: Path,
    step: int,
    manifest: bytes,
    *,
    lacks: bool,
    world: World,
    device: torch.device,
) -> None:
    """Rank 0 reads the files, all take them, those that lack them write."""
    staging = checkpoints / f".step-{step}.partial"
    try:
        if lacks:
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(parents=True)
            (staging / "manifest.json").write_bytes(manifest)
        for name, facts in json.loads(manifest)["files"].items():
            for begin in range(0, int(facts["size_bytes"]), _PIECE_BYTES):
                piece = None
                if sent is not None:
                    with (sent / name).open("rb") as file:
                        file.seek(begin)
                        piece = file.read(_PIECE_BYTES)
                data = broadcast_bytes(piece, world, device)
                if lacks:
                    with (staging / name).open("ab") as file:
                        file.write(data)
        if lacks:
            final = checkpoints / f"step-{step}"
            if final.exists():
                shutil.rmtree(final)
            staging.rename(final)
            sync_directory(checkpoints)
            write_text(checkpoints / "newest", final.name + "\n")
            _LOG.debug("checkpoint of step %d received", step)
    except OSError as error:
        raise DiskError(f"{staging}: cannot be written ({error.strerror})") from error
