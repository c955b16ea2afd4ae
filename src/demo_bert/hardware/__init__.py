"""Devices: the only folder that names a vendor's API."""

from pathlib import Path

from demo_bert.errors import UsageError
from demo_bert.hardware.backend import Backend, Dtype, ProcessGroup, ProductMode
from demo_bert.hardware.cpu import CpuBackend
from demo_bert.hardware.cuda import CudaBackend
from demo_bert.hardware.hpu import HpuBackend

__all__ = ["BACKENDS", "Backend", "Dtype", "ProcessGroup", "ProductMode", "select"]

# In the order in which `auto` looks for them.
BACKENDS = {"hpu": HpuBackend, "cuda": CudaBackend, "cpu": CpuBackend}


def select(device: str, *, local_rank: int = 0, root: Path = Path("/")) -> Backend:
    """The backend that `--device` names.

    Args:
        device: "auto" or a key of `BACKENDS`. "auto" takes the first that is there.
        local_rank: Which of the host's devices, counted from 0.
        root: Where the system's files are looked for; another directory in tests.

    Returns:
        A backend that can be used.

    Raises:
        UsageError: The device is unknown, is not there, or, also with "auto", is there and cannot
            be used.
    """
    if device not in ("auto", *BACKENDS):
        allowed = ", ".join(("auto", *sorted(BACKENDS)))
        raise UsageError(f"--device {device}: unknown; give one of {allowed}")
    names = BACKENDS if device == "auto" else (device,)
    for name in names:
        backend: Backend = BACKENDS[name](local_rank, root=root)
        reason = backend.why_not()
        if reason is None:
            return backend
        found = backend.found()
        if found is not None:
            raise UsageError(
                f"--device {device}: found {found}, but it cannot be used: {reason};"
                " to train without it give --device cpu"
            )
        if device != "auto":
            raise UsageError(f"--device {device}: {reason}; give --device cpu or auto")
    raise AssertionError("the CPU can always be used")
