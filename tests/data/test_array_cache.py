"""Arrays on disk: found again by their key, made anew where damaged, within the limit."""

import os
from pathlib import Path

import numpy as np
import pytest

from demo_bert.data.array_cache import ArrayCache

LIMIT = 10_000_000


def arrays(value: int, size: int = 10) -> dict[str, np.ndarray]:
    return {"numbers": np.full(size, value), "pairs": np.ones((2, 3), dtype=np.int32)}


def never() -> dict[str, np.ndarray]:
    raise AssertionError("made though it is kept")


def test_what_was_made_once_is_mapped_from_disk_and_equal(tmp_path: Path) -> None:
    cache = ArrayCache(tmp_path / "windows", LIMIT)
    first, was_kept = cache.get("ab", lambda: arrays(7))
    assert not was_kept
    again, was_kept = cache.get("ab", never)
    assert was_kept
    for name, array in arrays(7).items():
        assert np.array_equal(first[name], array)
        assert np.array_equal(again[name], array)
        assert isinstance(again[name], np.memmap)
        assert not again[name].flags.writeable


def test_another_key_is_other_arrays(tmp_path: Path) -> None:
    cache = ArrayCache(tmp_path, LIMIT)
    cache.get("ab", lambda: arrays(7))
    assert cache.get("cd", lambda: arrays(8))[0]["numbers"][0] == 8


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "manifest", "no-manifest", "other"])
def test_a_damaged_entry_is_made_anew(tmp_path: Path, damage: str) -> None:
    cache = ArrayCache(tmp_path, LIMIT)
    cache.get("ab", lambda: arrays(7))
    file = tmp_path / "ab" / "numbers.npy"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    match damage:
        case "flip":
            file.write_bytes(data)
        case "cut":
            file.write_bytes(data[:-9])
        case "remove":
            file.unlink()
        case "no-manifest":
            (tmp_path / "ab" / "manifest.json").unlink()
        case "other":
            (tmp_path / "ab" / "manifest.json").write_text("[]")
        case _:
            (tmp_path / "ab" / "manifest.json").write_text("{")
    found, was_kept = cache.get("ab", lambda: arrays(7))
    assert not was_kept
    assert found["numbers"].tolist() == [7] * 10
    assert cache.get("ab", never)[1]


def test_the_entries_used_longest_ago_go_first(tmp_path: Path) -> None:
    cache = ArrayCache(tmp_path, 30_000)  # each entry takes about 8 500
    for place, key in enumerate(("aa", "bb", "cc")):
        cache.get(key, lambda: arrays(1, 1000))
        os.utime(tmp_path / key, (place, place))
    cache.get("aa", never)
    cache.get("dd", lambda: arrays(1, 1000))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["aa", "cc", "dd"]
    assert sum(f.stat().st_size for f in tmp_path.rglob("*.*")) <= 30_000


def test_arrays_larger_than_the_limit_are_used_and_not_kept(tmp_path: Path) -> None:
    cache = ArrayCache(tmp_path, 5_000)
    found, _ = cache.get("ab", lambda: arrays(3, 1000))
    assert found["numbers"].sum() == 3000
    assert list(tmp_path.iterdir()) == []


def test_a_limit_of_zero_clears_and_keeps_nothing(tmp_path: Path) -> None:
    ArrayCache(tmp_path, LIMIT).get("ab", lambda: arrays(1))
    found, was_kept = ArrayCache(tmp_path, 0).get("ab", lambda: arrays(2))
    assert (found["numbers"][0], was_kept) == (2, False)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    found, _ = ArrayCache(tmp_path / "file" / "windows", LIMIT).get("ab", lambda: arrays(4))
    assert found["numbers"][0] == 4
    assert "not kept" in caplog.text


def test_nothing_is_left_of_a_writing_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    found, _ = ArrayCache(tmp_path, LIMIT).get("ab", lambda: arrays(4))
    assert found["numbers"][0] == 4
    assert list(tmp_path.iterdir()) == []
