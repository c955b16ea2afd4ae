"""The CPU: always there; facts about the host for all backends.

bfloat16 on a CPU: PyTorch computes bfloat16 products also without bfloat16 instructions, but
slowly. On an AVX2 EPYC (2 cores, torch 2.13) it reached 17 GF/s forward and 0.8 GF/s for the
gradient of the inputs, against 130 GF/s in float32. There `product_mode` is "rounded". The choice
is read from the processor's flags, never from a clock, so that a run goes on as it began.
"""

import contextlib
import ctypes
import os
import platform
import re
import shutil
import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import Tensor

from demo_bert.errors import UsageError
from demo_bert.hardware.backend import Capture, Dtype, ProcessGroup, ProductMode

_TOOL_TIMEOUT_S = 20
# /proc/cpuinfo's names of instructions that multiply bfloat16: x86, then ARM.
_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
_INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")


# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER = 2**31 - 1
_PRODUCTS_KEPT = 64


class CpuBackend:
    """The host's processors, all of them one device."""

    name = "cpu"
    process_group: ProcessGroup = "gloo"
    wants_fixed_shapes = False
    capture: Capture | None = None

    def __init__(self, local_rank: int = 0, *, root: Path = Path("/")) -> None:
        """Touches nothing.

        Args:
            local_rank: Of no effect: workers share the processors.
            root: Where /proc and /sys are; another directory in tests.
        """
        del local_rank
        self._root = root

    def found(self) -> str | None:
        """See `Backend.found`."""
        return "a CPU"

    def why_not(self) -> str | None:
        """See `Backend.why_not`."""
        return None

    def is_available(self) -> bool:
        """See `Backend.is_available`."""
        return True

    def device_count(self) -> int:
        """See `Backend.device_count`."""
        return 1

    def device(self) -> torch.device:
        """See `Backend.device`."""
        return torch.device("cpu")

    def prepare(self) -> None:
        """See `Backend.prepare`."""
        use_true_float32()
        _keep_memory()
        _remember_few_products()

    def describe(self) -> dict[str, object]:
        """See `Backend.describe`."""
        host = describe_host(self._root)
        return {
            "device": self.name,
            "model": host["cpu"],
            "count": 1,
            "memory_bytes": host["memory_bytes"],
            "driver": None,
            "runtime": None,
            "products": {"bf16": self.product_mode("bf16"), "fp32": "native"},
            "host": host,
        }

    def synchronize(self) -> None:
        """See `Backend.synchronize`."""

    def seed(self, seed: int) -> None:
        """See `Backend.seed`."""
        torch.manual_seed(seed)

    def autocast(self, dtype: Dtype) -> AbstractContextManager[object]:
        """See `Backend.autocast`."""
        if dtype == "fp32" or self.product_mode(dtype) == "rounded":
            return nullcontext()
        return torch.autocast("cpu", dtype=torch.bfloat16)

    def product_mode(self, dtype: Dtype) -> ProductMode:
        """See `Backend.product_mode`."""
        if dtype == "bf16" and not has_bf16_instructions(self._root):
            return "rounded"
        return "native"

    def step_boundary(self) -> None:
        """See `Backend.step_boundary`."""

    def to_device(self, tensor: Tensor) -> Tensor:
        """See `Backend.to_device`."""
        return tensor

    def peak_memory_bytes(self) -> int | None:
        """See `Backend.peak_memory_bytes`; resident memory of this process."""
        if kibibytes := _read(self._root / "proc/self/status", r"VmHWM:\s+(\d+) kB"):
            return int(kibibytes) * 1024
        if sys.platform == "win32":
            return None
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

    def reset_peak_memory(self) -> None:
        """See `Backend.reset_peak_memory`; of no effect where the kernel does not allow it."""
        _give_back()
        with contextlib.suppress(OSError):
            (self._root / "proc/self/clear_refs").write_text("5", encoding="ascii")

    def is_out_of_memory(self, error: BaseException) -> bool:
        """See `Backend.is_out_of_memory`."""
        return isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error)

    def free_memory_bytes(self) -> int | None:
        """See `Backend.free_memory_bytes`; limits of a container or a job count too."""
        kibibytes = _read(self._root / "proc/meminfo", r"MemAvailable:\s+(\d+) kB")
        if kibibytes is None:
            return None
        free = int(kibibytes) * 1024
        _, room = _cgroup_memory(self._root)
        return free if room is None else max(0, min(free, room))

    def peak_flops(self, dtype: Dtype) -> float | None:
        """See `Backend.peak_flops`; clocks of CPUs vary too much for a figure."""
        del dtype


def use_true_float32() -> None:
    """Keeps float32 products from being computed in a narrower type, on every device.

    Raises:
        UsageError: The environment tells oneDNN otherwise, which PyTorch cannot undo.
    """
    for name in ("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"):
        value = os.environ.get(name, "")
        if value.upper() not in ("", "STRICT"):
            raise UsageError(
                f"{name}={value} lets float32 products be computed in a narrower type; unset it"
                " (--dtype bf16 asks for bfloat16)"
            )
    torch.set_float32_matmul_precision("highest")


def has_bf16_instructions(root: Path = Path("/")) -> bool:
    """Whether the CPU multiplies bfloat16 itself, by its flags.

    Args:
        root: Where /proc is.

    Returns:
        What PyTorch says, which respects what the process may use; where it has no such function,
        what /proc/cpuinfo says; False where nothing is known.
    """
    # Private in torch 2.11, and the two have no public name in 2.13 that all CPUs share.
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    checks = [getattr(torch.cpu, name, None) for name in names]
    if platform.machine().lower() in ("x86_64", "amd64") and None not in checks:
        return any(check() for check in checks if check is not None)
    return not _BF16_FLAGS.isdisjoint(_cpu_flags(root))


def describe_host(root: Path = Path("/")) -> dict[str, object]:
    """The host's processors and memory.

    Args:
        root: Where /proc and /sys are.

    Returns:
        cpu (its name), cores (that this process may use), memory_bytes (the container's limit
        where it is less), instruction_set (names), torch_kernels (what PyTorch chose), system.
    """
    total = _read(root / "proc/meminfo", r"MemTotal:\s+(\d+) kB")
    memory = None if total is None else int(total) * 1024
    limit, _ = _cgroup_memory(root)
    if memory is not None and limit is not None:
        memory = min(memory, limit)
    name = _read(root / "proc/cpuinfo", r"(?m)^model name\s*:\s*(.+)$")
    flags = _cpu_flags(root)
    return {
        "cpu": name or platform.processor() or platform.machine(),
        "cores": usable_cores(root),
        "memory_bytes": memory,
        "instruction_set": [flag for flag in _INSTRUCTION_SETS if flag in flags],
        "torch_kernels": torch.backends.cpu.get_cpu_capability(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def usable_cores(root: Path = Path("/")) -> int:
    """Cores that this process may use: its affinity, and the container's share of time.

    Args:
        root: Where /sys is.

    Returns:
        At least 1.
    """
    if sys.platform == "linux":
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    for folder in _cgroups(root, ""):
        quota = _read(folder / "cpu.max", r"^(\d+) \d+")
        period = _read(folder / "cpu.max", r"^\d+ (\d+)")
        if quota is not None and period is not None:
            cores = min(cores, -(-int(quota) // int(period)))
    return max(1, cores)


def ask_tool(name: str, *arguments: str) -> list[str]:
    """What a vendor's tool prints.

    Args:
        name: Of the program.
        *arguments: Its arguments.

    Returns:
        The lines of its standard output; none where it is missing, fails or does not end.
    """
    program = shutil.which(name)
    if program is None:
        return []
    try:
        answer = subprocess.run(
            [program, *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TOOL_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [] if answer.returncode else answer.stdout.splitlines()


def _cgroup_memory(root: Path) -> tuple[int | None, int | None]:
    """The least limit in bytes of what this process is in, and the least room; None without one.

    A container has one, a job of a cluster's scheduler too; limits of version 2 or 1. The kernel
    counts files that it merely remembers as used; they are given up on demand, so the part that was
    not touched lately is taken off.
    """
    limits: list[int] = []
    rooms: list[int] = []
    for controller, limit_name, used_name, stat_name in (
        ("", "memory.max", "memory.current", "memory.stat"),
        ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat"),
    ):
        for folder in _cgroups(root, controller):
            limit = _read(folder / limit_name, r"^(\d+)")
            used = _read(folder / used_name, r"^(\d+)")
            if limit is not None and used is not None and int(limit) < 1 << 60:
                remembered = _read(folder / stat_name, r"(?m)^(?:total_)?inactive_file (\d+)$")
                limits.append(int(limit))
                rooms.append(int(limit) - max(0, int(used) - int(remembered or 0)))
    return min(limits, default=None), min(rooms, default=None)


def _cgroups(root: Path, controller: str) -> list[Path]:
    """The folders of the control groups that this process is in, up to the one that is seen as top.

    Args:
        root: Where /proc and /sys are.
        controller: Of version 1; "" for version 2.

    Returns:
        The top first; folders that a container does not see are not there, which does no harm.
    """
    top = root / "sys/fs/cgroup" / controller
    named = rf"\d+:(?:[^:]*,)?{controller}(?:,[^:]*)?" if controller else "0:"
    pattern = rf"(?m)^{named}:(/.*)$"
    own = Path((_read(root / "proc/self/cgroup", pattern) or "/").lstrip("/"))
    if ".." in own.parts:
        return [top]
    return [top / parent for parent in reversed([own, *own.parents])]


def _cpu_flags(root: Path) -> frozenset[str]:
    """The first processor's flags (x86) or features (ARM)."""
    line = _read(root / "proc/cpuinfo", r"(?m)^(?:flags|Features)\s*:\s*(.+)$")
    return frozenset((line or "").split())


def _read(path: Path, pattern: str) -> str | None:
    """The pattern's first group in a file of the system, or None."""
    try:
        match = re.search(pattern, path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
    return None if match is None else match[1].strip()


def _keep_memory() -> None:
    """Lets the allocator keep what is freed; other C libraries than glibc are left as they are.

    A step frees and takes the same large tensors again. Given back to the system they come back as
    pages that have to be cleared one by one: 43 of 140 s of processor time in a pre-training run of
    `tiny`, whose logits are wide (benchmarks/NOTES.md).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, _NEVER)


def _give_back() -> None:
    """Gives the system what the allocator has kept, so that a count of memory begins low."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _remember_few_products() -> None:
    """Bounds what oneDNN and torch keep of each shape that they have multiplied.

    Without padding nearly every micro-step has a new number of tokens, so what is kept for it is
    hardly used again: in bfloat16 it grew by 13 MB a step of `tiny` on MRPC, to 1.2 GB after 58
    steps (benchmarks/NOTES.md). What one layer multiplies should fit, else each layer makes it
    anew: 64 took no more processor time than 256 on MRPC and SQuAD, and 300 to 400 MB less. Read at
    the first product; what the user set stays.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, str(_PRODUCTS_KEPT))
