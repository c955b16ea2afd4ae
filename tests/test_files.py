"""Files: read strictly, written whole or not at all."""

import errno
import hashlib
import os
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from demo_bert.errors import DataError, DiskError
from demo_bert.files import read_text, sha256_of, write_bytes, write_text


@given(st.text(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_text_comes_back_as_it_was_written(tmp_path: Path, text: str) -> None:
    path = tmp_path / "text"
    text = text.encode("utf-8", "replace").decode()
    write_text(path, text)
    assert read_text(path) == text.removeprefix("\ufeff")


def test_line_ends_are_kept_and_the_byte_order_mark_is_not(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"\xef\xbb\xbfa\r\nb\rc\n\xef\xbb\xbf")
    assert read_text(path) == "a\r\nb\rc\n\ufeff"


def test_bytes_that_are_not_utf8_are_named_by_place(tmp_path: Path) -> None:
    path = tmp_path / "latin.tsv"
    path.write_bytes(b"one\ntwo\ncaf\xe9\n")
    with pytest.raises(DataError, match=r"latin\.tsv.*byte 11 \(line 3, value 0xe9\).*UTF-8"):
        read_text(path)


def test_what_is_missing_or_a_directory_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing: no such file"):
        read_text(tmp_path / "nothing")
    with pytest.raises(DataError, match="is a directory; a file is needed"):
        read_text(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        read_text(tmp_path / ("n" * 300))


def test_directories_on_the_way_are_made(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a" / "b" / "c", b"x")
    assert (tmp_path / "a" / "b" / "c").read_bytes() == b"x"


def test_a_file_that_is_there_is_replaced_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a much longer content")
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, failing, full)
    with pytest.raises(DiskError, match=r"file: cannot be written \(No space left on device\)"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_an_interruption_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_the_content_is_on_disk_before_its_name_and_the_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(handle: int) -> None:
        order.append("directory" if stat.S_ISDIR(os.fstat(handle).st_mode) else "content")
        fsync(handle)

    def noted_replace(source: str, target: Path) -> None:
        order.append("name")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    write_bytes(tmp_path / "file", b"x")
    assert order == ["content", "name", "directory"]


def test_a_parent_that_is_a_file_is_a_disk_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DiskError, match="cannot be written"):
        write_bytes(tmp_path / "file" / "below", b"x")


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_file_gets_the_permissions_that_others_would_get(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_bytes(tmp_path / "file", b"x")
        assert os.umask(mask) == mask, "the mask was changed"
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_a_hash_is_that_of_the_whole_file(tmp_path: Path, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    (tmp_path / "file").write_bytes(data[:size])
    assert sha256_of(tmp_path / "file") == hashlib.sha256(data[:size]).hexdigest()
