"""Tensors -> a file: the bytes that the library would write, and the hash of just these."""

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from demo_bert import tensor_file

PAGES = 4 * 4096


@pytest.fixture(autouse=True)
def pieces_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_file, "PIECE_BYTES", PAGES)


def tensors() -> dict[str, Tensor]:
    """All types, odd layouts and sizes, in another order than the file's."""
    found = {f"of.{dtype}": torch.ones(3, 1, dtype=dtype) for dtype in tensor_file._CODES}
    found |= {'with "quotes" and \u00e9': torch.randn(5, 3).t(), "scalar": torch.tensor(3.5)}
    found |= {"empty": torch.empty(0, 4), "weight": torch.nn.Parameter(torch.randn(100, 90))}
    return found


def written(path: Path, content: dict[str, Tensor]) -> tuple[int, tuple[int, str]]:
    """Writes; gives the number of pieces, and length and hash as told."""
    pieces = tensor_file.write(path, content)
    for number in range(1000):
        try:
            next(pieces)
        except StopIteration as end:
            return number, end.value
    raise AssertionError("no end")


@pytest.mark.parametrize("content", [{}, {"a": torch.zeros(1)}, tensors()])
def test_the_bytes_are_those_of_the_library_and_so_is_their_hash(
    tmp_path: Path, content: dict[str, Tensor]
) -> None:
    number, told = written(tmp_path / "file", content)
    data = (tmp_path / "file").read_bytes()
    assert data == save({name: tensor.contiguous() for name, tensor in content.items()})
    assert told == (len(data), hashlib.sha256(data).hexdigest())
    assert number == -(-len(data) // PAGES)


def test_what_was_there_is_written_anew(tmp_path: Path) -> None:
    written(tmp_path / "file", {"a": torch.zeros(20_000)})
    _, (size_bytes, _) = written(tmp_path / "file", {"a": torch.zeros(3)})
    assert (tmp_path / "file").stat().st_size == size_bytes


@pytest.mark.parametrize("refused", ["open", "write"])
def test_a_file_system_that_insists_on_its_cache_is_obeyed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    def flags_of(arguments: tuple[Any, ...]) -> int:
        if refused == "open":
            return arguments[1]
        return tensor_file.fcntl.fcntl(arguments[0], tensor_file.fcntl.F_GETFL)

    call, refusals = getattr(os, refused), []

    def refusing(*arguments: Any) -> Any:
        if flags_of(arguments) & os.O_DIRECT:
            refusals.append(arguments)
            raise OSError(errno.EINVAL, "Invalid argument")
        return call(*arguments)

    monkeypatch.setattr(os, refused, refusing)
    _, (_, sha256) = written(tmp_path / "file", tensors())
    assert len(refusals) == 1
    assert hashlib.sha256((tmp_path / "file").read_bytes()).hexdigest() == sha256


def test_a_write_may_take_less_than_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:8192]))
    _, (_, sha256) = written(tmp_path / "file", {"a": torch.randn(10_000)})
    assert hashlib.sha256((tmp_path / "file").read_bytes()).hexdigest() == sha256


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        written(tmp_path / "file", {"a": torch.zeros(3)})
