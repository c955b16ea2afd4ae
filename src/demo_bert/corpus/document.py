"""What travels between the parts of the corpus: pieces of input, and the documents in them."""

from collections import Counter
from dataclasses import dataclass

Tally = Counter[str]
"""What was met on the way, in words, and how often: goes into the manifest and the last lines."""

Paragraphs = list[str]
"""A document as its source gives it: texts that no sentence goes beyond."""


@dataclass(frozen=True)
class Document:
    """A text whose sentences belong together."""

    sentences: list[str]


@dataclass(frozen=True)
class Piece:
    """A part of an input that is read on its own: a file, or a range of its bytes.

    What begins within the range belongs to the piece, to its end; so the pieces of a file have each
    of its documents once.
    """

    kind: str
    """A key of `sources.SOURCES`."""
    path: str
    begin: int
    """First byte on disk, or the first of what the source counts."""
    end: int
    """What comes after the last."""
    num_bytes: int
    """Size on disk."""


def ranges(kind: str, path: str, *, num_bytes: int, most_bytes: int) -> list[Piece]:
    """A file in ranges of equal size.

    Args:
        kind: As in `Piece`.
        path: As in `Piece`.
        num_bytes: The file's size.
        most_bytes: Of one range.

    Returns:
        The ranges, in order.

    Example:
        >>> [(one.begin, one.end) for one in ranges("text", "x", num_bytes=25, most_bytes=10)]
        [(0, 10), (10, 20), (20, 25)]
    """
    starts = range(0, num_bytes, most_bytes)
    ends = (min(at + most_bytes, num_bytes) for at in starts)
    return [Piece(kind, path, at, end, end - at) for at, end in zip(starts, ends, strict=True)]


def whole(kind: str, path: str, *, num_bytes: int) -> Piece:
    """A file as one piece.

    Args:
        kind: As in `Piece`.
        path: As in `Piece`.
        num_bytes: The file's size.

    Returns:
        The piece.
    """
    return Piece(kind, path, 0, num_bytes, num_bytes)
