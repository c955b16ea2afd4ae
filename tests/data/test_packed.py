import gzip
from pathlib import Path

import pytest

from demo_bert.data import packed
from demo_bert.data.packed import unpacked_text
from demo_bert.errors import DataError


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.tsv.gz"
    with gzip.open(path, "wb") as file:
        for _ in range(20):
            file.write(bytes(1 << 20))
    with pytest.raises(DataError, match="unpacks to more than 16,777,216 bytes"):
        unpacked_text(path)


def test_the_limit_on_the_size_holds_whatever_the_ratio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "MAX_UNPACKED_BYTES", 1000)
    path = tmp_path / "x.tsv.gz"
    path.write_bytes(gzip.compress(b"a" * 1000))
    assert unpacked_text(path) == "a" * 1000
    path.write_bytes(gzip.compress(b"a" * 1001))
    with pytest.raises(DataError, match="more than 1,000 bytes"):
        unpacked_text(path)


def test_small_files_may_repeat_themselves(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv.gz"
    path.write_bytes(gzip.compress(b"a" * (1 << 20)))
    assert len(unpacked_text(path)) == 1 << 20
