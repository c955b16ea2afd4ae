"""Bytes of an input file: plain or packed (gzip, bzip2, xz), whole or a range, with limits."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from demo_bert.corpus.document import Piece, Tally
from demo_bert.errors import DataError

CHUNK_BYTES = 1 << 20
LONGEST_RECORD_BYTES = 64 << 20
"""What is longer between two marks, or on one line, is damage or no text."""

_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz"}
_BLOCK_MAGIC = b"1AY&SY"
_BOMB_RATIO = 300
_BOMB_BYTES = 256 << 20
_OWN_ERRORS = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError)


def packing_of(path: Path) -> str | None:
    """How a file is packed, by its first bytes.

    Args:
        path: A file.

    Returns:
        "gzip", "bzip2", "xz", or None.

    Raises:
        DataError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(6)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)


class Stream:
    """The unpacked bytes of a piece, and what follows it for its last record.

    Args:
        piece: A range of a plain or multistream bzip2 file; of other packed files the whole.
    """

    def __init__(self, piece: Piece) -> None:
        self.path = Path(piece.path)
        packing = packing_of(self.path)
        self.limit: int | None = None
        """Unpacked bytes of the piece itself; None while that is not known."""
        try:
            self._raw: BinaryIO = self.path.open("rb")
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read ({error.strerror})") from error
        self._unpacked_bytes = 0
        self._begin = piece.begin
        if packing is None:
            self._raw.seek(piece.begin)
            self.limit = piece.end - piece.begin
            self._file: BinaryIO = self._raw
        elif packing == "bzip2":
            self._file = _Bzip2Range(self, self._raw, piece)  # type: ignore[bad-assignment]  # it reads
        elif packing == "gzip":
            self._file = gzip.GzipFile(fileobj=self._raw)  # type: ignore[bad-assignment]  # it reads
        else:
            self._file = lzma.LZMAFile(self._raw)  # type: ignore[bad-assignment]  # it reads
        self._is_packed = packing is not None

    def __enter__(self) -> Self:
        """The stream itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the file."""
        self._raw.close()

    def read(self) -> bytes:
        """The next bytes, about a mebibyte; empty at the end.

        Raises:
            DataError: The file is damaged, ends too early, unpacks to far more than text does, or
                cannot be read.
        """
        try:
            chunk = self._file.read(CHUNK_BYTES)
        except EOFError as error:
            raise DataError(
                f"{self.path}: ends in the middle of packed data; fetch or copy it again"
            ) from error
        except _OWN_ERRORS as error:
            raise DataError(
                f"{self.path}: packed data is damaged ({error}); fetch it again"
            ) from error
        except OSError as error:
            reason = error.strerror or "packed data is damaged"
            raise DataError(f"{self.path}: cannot be read ({reason}); fetch it again") from error
        self._unpacked_bytes += len(chunk)
        self._refuse_bombs()
        return chunk

    @property
    def packed_bytes_read(self) -> int:
        """Bytes on disk that the bytes read so far came from, roughly."""
        return self._raw.tell() - self._begin

    def _refuse_bombs(self) -> None:
        read = max(self._raw.tell(), 1) if self._is_packed else self._unpacked_bytes
        if self._unpacked_bytes > max(_BOMB_BYTES, _BOMB_RATIO * read):
            raise DataError(
                f"{self.path}: unpacks to more than {_BOMB_RATIO} times its size, which text does"
                " not; leave it out, or unpack it yourself"
            )


class _Bzip2Range:
    """The bzip2 streams that begin in a range, and the bytes that follow."""

    def __init__(self, owner: Stream, raw: BinaryIO, piece: Piece) -> None:
        self._owner = owner
        self._raw = raw
        self._end = piece.end
        self._pending = b""
        self._delivered = 0
        self._decompressor: bz2.BZ2Decompressor | None = None
        self._next = self._first_stream(piece.begin)

    def read(self, size: int) -> bytes:
        while True:
            if self._decompressor is None:
                if not self._begin_stream():
                    return b""
            unpacker = self._decompressor
            assert unpacker is not None
            if unpacker.needs_input and not self._pending:
                self._pending = self._raw.read(CHUNK_BYTES // 4)
                if not self._pending:
                    raise EOFError
            data = unpacker.decompress(self._pending if unpacker.needs_input else b"", size)
            self._pending = b""
            if unpacker.eof:
                self._pending = unpacker.unused_data
                self._next = self._raw.tell() - len(self._pending)
                self._decompressor = None
            if data:
                self._delivered += len(data)
                return data

    def _begin_stream(self) -> bool:
        """Whether there is one more stream."""
        if self._next is None:
            return False
        if self._owner.limit is None and self._next >= self._end:
            self._owner.limit = self._delivered
        if not self._pending:
            self._pending = self._raw.read(CHUNK_BYTES // 4)
        if not self._pending:
            return False
        if not self._pending.startswith(b"BZh"[: len(self._pending)]):
            raise OSError("packed data is damaged")
        self._decompressor = bz2.BZ2Decompressor()
        return True

    def _first_stream(self, begin: int) -> int | None:
        """Where the first stream of the range begins."""
        place, tail = begin, b""
        self._raw.seek(begin)
        while place - len(tail) < self._end:
            chunk = self._raw.read(CHUNK_BYTES)
            if not chunk:
                return None
            window = tail + chunk
            at = _stream_start(window)
            if at is not None:
                start = place - len(tail) + at
                self._raw.seek(start)
                return start if start < self._end else None
            place += len(chunk)
            tail = window[-9:]
        return None


def _stream_start(data: bytes) -> int | None:
    at = data.find(_BLOCK_MAGIC)
    while at >= 0:
        if at >= 4 and data[at - 4 : at - 1] == b"BZh":
            return at - 4
        at = data.find(_BLOCK_MAGIC, at + 1)
    return None


def marked_records(stream: Stream, marker: bytes, *, tally: Tally) -> Iterator[bytes]:
    """The records of a piece, each from one mark to the next.

    Args:
        stream: The piece.
        marker: What a record begins with, and what nothing within it can be.
        tally: Counts records that are too long and are left out.

    Yields:
        Records; the last may have further bytes of the file behind it.

    Raises:
        DataError: As `Stream.read`.
    """
    data, base, is_open = b"", 0, False
    while chunk := stream.read():
        searched = max(len(data) - len(marker) + 1, int(is_open))
        data += chunk
        start = 0
        while (mark := data.find(marker, searched)) >= 0:
            if is_open:
                yield data[start:mark]
            if stream.limit is not None and base + mark >= stream.limit:
                return
            is_open, start, searched = True, mark, mark + 1
        if is_open and len(data) - start > LONGEST_RECORD_BYTES:
            tally["records over 64 MiB left out"] += 1
            is_open = False
        drop = start if is_open else max(len(data) - len(marker) + 1, 0)
        data, base = data[drop:], base + drop
    if is_open:
        yield data


def text_lines(stream: Stream, *, tally: Tally) -> Iterator[tuple[int, str]]:
    """Lines of the piece and of what follows it, with the place where each begins.

    Args:
        stream: The piece.
        tally: Counts lines with invalid UTF-8, whose bytes are dropped, and lines that are cut at
            a space because they are too long to be held.

    Yields:
        Place in unpacked bytes, and the line without its end.

    Raises:
        DataError: As `Stream.read`.
    """
    rest, place = b"", 0
    while True:
        chunk = stream.read()
        data = rest + chunk
        cut = data.rfind(b"\n") + 1 if chunk else len(data)
        if not cut and len(data) > LONGEST_RECORD_BYTES // 8:
            tally["lines over 8 MiB cut"] += 1
            cut = data.rfind(b" ") + 1 or len(data)
        for line in data[:cut].splitlines(keepends=True):
            yield place, _decoded(line, tally)
            place += len(line)
        rest = data[cut:]
        if not chunk:
            return


def _decoded(line: bytes, tally: Tally) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        tally["lines with invalid UTF-8, whose bytes were dropped"] += 1
        return line.decode("utf-8", "ignore")
