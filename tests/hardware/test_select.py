import stat
from pathlib import Path

import pytest
import torch

from demo_bert.errors import UsageError
from demo_bert.hardware import BACKENDS, select


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without accelerators and a torch without CUDA, whatever runs the tests."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: False)
    return tmp_path


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def add_gaudi(root: Path, *, driver: str) -> None:
    touch(root / "dev/accel/accel0")
    drivers = root / "sys/bus/pci/drivers" / driver
    drivers.mkdir(parents=True)
    device = root / "sys/class/accel/accel0/device"
    device.mkdir(parents=True)
    (device / "driver").symlink_to(drivers)


def add_tool(root: Path, name: str, answer: str) -> None:
    tool = root / "bin" / name
    tool.parent.mkdir(exist_ok=True)
    tool.write_text(f"#!/bin/sh\n{answer}\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)


def refusal(device: str, root: Path) -> str:
    with pytest.raises(UsageError) as error:
        select(device, root=root)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_auto_takes_the_cpu_where_there_is_nothing_else(tmp_path: Path) -> None:
    assert select("auto", root=tmp_path).name == "cpu"
    assert select("cpu", root=tmp_path).device() == torch.device("cpu")


def test_auto_looks_for_accelerators_before_the_cpu() -> None:
    assert list(BACKENDS) == ["hpu", "cuda", "cpu"]
    assert all(make().name == name for name, make in BACKENDS.items())


def test_an_unknown_device_is_answered_with_all_names(tmp_path: Path) -> None:
    message = refusal("tpu", tmp_path)
    assert "tpu" in message and "auto, cpu, cuda, hpu" in message


def test_a_gpu_that_torch_cannot_use_is_an_error_with_auto(tmp_path: Path) -> None:
    touch(tmp_path / "dev/nvidia0")
    touch(tmp_path / "dev/nvidia1")
    touch(tmp_path / "dev/nvidiactl")
    version = tmp_path / "proc/driver/nvidia/version"
    version.parent.mkdir(parents=True)
    version.write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n"
    )
    for device in ("auto", "cuda"):
        message = refusal(device, tmp_path)
        assert f"--device {device}: found 2 NVIDIA GPUs (driver 550.54.15)" in message
        assert "built without CUDA" in message and "--device cpu" in message


def test_a_gpu_that_torch_cannot_use_is_passed_over_with_cpu(tmp_path: Path) -> None:
    touch(tmp_path / "dev/nvidia0")
    assert select("cpu", root=tmp_path).name == "cpu"


def test_a_gpu_that_only_the_tool_sees_counts(tmp_path: Path) -> None:
    add_tool(tmp_path, "nvidia-smi", "echo 'GPU 0: NVIDIA H200 (UUID: GPU-1)'")
    assert "found 1 NVIDIA GPU," in refusal("auto", tmp_path)


@pytest.mark.parametrize("answer", ["echo 'No devices were found'", "echo 'GPU 0: x'; exit 9"])
def test_a_tool_without_a_gpu_does_not_count(tmp_path: Path, answer: str) -> None:
    add_tool(tmp_path, "nvidia-smi", answer)
    assert select("auto", root=tmp_path).name == "cpu"


@pytest.mark.parametrize("value", ["", "-1"])
def test_gpus_that_the_user_hides_do_not_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str
) -> None:
    touch(tmp_path / "dev/nvidia0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert select("auto", root=tmp_path).name == "cpu"
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    assert "CUDA_VISIBLE_DEVICES" in refusal("cuda", tmp_path)


def test_cuda_where_none_is_there_is_one_line(tmp_path: Path) -> None:
    message = refusal("cuda", tmp_path)
    assert "--device cuda" in message and "--device cpu or auto" in message


def test_a_gaudi_without_its_software_is_an_error_with_auto(tmp_path: Path) -> None:
    add_gaudi(tmp_path, driver="habanalabs")
    message = refusal("auto", tmp_path)
    assert "found 1 Gaudi device," in message
    assert "habana_frameworks" in message and "--device cpu" in message


def test_a_gaudi_that_only_the_tool_sees_counts(tmp_path: Path) -> None:
    add_tool(tmp_path, "hl-smi", "echo HL-225; echo HL-225")
    assert "found 2 Gaudi devices," in refusal("auto", tmp_path)


def test_the_neural_unit_of_a_laptop_is_no_gaudi(tmp_path: Path) -> None:
    add_gaudi(tmp_path, driver="intel_vpu")
    assert select("auto", root=tmp_path).name == "cpu"


def test_hpu_where_none_is_there_is_one_line(tmp_path: Path) -> None:
    assert "--device hpu" in refusal("hpu", tmp_path)
