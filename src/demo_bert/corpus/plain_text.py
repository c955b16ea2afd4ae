"""Plain text files and directories: `--text` and `--books`, and what WikiExtractor writes.

A file that begins with `<doc id=` is WikiExtractor's: each `<doc>` is a document, its first line is
the title and is left out. In others the form is told from the first lines (`text_form.Form`);
files of `--books` are one document each.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from demo_bert.corpus.document import Paragraphs, Piece, Tally, ranges, whole
from demo_bert.corpus.streams import Stream, marked_records, packing_of, text_lines
from demo_bert.corpus.text_form import form_of, is_wrapped, joined, limited, width_of
from demo_bert.errors import DataError

_RANGE_BYTES = 8 << 20
_DOC = b"<doc id="
_HEAD_BYTES = 1 << 18
_MARKUP = re.compile(r"<[^<>]{1,200}>")
_START = re.compile(r"\*\*\* ?START OF (THE|THIS) PROJECT GUTENBERG", re.IGNORECASE)
_END = re.compile(r"\*\*\* ?END OF (THE|THIS) PROJECT GUTENBERG", re.IGNORECASE)
_PROSE_WORDS = 40
_LOOK_BACK_BYTES = 4096
_MOST_FRONT_MATTER = 0.1


def plan(kind: str, path: Path, *, tally: Tally) -> list[Piece]:
    """The pieces of a file or directory.

    Args:
        kind: "text" or "books".
        path: A file, or a directory that is read with all below it, in the order of names.
        tally: Counts files that are empty or no text.

    Returns:
        The pieces, in order.

    Raises:
        DataError: A file cannot be read, or the path names one that is no text.
    """
    if path.is_dir():
        files = [file for file in _below(path) if _is_text(file, tally)]
        if not files:
            raise DataError(f"{path}: holds no text files")
    else:
        files = [path]
        if not _is_text(path, tally):
            if path.stat().st_size:
                raise DataError(f"{path}: is no text (it has NUL bytes); give UTF-8 text")
            return []
    return [piece for file in files for piece in _pieces(kind, file)]


def read(piece: Piece, *, tally: Tally) -> Iterator[Paragraphs]:
    """The documents of a piece.

    Args:
        piece: From `plan`.
        tally: Counts what was mended.

    Yields:
        Paragraphs of each document.

    Raises:
        DataError: A file is damaged or cannot be read.
    """
    head = _head(Path(piece.path))
    if piece.kind == "text" and _is_blocks(head):
        yield from _blocks(piece, tally)
        return
    with Stream(piece) as stream:
        if head.lstrip().startswith(_DOC):
            yield from _extracted(stream, tally)
        else:
            texts = (line for _, line in text_lines(stream, tally=tally))
            yield from one_document(piece.kind, texts, _lines(head))


def one_document(kind: str, lines: Iterator[str], head: list[str]) -> Iterator[Paragraphs]:
    """A text that is one document, in several where it is very large.

    Args:
        kind: "books": what stands before the first prose is left out; or "text".
        lines: Of the text.
        head: The first of them, by which it is seen whether they are hard-wrapped.

    Yields:
        Paragraphs.
    """
    lines = (line.replace("\ufeff", "") for line in lines)
    if is_wrapped(head):
        paragraphs = joined(lines, width=width_of(head))
    else:
        paragraphs = (text for line in lines if (text := line.strip()))
    yield from limited(_without_front_matter(list(paragraphs)) if kind == "books" else paragraphs)


def _blocks(piece: Piece, tally: Tally) -> Iterator[Paragraphs]:
    """Documents with a blank line between them, those that begin within the piece."""
    before = min(piece.begin, _LOOK_BACK_BYTES)
    held: Paragraphs = []
    # Whether a line begins a document is seen from the line before it.
    was_blank = piece.begin == before
    with Stream(replace(piece, begin=piece.begin - before)) as stream:
        for place, line in text_lines(stream, tally=tally):
            text = line.strip()
            if held and text:
                held.append(text)
            elif held:
                yield from limited(held)
                held = []
            elif text and was_blank and place >= before:
                if stream.limit is not None and place >= stream.limit:
                    break
                held = [text.removeprefix("\ufeff")]
            was_blank = not text and (place > 0 or was_blank)
    if held:
        yield from limited(held)


def _extracted(stream: Stream, tally: Tally) -> Iterator[Paragraphs]:
    for record in marked_records(stream, _DOC, tally=tally):
        try:
            text = record.decode("utf-8")
        except UnicodeDecodeError:
            tally["articles with invalid UTF-8, whose bytes were dropped"] += 1
            text = record.decode("utf-8", "ignore")
        lines = text.partition("</doc>")[0].split("\n")[1:]
        paragraphs = [clean for line in lines[1:] if (clean := _MARKUP.sub("", line).strip())]
        if paragraphs:
            yield paragraphs
        else:
            tally["articles without text"] += 1


def _without_front_matter(paragraphs: Paragraphs) -> Paragraphs:
    """A book without what stands before its first prose, and without an archive's licence."""
    begin, end = 0, len(paragraphs)
    for place, paragraph in enumerate(paragraphs):
        if _START.search(paragraph):
            begin = place + 1
        elif _END.search(paragraph):
            end = place
            break
    most = begin + max(int(_MOST_FRONT_MATTER * (end - begin)), 1)
    for place in range(begin, min(most, end)):
        if len(paragraphs[place].split()) >= _PROSE_WORDS:
            return paragraphs[place:end]
    return paragraphs[begin:end]


def _pieces(kind: str, path: Path) -> list[Piece]:
    size = path.stat().st_size
    if size > _RANGE_BYTES and packing_of(path) is None:
        head = _head(path)
        if head.lstrip().startswith(_DOC) or (kind == "text" and _is_blocks(head)):
            return ranges(kind, str(path), num_bytes=size, most_bytes=_RANGE_BYTES)
    return [whole(kind, str(path), num_bytes=size)]


def _below(path: Path) -> list[Path]:
    found = [
        file
        for file in path.rglob("*")
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts)
    ]
    return sorted(found, key=lambda file: file.relative_to(path).as_posix())


def _is_text(path: Path, tally: Tally) -> bool:
    packing = packing_of(path)
    if not path.stat().st_size:
        tally["empty files"] += 1
        return False
    if packing is None and b"\0" in _head(path):
        tally["files that are no text, left out"] += 1
        return False
    return True


def _head(path: Path) -> bytes:
    with Stream(whole("text", str(path), num_bytes=path.stat().st_size)) as stream:
        return stream.read()[:_HEAD_BYTES].removeprefix(b"\xef\xbb\xbf")


def _is_blocks(head: bytes) -> bool:
    return not head.lstrip().startswith(_DOC) and form_of(_lines(head)) == "blocks"


def _lines(head: bytes) -> list[str]:
    """The whole lines of a file's beginning, without space around them."""
    lines = head.decode("utf-8", "ignore").splitlines()
    return [line.strip() for line in (lines[:-1] if len(head) == _HEAD_BYTES else lines)]
