"""Sums and meeting points of workers."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from demo_bert.errors import FailureError
from demo_bert.heartbeat import meeting, tell_loss
from demo_bert.launchers import World, is_worker, place

__all__ = [
    "World",
    "is_worker",
    "join",
    "leave",
    "place",
    "sum_gradients",
    "sum_numbers",
    "sum_tensor",
    "wait_for_all",
]

_LOG = logging.getLogger(__name__)
_BUCKET_ELEMENTS = 8 << 20


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


def sum_gradients(parameters: Iterable[Tensor], world: World) -> None:
    """Replaces every gradient by its sum over workers, in buckets.

    Args:
        parameters: The same parameters in the same order on every worker; a gradient that is
            missing on one worker counts as zero.
        world: From `place`.
    """
    if world.world_size == 1:
        return
    bucket: list[Tensor] = []
    size = 0
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        bucket.append(parameter.grad)
        size += parameter.numel()
        if size >= _BUCKET_ELEMENTS:
            _sum_bucket(bucket)
            bucket.clear()
            size = 0
    if bucket:
        _sum_bucket(bucket)


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


def _sum_bucket(gradients: list[Tensor]) -> None:
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    with _answered():
        dist.all_reduce(flat)
    parts = flat.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


@contextmanager
def _answered() -> Iterator[None]:
    """Turns what torch raises where another worker is gone into one line."""
    try:
        with meeting():
            yield
    except RuntimeError as error:
        _LOG.debug("%s", error)
        tell_loss()
        raise FailureError(
            "another worker is gone or does not answer; the same command goes on from the newest"
            " checkpoint"
        ) from error
