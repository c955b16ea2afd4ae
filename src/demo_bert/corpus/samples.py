"""Samples of an input: stretches, evenly spread over it, that stand for all of it."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

from demo_bert.corpus.document import Piece, whole
from demo_bert.corpus.streams import Stream, packing_of

NUM_SAMPLES = 8
SAMPLE_BYTES = 1 << 19

_ROW_GROUPS = ("parquet", "hub")
_DOCUMENTS = ("text", "books")
_UNPACKED_SAMPLES = 4
"""So many times a sample is unpacked of a packed file, whose beginning alone can be had: the more
it is, the better it tells how far the rest is packed."""


@dataclass(frozen=True)
class Sample:
    """A stretch of an input."""

    pieces: tuple[Piece, ...]
    """What is read for it."""
    num_bytes: float
    """Of the input on disk."""
    unpacking_s: float = 0.0
    """What it takes to unpack them, where the pieces are unpacked already."""

    @property
    def is_row_group(self) -> bool:
        """Whether it is read whole, from a file or from the hub."""
        return self.pieces[0].kind in _ROW_GROUPS


def samples_of(pieces: Sequence[Piece], place: Path) -> list[Sample]:
    """Stretches of an input.

    Args:
        pieces: Of the input.
        place: A directory for what is unpacked or cut.

    Returns:
        Some NUM_SAMPLES of about SAMPLE_BYTES; all of an input that is no larger than these.

    Raises:
        DataError: The input is damaged or cannot be read.
    """
    # Of a bzip2 file in a single stream all is in the first range.
    found = list(_samples(pieces, place))
    return found or list(_samples(pieces[:1], place))


def _samples(pieces: Sequence[Piece], place: Path) -> Iterator[Sample]:
    if not pieces:
        return
    taken = 0
    for number, hits in sorted(_spread([piece.num_bytes for piece in pieces]).items()):
        piece = pieces[number]
        if number < taken:
            continue
        taken = number + 1
        if piece.kind in _ROW_GROUPS:
            yield Sample((piece,), piece.num_bytes)
        elif packing_of(Path(piece.path)) is not None:
            yield from _of_packed(piece, place / f"unpacked-{number}", hits)
        elif piece.num_bytes > SAMPLE_BYTES:
            yield from _of_large(piece, place / f"cut-{number}", hits)
        else:
            # Of small files as many as make a stretch.
            size = piece.num_bytes
            while taken < len(pieces) and size + pieces[taken].num_bytes <= SAMPLE_BYTES:
                size += pieces[taken].num_bytes
                taken += 1
            yield Sample(tuple(pieces[number:taken]), size)


def _spread(sizes: Sequence[int]) -> Counter[int]:
    """Which pieces evenly spread places fall into, and how many into each."""
    ends = list(accumulate(sizes))
    hits: Counter[int] = Counter()
    number = 0
    for place in range(NUM_SAMPLES):
        while ends[number] <= ends[-1] * (place + 0.5) / NUM_SAMPLES and number < len(sizes) - 1:
            number += 1
        hits[number] += 1
    if ends[-1] <= NUM_SAMPLES * SAMPLE_BYTES:
        hits.update(one for one in range(len(sizes)) if one not in hits)
    return hits


def _of_packed(piece: Piece, head: Path, hits: int) -> Iterator[Sample]:
    """Stretches of what a packed file begins with; none where no stream begins in its range."""
    wanted = hits * _UNPACKED_SAMPLES * SAMPLE_BYTES
    begin_s = time.monotonic()
    chunk, unpacked = b"", 0
    with Stream(piece) as stream, head.open("wb") as file:
        while unpacked < wanted and (chunk := stream.read()):
            unpacked += file.write(chunk)
        packed = stream.packed_bytes_read
        # A line that is cut would count as damaged.
        size = unpacked - len(chunk) + (chunk.rfind(b"\n") + 1 or len(chunk))
        file.truncate(size)
    seconds = time.monotonic() - begin_s
    beginning = whole(piece.kind, str(head), num_bytes=size)
    for one in _of_large(beginning, head.with_name(f"{head.name}-cut"), hits) if unpacked else ():
        share = one.num_bytes / unpacked
        yield replace(one, num_bytes=packed * share, unpacking_s=seconds * share)


def _of_large(piece: Piece, head: Path, hits: int) -> Iterator[Sample]:
    """Stretches of a file that is not packed, or of a range of it."""
    wanted = hits * SAMPLE_BYTES
    if wanted >= piece.num_bytes:
        yield Sample((piece,), piece.num_bytes)
        return
    is_file = (piece.begin, piece.end) == (0, Path(piece.path).stat().st_size)
    if piece.kind in _DOCUMENTS and is_file:
        # It may be one document, which is read to its end wherever its piece ends.
        with Path(piece.path).open("rb") as file:
            head.write_bytes(file.read(wanted))
        yield Sample((whole(piece.kind, str(head), num_bytes=wanted),), wanted)
        return
    for place in range(hits):
        begin = piece.begin + int((piece.num_bytes - SAMPLE_BYTES) * (place + 0.5) / hits)
        end = begin + SAMPLE_BYTES
        yield Sample((replace(piece, begin=begin, end=end, num_bytes=SAMPLE_BYTES),), SAMPLE_BYTES)
