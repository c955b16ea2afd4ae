"""Paragraphs to sentences."""

import pytest

from demo_bert.corpus import sentences
from demo_bert.corpus.sentences import split


def test_a_paragraph_without_end_is_cut_at_spaces_and_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sentences, "_MOST_CHARACTERS", 20)
    text = "the rain fell on the old house and it was wet " * 3
    found = split([text, "x" * 50], language="en").sentences
    assert " ".join(found[:-3]) == text.strip()
    assert found[-3:] == ["x" * 20, "x" * 20, "x" * 10]
    assert max(map(len, found)) <= 20
