"""What the rest of the program may ask of a device; nothing else of a vendor is named outside.

A backend stands for one worker's device. It is made by `demo_bert.hardware.select`, answers
questions about the machine without touching the device, and is put to use by `prepare`.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Literal, Protocol

import torch
from torch import Tensor

Dtype = Literal["bf16", "fp32"]
ProductMode = Literal["native", "rounded"]
ProcessGroup = Literal["gloo", "nccl", "hccl"]
Work = Callable[[], None]
"""Gives the device something to do."""
Capture = Callable[[Sequence[Work]], list[Work]]
"""See `Backend.capture`."""


class Backend(Protocol):
    """One worker's device."""

    @property
    def name(self) -> str:
        """The device's name on the command line: "cpu", "cuda", "hpu"."""
        ...

    @property
    def process_group(self) -> ProcessGroup:
        """The collective library that sums this device's tensors over workers."""
        ...

    @property
    def wants_fixed_shapes(self) -> bool:
        """Whether batches are filled up to a few sizes (`demo_bert.data.capacity`)."""
        ...

    @property
    def capture(self) -> Capture | None:
        """Records what each of several works gives the device to do, to be given again at once.

        What is done again are the same operations on the same memory, draws of dropout anew from
        the generator as `seed` left it; what the host worked out stays as it was. Each work is done
        a few times before it is recorded. It may not ask the device for a value, and what it makes
        is its own: results go into tensors that were there before. Replays take turns in the same
        memory. Where it fails, it raises RuntimeError or another error of PyTorch's, and the device
        is as before. None where there is no such thing.
        """
        ...

    def found(self) -> str | None:
        """What the machine has of this kind, "2 NVIDIA GPUs", usable or not; None for nothing."""
        ...

    def why_not(self) -> str | None:
        """Why the device cannot be used and what mends it, in one line; None if it can."""
        ...

    def is_available(self) -> bool:
        """Whether the device can be used."""
        ...

    def device_count(self) -> int:
        """Devices of this kind that workers on this host can have; 1 for the CPU."""
        ...

    def device(self) -> torch.device:
        """This worker's device."""
        ...

    def prepare(self) -> None:
        """Makes the device this process's own, float32 true and all reductions float32.

        Called once by each worker, before tensors are made and before the process group.

        Raises:
            UsageError: This host has fewer devices than workers, or the environment forces
                narrower float32 products.
        """
        ...

    def describe(self) -> dict[str, object]:
        """Hardware and driver for `run.json`: plain values, the same keys for every backend."""
        ...

    def synchronize(self) -> None:
        """Waits until the device has done all that it was given; clocks are read after it."""
        ...

    def seed(self, seed: int) -> None:
        """Sets the generators that dropout draws from.

        Args:
            seed: In [0, 2**63), from `demo_bert.seeds.derive`.
        """
        ...

    def autocast(self, dtype: Dtype) -> AbstractContextManager[object]:
        """Surrounds the forward pass.

        Args:
            dtype: The compute type.

        Returns:
            PyTorch's autocast where products are bfloat16 natively, else a context that does
            nothing.
        """
        ...

    def product_mode(self, dtype: Dtype) -> ProductMode:
        """How products of the compute type are made here; the same answer at every start.

        Args:
            dtype: The compute type.

        Returns:
            "rounded" where the device lacks bfloat16 units and bfloat16 is asked for: the model
            rounds the operands to bfloat16 and multiplies them in float32; else "native".
        """
        ...

    def step_boundary(self) -> None:
        """Says that the graph of a backward pass or of an update is whole."""
        ...

    def to_device(self, tensor: Tensor) -> Tensor:
        """A copy on the device; the host does not wait for it.

        Args:
            tensor: On the host, of any shape.

        Returns:
            The tensor itself where host and device are one.
        """
        ...

    def peak_memory_bytes(self) -> int | None:
        """The most memory used since the start or `reset_peak_memory`; None where unknown."""
        ...

    def reset_peak_memory(self) -> None:
        """Starts the count of `peak_memory_bytes` again, from what is in use."""
        ...

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether an error says that the device has no memory left.

        Args:
            error: Any.

        Returns:
            True where less at once may fit.
        """
        ...

    def free_memory_bytes(self) -> int | None:
        """Memory that can still be taken on the device; None where unknown."""
        ...

    def peak_flops(self, dtype: Dtype) -> float | None:
        """The data sheet's dense operations per second of the units that products run in.

        Args:
            dtype: The compute type; in mode "rounded" the units are the float32 ones.

        Returns:
            Operations (a multiplication and an addition are two) per second of one device, or
            None where no figure is known: it is never guessed.
        """
        ...
