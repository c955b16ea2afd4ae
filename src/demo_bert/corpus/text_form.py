"""How a text file is laid out: what a line is, and what separates documents."""

import re
import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from demo_bert.corpus.document import Paragraphs

Form = Literal["blocks", "paragraphs", "wrapped"]
"""blocks: a sentence or so on a line, a blank line between documents, as the original's
create_pretraining_data reads it; paragraphs: a paragraph on a line, the file is a document;
wrapped: lines end where the page did, the file is a document."""

_WRAPPED_WIDTHS = range(35, 111)
_SLACK = 8
_ENDS = re.compile(r"""[.!?:;]["')\]]*$""")
_LARGEST_DOCUMENT = 16 << 20


def form_of(lines: Sequence[str]) -> Form:
    """The form of a file, told from its first lines.

    Args:
        lines: Some hundreds of lines, or all of a short file, without space around them.

    Returns:
        The form.

    Example:
        >>> form_of(["One sentence.", "And one more.", "", "Another document.", "Its end."])
        'blocks'
        >>> form_of(["A paragraph. It has two sentences.", "", "Another one."])
        'paragraphs'
    """
    if is_wrapped(lines):
        return "wrapped"
    blocks = list(_blocks(lines))
    if len(blocks) > 1 and statistics.median(map(len, blocks)) >= 2:
        return "blocks"
    return "paragraphs"


def is_wrapped(lines: Sequence[str]) -> bool:
    """Whether lines end where the page did rather than where a sentence or paragraph does.

    Args:
        lines: Without space around them.

    Returns:
        True where most lines that are followed by another would not have had room for its first
        word, and do not end a sentence.
    """
    width = width_of(lines)
    followed = [
        (line, after) for line, after in zip(lines, lines[1:], strict=False) if line and after
    ]
    if not followed or width not in _WRAPPED_WIDTHS or len(followed) < 3:
        return False
    full = [line for line, after in followed if not has_room(line, after, width=width)]
    unfinished = sum(not _ENDS.search(line) for line in full)
    return len(full) > 0.6 * len(followed) and unfinished > 0.6 * len(full)


def width_of(lines: Sequence[str]) -> int:
    """The length that wrapped lines were filled to.

    Args:
        lines: Without space around them.

    Returns:
        Characters: nine in ten lines are no longer.
    """
    lengths = sorted(len(line) for line in lines if line)
    return lengths[int(0.9 * (len(lengths) - 1))] if lengths else 0


def has_room(line: str, after: str, *, width: int) -> bool:
    """Whether the first word of the next line would have gone onto this one.

    Args:
        line: A line.
        after: The next.
        width: What lines were filled to.

    Returns:
        True where the line was ended on purpose.
    """
    return len(line) + 1 + len(after.split(maxsplit=1)[0]) <= width - _SLACK


def joined(lines: Iterable[str], *, width: int) -> Iterator[str]:
    """Paragraphs of hard-wrapped lines.

    Args:
        lines: Lines; a blank one ends a paragraph, and so does one that was ended on purpose.
        width: What they were filled to.

    Yields:
        Paragraphs on one line each.

    Example:
        >>> list(joined(["It was a very well-", "known road", "", "The end."], width=19))
        ['It was a very well-known road', 'The end.']
    """
    held = ""
    previous = ""
    for raw in lines:
        line = raw.strip()
        if held and (not line or has_room(previous, line, width=width)):
            yield held
            held = ""
        if line:
            is_cut_word = held[-1:] == "-" and held[-2:-1].isalpha()
            held += line if is_cut_word or not held else f" {line}"
        previous = line
    if held:
        yield held


def limited(paragraphs: Iterable[str]) -> Iterator[Paragraphs]:
    """One document, or several where it is too large to be held in memory.

    Args:
        paragraphs: Of one document.

    Yields:
        Lists of paragraphs of at most about 16 MiB, none empty.
    """
    held: Paragraphs = []
    size = 0
    for paragraph in paragraphs:
        held.append(paragraph)
        size += len(paragraph)
        if size > _LARGEST_DOCUMENT:
            yield held
            held = list[str]()
            size = 0
    if held:
        yield held


def _blocks(lines: Iterable[str]) -> Iterator[list[str]]:
    block: list[str] = []
    for line in lines:
        if line:
            block.append(line)
        elif block:
            yield block
            block = []
    if block:
        yield block
