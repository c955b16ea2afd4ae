"""What shapes a token store, and what follows from it: units of work, rules, settings."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from demo_bert.corpus import sources
from demo_bert.corpus.document import Piece, Tally
from demo_bert.corpus.parts import Rules
from demo_bert.corpus.sentences import SPLITTER, splitter_version
from demo_bert.corpus.store import SCHEMA_VERSION, vocabulary_sha256
from demo_bert.corpus.word_pieces import WordPieces

_TEXT_VERSION = 3
"""Goes up when the same input gives other documents, sentences, or hashes of documents."""
_UNIT_BYTES = 8 << 20


@dataclass(frozen=True)
class Recipe:
    """What shapes a store."""

    inputs: tuple[tuple[str, Path], ...]
    """Kind and path of each, in order."""
    vocabulary: tuple[str, ...]
    tokenizer: str
    """What `Tokenizer.to_str` gives for it."""
    case_rules: dict[str, Any]
    """As the manifest is to tell them."""
    vocabulary_name: str
    """Where it came from, for messages."""
    id_dtype: str
    language: str
    dedupe: str
    command: str
    """The command line, without what does not shape the store."""


@dataclass(frozen=True)
class Unit:
    """What is done in one go: pieces of one input, some megabytes together."""

    source: int
    """Number of the input."""
    pieces: tuple[Piece, ...]

    @property
    def num_bytes(self) -> int:
        """Size on disk."""
        return sum(piece.num_bytes for piece in self.pieces)


def units_of(inputs: Sequence[tuple[str, Path]], *, tally: Tally) -> list[Unit]:
    """The work on all inputs.

    Args:
        inputs: Kind and path of each, in order.
        tally: Counts what is left out.

    Returns:
        Units in order, the same for any number of workers.

    Raises:
        DataError: An input cannot be read, or is of another form.
    """
    found: list[Unit] = []
    for number, one in enumerate(inputs):
        held: list[Piece] = []
        for piece in sources.plan([one], tally=tally):
            held.append(piece)
            if sum(waiting.num_bytes for waiting in held) >= _UNIT_BYTES:
                found.append(Unit(number, tuple(held)))
                held = []
        if held:
            found.append(Unit(number, tuple(held)))
    return found


def rules_of(recipe: Recipe) -> Rules:
    """How documents become ids, by a recipe.

    Args:
        recipe: Of the store.

    Returns:
        The rules.
    """
    return Rules(
        language=recipe.language,
        word_pieces=WordPieces(recipe.tokenizer, np.dtype(recipe.id_dtype)),
        vocabulary=recipe.vocabulary,
        unknown_id=recipe.vocabulary.index("[UNK]"),
        id_dtype=recipe.id_dtype,
        has_signatures=recipe.dedupe == "near",
    )


def plan_of(recipe: Recipe) -> dict[str, Any]:
    """What must be the same when an unfinished store is gone on with.

    Args:
        recipe: Of the store.

    Returns:
        Plain values: the settings, and every file with its size and time of change.
    """
    return {
        **settings_of(recipe),
        "inputs": [
            # What lies on the hub is named by its commit.
            [kind, str(path), *([] if kind == "hub" else [_states(path)])]
            for kind, path in recipe.inputs
        ],
    }


def settings_of(recipe: Recipe) -> dict[str, Any]:
    """What shapes a store beside its inputs.

    Args:
        recipe: Of the store.

    Returns:
        Plain values, as the manifest has them.
    """
    return {
        "versions": {"schema": SCHEMA_VERSION, "text": _TEXT_VERSION, SPLITTER: splitter_version()},
        "vocabulary": {"sha256": vocabulary_sha256(recipe.vocabulary), **recipe.case_rules},
        "language": recipe.language,
        "dedupe": recipe.dedupe,
    }


def _states(path: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of change of each file."""
    files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    states = [(str(one), one.stat()) for one in files]
    return [(name, state.st_size, state.st_mtime_ns) for name, state in states]
