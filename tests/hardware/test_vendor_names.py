"""Only `hardware/` names a vendor's API."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "demo_bert"
MODULES = ("torch.cuda", "torch.hpu", "torch.backends.cuda", "torch.backends.cudnn")
PACKAGES = ("habana_frameworks", "pynvml", "cupy")
PROCESS_GROUPS = ("nccl", "hccl")


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def is_vendor(name: str) -> bool:
    return name in (*MODULES, "torch.version.cuda") or name.split(".")[0] in PACKAGES


def vendor_names(source: str, *, may_name_process_groups: bool = False) -> list[str]:
    """What a module names of a vendor, with line numbers."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names] + [node.module or ""]
        elif isinstance(node, ast.Attribute):
            names = [dotted(node)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            is_group = node.value in PROCESS_GROUPS and not may_name_process_groups
            names = ["habana_frameworks"] if is_group else [node.value]
        heads = [".".join(name.split(".")[:depth]) for name in names for depth in (1, 2, 3)]
        found += [f"line {node.lineno}: {head}" for head in heads if is_vendor(head)]
    return found


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.cuda.synchronize()",
        "from torch import cuda",
        "import torch.cuda",
        "import habana_frameworks.torch.core as htcore",
        "from importlib import import_module\nimport_module('habana_frameworks.torch.hpu')",
        "import torch\ntorch.backends.cuda.matmul.allow_tf32 = True",
        "group = 'nccl'",
    ],
)
def test_a_vendors_name_is_found(source: str) -> None:
    assert vendor_names(source)


def test_words_are_no_names() -> None:
    assert not vendor_names('"""On CUDA (nccl) and hpu."""\nimport torch\ntorch.device("cuda")')


def test_no_file_outside_the_folder_names_a_vendors_api() -> None:
    files = [path for path in SOURCE.rglob("*.py") if path.parent.name != "hardware"]
    assert len(files) > 10
    wrong = {
        path.relative_to(SOURCE).as_posix(): names
        for path in files
        if (
            names := vendor_names(
                path.read_text(encoding="utf-8"),
                may_name_process_groups=path.name == "distributed.py",
            )
        )
    }
    assert wrong == {}
