"""What the structure tests read: the program's modules, parsed."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "demo_bert"


def files() -> list[Path]:
    """All modules of the program."""
    found = sorted(SOURCE.rglob("*.py"))
    assert len(found) > 80
    return found


def name_of(path: Path) -> str:
    """How the tables here name a module: `data/loader.py`."""
    return path.relative_to(SOURCE).as_posix()


@cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of a module."""
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """All functions and methods of a module, with their names: `Worker.train`."""

    def below(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = f"{prefix}{child.name}"
                if not isinstance(child, ast.ClassDef):
                    yield name, child
                yield from below(child, f"{name}.")
            else:
                yield from below(child, prefix)

    return below(parsed(path), "")
