import warnings
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from demo_bert.errors import UsageError
from demo_bert.hardware.cuda import CudaBackend, has_kernels, peak_flops_of

CUDA_13 = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """One H100 that torch could use."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: CUDA_13)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "NVIDIA H100 80GB HBM3")
    return monkeypatch


@pytest.mark.usefixtures("gpu")
def test_a_gpu_that_fits_can_be_used() -> None:
    assert CudaBackend().why_not() is None
    assert CudaBackend().is_available()
    assert CudaBackend(3).device() == torch.device("cuda", 3)


def test_the_warning_of_torch_becomes_the_reason(gpu: pytest.MonkeyPatch) -> None:
    def refuse() -> bool:
        warnings.warn("CUDA initialization: the NVIDIA driver\n is too old", stacklevel=1)
        return False

    gpu.setattr(torch.cuda, "is_available", refuse)
    reason = CudaBackend().why_not()
    assert reason is not None and reason.endswith("the NVIDIA driver is too old")


def test_an_error_at_the_start_becomes_the_reason(gpu: pytest.MonkeyPatch) -> None:
    def fail(index: int) -> tuple[int, int]:
        raise RuntimeError("CUDA error:\n out of memory")

    gpu.setattr(torch.cuda, "get_device_capability", fail)
    reason = CudaBackend().why_not()
    assert reason is not None and "CUDA error: out of memory" in reason


def test_a_gpu_without_kernels_in_this_torch_is_refused(gpu: pytest.MonkeyPatch) -> None:
    gpu.setattr(torch.cuda, "get_device_capability", lambda index: (7, 0))
    reason = CudaBackend().why_not()
    assert reason is not None and "compute capability 7.0" in reason and "sm_75" in reason


@pytest.mark.parametrize(
    ("capability", "kernels", "expected"),
    [
        ((9, 0), CUDA_13, True),
        ((8, 9), CUDA_13, True),
        ((7, 0), CUDA_13, False),
        ((12, 1), CUDA_13, True),
        ((13, 0), CUDA_13, True),
        ((11, 0), CUDA_13, False),
        ((9, 0), ["sm_90a"], True),
        ((9, 1), ["sm_90a"], False),
        ((10, 3), ["sm_100f"], True),
        ((9, 0), ["compute_90a"], False),
        ((9, 0), [], True),
    ],
)
def test_kernels_fit_their_own_generation(
    capability: tuple[int, int], kernels: list[str], expected: bool
) -> None:
    assert has_kernels(capability, kernels) is expected


@pytest.mark.parametrize(("capability", "mode"), [((7, 5), "rounded"), ((8, 0), "native")])
def test_products_are_rounded_before_capability_8(
    gpu: pytest.MonkeyPatch, capability: tuple[int, int], mode: str
) -> None:
    gpu.setattr(torch.cuda, "get_device_capability", lambda index: capability)
    backend = CudaBackend()
    assert backend.product_mode("bf16") == mode
    assert backend.product_mode("fp32") == "native"
    assert isinstance(backend.autocast("fp32"), nullcontext)
    if mode == "rounded":
        assert isinstance(backend.autocast("bf16"), nullcontext)


def test_more_workers_than_gpus_is_the_users_mistake(gpu: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="give -v 1"):
        CudaBackend(1).prepare()


def test_preparing_keeps_float32_true_and_sums_in_float32(gpu: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    gpu.setattr(torch.cuda, "set_device", chosen.append)
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_bf16_reduced_precision_reduction, cudnn.allow_tf32
    try:
        matmul.allow_bf16_reduced_precision_reduction, cudnn.allow_tf32 = True, True
        CudaBackend(0).prepare()
        assert chosen == [0]
        assert not matmul.allow_tf32 and not cudnn.allow_tf32
        assert not matmul.allow_bf16_reduced_precision_reduction
    finally:
        matmul.allow_bf16_reduced_precision_reduction, cudnn.allow_tf32 = before


@pytest.mark.parametrize(
    ("name", "tera"),
    [
        ("NVIDIA H100 80GB HBM3", 989.5),
        ("NVIDIA H100 PCIe", 756.5),
        ("NVIDIA H200", 989.5),
        ("NVIDIA A100-SXM4-40GB", 312.0),
        ("NVIDIA A100 80GB PCIe", 312.0),
        ("NVIDIA L4", 121.0),
        ("NVIDIA L40", 181.05),
        ("NVIDIA L40S", 362.05),
    ],
)
def test_the_peak_is_the_data_sheets_dense_figure(name: str, tera: float) -> None:
    assert peak_flops_of(name, is_bf16=True) == tera * 1e12


@pytest.mark.parametrize(
    "name", ["NVIDIA H100 80GB HBM3 MIG 1g.10gb", "NVIDIA A10G", "NVIDIA GeForce RTX 4090", ""]
)
def test_a_slice_or_an_unknown_gpu_has_no_peak(name: str) -> None:
    assert peak_flops_of(name, is_bf16=True) is None


def test_a_gpu_without_bf16_units_is_measured_by_its_float32_units(
    gpu: pytest.MonkeyPatch,
) -> None:
    gpu.setattr(torch.cuda, "get_device_capability", lambda index: (7, 5))
    gpu.setattr(torch.cuda, "get_device_name", lambda index: "Tesla T4")
    assert CudaBackend().peak_flops("bf16") == CudaBackend().peak_flops("fp32") == 8.1e12


def test_the_driver_is_read_from_the_kernel(tmp_path: Path, gpu: pytest.MonkeyPatch) -> None:
    gpu.setenv("PATH", "")
    version = tmp_path / "proc/driver/nvidia/version"
    version.parent.mkdir(parents=True)
    version.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.10  Release Build\n"
    )
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidia0").touch()
    assert CudaBackend(root=tmp_path).found() == "1 NVIDIA GPU (driver 570.86.10)"


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_every_method_runs_on_a_real_gpu() -> None:
    backend = CudaBackend()
    assert backend.why_not() is None and backend.found() is not None
    backend.prepare()
    backend.reset_peak_memory()
    source = torch.randn(64, 64)
    moved = backend.to_device(source)
    assert moved.device == backend.device() and torch.equal(moved.cpu(), source)
    for dtype in ("bf16", "fp32"):
        with backend.autocast(dtype):
            product = moved @ moved
        backend.step_boundary()
        backend.synchronize()
        assert torch.allclose(product.float().cpu(), source @ source, atol=0.5)
    backend.seed(7)
    first = torch.rand(8, device=backend.device())
    backend.seed(7)
    assert torch.equal(first, torch.rand(8, device=backend.device()))
    assert (backend.peak_memory_bytes() or 0) >= moved.nbytes
    assert (backend.free_memory_bytes() or 0) > 0
    assert backend.describe()["count"] == backend.device_count()
