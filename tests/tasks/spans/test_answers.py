"""Answers from logits: equal to the published search written out plainly."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo_bert.tasks.spans.answers import (
    LONGEST_ANSWER,
    NUM_BEST,
    Answer,
    Candidate,
    WindowLogits,
    answer_of,
)

CONTEXT = " ".join(f"w{number % 37}" for number in range(400))


def offsets_of(context: str) -> np.ndarray:
    """A token for each word."""
    found, place = [], 0
    for word in context.split(" "):
        found.append((place, place + len(word)))
        place += len(word) + 1
    return np.array(found)


OFFSETS = offsets_of(CONTEXT)


def drawn(
    seed: int, *, shift: int, length: int, num_tokens: int, coarse: bool
) -> tuple[WindowLogits, list[dict]]:
    """Logits of all windows, as the program keeps them and as plain lists."""
    random = np.random.default_rng(seed)
    first, features = 0, []
    while True:
        count = min(length, num_tokens - first)
        logits = random.normal(size=(2, shift + count + 1)).astype(np.float32) * 3
        if coarse:  # many equal scores
            logits = np.round(logits)
        features.append({"first": first, "count": count, "start": logits[0], "end": logits[1]})
        if first + count == num_tokens:
            break
        first += min(count, 7)
    best = {"start": [], "end": []}
    for feature in features:
        for side, kept in best.items():
            order = np.argsort(-feature[side], kind="stable")[:NUM_BEST]
            spare = NUM_BEST - len(order)
            places = np.concatenate([order, np.full(spare, -1)])
            values = np.concatenate([feature[side][order], np.full(spare, -1e30)])
            kept.append((places, values))
    told = WindowLogits(
        first=np.array([f["first"] for f in features]),
        count=np.array([f["count"] for f in features]),
        shift=shift,
        null=np.array([(f["start"][0], f["end"][0]) for f in features]),
        starts=np.stack([places for places, _ in best["start"]]),
        start_logits=np.stack([values for _, values in best["start"]]),
        ends=np.stack([places for places, _ in best["end"]]),
        end_logits=np.stack([values for _, values in best["end"]]),
    )
    return told, features


def plain_search(
    features: list[dict], *, shift: int, may_be_none: bool
) -> tuple[list[tuple[str, float, float]], float]:
    """The published search, loop by loop: (text, start logit, end logit) and null odds."""

    def best_indexes(logits: np.ndarray) -> list[int]:
        pairs = sorted(enumerate(logits.tolist()), key=lambda pair: pair[1], reverse=True)
        return [index for index, _ in pairs[:NUM_BEST]]

    def is_max_context(number: int, token: int) -> bool:
        best_score, best = None, None
        for other, feature in enumerate(features):
            end = feature["first"] + feature["count"] - 1
            if token < feature["first"] or token > end:
                continue
            score = min(token - feature["first"], end - token) + 0.01 * feature["count"]
            if best_score is None or score > best_score:
                best_score, best = score, other
        return best == number

    found, null, null_pair = [], math.inf, (0.0, 0.0)
    for number, feature in enumerate(features):
        if float(feature["start"][0]) + float(feature["end"][0]) < null:
            null_pair = (float(feature["start"][0]), float(feature["end"][0]))
            null = sum(null_pair)
        for start in best_indexes(feature["start"]):
            for end in best_indexes(feature["end"]):
                is_inside = all(shift <= i < shift + feature["count"] for i in (start, end))
                if not is_inside or end < start or end - start + 1 > LONGEST_ANSWER:
                    continue
                token = feature["first"] + start - shift
                if not is_max_context(number, token):
                    continue
                last = feature["first"] + end - shift
                text = CONTEXT[OFFSETS[token][0] : OFFSETS[last][1]]
                found.append((text, float(feature["start"][start]), float(feature["end"][end])))
    if may_be_none:
        found.append(("", *null_pair))
    found.sort(key=lambda each: each[1] + each[2], reverse=True)
    n_best: list[tuple[str, float, float]] = []
    for each in found:
        if len(n_best) >= NUM_BEST:
            break
        if each[0] not in [other[0] for other in n_best]:
            n_best.append(each)
    if may_be_none and "" not in [each[0] for each in n_best]:
        n_best.append(("", *null_pair))
    n_best = n_best or [("", 0.0, 0.0)]
    told = next((each for each in n_best if each[0]), ("", 0.0, 0.0))
    return n_best, null - told[1] - told[2]


@given(
    seed=st.integers(0, 10_000),
    shift=st.integers(3, 30),
    length=st.integers(1, 60),
    num_tokens=st.integers(1, 150),
    coarse=st.booleans(),
    may_be_none=st.booleans(),
)
def test_answers_are_those_of_the_published_search(
    seed: int, shift: int, length: int, num_tokens: int, coarse: bool, may_be_none: bool
) -> None:
    told, features = drawn(seed, shift=shift, length=length, num_tokens=num_tokens, coarse=coarse)
    expected, odds = plain_search(features, shift=shift, may_be_none=may_be_none)
    answer = answer_of(told, CONTEXT, offsets=OFFSETS, may_be_none=may_be_none)
    ours = [(each.text, each.start_logit, each.end_logit) for each in answer.best]
    assert ours == expected
    assert answer.null_odds == pytest.approx(odds, rel=1e-12, abs=1e-12)
    for each in answer.best:
        assert CONTEXT[each.start : each.end] == each.text
    scores = np.array([sum(each[1:]) for each in ours])
    shares = np.exp(scores - scores.max())
    shares /= shares.sum()
    assert [each.probability for each in answer.best] == pytest.approx(shares.tolist())


def one_window(start: int, end: int, *, num_tokens: int, null: float = 0.0) -> WindowLogits:
    """One window in which a single span stands out."""
    spare = np.full((1, NUM_BEST - 1), -1)
    low = np.full((1, NUM_BEST - 1), -1e30)
    return WindowLogits(
        first=np.array([0]),
        count=np.array([num_tokens]),
        shift=4,
        null=np.array([[null, null]]),
        starts=np.hstack([[[start + 4]], spare]),
        start_logits=np.hstack([[[5.0]], low]),
        ends=np.hstack([[[end + 4]], spare]),
        end_logits=np.hstack([[[5.0]], low]),
    )


@pytest.mark.parametrize(
    ("context", "tokens", "expected"),
    [
        pytest.param("a cafe\u0301 b", [(0, 1), (2, 6), (8, 9)], "cafe\u0301", id="accent"),
        pytest.param("x \u05d0\u05b7\u05d1\u05b8 y", [(0, 1), (2, 5), (7, 8)],
                     "\u05d0\u05b7\u05d1\u05b8", id="hebrew points"),
        pytest.param("x \u2764\ufe0f y", [(0, 1), (2, 3), (5, 6)], "\u2764\ufe0f", id="emoji"),
        pytest.param("x ab\0 y", [(0, 1), (2, 4), (6, 7)], "ab", id="NUL"),
    ],
)  # fmt: skip
def test_an_answer_ends_with_a_whole_character(
    context: str, tokens: list[tuple[int, int]], expected: str
) -> None:
    logits = one_window(1, 1, num_tokens=3)
    answer = answer_of(logits, context, offsets=np.array(tokens), may_be_none=False)
    assert answer.best[0].text == expected


def test_an_answer_of_more_than_thirty_tokens_is_none() -> None:
    for end, expected in ((LONGEST_ANSWER - 1, True), (LONGEST_ANSWER, False)):
        logits = one_window(0, end, num_tokens=100)
        answer = answer_of(logits, CONTEXT, offsets=OFFSETS, may_be_none=False)
        assert bool(answer.best[0].text) is expected
    assert answer.best == (Candidate("", 0, 0, 0.0, 0.0, 1.0),), "nbest.json is never empty"
    assert answer.text == Candidate("", 0, 0, 0.0, 0.0)


def test_the_threshold_decides_whether_the_answer_is_none() -> None:
    logits = one_window(2, 3, num_tokens=9, null=6.0)
    answer = answer_of(logits, CONTEXT, offsets=OFFSETS, may_be_none=True)
    assert answer.null_odds == 2.0
    assert [each.text for each in answer.best] == ["", "w2 w3"]
    assert answer.chosen(threshold=0.0).text == ""
    assert answer.chosen(threshold=2.0).text == "w2 w3"
    assert answer.chosen(threshold=None).text == "w2 w3"


def test_no_answer_is_not_chosen_where_it_is_no_candidate() -> None:
    assert Answer((), 5.0).chosen(threshold=None).text == ""
