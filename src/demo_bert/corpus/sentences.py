"""Paragraphs to sentences, by the `sentencex` library."""

from collections.abc import Iterator, Sequence
from functools import cache
from importlib.metadata import version

from demo_bert.corpus.document import Document

SPLITTER = "sentencex"

_MOST_CHARACTERS = 1 << 20


def split(paragraphs: Sequence[str], *, language: str) -> Document:
    """The sentences of a document.

    Args:
        paragraphs: No sentence goes beyond one.
        language: A code such as "en"; unknown ones are split as the nearest that is known.

    Returns:
        The document; its sentences are not empty.

    Example:
        >>> split(["It rains. It is wet.", "Dr. Smith left."], language="en").sentences
        ['It rains.', 'It is wet.', 'Dr. Smith left.']
    """
    from sentencex import segment  # type: ignore[missing-module-attribute]  # it has no types

    return Document(
        [
            stripped
            for paragraph in paragraphs
            for part in _parts(paragraph)
            for sentence in segment(language, part)
            if (stripped := sentence.strip())
        ]
    )


def _parts(paragraph: str) -> Iterator[str]:
    """A paragraph, cut at spaces where it is far longer than any text has: memory is bounded."""
    begin = 0
    while len(paragraph) - begin > _MOST_CHARACTERS:
        end = paragraph.rfind(" ", begin, begin + _MOST_CHARACTERS) + 1
        end = end if end > begin else begin + _MOST_CHARACTERS
        yield paragraph[begin:end]
        begin = end
    yield paragraph[begin:] if begin else paragraph


@cache
def splitter_version() -> str:
    """The version of the splitter: another one may split elsewhere, so it is kept in a store."""
    return version(SPLITTER)
