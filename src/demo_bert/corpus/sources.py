"""The kinds of input: one module each, and its line here.

A module has `plan(kind, path, *, tally)`, the pieces of an input, and `read(piece, *, tally)`, the
documents of a piece; both are pure functions of the files.
"""

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path

from demo_bert.corpus.document import Paragraphs, Piece, Tally

SOURCES: Mapping[str, str] = {
    "wikipedia": "demo_bert.corpus.wikipedia",
    "books": "demo_bert.corpus.plain_text",
    "text": "demo_bert.corpus.plain_text",
    "jsonl": "demo_bert.corpus.jsonl",
    "parquet": "demo_bert.corpus.parquet",
    "hub": "demo_bert.corpus.hub_text",
}
"""Kind -> its module; in the order of the store."""

OPTIONS = tuple(kind for kind in SOURCES if kind != "hub")
"""Kinds that have an option of this name."""


def plan(inputs: Sequence[tuple[str, Path]], *, tally: Tally) -> list[Piece]:
    """The pieces of all inputs.

    Args:
        inputs: Kind and path of each, in order.
        tally: Counts what is left out.

    Returns:
        The pieces, in the order of the inputs.

    Raises:
        DataError: An input cannot be read, or is of another form.
    """
    found: list[Piece] = []
    for kind, path in inputs:
        found += import_module(SOURCES[kind]).plan(kind, path, tally=tally)
    return found


def read(piece: Piece, *, tally: Tally) -> Iterator[Paragraphs]:
    """The documents of a piece.

    Args:
        piece: From `plan`.
        tally: Counts what is left out or mended.

    Returns:
        Paragraphs of each document, none empty.

    Raises:
        DataError: The input is damaged or cannot be read.
    """
    return import_module(SOURCES[piece.kind]).read(piece, tally=tally)
