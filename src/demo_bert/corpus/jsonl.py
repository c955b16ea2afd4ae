"""Documents as JSON lines: `--jsonl`; an object with a `text`, or a string, on each line."""

import json
from collections.abc import Iterator
from pathlib import Path

from demo_bert.corpus.document import Paragraphs, Piece, Tally, ranges
from demo_bert.corpus.streams import Stream, packing_of, text_lines
from demo_bert.corpus.text_form import limited
from demo_bert.errors import DataError

TEXT_COLUMNS = ("text", "content", "document", "article", "body")
"""Where a document's text is looked for, in this order."""

_RANGE_BYTES = 8 << 20


def plan(kind: str, path: Path, *, tally: Tally) -> list[Piece]:
    """The pieces of a file.

    Args:
        kind: "jsonl".
        path: The file, packed or not.
        tally: Counts empty files.

    Returns:
        The pieces, in order.

    Raises:
        DataError: It cannot be read.
    """
    packing, size = packing_of(path), path.stat().st_size
    if not size:
        tally["empty files"] += 1
    most = _RANGE_BYTES if packing is None else max(size, 1)
    return ranges(kind, str(path), num_bytes=size, most_bytes=most)


def read(piece: Piece, *, tally: Tally) -> Iterator[Paragraphs]:
    """The documents of a piece.

    Args:
        piece: From `plan`.
        tally: Counts lines that are damaged, and documents without text.

    Yields:
        Paragraphs of each document; a line feed in the text ends a paragraph.

    Raises:
        DataError: No line of the piece is a document, or the file cannot be read.
    """
    # A line that began in the piece before is that piece's; its last byte tells.
    is_ours = piece.begin == 0 or _byte_before(piece) == b"\n"
    num_good = num_bad = 0
    with Stream(piece) as stream:
        for place, line in text_lines(stream, tally=tally):
            if stream.limit is not None and place >= stream.limit:
                break
            if is_ours and line.strip():
                text = _text_of(line.removeprefix("\ufeff"))
                num_good += text is not None
                num_bad += text is None
                yield from _document(text, tally)
            is_ours = True
    if num_bad:
        if not num_good:
            raise DataError(
                f"{piece.path}: no line is a JSON object with one of {', '.join(TEXT_COLUMNS)};"
                " give such lines, or plain text with --text"
            )
        tally["JSON lines left out as damaged or without a text"] += num_bad


def _document(text: str | None, tally: Tally) -> Iterator[Paragraphs]:
    if text is None:
        return
    paragraphs = [stripped for line in text.splitlines() if (stripped := line.strip())]
    if not paragraphs:
        tally["documents without text"] += 1
    yield from limited(paragraphs)


def _text_of(line: str) -> str | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, dict):
        value = next((value[name] for name in TEXT_COLUMNS if name in value), None)
    # Half of a surrogate pair can be written in JSON and nowhere else.
    return value.encode("utf-8", "ignore").decode() if isinstance(value, str) else None


def _byte_before(piece: Piece) -> bytes:
    with Path(piece.path).open("rb") as file:
        file.seek(piece.begin - 1)
        return file.read(1)
