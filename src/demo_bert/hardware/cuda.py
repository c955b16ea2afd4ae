"""NVIDIA GPUs through PyTorch's CUDA interface.

Below compute capability 8.0 (V100, T4) there are no bfloat16 units: products are rounded there as
on a CPU without them (`Backend.product_mode`).
"""

import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import torch
from torch import Tensor

from demo_bert.errors import UsageError
from demo_bert.hardware.backend import Dtype, ProcessGroup, ProductMode, Work
from demo_bert.hardware.cpu import ask_tool, describe_host, use_true_float32

# Dense (without sparsity) teraFLOPS of one GPU: bfloat16 with float32 sums, true float32; from
# NVIDIA's data sheets, whose figures with sparsity are twice the dense ones. The name that the
# driver reports must match whole, so that a slice of a GPU (MIG) and unknown variants give None.
_PEAK_TFLOPS: tuple[tuple[str, float | None, float], ...] = (
    (r"H100 80GB HBM3", 989.5, 67.0),  # H100 data sheet: SXM 1,979 with sparsity, 67
    (r"H100 PCIe", 756.5, 51.0),  # H100 data sheet of 2022: PCIe 1,513 with sparsity, 51
    (r"H100 NVL", 835.5, 60.0),  # H100 data sheet: NVL 1,671 with sparsity, 60
    (r"H200", 989.5, 67.0),  # H200 data sheet: SXM 1,979 with sparsity, 67
    (r"H200 NVL", 835.5, 60.0),  # H200 data sheet: NVL 1,671 with sparsity, 60
    (r"GH200 (?:120|480)GB", 989.5, 67.0),  # GH200 data sheet: 1,979 with sparsity, 67
    (r"A100-(?:SXM4|PCIE)-(?:40|80)GB|A100 80GB PCIe", 312.0, 19.5),  # A100 data sheet
    (r"A30", 165.0, 10.3),  # A30 data sheet
    (r"A10", 125.0, 31.2),  # A10 data sheet
    (r"A40", 149.7, 37.4),  # A40 data sheet
    (r"L4", 121.0, 30.3),  # L4 data sheet: 242 with sparsity, 30.3
    (r"L40", 181.05, 90.5),  # L40 data sheet
    (r"L40S", 362.05, 91.6),  # L40S data sheet
    (r"V100-SXM2-\d+GB", None, 15.7),  # V100 data sheet; its tensor cores have no bfloat16
    (r"V100-PCIE-\d+GB", None, 14.0),  # V100 data sheet
    (r"T4", None, 8.1),  # T4 data sheet
)


_WARM_UPS = 3
"""Runs before one is recorded: libraries choose and load kernels in the first ones."""


class CudaBackend:
    """One GPU."""

    name = "cuda"
    process_group: ProcessGroup = "nccl"
    wants_fixed_shapes = False

    def __init__(self, local_rank: int = 0, *, root: Path = Path("/")) -> None:
        """Touches nothing.

        Args:
            local_rank: Which of the GPUs that CUDA_VISIBLE_DEVICES leaves.
            root: Where /proc and /dev are; another directory in tests.
        """
        self._index = local_rank
        self._root = root

    def found(self) -> str | None:
        """See `Backend.found`; GPUs that the user has hidden do not count."""
        if _hidden_by() is not None:
            return None
        count = len(list((self._root / "dev").glob("nvidia[0-9]*"))) or _count_by_tool()
        if not count:
            return None
        driver = _driver_version(self._root)
        return _plural(count, "NVIDIA GPU") + (f" (driver {driver})" if driver else "")

    def why_not(self) -> str | None:
        """See `Backend.why_not`."""
        if not torch.backends.cuda.is_built():
            return (
                f"this torch ({torch.__version__}) is built without CUDA; install one built with"
                " it (docs/hardware.md)"
            )
        if (hidden := _hidden_by()) is not None:
            return f"CUDA_VISIBLE_DEVICES={hidden!r} hides every GPU; unset it"
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            is_available = torch.cuda.is_available()
        if not is_available:
            said = " ".join(str(caught[0].message).split()) if caught else "no usable NVIDIA GPU"
            return f"torch {torch.__version__} (CUDA {torch.version.cuda}) says: {said}"
        try:
            return _without_kernels()
        except RuntimeError as error:
            return f"torch {torch.__version__} cannot start CUDA: {' '.join(str(error).split())}"

    def is_available(self) -> bool:
        """See `Backend.is_available`."""
        return self.why_not() is None

    def device_count(self) -> int:
        """See `Backend.device_count`."""
        return torch.cuda.device_count()

    def device(self) -> torch.device:
        """See `Backend.device`."""
        return torch.device("cuda", self._index)

    def prepare(self) -> None:
        """See `Backend.prepare`."""
        count = torch.cuda.device_count()
        if self._index >= count:
            raise UsageError(
                f"worker {self._index} of this host has no GPU: it has {count}; give -v {count}"
            )
        torch.cuda.set_device(self._index)
        use_true_float32()
        torch.backends.cudnn.allow_tf32 = False
        # Else partial sums of split bfloat16 products are added in bfloat16.
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False

    def describe(self) -> dict[str, object]:
        """See `Backend.describe`."""
        properties = torch.cuda.get_device_properties(self._index)
        return {
            "device": self.name,
            "model": properties.name,
            "count": self.device_count(),
            "memory_bytes": properties.total_memory,
            "driver": _driver_version(self._root),
            "runtime": f"CUDA {torch.version.cuda}",
            "products": {"bf16": self.product_mode("bf16"), "fp32": "native"},
            "host": describe_host(self._root),
        }

    def synchronize(self) -> None:
        """See `Backend.synchronize`."""
        torch.cuda.synchronize(self._index)

    def seed(self, seed: int) -> None:
        """See `Backend.seed`."""
        torch.manual_seed(seed)  # seeds the GPUs too

    def autocast(self, dtype: Dtype) -> AbstractContextManager[object]:
        """See `Backend.autocast`."""
        if dtype == "fp32" or self.product_mode(dtype) == "rounded":
            return nullcontext()
        return torch.autocast("cuda", dtype=torch.bfloat16)

    def product_mode(self, dtype: Dtype) -> ProductMode:
        """See `Backend.product_mode`."""
        if dtype == "bf16" and torch.cuda.get_device_capability(self._index) < (8, 0):
            return "rounded"
        return "native"

    def step_boundary(self) -> None:
        """See `Backend.step_boundary`; a GPU has none."""

    def to_device(self, tensor: Tensor) -> Tensor:
        """See `Backend.to_device`; through pinned memory, else the host would wait."""
        if tensor.device.type == "cuda":
            return tensor
        return tensor.pin_memory().to(self.device(), non_blocking=True)

    def capture(self, works: Sequence[Work]) -> list[Work]:
        """See `Backend.capture`; CUDA graphs in one pool of memory.

        Warm-up and recording are on one stream, as autograd adds up a parameter's gradient on the
        stream on which it met the parameter. Other threads may go on using the device.
        """
        usual, stream = torch.cuda.current_stream(self._index), torch.cuda.Stream(self._index)
        pool = torch.cuda.graph_pool_handle()
        replays: list[Work] = []
        try:
            for work in works:
                stream.wait_stream(usual)
                with torch.cuda.stream(stream):
                    for _ in range(_WARM_UPS - 1):
                        work()
                    with _waiting_refused():
                        work()
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(
                    graph, pool=pool, stream=stream, capture_error_mode="thread_local"
                ):
                    work()
                replays.append(graph.replay)
        finally:
            torch.cuda.set_stream(usual)  # a recording that fails leaves its own
            usual.wait_stream(stream)
            if len(replays) < len(works):  # and may leave the generator as one that is recorded
                generator = torch.cuda.default_generators[self._index]
                generator.graphsafe_set_state(torch.Generator(self.device()).graphsafe_get_state())
        return replays

    def peak_memory_bytes(self) -> int | None:
        """See `Backend.peak_memory_bytes`; of PyTorch's tensors."""
        return torch.cuda.max_memory_allocated(self._index)

    def reset_peak_memory(self) -> None:
        """See `Backend.reset_peak_memory`."""
        torch.cuda.reset_peak_memory_stats(self._index)

    def is_out_of_memory(self, error: BaseException) -> bool:
        """See `Backend.is_out_of_memory`."""
        return isinstance(error, torch.OutOfMemoryError)

    def free_memory_bytes(self) -> int | None:
        """See `Backend.free_memory_bytes`; what PyTorch holds unused counts as free."""
        free, _ = torch.cuda.mem_get_info(self._index)
        held = torch.cuda.memory_reserved(self._index) - torch.cuda.memory_allocated(self._index)
        return free + held

    def peak_flops(self, dtype: Dtype) -> float | None:
        """See `Backend.peak_flops`."""
        is_bf16 = dtype == "bf16" and self.product_mode(dtype) == "native"
        return peak_flops_of(torch.cuda.get_device_name(self._index), is_bf16=is_bf16)


@contextmanager
def _waiting_refused() -> Iterator[None]:
    """Within it the host may not wait for the device: a recording would be broken by that."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def peak_flops_of(name: str, *, is_bf16: bool) -> float | None:
    """A GPU's dense operations per second by its name.

    Args:
        name: As the driver reports it.
        is_bf16: Of its bfloat16 units; else of its float32 ones, without TF32.

    Returns:
        Operations per second, None where the data sheet's figure is not known here.

    Example:
        >>> peak_flops_of("NVIDIA H100 80GB HBM3", is_bf16=True)
        989500000000000.0
    """
    short = re.sub(r"^(?:NVIDIA|Tesla) ", "", name)
    for pattern, bf16, fp32 in _PEAK_TFLOPS:
        if re.fullmatch(pattern, short):
            tera = bf16 if is_bf16 else fp32
            return None if tera is None else tera * 1e12
    return None


def has_kernels(capability: tuple[int, int], kernels: Sequence[str]) -> bool:
    """Whether a GPU can run a build of PyTorch.

    Args:
        capability: The GPU's compute capability, (9, 0) say.
        kernels: What the build has: "sm_90" runs on 9.0 and later 9.x ("sm_90a" on 9.0 alone),
            "compute_90" on 9.0 and all later.

    Returns:
        Whether one of them fits; True where the build lists none.

    Example:
        >>> has_kernels((7, 0), ["sm_75", "sm_80", "compute_90"])
        False
    """
    for kernel in kernels:
        match = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", kernel)
        if match is None:
            continue
        built = (int(match[2]), int(match[3]))
        if match[1] == "compute" and not match[4] and built <= capability:
            return True
        if match[1] == "sm" and built[0] == capability[0]:
            if built == capability or (match[4] != "a" and built <= capability):
                return True
    return not kernels


def _without_kernels() -> str | None:
    """The first visible GPU that this build of PyTorch has no kernels for, and what to do."""
    kernels = torch.cuda.get_arch_list()
    for index in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(index)
        if not has_kernels((major, minor), kernels):
            return (
                f"{torch.cuda.get_device_name(index)} has compute capability {major}.{minor}, and"
                f" torch {torch.__version__} has kernels for {' '.join(kernels)} only; install a"
                " torch that has them"
            )
    return None


def _hidden_by() -> str | None:
    """The value of CUDA_VISIBLE_DEVICES if it leaves no GPU."""
    value = os.environ.get("CUDA_VISIBLE_DEVICES")
    return value if value is not None and value.strip() in ("", "-1") else None


def _count_by_tool() -> int:
    """GPUs that nvidia-smi lists, where there are no device files (WSL)."""
    return sum(line.startswith("GPU ") for line in ask_tool("nvidia-smi", "-L"))


def _driver_version(root: Path) -> str | None:
    """Of the kernel's NVIDIA driver."""
    try:
        text = (root / "proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    match = re.search(r"Kernel Module.*?\s(\d+\.\d+[.\d]*)", text)
    return None if match is None else match[1]


def _plural(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"
