"""Nothing here has a device: names and calls are held to a recorded list of the vendor's own."""

import ast
import inspect
import json
import sys
from collections.abc import Callable
from contextlib import nullcontext
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from demo_bert.errors import UsageError
from demo_bert.hardware import hpu
from demo_bert.hardware.hpu import HpuBackend

RECORD = json.loads(
    (Path(__file__).parents[1] / "fixtures" / "gaudi_names.json").read_text(encoding="utf-8")
)
NAMES = {(entry["module"], entry["attribute"]): entry for entry in RECORD["names"]}
ANSWERS: dict[str, Any] = {
    "is_available": True,
    "device_count": 8,
    "get_device_name": "GAUDI2",
    "max_memory_allocated": 5,
    "mem_get_info": (90, 96),
}

Calls = list[tuple[str, tuple[Any, ...]]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Modules with the recorded names and no others; what is called on them is noted."""
    noted: Calls = []

    def stand_in(entry: dict[str, Any]) -> Callable[..., Any]:
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        signature = inspect.Signature(
            [
                inspect.Parameter(
                    name, kind, default=inspect.Parameter.empty if i < entry["required"] else None
                )
                for i, name in enumerate(entry["parameters"])
            ]
        )

        def call(*args: Any, **kwargs: Any) -> Any:
            signature.bind(*args, **kwargs)
            noted.append((entry["attribute"], args))
            return ANSWERS.get(entry["attribute"])

        return call

    made: dict[str, ModuleType] = {}
    for (name, attribute), entry in NAMES.items():
        for depth in range(1, name.count(".") + 2):
            package = ".".join(name.split(".")[:depth])
            made.setdefault(package, ModuleType(package)).__spec__ = ModuleSpec(package, None)
        if attribute is not None:
            setattr(made[name], attribute, stand_in(entry))
    for package, module in made.items():
        monkeypatch.setitem(sys.modules, package, module)
    return noted


def named_in_source() -> set[tuple[str, str | None]]:
    """(module, attribute) of every vendor's name in hpu.py; attribute None for a bare import."""
    tree = ast.parse(inspect.getsource(hpu))
    loaders = {
        node.name: statement.value.args[0].value
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        for statement in node.body
        if isinstance(statement, ast.Return)
        and isinstance(statement.value, ast.Call)
        and isinstance(statement.value.func, ast.Name)
        and statement.value.func.id == "import_module"
        and isinstance(statement.value.args[0], ast.Constant)
    }
    found: set[tuple[str, str | None]] = set()
    attributes = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Call):
            function = node.value.func
            if isinstance(function, ast.Name) and function.id in loaders:
                found.add((loaders[function.id], node.attr))
                attributes += 1
        if isinstance(node, ast.Import | ast.ImportFrom):
            assert "habana" not in ast.unparse(node), "import the vendor's packages by a loader"
    # Each loader is used for attributes or as a bare statement, and in no other way.
    used = [n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id in loaders]
    bare = [
        loaders[n.value.func.id]
        for n in ast.walk(tree)
        if isinstance(n, ast.Expr)
        and isinstance(n.value, ast.Call)
        and isinstance(n.value.func, ast.Name)
        and n.value.func.id in loaders
    ]
    assert len(used) == attributes + len(bare)
    return found | {(module, None) for module in bare}


def test_every_vendor_name_in_the_backend_is_recorded() -> None:
    found = named_in_source()
    modules = {module for module, _ in NAMES}
    assert len(found) >= 9
    for module, attribute in found:
        assert module in modules
        assert attribute is None or (module, attribute) in NAMES


def test_the_record_has_nothing_that_is_not_used() -> None:
    assert set(NAMES) <= named_in_source()


def test_the_record_says_where_each_name_is_documented() -> None:
    assert RECORD["page"].startswith("https://docs.habana.ai/")
    for entry in RECORD["names"]:
        assert entry.get("page", RECORD["page"]).startswith("https://docs.habana.ai/")
        assert entry["file"].endswith(".py")
    assert [release["gaudi"] for release in RECORD["supported"]["releases"]]
    assert all(release["torch"] for release in RECORD["supported"]["releases"])


def test_the_file_says_that_it_never_ran() -> None:
    assert "NEVER RUN" in (hpu.__doc__ or "")


def test_all_methods_run_with_the_recorded_names_alone(calls: Calls) -> None:
    backend = HpuBackend(7)
    assert backend.why_not() is None and backend.is_available()
    backend.prepare()
    assert backend.device() == torch.device("hpu")
    described = backend.describe()
    assert described["model"] == "GAUDI2" and described["memory_bytes"] == 96
    backend.step_boundary()
    backend.synchronize()
    backend.seed(11)
    backend.reset_peak_memory()
    assert backend.peak_memory_bytes() == 5
    assert backend.free_memory_bytes() == 90
    assert backend.peak_flops("bf16") == 432e12
    assert backend.peak_flops("fp32") is None
    assert backend.product_mode("bf16") == backend.product_mode("fp32") == "native"
    assert isinstance(backend.autocast("fp32"), nullcontext)
    assert not isinstance(backend.autocast("bf16"), nullcontext)
    assert ("manual_seed", (11,)) in calls
    assert {name for name, _ in calls} == {attribute for _, attribute in NAMES if attribute}


def test_a_step_boundary_marks_the_step(calls: Calls) -> None:
    HpuBackend().step_boundary()
    assert calls == [("mark_step", ())]


def test_seeding_seeds_the_host_too(calls: Calls) -> None:
    HpuBackend().seed(5)
    first = torch.rand(4)
    HpuBackend().seed(5)
    assert torch.equal(first, torch.rand(4))


def test_tensors_are_moved_without_waiting() -> None:
    class Tensor:
        def to(self, device: torch.device, *, non_blocking: bool) -> tuple[str, bool]:
            return device.type, non_blocking

    moved: Any = HpuBackend().to_device(Tensor())  # type: ignore[arg-type]
    assert moved == ("hpu", True)


@pytest.mark.usefixtures("calls")
def test_more_workers_than_devices_is_the_users_mistake() -> None:
    with pytest.raises(UsageError, match="give -v 8"):
        HpuBackend(8).prepare()


@pytest.mark.usefixtures("calls")
def test_no_device_in_sight_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ANSWERS, "is_available", False)
    assert "sees no device" in str(HpuBackend().why_not())


@pytest.mark.usefixtures("calls")
def test_software_for_another_torch_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> ModuleType:
        raise AssertionError("Error: Compile-time version 2.9\n differs from run-time")

    monkeypatch.setattr(hpu, "_core", load)
    reason = HpuBackend().why_not()
    assert reason is not None and "2.9 differs" in reason and "\n" not in reason


def test_older_drivers_device_files_count(tmp_path: Path) -> None:
    for name in ("hl0", "hl1", "hl_controlD0"):
        path = tmp_path / "dev" / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert HpuBackend(root=tmp_path).found() == "2 Gaudi devices"


def test_fixed_shapes_and_the_vendors_collectives_are_asked_for() -> None:
    assert HpuBackend.wants_fixed_shapes
    assert HpuBackend.process_group == "hccl"
