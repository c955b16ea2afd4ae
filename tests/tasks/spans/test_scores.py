"""The scores equal those of the official algorithm, on whole dev sets and in its corners."""

import json
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo_bert.tasks.spans.scores import is_right, normalized, scores_v1, scores_v2
from golden import squad_scores as golden

KINDS = ("perfect", "empty", "shuffled", "noise", "missing", "half", "always")


def shared_squad() -> Path | None:
    """`shared/data/squad` beside a directory above this one."""
    for directory in Path(__file__).resolve().parents:
        if (directory / "shared" / "data" / "squad").is_dir():
            return directory / "shared" / "data" / "squad"
    return None


@cache
def dev_set(version: str) -> golden.Data:
    directory = shared_squad()
    if directory is None:
        pytest.skip("no shared/data/squad beside the checkout")
    return golden.read(directory / golden.FILES[version])


@cache
def prediction_files(version: str) -> dict[str, dict[str, str]]:
    return golden.prediction_files(dev_set(version))


def gold_of(data: golden.Data) -> dict[str, list[str]]:
    return {qa["id"]: [a["text"] for a in qa["answers"]] for qa in golden.questions(data)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_whole_dev_sets_score_as_by_the_official_algorithm(version: str, kind: str) -> None:
    expected = json.loads(golden.EXPECTED.read_text("ascii"))[version][kind]
    gold, predictions = gold_of(dev_set(version)), prediction_files(version)[kind]
    if version == "v1":
        ours = scores_v1(gold, predictions)
    else:
        ours = scores_v2(gold, predictions, null_odds={qid: golden.odds(qid) for qid in gold})
        ours = {name: ours[name] for name in expected}
    assert ours == pytest.approx(expected, rel=0, abs=1e-9)


def test_the_kinds_of_prediction_files_score_differently() -> None:
    expected = json.loads(golden.EXPECTED.read_text("ascii"))
    assert set(expected["v1"]) == set(expected["v2"]) == set(KINDS)
    assert expected["v1"]["perfect"] == {"exact_match": 100.0, "f1": 100.0}
    assert len({figures["f1"] for figures in expected["v1"].values()}) == len(KINDS)
    assert expected["v1"]["noise"]["f1"] > 99.0, "noise that does not count"


WORDS = st.lists(st.sampled_from(["the", "An", "cat", "Cat.", "dog", "a", "--", "e\u0301"]))
TEXTS = st.one_of(WORDS.map(" ".join), st.text(max_size=12))


@given(
    gold=st.dictionaries(st.integers(0, 9).map(str), st.lists(TEXTS, max_size=3), min_size=1),
    predictions=st.dictionaries(st.integers(0, 9).map(str), TEXTS),
    odds=st.lists(st.integers(-3, 3), min_size=10, max_size=10),
)
def test_any_answers_score_as_by_the_official_algorithm(
    gold: dict[str, list[str]], predictions: dict[str, str], odds: list[int]
) -> None:
    data = [
        {
            "paragraphs": [
                {
                    "context": "",
                    "qas": [
                        {"id": qid, "answers": [{"text": text} for text in answers]}
                        for qid, answers in gold.items()
                    ],
                }
            ]
        }
    ]
    null_odds = {qid: float(odds[int(qid)]) for qid in gold}
    if all(gold.values()):
        ours = scores_v1(gold, predictions)
        assert ours == pytest.approx(golden.official_v1(data, predictions), rel=0, abs=1e-9)
    predictions = {**dict.fromkeys(gold, ""), **predictions}
    ours = scores_v2(gold, predictions, null_odds=null_odds)
    if {bool(answers) for answers in gold.values()} == {True, False}:
        theirs = golden.official_v2(data, predictions, null_odds)
        assert ours == pytest.approx(theirs, rel=0, abs=1e-9)


def test_what_does_not_count_is_taken_away_in_the_official_order() -> None:
    assert normalized("A.N. the-end") == "theend"
    assert normalized("the 'a' an") == ""
    assert normalized("Caf\u00e9\u2014the \u201cbar\u201d") == "caf\u00e9\u2014 \u201cbar\u201d"


def test_no_answer_is_right_only_where_there_is_none() -> None:
    figures = scores_v2({"with": ["x"], "without": []}, {"with": "", "without": ""})
    assert (figures["HasAns_exact"], figures["NoAns_exact"], figures["exact"]) == (0.0, 100.0, 50.0)
    assert not is_right(["x"], "")
    assert is_right([], "")


def test_without_odds_there_are_no_best_thresholds() -> None:
    assert not [name for name in scores_v2({"q": ["x"]}, {"q": "x"}) if name.startswith("best")]
