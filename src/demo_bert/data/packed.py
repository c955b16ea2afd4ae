"""Files that are packed with gzip or xz, unpacked up to a limit."""

import gzip
import lzma
import zlib
from pathlib import Path

from demo_bert.errors import DataError

MAX_UNPACKED_BYTES = 2 << 30
"""Packed files (and Parquet) that hold more than this are refused."""

MAX_UNPACKED_RATIO = 100
"""Packed files that grow by more than this are refused; text packs to a third or a tenth."""

_RATIO_FREE_BYTES = 16 << 20  # small files may be as repetitive as they like
_CHUNK_BYTES = 1 << 20
_REASON_CHARACTERS = 200


def unpacked_text(path: Path) -> str:
    """The text of a packed file; one that grows too much is refused before it fills the memory.

    Args:
        path: UTF-8 text packed with gzip, or with xz where its name ends in `.xz`; a byte order
            mark is dropped, line ends are kept.

    Returns:
        The text.

    Raises:
        DataError: The path is missing or a directory; the file is damaged, cut short or not
            packed; it unpacks to too much; the text is not UTF-8 (the byte's position is named).
    """
    unpacked = bytearray()
    try:
        check_is_file(path)
        by_ratio = max(_RATIO_FREE_BYTES, path.stat().st_size * MAX_UNPACKED_RATIO)
        limit = min(by_ratio, MAX_UNPACKED_BYTES)
        opened = lzma.open if path.name.lower().endswith(".xz") else gzip.open
        with opened(path, "rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                unpacked += chunk
                if len(unpacked) > limit:
                    raise DataError(
                        f"{path}: unpacks to more than {limit:,} bytes, the limit for its size;"
                        " unpack it yourself if that is meant"
                    )
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"{path}: cannot be unpacked ({reason_of(error)})") from error
    try:
        return unpacked.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = unpacked.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}: not UTF-8 at byte {error.start} of what it unpacks to (line {line}, value"
            f" 0x{unpacked[error.start]:02x}); save the text as UTF-8"
        ) from error


def check_is_file(path: Path) -> None:
    """Refuses what is not there and what is a directory.

    Args:
        path: Any path.

    Raises:
        DataError: There is no such file, or it is a directory.
        OSError: The path cannot be looked at.
    """
    if path.is_dir():
        raise DataError(f"{path}: is a directory; a file is needed")
    if not path.exists():
        raise DataError(f"{path}: no such file")


def reason_of(error: BaseException) -> str:
    r"""A library's message on one line, not too long.

    Args:
        error: What it raised.

    Returns:
        At most 200 characters.

    Example:
        >>> reason_of(ValueError("two\nlines"))
        'two lines'
    """
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:_REASON_CHARACTERS]
