"""Intel Gaudi through the vendor's public PyTorch interface. NEVER RUN on a device by us.

It is written from the vendor's documentation and published sources. What holds it to them are
tests: every name used here is in a recorded list of the vendor's public names
(`tests/fixtures/gaudi_names.json`, with the page of each and the software versions), all methods
run against a stand-in that has those names and no others, and the fixed-shape mode that it asks
for runs on CPU. docs/hardware.md says what that leaves open.

The vendor's packages are imported only when a method needs them. Importing them reads RANK,
LOCAL_RANK and WORLD_SIZE and ties the process to a device, so workers set these first.
"""

import re
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from demo_bert.errors import UsageError
from demo_bert.hardware.backend import Capture, Dtype, ProcessGroup, ProductMode
from demo_bert.hardware.cpu import ask_tool, describe_host, use_true_float32

# Dense bfloat16 operations per second of the matrix engines: Intel's presentation of Gaudi 3 at
# Hot Chips 2024, table "Gaudi Product Generations". Of float32 no figure is published.
_PEAK_BF16 = {"GAUDI": 60e12, "GAUDI2": 432e12, "GAUDI3": 1835e12}


class HpuBackend:
    """One Gaudi device."""

    name = "hpu"
    process_group: ProcessGroup = "hccl"
    # Every new shape is a graph to compile, many seconds each.
    wants_fixed_shapes = True
    capture: Capture | None = None

    def __init__(self, local_rank: int = 0, *, root: Path = Path("/")) -> None:
        """Touches nothing.

        Args:
            local_rank: Which of the host's devices; the vendor's package reads LOCAL_RANK itself.
            root: Where /dev and /sys are; another directory in tests.
        """
        self._local_rank = local_rank
        self._root = root

    def found(self) -> str | None:
        """See `Backend.found`."""
        count = len(_device_files(self._root)) or _count_by_tool()
        return f"{count} Gaudi device{'' if count == 1 else 's'}" if count else None

    def why_not(self) -> str | None:
        """See `Backend.why_not`."""
        if find_spec("habana_frameworks") is None:
            return (
                "the Gaudi software for PyTorch (habana_frameworks) is not installed in this"
                " Python; run in the vendor's container (docs/hardware.md)"
            )
        try:
            _core()
            is_available = _hpu().is_available()
        # The package checks its own versions with assert, and loads libraries of the driver.
        except (ImportError, OSError, RuntimeError, AssertionError, AttributeError) as error:
            said = " ".join(str(error).split()) or type(error).__name__
            return (
                f"the Gaudi software for PyTorch does not load beside torch {torch.__version__}"
                f" ({said}); use the torch of the same release (docs/hardware.md)"
            )
        if not is_available:
            return "the Gaudi software sees no device; hl-smi shows what the driver sees"
        return None

    def is_available(self) -> bool:
        """See `Backend.is_available`."""
        return self.why_not() is None

    def device_count(self) -> int:
        """See `Backend.device_count`."""
        return int(_hpu().device_count())

    def device(self) -> torch.device:
        """See `Backend.device`; a process has one, which has no number."""
        return torch.device("hpu")

    def prepare(self) -> None:
        """See `Backend.prepare`; makes "hccl" known to torch.distributed as well."""
        _core()
        _hccl()
        count = self.device_count()
        if self._local_rank >= count:
            raise UsageError(
                f"worker {self._local_rank} of this host has no Gaudi device: it has {count};"
                f" give -v {count}"
            )
        use_true_float32()

    def describe(self) -> dict[str, object]:
        """See `Backend.describe`."""
        _, memory = _hpu().mem_get_info()
        return {
            "device": self.name,
            "model": str(_hpu().get_device_name()),
            "count": self.device_count(),
            "memory_bytes": int(memory),
            "driver": _driver_version(self._root),
            "runtime": None,
            "products": {"bf16": "native", "fp32": "native"},
            "host": describe_host(self._root),
        }

    def synchronize(self) -> None:
        """See `Backend.synchronize`."""
        _core().mark_step()  # else operations that wait in lazy mode are not waited for
        _hpu().synchronize()

    def seed(self, seed: int) -> None:
        """See `Backend.seed`."""
        torch.manual_seed(seed)
        _random().manual_seed(seed)

    def autocast(self, dtype: Dtype) -> AbstractContextManager[object]:
        """See `Backend.autocast`."""
        if dtype == "fp32":
            return nullcontext()
        return torch.autocast(device_type="hpu", dtype=torch.bfloat16)

    def product_mode(self, dtype: Dtype) -> ProductMode:
        """See `Backend.product_mode`; every Gaudi has bfloat16 units."""
        del dtype
        return "native"

    def step_boundary(self) -> None:
        """See `Backend.step_boundary`; does nothing outside the vendor's lazy mode."""
        _core().mark_step()

    def to_device(self, tensor: Tensor) -> Tensor:
        """See `Backend.to_device`."""
        return tensor.to(self.device(), non_blocking=True)

    def peak_memory_bytes(self) -> int | None:
        """See `Backend.peak_memory_bytes`."""
        return int(_hpu().max_memory_allocated())

    def reset_peak_memory(self) -> None:
        """See `Backend.reset_peak_memory`."""
        _hpu().reset_peak_memory_stats()

    def is_out_of_memory(self, error: BaseException) -> bool:
        """See `Backend.is_out_of_memory`."""
        return isinstance(error, torch.OutOfMemoryError)

    def free_memory_bytes(self) -> int | None:
        """See `Backend.free_memory_bytes`."""
        free, _ = _hpu().mem_get_info()
        return int(free)

    def peak_flops(self, dtype: Dtype) -> float | None:
        """See `Backend.peak_flops`."""
        return _PEAK_BF16.get(str(_hpu().get_device_name())) if dtype == "bf16" else None


def _core() -> ModuleType:
    """Importing it makes the device "hpu" known to PyTorch."""
    return import_module("habana_frameworks.torch.core")


def _hpu() -> ModuleType:
    return import_module("habana_frameworks.torch.hpu")


def _random() -> ModuleType:
    return import_module("habana_frameworks.torch.hpu.random")


def _hccl() -> ModuleType:
    """Importing it makes the process group "hccl" known to PyTorch."""
    return import_module("habana_frameworks.torch.distributed.hccl")


def _device_files(root: Path) -> list[Path]:
    """Device files that the habanalabs driver made.

    /dev/accel also holds the neural units of laptops, which other drivers serve.
    """
    files = [
        file
        for file in sorted((root / "dev/accel").glob("accel[0-9]*"))
        if _driver_name(root / "sys/class/accel" / file.name) == "habanalabs"
    ]
    return files or sorted((root / "dev").glob("hl[0-9]*"))  # older drivers


def _driver_name(device: Path) -> str:
    """The kernel driver of a device in /sys/class, "" where it has none."""
    return (device / "device/driver").resolve().name


def _driver_version(root: Path) -> str | None:
    try:
        text = (root / "sys/module/habanalabs/version").read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return None
    match = re.match(r"[\w.+-]+", text)
    return None if match is None else match[0]


def _count_by_tool() -> int:
    """Devices that hl-smi lists, where there are no device files."""
    lines = ask_tool("hl-smi", "-Q", "name", "-f", "csv,noheader")
    return sum(bool(line.strip()) for line in lines)
