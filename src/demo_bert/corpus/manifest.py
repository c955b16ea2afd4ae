"""What the manifest of a new store tells of its making."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from demo_bert.corpus.document import Tally
from demo_bert.corpus.parts import PartFacts
from demo_bert.corpus.recipe import Recipe, Unit, settings_of
from demo_bert.corpus.selection import HELD_OUT_FRACTION, Selection
from demo_bert.corpus.sentences import SPLITTER, splitter_version


def facts_of(
    recipe: Recipe,
    units: Sequence[Unit],
    facts: Sequence[PartFacts],
    *,
    selection: Selection,
    tally: Tally,
) -> dict[str, Any]:
    """What the manifest says beside its counts and shards.

    Args:
        recipe: Of the store.
        units: All, in order.
        facts: Of each unit's part.
        selection: What the store is put together of.
        tally: What was counted on the way.

    Returns:
        Plain values.
    """
    segments = selection.segments
    held_out = segments[segments["held_out"]]
    tokens_read = sum(one.tokens for one in facts)
    return {
        **settings_of(recipe),
        "splitter": {"name": SPLITTER, "version": splitter_version()},
        "sources": _sources(recipe, units, facts, segments=segments),
        "unknown_fraction": sum(one.unknown_tokens for one in facts) / max(tokens_read, 1),
        "held_out": {
            "rule": selection.held_out_rule,
            "fraction": HELD_OUT_FRACTION,
            **_counts(held_out),
        },
        "dropped": {
            "exact_duplicates": selection.exact_duplicates,
            "near_duplicates": selection.near_duplicates,
            "blocks_near_held_out": selection.near_held_out,
        },
        "tally": dict(sorted(tally.items())),
        "command": recipe.command,
    }


def _sources(
    recipe: Recipe, units: Sequence[Unit], facts: Sequence[PartFacts], *, segments: np.ndarray
) -> list[dict[str, Any]]:
    source_of_part = np.array([unit.source for unit in units])
    listed: list[dict[str, Any]] = []
    for number, (kind, path) in enumerate(recipe.inputs):
        read = [one for one, unit in zip(facts, units, strict=True) if unit.source == number]
        kept = segments[source_of_part[segments["part"]] == number]
        listed.append(
            {
                "kind": kind,
                "path": str(path),
                "bytes": sum(one.input_bytes for one in read),
                "documents_read": sum(one.documents for one in read),
                **_counts(kept),
            }
        )
    return listed


def _counts(segments: np.ndarray) -> dict[str, int]:
    return {
        "documents": len(segments),
        "sentences": int(segments["sentences"].sum(dtype=np.int64)),
        "tokens": int(segments["tokens"].sum(dtype=np.int64)),
    }
