"""Ids behind the cache of words equal those of `tokenizers`, for any text."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from corpus.recipes import VOCABULARY
from demo_bert.corpus import word_pieces
from demo_bert.corpus.word_pieces import WordPieces
from demo_bert.model.vocabulary import STANDARD_VOCABULARY, build_tokenizer, read_vocabulary

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
WORDS = st.lists(
    st.text("abcdefgTHERAINing019'-.,\u00e9\u0301\u4e2d\u00ad\x0b\x1c\x85\u2019\u2014", max_size=12)
    | st.sampled_from(["unaffable", "[SEP]", "[UNK]", "##ing", "e.g.", "a" * 101, "\u03a3\u03c2"]),
    max_size=20,
).map(" ".join)


@cache
def both(do_lower_case: bool, name: str) -> tuple[Tokenizer, WordPieces]:
    entries = read_vocabulary(STANDARD_VOCABULARY) if name == "standard" else VOCABULARY
    tokenizer = build_tokenizer(entries, do_lower_case=do_lower_case)
    pieces = WordPieces(tokenizer.to_str(), np.dtype("<u2"))
    tokenizer.encode_special_tokens = True
    return tokenizer, pieces


@pytest.mark.parametrize("name", ["standard", "small"])
@pytest.mark.parametrize("do_lower_case", [True, False], ids=["uncased", "cased"])
@given(text=ANY_TEXT | WORDS)
def test_ids_are_those_of_tokenizers(do_lower_case: bool, name: str, text: str) -> None:
    tokenizer, pieces = both(do_lower_case, name)
    expected = tokenizer.encode(text, add_special_tokens=False).ids
    assert np.frombuffer(pieces.ids_of(pieces.words_of(text)), "<u2").tolist() == expected


def test_ids_of_real_text_are_those_of_tokenizers() -> None:
    tokenizer, pieces = both(True, "standard")
    text = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    for line in text.splitlines():
        expected = tokenizer.encode(line, add_special_tokens=False).ids
        assert np.frombuffer(pieces.ids_of(pieces.words_of(line)), "<u2").tolist() == expected


def test_names_of_special_tokens_in_a_text_are_words_like_others() -> None:
    _, pieces = both(True, "standard")
    ids = np.frombuffer(pieces.ids_of(pieces.words_of("[MASK] it [SEP]")), "<u2")
    assert not {101, 102, 103} & set(ids.tolist())


def test_a_full_cache_begins_anew_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_pieces, "_MOST_WORDS", 3)
    tokenizer = build_tokenizer(VOCABULARY, do_lower_case=True)
    pieces = WordPieces(tokenizer.to_str(), np.dtype("<u2"))
    words = ["rain", "the", "rained,", "(of)", "and", "rain"]
    first = [pieces.ids_of([word]) for word in words]
    assert [pieces.ids_of([word]) for word in words] == first
    assert first[0] == first[-1]
