"""Who may import whom, and what may be named where."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from small_run import ENVIRONMENT
from structure.source import ROOT, SOURCE, files, name_of, parsed

LAYERS: tuple[tuple[str, ...], ...] = (
    ("__init__", "errors"),
    ("choices", "clock", "files", "launchers", "seeds", "stopping"),
    ("downloads", "heartbeat", "run_directory"),
    ("settings", "hub", "package_index"),
    ("losses", "hardware", "distributed", "tensor_file"),
    ("exchange",),
    ("corpus", "optim", "checkpoint", "model", "report"),
    ("data", "saver"),
    ("tasks",),
    ("training", "evaluation", "replay", "launch", "serving"),
    ("commands",),
    ("cli", "bootstrap"),
    ("__main__",),
)
"""Modules and folders, from the ground up; each may import only from those above it here."""

STANDARD_LIBRARY_ALONE = (
    "cli",
    "choices",
    "clock",
    "errors",
    "files",
    "heartbeat",
    "launchers",
    "seeds",
    "stopping",
    "downloads",
    "run_directory",
    "settings/",
    "bootstrap/",
    "tasks/",
    "commands/__init__",
    "commands/run_facts",
    "report/events",
    "report/fields",
)
"""Modules and folders whose import brings nothing that has to be installed."""

IMPORT_NAMES = {"pyyaml": "yaml"}
"""Packages whose modules have another name."""

FROM_THE_DEV_EXTRA = {"commands/measuring/huggingface.py": "transformers"}
"""Modules that use what only developers install, and say so where it is missing."""

PRINTERS = ("cli.py", "report/")


def part_of(path: Path) -> str:
    """The module or folder of the table that a file belongs to."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(tree: ast.Module) -> Iterator[str]:
    """Every module that is imported, at the top, inside functions, for types, or by its name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            module = node.module or ""
            if module == "demo_bert":
                yield from (f"demo_bert.{alias.name}" for alias in node.names)
            else:
                yield module
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            parts = node.value.split(".")
            if parts[0] == "demo_bert" and len(parts) > 1 and (SOURCE / parts[1]).exists():
                yield node.value


def own_part(module: str) -> str | None:
    """The part of ours that an import names; None for packages of others."""
    parts = module.split(".")
    if parts[0] != "demo_bert":
        return None
    return "__init__" if len(parts) == 1 or parts[1].startswith("__version") else parts[1]


def misplaced(part: str, tree: ast.Module, layers: tuple[tuple[str, ...], ...]) -> list[str]:
    """Imports of a module that its layer forbids."""
    level = {name: number for number, names in enumerate(layers) for name in names}
    found = {own_part(module) for module in imported(tree)} - {None, part}
    return sorted(str(other) for other in found if level[str(other)] >= level[part])


@pytest.mark.parametrize(
    ("part", "source", "wrong"),
    [
        ("seeds", "from demo_bert.settings import resolve", ["settings"]),
        ("model", "import demo_bert.report.events", ["report"]),
        ("files", "def f():\n    from demo_bert import cli", ["cli"]),
        ("tasks", "import_module('demo_bert.training')", []),
        ("tasks", "import_module('demo_bert.commands.worker')", ["commands"]),
        ("commands", "import demo_bert.training\nfrom demo_bert.commands import logs", []),
    ],
)
def test_an_import_from_above_or_beside_is_found(part: str, source: str, wrong: list[str]) -> None:
    layers = tuple(names for names in LAYERS if names != ("training",))
    assert misplaced(part, ast.parse(source), layers) == wrong


def test_every_module_imports_from_the_layers_below_its_own_alone() -> None:
    wrong = {
        name_of(path): parts
        for path in files()
        if (parts := misplaced(part_of(path), parsed(path), LAYERS))
    }
    assert wrong == {}


def test_the_table_of_layers_has_each_part_once() -> None:
    named = [name for names in LAYERS for name in names]
    assert len(named) == len(set(named))
    assert {part_of(path) for path in files()} <= set(named)


def test_what_says_standard_library_alone_keeps_to_it() -> None:
    chosen = [
        name
        for path in files()
        if (name := name_of(path).removesuffix(".py")).startswith(STANDARD_LIBRARY_ALONE)
        or "standard library alone"
        in " ".join((ast.get_docstring(parsed(path)) or "").lower().split())
    ]
    modules = [
        f"demo_bert.{name}".replace("/", ".").removesuffix(".__init__")
        for name in chosen
        if not name.endswith("__main__")
    ]
    assert len(modules) > 40
    program = (
        "import sys\nfrom importlib import import_module\nbefore = set(sys.modules)\n"
        f"for name in {modules!r}:\n"
        "    import_module(name)\n"
        "    new = {m.split('.')[0] for m in set(sys.modules) - before}\n"
        "    new -= {*sys.stdlib_module_names, 'demo_bert'}\n"
        "    if new: sys.exit(f'{name} brings {sorted(new)}')\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert (answer.stderr, answer.returncode) == ("", 0)


def test_packages_of_others_are_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [
        requirement
        for name, requirements in project["optional-dependencies"].items()
        if name != "dev"
        for requirement in requirements
    ]
    distributions = [
        requirement.split(">")[0].split("=")[0].split("[")[0].strip()
        for requirement in (*project["dependencies"], *extras)
    ]
    declared = {IMPORT_NAMES.get(name, name) for name in distributions}
    known = {*sys.stdlib_module_names, "demo_bert", *declared}
    wrong = {
        name_of(path): sorted(others)
        for path in files()
        if (
            others := {module.split(".")[0] for module in imported(parsed(path))}
            - known
            - {FROM_THE_DEV_EXTRA.get(name_of(path))}
        )
    }
    assert wrong == {}
    used = {module.split(".")[0] for path in files() for module in imported(parsed(path))}
    assert declared - used <= {"pyarrow"}, "declared, but never imported"


def test_only_the_command_line_and_the_reports_print() -> None:
    wrong = [
        f"{name_of(path)}:{node.lineno}"
        for path in files()
        if not name_of(path).startswith(PRINTERS)
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert wrong == []


def test_no_module_but_the_command_line_catches_every_exception() -> None:
    wrong = []
    for path in files():
        for node in ast.walk(parsed(path)):
            is_handler = isinstance(node, ast.ExceptHandler) and (
                node.type is None
                or any(
                    isinstance(name, ast.Name) and name.id == "Exception"
                    for name in ast.walk(node.type)
                )
            )
            is_suppressed = (
                isinstance(node, ast.Call)
                and ast.unparse(node.func).endswith("suppress")
                and any("Exception" in ast.unparse(argument) for argument in node.args)
            )
            if (is_handler or is_suppressed) and name_of(path) != "cli.py":
                wrong.append(f"{name_of(path)}:{node.lineno}")
    assert wrong == []


def test_the_source_is_ascii() -> None:
    wrong = [name_of(path) for path in files() if not path.read_bytes().isascii()]
    assert wrong == []


def test_launcher_variables_are_read_in_one_file() -> None:
    variables = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
    wrong = [
        f"{name_of(path)}:{node.lineno} {node.value}"
        for path in files()
        if name_of(path) != "launchers.py"
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Constant) and node.value in variables
    ]
    assert wrong == []
