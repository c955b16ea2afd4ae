"""Ids behind the table of words equal those of `tokenizers`, for any text."""

import random
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from corpus.recipes import LETTERS, VOCABULARY
from demo_bert.corpus import word_pieces, word_table
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
    assert pieces.encode([text]).ids.tolist() == expected


def test_ids_of_real_text_are_those_of_tokenizers() -> None:
    tokenizer, pieces = both(True, "standard")
    text = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    for line in text.splitlines():
        expected = tokenizer.encode(line, add_special_tokens=False).ids
        assert pieces.encode([line]).ids.tolist() == expected


def test_names_of_special_tokens_in_a_text_are_words_like_others() -> None:
    _, pieces = both(True, "standard")
    ids = pieces.encode(["[MASK] it [SEP]"]).ids
    assert not {101, 102, 103} & set(ids.tolist())


def test_a_full_table_begins_anew_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_table, "_MOST_WORDS", 3)
    tokenizer = build_tokenizer(VOCABULARY, do_lower_case=True)
    pieces = WordPieces(tokenizer.to_str(), np.dtype("<u2"))
    words = ["rain", "the", "rained,", "(of)", "and", "rain"]
    first = [pieces.encode([word]).ids.tolist() for word in words]
    assert [pieces.encode([word]).ids.tolist() for word in words] == first
    assert first[0] == first[-1]


def test_words_that_want_the_same_place_in_the_table_are_told_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(word_table, "_SLOT_BITS", 9)
    tokenizer = build_tokenizer(VOCABULARY, do_lower_case=True)
    table = word_table.WordTable(tokenizer.to_str(), np.dtype("<u2"))
    draw = random.Random(3)
    words = ["".join(draw.choices(LETTERS, k=draw.randint(1, 16))) for _ in range(400)]
    data = " ".join(words).encode()
    lengths = np.array(list(map(len, words)))
    ends = np.cumsum(lengths + 1) - 1
    for _ in range(2):
        for number, word in zip(table.numbers_of(data, ends - lengths, ends), words, strict=True):
            ids = table.ids[table.begins[number] :][: table.counts[number]].tolist()
            assert ids == tokenizer.encode(word, add_special_tokens=False).ids


def test_each_sentence_has_its_tokens_and_words_in_one_batch_or_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokenizer, pieces = both(True, "standard")
    sentences = ["The rain, fell.", "", "\u200b", "a\nb", "\0It\0 stopped\u2014at once!", "x" * 40]
    expected = [len(tokenizer.encode(one, add_special_tokens=False).ids) for one in sentences]
    whole = pieces.encode(sentences)
    assert whole.tokens.tolist() == expected
    assert whole.words.tolist() == [5, 0, 1, 2, 6, 1]
    assert len(whole.word_hashes) == 15
    monkeypatch.setattr(word_pieces, "_BATCH_CHARACTERS", 3)
    parts = pieces.encode(sentences)
    for name in ("ids", "tokens", "words", "word_hashes"):
        assert getattr(parts, name).tolist() == getattr(whole, name).tolist()
    assert not len(pieces.encode([]).ids)


def test_hashes_of_words_do_not_see_case() -> None:
    _, pieces = both(False, "standard")
    first = pieces.encode(["The RAIN fell on \u00c9cole", "Incomprehensibilities"])
    second = pieces.encode(["the rain FELL on \u00e9COLE", "INCOMPREHENSIBILITIES"])
    assert first.word_hashes.tolist() == second.word_hashes.tolist()
    assert first.ids.tolist() != second.ids.tolist()
