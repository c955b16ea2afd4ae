"""Paragraphs to sentences, by the `sentencex` library."""

from collections.abc import Sequence
from functools import cache
from importlib.metadata import version

from demo_bert.corpus.document import Document

SPLITTER = "sentencex"


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
            for sentence in segment(language, paragraph)
            if (stripped := sentence.strip())
        ]
    )


@cache
def splitter_version() -> str:
    """The version of the splitter: another one may split elsewhere, so it is kept in a store."""
    return version(SPLITTER)
