"""The launcher, as far as it goes before anything of demo_bert is imported."""

import ast
import os
import shutil
import stat
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

from bootstrap_checkout import REPOSITORY, Checkout

LAUNCHER = REPOSITORY / "demo_bert"
NEWER_THAN_PYTHON_2_7 = (
    ast.AnnAssign,
    ast.AsyncFor,
    ast.AsyncFunctionDef,
    ast.AsyncWith,
    ast.Await,
    ast.JoinedStr,
    ast.Match,
    ast.NamedExpr,
    ast.Nonlocal,
    ast.Starred,
    ast.YieldFrom,
)


@pytest.fixture(scope="module")
def launcher() -> ModuleType:
    module = ModuleType("launcher")
    module.__file__ = str(LAUNCHER)
    SourceFileLoader("launcher", str(LAUNCHER)).exec_module(module)
    return module


def write_program(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_windows_is_sent_to_wsl_in_one_line(launcher: ModuleType) -> None:
    line = launcher.unfit("nt", (3, 12))
    assert "WSL" in line and "\n" not in line


@pytest.mark.parametrize("version", [(2, 7, 18), (3, 5, 3), (3, 10, 13)])
def test_an_old_python_is_named_in_one_line(launcher: ModuleType, version: tuple[int, ...]) -> None:
    line = launcher.unfit("posix", version)
    found = f"this is Python {version[0]}.{version[1]},"
    assert found in line and "Python 3.11 or newer is needed" in line and "\n" not in line


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 14, 1), (4, 0)])
def test_a_new_python_is_fit(launcher: ModuleType, version: tuple[int, ...]) -> None:
    assert launcher.unfit("posix", version) is None


def test_the_version_needed_is_the_one_of_pyproject(launcher: ModuleType) -> None:
    needed = ".".join(map(str, launcher.NEEDED))
    assert f'requires-python = ">={needed}"' in (REPOSITORY / "pyproject.toml").read_text()


def test_every_python_since_2_7_can_read_it() -> None:
    text = LAUNCHER.read_text(encoding="ascii")
    tree = ast.parse(text, feature_version=(3, 4))
    for node in ast.walk(tree):
        assert not isinstance(node, NEWER_THAN_PYTHON_2_7), ast.unparse(node)
        if isinstance(node, ast.FunctionDef):
            arguments = node.args
            assert not arguments.kwonlyargs and not arguments.posonlyargs
            assert node.returns is None and not any(each.annotation for each in arguments.args)
        if isinstance(node, ast.Name):
            assert node.id not in ("print", "super", "exec")


@pytest.mark.parametrize("name", ["python2.7", "python3.6", "python3.8", "python3.9", "python3.10"])
def test_an_old_python_at_hand_says_so_itself(name: str, tmp_path: Path) -> None:
    old = shutil.which(name)
    if old is None or subprocess.run([old, "-c", ""], capture_output=True).returncode != 0:
        pytest.skip(f"no {name} on this machine")
    result = subprocess.run(
        [old, str(LAUNCHER), "-h"],
        env={"PATH": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("demo_bert: this is Python ") and result.stdout == ""


def test_a_newer_python_that_does_not_run_is_passed_over(
    launcher: ModuleType, tmp_path: Path
) -> None:
    write_program(tmp_path / "a" / "python3.14", "#!/bin/sh\nexit 127\n")
    write_program(tmp_path / "a" / "python3.13", "#!/no/such/interpreter\n")
    (tmp_path / "a" / "python3.12").mkdir()
    works = write_program(tmp_path / "b" / "python3.12", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    assert launcher.find_newer(f"{tmp_path / 'a'}:{tmp_path / 'b'}") == str(works)
    assert launcher.find_newer(str(tmp_path / "a")) is None


def test_an_old_python_hands_over_to_a_newer_one_in_silence(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    newer = write_program(
        tmp_path / "bin" / "python3.11", f'#!/bin/sh\nexec {sys.executable} "$@"\n'
    )
    pretend = "import runpy, sys; sys.version_info = (3, 9, 2); sys.argv = sys.argv[1:]\n"
    pretend += "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    result = subprocess.run(
        [sys.executable, "-c", pretend, str(checkout.launcher), "-h"],
        env=checkout.env({"PATH": str(newer.parent)}),
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "help\n", "")


def test_it_is_executable_and_finds_python_by_name() -> None:
    assert os.access(LAUNCHER, os.X_OK)
    assert LAUNCHER.read_text().startswith("#!/usr/bin/env python3\n")
