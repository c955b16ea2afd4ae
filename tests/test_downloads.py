from pathlib import Path
from types import SimpleNamespace

import pytest

from demo_bert import downloads
from demo_bert.downloads import announce_download, cache_directory, show_bytes, without_credentials
from demo_bert.errors import DiskError


def test_the_cache_is_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "shared"))
    monkeypatch.delenv("DEMO_BERT_CACHE", raising=False)
    assert cache_directory() == tmp_path / "shared" / "demo_bert"
    monkeypatch.setenv("DEMO_BERT_CACHE", str(tmp_path / "own"))
    assert cache_directory() == tmp_path / "own"
    monkeypatch.delenv("DEMO_BERT_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_directory() == tmp_path / ".cache" / "demo_bert"


@pytest.mark.parametrize(
    ("size_bytes", "shown"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (99_960, "100 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (50_000_000, "50 MB"),
        (2_000_000_000_000_000, "2000 TB"),
    ],
)
def test_sizes_are_shown_as_people_write_them(size_bytes: int, shown: str) -> None:
    assert show_bytes(size_bytes) == shown


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    usage = SimpleNamespace(free=10**12)
    monkeypatch.setattr(downloads, "shutil", SimpleNamespace(disk_usage=lambda place: usage))
    return usage


def announced(size_bytes: int, directory: Path) -> list[str]:
    lines: list[str] = []
    announce_download(
        "weights",
        size_bytes,
        origin="http://hub",
        licence="mit",
        destination=directory / "not" / "yet",
        announce=lines.append,
    )
    return lines


def test_a_large_download_is_announced_in_full(tmp_path: Path, free: SimpleNamespace) -> None:
    place = tmp_path / "not" / "yet"
    assert announced(440_000_000, tmp_path) == [
        f"fetching weights (440 MB) from http://hub; licence mit; to {place}, 1.0 TB free"
    ]


def test_a_small_download_is_one_short_line(tmp_path: Path, free: SimpleNamespace) -> None:
    assert announced(700_000, tmp_path) == ["fetching weights (700 kB) from http://hub"]


@pytest.mark.parametrize(
    ("size_bytes", "free_bytes", "fits"),
    [
        (440_000_000, 540_000_000, True),
        (440_000_000, 539_999_999, False),
        (700_000, 1_400_000, True),
        (700_000, 1_399_999, False),
    ],
)
def test_what_does_not_fit_is_not_begun(
    tmp_path: Path, free: SimpleNamespace, size_bytes: int, free_bytes: int, fits: bool
) -> None:
    free.free = free_bytes
    if fits:
        assert announced(size_bytes, tmp_path)
    else:
        with pytest.raises(DiskError, match="are free; make room"):
            announced(size_bytes, tmp_path)


def test_addresses_lose_their_credentials_and_nothing_else() -> None:
    text = "see http://a:b@c@host/x?y=1@z, https://plain/x, me@example.org"
    assert without_credentials(text) == ("see http://host/x?y=1@z, https://plain/x, me@example.org")
