"""Windows over passages: the published cut, and offsets that give the exact original characters."""

import unicodedata
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from demo_bert.data.windows import Asked, Windows, WindowShape, make_windows, windows_key
from demo_bert.errors import UsageError
from demo_bert.model.vocabulary import STANDARD_VOCABULARY, build_tokenizer, read_vocabulary

VOCABULARY = read_vocabulary(STANDARD_VOCABULARY)
UNCASED = build_tokenizer(VOCABULARY, do_lower_case=True)
CASED = build_tokenizer(VOCABULARY, do_lower_case=False)
SHAPE = WindowShape(48, doc_stride=16, max_query_length=12)


def windows(
    passages: Sequence[str],
    asked: Sequence[Asked],
    *,
    tokenizer: Tokenizer = UNCASED,
    shape: WindowShape = SHAPE,
) -> Windows:
    return Windows(make_windows(passages, asked, tokenizer=tokenizer, shape=shape))


def published_parts(num_tokens: int, room: int, stride: int) -> list[tuple[int, int]]:
    """The loop of the published code."""
    parts, start = [], 0
    while start < num_tokens:
        length = min(room, num_tokens - start)
        parts.append((start, length))
        if start + length == num_tokens:
            break
        start += min(length, stride)
    return parts


@given(
    words=st.lists(st.integers(1, 400), min_size=1, max_size=4),
    queries=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    length=st.integers(20, 80),
    stride=st.integers(1, 60),
)
def test_rows_are_those_of_the_published_loop(
    words: list[int], queries: list[int], length: int, stride: int
) -> None:
    shape = WindowShape(length, doc_stride=stride, max_query_length=12)
    passages = [" ".join(["river", "town"][n % 2] for n in range(count)) for count in words]
    asked = [
        Asked(f"q{number}", " ".join(["who"] * count), number % len(passages))
        for number, count in enumerate(queries)
    ]
    made = windows(passages, asked, shape=shape)
    expected = []
    for one in asked:
        query = UNCASED.encode(one.question, add_special_tokens=False).ids[:12]
        passage = UNCASED.encode(passages[one.passage], add_special_tokens=False).ids
        room = length - len(query) - 3
        for start, count in published_parts(len(passage), room, stride):
            expected.append([101, *query, 102, *passage[start : start + count], 102])
    assert [row.input_ids.tolist() for row in made] == expected
    assert max(map(len, expected)) <= length
    assert [len(made[made.of_question(number)]) for number in range(len(asked))] == [
        len(published_parts(words[one.passage], length - min(12, queries[n]) - 3, stride))
        for n, one in enumerate(asked)
    ]
    for number, one in enumerate(asked):
        for row in made[made.of_question(number)]:
            assert row.first_segment == made.shift(number) == 2 + min(12, queries[number])
            assert row.label == (0, 0)
        assert len(made.offsets(made.of_question(number))) == words[one.passage]


ODD = st.sampled_from(
    [
        *("\0", "\u00ad", "\u200d", "\ufeff", "\ufffd", "\u0301", "\ufe0f", "\u05d0", "\u0640"),
        *("\u0130", "\u1e9e", "\ufb03", "\u4e2d", "\uac00", "\u1100\u1161"),
        "\U0001f469\u200d\U0001f680",
        *("\U0001f1e9\U0001f1ea", "\u2028", "\u00a0", "\u202f", "\u0e33", "\u00df", "\ud83d"),
        "\u212b",
        *("e\u0301\u0302", ".", "-", "'", "\u00e9", "A", "b", "42", " ", " ", "\n", "\t"),
    ]
)  # fmt: skip
TEXTS = st.lists(st.one_of(ODD, st.text(max_size=6)), max_size=30).map("".join)


@hypothesis_settings(max_examples=400)
@given(text=TEXTS, is_cased=st.booleans())
@example(text="\u0130stanbul \u0130\u0130 x", is_cased=False)
@example(text="a\0b \ud83d c", is_cased=False)
def test_offsets_cut_the_characters_that_a_token_was_made_of(text: str, is_cased: bool) -> None:
    tokenizer = CASED if is_cased else UNCASED
    made = windows([text], [Asked("q", "who", 0)], tokenizer=tokenizer)
    offsets = made.offsets(made.of_question(0))
    ids = tokenizer.encode(
        "".join("\ufffd" if unicodedata.category(c) == "Cs" else c for c in text),
        add_special_tokens=False,
    ).ids
    assert len(offsets) == len(ids)
    assert (offsets[:, 0] <= offsets[:, 1]).all()
    assert (offsets >= 0).all() and (offsets <= len(text)).all()
    assert (np.diff(offsets[:, 0]) >= 0).all() and (np.diff(offsets[:, 1]) >= 0).all()
    for number, (start, end) in zip(ids, offsets.tolist(), strict=True):
        piece = VOCABULARY[number]
        cut = text[start:end]
        if piece != "[UNK]" and not any(unicodedata.category(c) == "Cs" for c in cut):
            normal = tokenizer.normalizer.normalize_str(cut).strip()
            assert piece.removeprefix("##") in normal, (piece, cut)
        assert cut == "" or not cut.isspace()


WORD = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Cf", "Zs", "Zl", "Zp", "Co", "Cn")),
    min_size=1,
    max_size=8,
)


def starts_a_character(word: str) -> bool:
    return unicodedata.category(word[0]) not in ("Mn", "Me", "Mc", "Lm", "Sk")


@hypothesis_settings(max_examples=300)
@given(
    words=st.lists(WORD.filter(starts_a_character), min_size=3, max_size=25),
    first=st.integers(0, 24),
    count=st.integers(1, 5),
    space=st.sampled_from([" ", "\u00a0", "  ", " \0 ", "\n"]),
)
def test_the_answers_tokens_cut_the_answer_and_nothing_else(
    words: list[str], first: int, count: int, space: str
) -> None:
    first %= len(words)
    chosen = words[first : first + count]
    before = space.join([*words[:first], ""])
    answer = space.join(chosen)
    text = before + answer + space + space.join(words[first + count :])
    shape = WindowShape(512, doc_stride=128, max_query_length=12)
    start, end = len(before), len(before) + len(answer)
    made = windows([text], [Asked("q", "who", 0, start, end)], shape=shape)
    (row,) = made[made.of_question(0)]
    offsets = made.offsets(made.of_question(0))
    inside = [
        (a, b) for a, b in offsets.tolist() if start <= a and b <= end and b > a
    ]  # what the tokenizer made of the answer: nothing of characters it drops
    if not inside:
        assert row.label == (0, 0)
        return
    left, right = (place - made.shift(0) for place in row.label)
    assert (offsets[left, 0], offsets[right, 1]) == (inside[0][0], inside[-1][1])
    cut = text[offsets[left, 0] : offsets[right, 1]]
    lost = answer.replace(cut, "", 1)
    assert cut in answer
    assert all(unicodedata.category(c)[0] in "MCZ" or c == "\ufffd" for c in lost), (answer, cut)


def test_an_answer_is_labelled_in_the_windows_that_hold_all_of_it() -> None:
    passage = " ".join(["river"] * 80)
    start = 6 * 20
    asked = [Asked("q", "who", 0, start, start + 6 * 12 - 1)]  # tokens 20 to 31
    made = windows([passage], asked)
    first, count = made.parts(made.of_question(0))
    inside = [f <= 20 and 31 < f + c for f, c in zip(first, count, strict=True)]
    assert inside == [True, True, False, False]
    expected = [
        (23 - f, 34 - f) if i else (0, 0) for f, i in zip(first.tolist(), inside, strict=True)
    ]
    assert [row.label for row in made] == expected


def test_a_question_that_leaves_no_room_is_refused_by_its_name() -> None:
    asked = [Asked("q1", "who", 0), Asked("question 'q2'", "who " * 11, 0)]
    with pytest.raises(UsageError, match=r"question 'q2'.* 11 tokens.* at least 15, it is 14"):
        windows(["a town"], asked, shape=WindowShape(14, max_query_length=12))
    assert len(windows(["a town"], asked, shape=WindowShape(15, max_query_length=12))) == 3


def test_a_passage_of_a_megabyte_is_cut_into_windows() -> None:
    passage = "river " * 170_000
    made = windows([passage], [Asked("q", "who", 0)], shape=WindowShape(384))
    assert len(passage) > 1_000_000
    first, count = made.parts(made.of_question(0))
    assert first[-1] + count[-1] == 170_000
    assert len(made) == 1 + -(-(170_000 - 380) // 128)


def test_a_passage_without_tokens_has_one_window_of_none() -> None:
    made = windows(["\0\u00ad"], [Asked("q", "who", 0, 0, 1)])
    assert [row.input_ids.tolist() for row in made] == [[101, 2040, 102, 102]]
    assert made[0].label == (0, 0)


CHANGES = {
    "passage": {"passages": ["a river"]},
    "question": {"asked": [Asked("q", "when", 0)]},
    "answer": {"asked": [Asked("q", "who", 0, 0, 1)]},
    "case": {"tokenizer": CASED},
    "vocabulary": {"tokenizer": build_tokenizer(VOCABULARY[:-1], do_lower_case=True)},
    "length": {"shape": WindowShape(49, 16, 12)},
    "stride": {"shape": WindowShape(48, 17, 12)},
    "query": {"shape": WindowShape(48, 16, 13)},
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_key_follows_everything_that_windows_are_made_of(change: str) -> None:
    same = {
        "passages": ["a town"],
        "asked": [Asked("q", "who", 0)],
        "tokenizer": UNCASED,
        "shape": SHAPE,
    }
    key = windows_key(**same)  # type: ignore[arg-type]
    UNCASED.enable_truncation(5)
    assert windows_key(**same) == key  # type: ignore[arg-type]
    assert windows_key(**(same | CHANGES[change])) != key  # type: ignore[arg-type]
