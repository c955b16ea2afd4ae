"""Sums and meeting points of workers."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache

import torch
import torch.distributed as dist
from torch import Tensor

from demo_bert.errors import FailureError
from demo_bert.heartbeat import meeting, tell_loss
from demo_bert.launchers import World, is_worker, meeting_point, place

__all__ = [
    "Pending",
    "SumSpeed",
    "World",
    "begin_exchange",
    "begin_gather",
    "begin_sum",
    "broadcast_bytes",
    "has_note",
    "is_worker",
    "join",
    "leave",
    "leave_note",
    "place",
    "read_note",
    "remove_note",
    "sum_numbers",
    "sum_speed",
    "sum_tensor",
    "wait_for_all",
]

_LOG = logging.getLogger(__name__)
_PROBE_BYTES = 16 << 20


def join(world: World, process_group: str, *, timeout_s: float = 600.0) -> None:
    """Meets the other workers, where there are any.

    Args:
        world: From `place`.
        process_group: "gloo", "nccl" or "hccl".
        timeout_s: How long a sum may take before it is an error.

    Raises:
        FailureError: They did not come. So do all functions below that ask the others.
    """
    if world.world_size > 1:
        with _answered():
            dist.init_process_group(process_group, timeout=timedelta(seconds=timeout_s))


def leave(world: World) -> None:
    """Ends what `join` began.

    Args:
        world: From `place`.
    """
    if world.world_size > 1:
        dist.destroy_process_group()


class Pending:
    """A sum or an exchange that is on its way; its tensors must not be touched before `wait`.

    Args:
        work: What torch gave; None where there is nothing to wait for.
        *tensors: Kept until the end.
    """

    def __init__(self, work: "dist.Work | None", *tensors: Tensor) -> None:
        self._work, self._tensors = work, tensors

    def wait(self) -> None:
        """Returns when it is done (on a device: when what is asked of the device next finds it)."""
        if self._work is not None:
            with _answered():
                self._work.wait()
        self._work, self._tensors = None, ()


def begin_sum(tensor: Tensor) -> Pending:
    """Begins to sum a tensor over workers, in place.

    Args:
        tensor: Of the same shape on every worker, contiguous.

    Returns:
        What to wait for.
    """
    with _answered():
        return Pending(dist.all_reduce(tensor, async_op=True), tensor)


def begin_exchange(received: Tensor, sent: Tensor) -> Pending:
    """Begins to send every worker its part of a tensor.

    Args:
        received: (W * n,), the parts meant for this worker, by the sender's rank.
        sent: (W * n,), by the receiver's rank.

    Returns:
        What to wait for.
    """
    with _answered():
        work = dist.all_to_all_single(received, sent, async_op=True)
    return Pending(work, received, sent)


def begin_gather(gathered: Tensor, own: Tensor) -> Pending:
    """Begins to give every worker the parts of all.

    Args:
        gathered: (W * n,), the parts by rank; its own place may be `own` itself.
        own: (n,), this worker's.

    Returns:
        What to wait for.
    """
    # Its name since torch 2.13, where the former one warns.
    gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
    with _answered():
        return Pending(gather(gathered, own, async_op=True), gathered, own)


def sum_numbers(values: Sequence[float], world: World, device: torch.device) -> list[float]:
    """The numbers summed over workers.

    Args:
        values: As many on every worker.
        world: From `place`.
        device: Where the process group sums.

    Returns:
        The sums, in float64 where the device has it.
    """
    if world.world_size == 1:
        return list(values)
    dtype = torch.float32 if device.type == "hpu" else torch.float64
    tensor = torch.tensor(values, dtype=dtype, device=device)
    with _answered():
        dist.all_reduce(tensor)
    return tensor.tolist()


def sum_tensor(tensor: Tensor, world: World) -> Tensor:
    """The tensor summed over workers, in place.

    Args:
        tensor: Of the same shape on every worker.
        world: From `place`.

    Returns:
        The same tensor.
    """
    if world.world_size > 1:
        with _answered():
            dist.all_reduce(tensor)
    return tensor


def wait_for_all(world: World) -> None:
    """Returns when every worker has come here.

    Args:
        world: From `place`.
    """
    if world.world_size > 1:
        with _answered():
            dist.barrier()


def broadcast_bytes(data: bytes | None, world: World, device: torch.device) -> bytes:
    """Gives every worker what rank 0 has.

    Args:
        data: On rank 0; what others give does not count.
        world: From `place`.
        device: Where the process group sends.

    Returns:
        Rank 0's.
    """
    own = data if world.is_first and data is not None else b""
    if world.world_size == 1:
        return own
    (size,) = sum_numbers(
        [len(own)], world, torch.device("cpu") if device.type == "cpu" else device
    )
    if not size:
        return b""
    tensor = torch.empty(int(size), dtype=torch.uint8, device=device)
    if world.is_first:
        tensor.copy_(torch.frombuffer(bytearray(own), dtype=torch.uint8))
    with _answered():
        dist.broadcast(tensor, src=0)
    return tensor.cpu().numpy().tobytes()


@dataclass(frozen=True)
class SumSpeed:
    """How fast workers sum.

    Attributes:
        num_workers: n, that took part.
        seconds: Of the sum of `num_bytes`.
        num_bytes: On each worker.
    """

    num_workers: int
    seconds: float
    num_bytes: int

    @property
    def bytes_per_s(self) -> float:
        """As rings count it: 2 (n-1)/n of the bytes."""
        return 2 * (self.num_workers - 1) / self.num_workers * self.num_bytes / self.seconds

    def __str__(self) -> str:
        """A line with size, time and bandwidth."""
        return (
            f"all-reduce of {self.num_bytes >> 20} MiB over {self.num_workers} workers:"
            f" {1e3 * self.seconds:.1f} ms, {self.bytes_per_s / 1e6:.0f} MB/s"
        )


def sum_speed(world: World, device: torch.device) -> SumSpeed:
    """Measures how fast workers sum; every worker calls it.

    Args:
        world: From `place`.
        device: Where the process group sums.

    Returns:
        The best of three sums.
    """
    tensor = torch.ones(_PROBE_BYTES // 4, device=device)
    seconds = []
    for _ in range(3):
        wait_for_all(world)
        began = time.perf_counter()
        sum_tensor(tensor, world).sum().item()
        seconds.append(time.perf_counter() - began)
    return SumSpeed(world.world_size, min(seconds), _PROBE_BYTES)


def leave_note(name: str, text: bytes = b"1") -> None:
    """Leaves a note for other workers.

    Args:
        name: Of the note.
        text: What it says.
    """
    with _kept():
        _notes().set(name, text)  # type: ignore[bad-argument-type]  # it takes bytes too


def read_note(name: str) -> bytes:
    """What a note says; where it is not there yet, it is waited for.

    Args:
        name: Of the note.

    Returns:
        Its text.
    """
    with _kept():
        return bytes(_notes().get(name))


def remove_note(name: str) -> None:
    """Removes a note that has been read.

    Args:
        name: Of the note.
    """
    with _kept():
        _notes().delete_key(name)


def has_note(name: str) -> bool:
    """Whether another worker has left a note.

    Args:
        name: Of the note.

    Returns:
        True when it has; it is not waited for.
    """
    with _kept():
        return _notes().check([name])


@cache
def _notes() -> dist.Store:
    """The store that rank 0 keeps for the meeting, by a connection of its own."""
    address, port = meeting_point()
    store = dist.TCPStore(address, port, is_master=False, timeout=timedelta(seconds=60.0))
    return dist.PrefixStore("notes", store)


@contextmanager
def _answered() -> Iterator[None]:
    """A meeting of all, counted, and its failure in one line."""
    with _kept(), meeting():
        yield


@contextmanager
def _kept() -> Iterator[None]:
    """Turns what torch raises where another worker is gone into one line."""
    try:
        yield
    except RuntimeError as error:
        _LOG.debug("%s", error)
        tell_loss()
        raise FailureError(
            "another worker is gone or does not answer; the same command goes on from the newest"
            " checkpoint"
        ) from error
