"""./check sets itself up, runs everything, and fails where anything failed; its tools are stubs."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bootstrap_checkout import REPOSITORY, WITH_TOOLS, Checkout


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkout, Path]:
    """A checkout with the tools of ./check, and a directory with nothing but what a shell needs."""
    directory = tmp_path_factory.mktemp("check")
    checkout = Checkout(directory)
    shutil.copy(REPOSITORY / "check", checkout.root / "check")
    result = checkout.run(program=WITH_TOOLS)
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"{checkout.environment / 'bin' / 'python'}\n"
    assert checkout.pip_calls() == ["packages", "torch", "tools"]
    programs = directory / "bin"
    programs.mkdir()
    (programs / "dirname").symlink_to(shutil.which("dirname") or "")
    python = programs / "python3"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    return checkout, programs


def check(
    made: tuple[Checkout, Path], *words: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    checkout, programs = made
    return subprocess.run(
        [str(checkout.root / "check"), *words],
        cwd=programs,
        env=checkout.env({"PATH": str(programs), **variables}),
        capture_output=True,
        text=True,
    )


def test_a_second_setting_up_does_nothing(made: tuple[Checkout, Path]) -> None:
    before = made[0].pip_calls()
    assert made[0].run(program=WITH_TOOLS).stderr == ""
    assert made[0].pip_calls() == before


def test_all_checks_run_the_tests_last(made: tuple[Checkout, Path]) -> None:
    result = check(made)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.split("\n") == [
        *("", "== format", "ran ruff format --check"),
        *("", "== lint", "ran ruff check"),
        *("", "== types", "ran pyrefly check"),
        *("", "== tests", "ran pytest -n 2 -q -m not drill"),
        "",
    ]


def test_a_failure_is_named_and_the_other_checks_still_run(made: tuple[Checkout, Path]) -> None:
    result = check(made, TEST_EXIT_ruff="1")
    assert result.returncode == 1
    assert "ran pyrefly" in result.stdout and "ran pytest" in result.stdout
    assert result.stderr == "\ncheck: failed: format lint\n"


def test_drills_and_words_for_pytest(made: tuple[Checkout, Path]) -> None:
    result = check(made, "tests/a b.py", "--drills", "-x")
    assert result.stdout.endswith("ran pytest -n 2 -q -m  tests/a b.py -x\n")


def test_fix_formats(made: tuple[Checkout, Path]) -> None:
    result = check(made, "--fix")
    assert "ran ruff format\n" in result.stdout and "ran ruff check --fix\n" in result.stdout


def test_a_failing_setup_ends_it(made: tuple[Checkout, Path], tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    result = check(made, DEMO_BERT_VENV=str(tmp_path))
    assert (result.returncode, result.stdout) == (2, "")
    assert "was not made by demo_bert" in result.stderr


def test_no_python_is_one_line(made: tuple[Checkout, Path], tmp_path: Path) -> None:
    (tmp_path / "dirname").symlink_to(shutil.which("dirname") or "")
    result = check(made, PATH=str(tmp_path))
    assert result.returncode == 2
    assert result.stderr.startswith("check: no Python 3.11 or newer") and result.stdout == ""


def test_ci_runs_the_same_script() -> None:
    text = (REPOSITORY / ".ci" / "run").read_text()
    assert text.splitlines()[-1] == "exec ./check"
    assert os.access(REPOSITORY / "check", os.X_OK)
