import platform
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from demo_bert.errors import UsageError
from demo_bert.hardware.cpu import (
    CpuBackend,
    ask_tool,
    describe_host,
    has_bf16_instructions,
    usable_cores,
)
from small_run import ENVIRONMENT

AVX2 = "model name\t: Some CPU @ 2.0GHz\nflags\t\t: fpu sse2 avx2\n"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def without_torch_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch that does not say which instructions there are."""
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)


@pytest.mark.usefixtures("without_torch_checks")
@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        (AVX2, False),
        ("flags\t\t: avx2 avx512f avx512_bf16\n", True),
        ("flags\t\t: avx2 avx512f amx_bf16 amx_tile\n", True),
        ("Features\t: fp asimd i8mm bf16\n", True),
        ("Features\t: fp asimd\n", False),
        ("flags\t\t: avx2 avx512_bf16_like\n", False),
        ("", False),
    ],
)
def test_bfloat16_instructions_are_read_from_the_flags(
    tmp_path: Path, cpuinfo: str, expected: bool
) -> None:
    write(tmp_path / "proc/cpuinfo", cpuinfo)
    assert has_bf16_instructions(tmp_path) is expected


@pytest.mark.usefixtures("without_torch_checks")
def test_without_any_knowledge_there_are_no_bfloat16_instructions(tmp_path: Path) -> None:
    assert not has_bf16_instructions(tmp_path)


@pytest.mark.parametrize("says", [(True, False), (False, True), (False, False)])
def test_torch_is_believed_before_the_flags(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, says: tuple[bool, bool]
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: says[0], raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: says[1], raising=False)
    write(tmp_path / "proc/cpuinfo", "flags : avx512_bf16\n")
    assert has_bf16_instructions(tmp_path) is any(says)


@pytest.mark.parametrize("has_it", [True, False])
def test_products_are_rounded_only_for_bf16_without_instructions(
    monkeypatch: pytest.MonkeyPatch, has_it: bool
) -> None:
    monkeypatch.setattr("demo_bert.hardware.cpu.has_bf16_instructions", lambda root: has_it)
    backend = CpuBackend()
    assert backend.product_mode("bf16") == ("native" if has_it else "rounded")
    assert backend.product_mode("fp32") == "native"
    assert isinstance(backend.autocast("fp32"), nullcontext)
    with backend.autocast("bf16"):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if has_it else torch.float32)


def test_the_same_machine_gives_the_same_mode_each_time() -> None:
    assert len({CpuBackend().product_mode("bf16") for _ in range(20)}) == 1


def test_seeded_dropout_repeats() -> None:
    backend, ones = CpuBackend(), torch.ones(1000)
    backend.seed(2**63 - 1)
    first = torch.dropout(ones, 0.5, True)
    assert not torch.equal(first, torch.dropout(ones, 0.5, True))
    backend.seed(2**63 - 1)
    assert torch.equal(first, torch.dropout(ones, 0.5, True))


def test_preparing_makes_float32_true() -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        CpuBackend().prepare()
        assert torch.get_float32_matmul_precision() == "highest"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("name", ["ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"])
def test_an_environment_that_narrows_float32_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "BF16")
    with pytest.raises(UsageError, match=f"{name}=BF16"):
        CpuBackend().prepare()
    monkeypatch.setenv(name, "strict")
    CpuBackend().prepare()


def test_tensors_stay_where_they_are() -> None:
    tensor = torch.ones(3)
    assert CpuBackend().to_device(tensor) is tensor


def test_no_peak_rate_is_guessed() -> None:
    assert CpuBackend().peak_flops("bf16") is None
    assert CpuBackend().peak_flops("fp32") is None


@pytest.mark.skipif(platform.system() != "Linux", reason="reads /proc")
def test_peak_memory_grows_with_a_tensor() -> None:
    # In a process of its own: this one may take the tensor from memory that it has kept.
    program = (
        "import torch\nfrom demo_bert.hardware.cpu import CpuBackend\nbackend = CpuBackend()\n"
        "backend.reset_peak_memory()\nbefore = backend.peak_memory_bytes()\n"
        "tensor = torch.ones(16, 1 << 20)\nprint(backend.peak_memory_bytes() - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) > 0.9 * 4 * (16 << 20)


@pytest.mark.parametrize(
    ("limit", "usage", "stat"),
    [
        ("memory.max", "memory.current", "memory.stat"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
    ],
)
def test_the_limit_of_a_container_counts(tmp_path: Path, limit: str, usage: str, stat: str) -> None:
    write(tmp_path / "proc/meminfo", "MemTotal: 8000 kB\nMemAvailable:    6000 kB\n")
    backend = CpuBackend(root=tmp_path)
    assert backend.free_memory_bytes() == 6000 * 1024
    cgroup = tmp_path / "sys/fs/cgroup"
    write(cgroup / limit, "3000000\n")
    write(cgroup / usage, "1000000\n")
    assert backend.free_memory_bytes() == 2_000_000
    write(cgroup / stat, "anon 5\ninactive_file 400000\nactive_file 9\n")
    assert backend.free_memory_bytes() == 2_400_000
    assert describe_host(tmp_path)["memory_bytes"] == 3_000_000


@pytest.mark.parametrize(
    ("groups", "top", "limit", "usage"),
    [
        ("1:name=systemd:/\n0::/system.slice/job_7/step_0\n", "", "memory.max", "memory.current"),
        (
            "9:cpu,memory:/system.slice/job_7/step_0\n0::/\n",
            *("memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
        ),
    ],
)
def test_the_limit_of_a_schedulers_job_counts(
    tmp_path: Path, groups: str, top: str, limit: str, usage: str
) -> None:
    write(tmp_path / "proc/meminfo", "MemTotal: 8000 kB\nMemAvailable:    6000 kB\n")
    write(tmp_path / "proc/self/cgroup", groups)
    job = tmp_path / "sys/fs/cgroup" / top / "system.slice/job_7"
    write(job / limit, "3000000\n")
    write(job / usage, "1000000\n")
    write(job / "step_0" / limit, "max\n")  # the job's limit holds for its steps too
    write(job / "step_0" / usage, "600000\n")
    assert CpuBackend(root=tmp_path).free_memory_bytes() == 2_000_000
    assert describe_host(tmp_path)["memory_bytes"] == 3_000_000
    write(tmp_path / "sys/fs/cgroup" / "system.slice/job_7/cpu.max", "50000 100000\n")
    assert usable_cores(tmp_path) == (1 if top == "" else usable_cores())


def test_no_limit_is_no_limit(tmp_path: Path) -> None:
    write(tmp_path / "proc/meminfo", "MemTotal: 8000 kB\nMemAvailable:    6000 kB\n")
    write(tmp_path / "sys/fs/cgroup/memory.max", "max\n")
    write(tmp_path / "sys/fs/cgroup/memory.current", "1000000\n")
    assert CpuBackend(root=tmp_path).free_memory_bytes() == 6000 * 1024


def test_unknown_memory_is_none(tmp_path: Path) -> None:
    assert CpuBackend(root=tmp_path).free_memory_bytes() is None


def test_a_share_of_time_limits_the_cores(tmp_path: Path) -> None:
    all_cores = usable_cores(tmp_path)
    write(tmp_path / "sys/fs/cgroup/cpu.max", "50000 100000\n")
    assert usable_cores(tmp_path) == 1
    write(tmp_path / "sys/fs/cgroup/cpu.max", "max 100000\n")
    assert usable_cores(tmp_path) == all_cores


def test_the_description_names_the_cpu(tmp_path: Path) -> None:
    write(tmp_path / "proc/cpuinfo", AVX2)
    write(tmp_path / "proc/meminfo", "MemTotal: 8000 kB\n")
    described = CpuBackend(root=tmp_path).describe()
    assert described["model"] == "Some CPU @ 2.0GHz"
    assert described["memory_bytes"] == 8000 * 1024
    host = described["host"]
    assert isinstance(host, dict) and host["instruction_set"] == ["avx2"]


def test_a_missing_tool_says_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ask_tool("nvidia-smi", "-L") == []
