"""Bytes of input files: packed or plain, whole or in ranges, damaged or hostile."""

import bz2
import gzip
import lzma
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo_bert.corpus import streams
from demo_bert.corpus.document import Piece, Tally, ranges, whole
from demo_bert.corpus.streams import Stream, marked_records, packing_of, text_lines
from demo_bert.errors import DataError

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
}
MARK = b"<page>"


def written(path: Path, content: bytes) -> Piece:
    path.write_bytes(content)
    return whole("text", str(path), num_bytes=len(content))


def content_of(piece: Piece) -> bytes:
    with Stream(piece) as stream:
        return b"".join(iter(stream.read, b""))


def records_of(piece: Piece, tally: Tally | None = None) -> list[bytes]:
    with Stream(piece) as stream:
        return list(marked_records(stream, MARK, tally=Counter() if tally is None else tally))


def lines_of(piece: Piece, tally: Tally) -> list[str]:
    with Stream(piece) as stream:
        return [line.rstrip("\n") for _, line in text_lines(stream, tally=tally)]


@pytest.mark.parametrize("packer", PACKERS)
def test_a_packed_file_gives_its_content_whatever_its_name(tmp_path: Path, packer: str) -> None:
    content = b"The rain.\n" * 400_000
    piece = written(tmp_path / "name", PACKERS[packer](content))
    assert content_of(piece) == content
    assert packing_of(tmp_path / "name") is not None


@pytest.mark.parametrize("packer", PACKERS)
def test_several_packed_streams_one_after_the_other_are_one_file(
    tmp_path: Path, packer: str
) -> None:
    pack = PACKERS[packer]
    assert content_of(written(tmp_path / "x", pack(b"one ") + pack(b"two"))) == b"one two"


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("kept", [0.5, 0.99])
def test_a_packed_file_that_ends_too_early_is_refused(
    tmp_path: Path, packer: str, kept: float
) -> None:
    packed = PACKERS[packer](b"".join(b"%d rain\n" % n for n in range(50_000)))
    piece = written(tmp_path / "x", packed[: int(kept * len(packed))])
    with pytest.raises(DataError, match=r"x: ends in the middle of packed data") as caught:
        content_of(piece)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("packer", PACKERS)
def test_a_packed_file_with_a_changed_byte_is_refused(tmp_path: Path, packer: str) -> None:
    packed = bytearray(PACKERS[packer](b"".join(b"%d rain\n" % n for n in range(50_000))))
    packed[len(packed) // 2] ^= 0x55
    with pytest.raises(DataError, match=r"fetch (it|or copy it) again"):
        content_of(written(tmp_path / "x", bytes(packed)))


@pytest.mark.parametrize("packer", PACKERS)
def test_a_decompression_bomb_is_refused_before_it_fills_anything(
    tmp_path: Path, packer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "_BOMB_BYTES", 8 << 20)
    piece = written(tmp_path / "x", PACKERS[packer](bytes(64 << 20)))
    unpacked = 0
    with Stream(piece) as stream, pytest.raises(DataError, match="unpacks to more than 300 times"):
        while chunk := stream.read():
            unpacked += len(chunk)
    assert unpacked < 32 << 20


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none: cannot be read \(No such file"):
        packing_of(tmp_path / "none")


@given(st.lists(st.integers(0, 40), max_size=30), st.integers(1, 60), st.booleans())
def test_the_ranges_of_a_file_have_each_record_once(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], most: int, is_packed: bool
) -> None:
    """Of a plain file, and of one that is packed record by record."""
    path = tmp_path_factory.mktemp("ranges") / "x"
    records = [b"%s%s" % (MARK, b"%d" % n * size) for n, size in enumerate(sizes)]
    content = [b"head <pag", *records]
    path.write_bytes(b"".join(map(bz2.compress, content) if is_packed else content))
    pieces = ranges("text", str(path), num_bytes=path.stat().st_size, most_bytes=most)
    assert [record for piece in pieces for record in records_of(piece)] == records


def test_a_record_may_go_on_in_the_next_packed_stream(tmp_path: Path) -> None:
    content = b"x<page>one<page>two<page>three"
    packed = b"".join(bz2.compress(content[at : at + 9]) for at in range(0, len(content), 9))
    path = tmp_path / "x"
    path.write_bytes(packed)
    pieces = ranges("text", str(path), num_bytes=len(packed), most_bytes=30)
    found = [record for piece in pieces for record in records_of(piece)]
    # A mark that lies across two streams is seen by the piece that has its beginning.
    assert found == [b"<page>one", b"<page>two", b"<page>three"]


def test_a_record_that_is_too_long_is_left_out_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "LONGEST_RECORD_BYTES", 3 << 20)
    long = MARK + b"y" * (9 << 20)
    tally: Tally = Counter()
    piece = written(tmp_path / "x", MARK + b"one" + long + MARK + b"two")
    assert records_of(piece, tally) == [MARK + b"one", MARK + b"two"]
    assert tally == {"records over 64 MiB left out": 1}


def test_bytes_that_are_no_utf8_are_dropped_and_their_lines_counted(tmp_path: Path) -> None:
    tally: Tally = Counter()
    content = b"caf\xe9 rain\nsnow \xe2\x82\xac\n\xff\xfe\n"
    assert lines_of(written(tmp_path / "x", content), tally) == ["caf rain", "snow \u20ac", ""]
    assert tally == {"lines with invalid UTF-8, whose bytes were dropped": 2}


def test_a_line_of_many_megabytes_is_cut_at_a_space_and_nothing_is_lost(tmp_path: Path) -> None:
    content = b"rain " * (5 << 20)
    tally: Tally = Counter()
    lines = lines_of(written(tmp_path / "x", content), tally)
    assert max(map(len, lines)) <= 10 << 20
    assert "".join(lines) == content.decode()
    assert tally["lines over 8 MiB cut"] >= 2


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["lf", "crlf", "cr"])
def test_lines_end_as_any_system_ends_them(tmp_path: Path, end: bytes) -> None:
    content = end.join((b"one", b"two", b"three"))
    piece = written(tmp_path / "x", content)
    assert [line.strip() for line in lines_of(piece, Counter())] == ["one", "two", "three"]
