"""Reading SQuAD files: what is wrong is named by its place, in one line."""

import copy
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from demo_bert.errors import DataError
from demo_bert.tasks.spans.questions import Question, is_squad_layout, read_questions
from squad_files import layout, paragraph, qa, shared_squad, write

TOWN = "The town lies by a river. Its bridge is old."
GOOD = layout(
    [paragraph("A hill.", qa("a", "What?", "A hill.", "hill"))],
    [
        paragraph(TOWN, qa("b", "Where?", TOWN, "by a river", "a river")),
        paragraph(TOWN + "!", qa("c", "How old?", TOWN, "old"), qa("d", "What?", TOWN, "bridge")),
    ],
)


def refusal(path: Path, content: object) -> str:
    with pytest.raises(DataError) as caught:
        read_questions(write(path, content))
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix(str(path))


def changed(change: Callable[[Any], None]) -> Any:
    content = copy.deepcopy(GOOD)
    change(content)
    return content


def test_a_file_is_read_with_titles_answers_and_places(tmp_path: Path) -> None:
    file = read_questions(write(tmp_path / "a.json", GOOD))
    assert file.questions[1] == Question(
        "b", "Where?", TOWN, ("by a river", "a river"), 14, 24, "Article 2"
    )
    assert [one.id for one in file.questions] == ["a", "b", "c", "d"]
    assert (file.is_v2, file.num_answers, file.num_misplaced, file.notes) == (False, 5, 0, ())


@pytest.mark.parametrize(("ending", "pack"), [("gz", gzip.compress), ("xz", lzma.compress)])
def test_a_packed_file_is_read_as_it_is(
    tmp_path: Path, ending: str, pack: Callable[[bytes], bytes]
) -> None:
    data = json.dumps(GOOD).encode()
    path = tmp_path / f"a.json.{ending}"
    path.write_bytes(pack(data))
    assert (
        read_questions(path).questions == read_questions(write(tmp_path / "b.json", GOOD)).questions
    )
    path.write_bytes(pack(data)[:-9])
    with pytest.raises(DataError, match="cannot be unpacked"):
        read_questions(path)


@pytest.mark.parametrize("answers", [None, [], [{"text": "hill", "answer_start": 0}], "none"])
def test_questions_that_are_only_asked_need_no_answers(tmp_path: Path, answers: object) -> None:
    content = changed(lambda data: data["data"][0]["paragraphs"][0]["qas"][0].pop("answers"))
    if answers is not None:
        content["data"][0]["paragraphs"][0]["qas"][0]["answers"] = answers
    path = write(tmp_path / "a.json", content)
    file = read_questions(path, with_answers=False)
    assert [one.id for one in file.questions] == ["a", "b", "c", "d"]
    assert file.questions[0] == Question("a", "What?", "A hill.", (), title="Article 1",
                                         is_labelled=False)  # fmt: skip
    assert not any(one.answers or one.is_labelled for one in file.questions)


def test_parquet_without_answers_can_be_asked(tmp_path: Path) -> None:
    rows = [{"id": "a", "context": "A hill.", "question": "What?"}]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    (one,) = read_questions(tmp_path / "a.parquet", with_answers=False).questions
    assert (one.id, one.is_labelled) == ("a", False)
    with pytest.raises(DataError, match="row 1: no `answers`"):
        read_questions(tmp_path / "a.parquet")


def test_the_layout_is_told_from_other_json(tmp_path: Path) -> None:
    assert is_squad_layout(write(tmp_path / "a.json", GOOD))
    for content in ([{"text": "x"}], {"data": [1]}, {"data": {}}, {"text": "x"}, 3):
        assert not is_squad_layout(write(tmp_path / "b.json", content))
    assert not is_squad_layout(write(tmp_path / "a.tsv", GOOD))
    assert not is_squad_layout(tmp_path / "missing.json")


def test_the_hubs_parquet_gives_the_same_questions(tmp_path: Path) -> None:
    wanted = read_questions(write(tmp_path / "a.json", GOOD)).questions
    rows = [
        {
            "id": one["id"],
            "title": article["title"],
            "context": part["context"],
            "question": one["question"],
            "answers": {
                "text": [each["text"] for each in one["answers"]],
                "answer_start": [each["answer_start"] for each in one["answers"]],
            },
        }
        for article in GOOD["data"]
        for part in article["paragraphs"]
        for one in part["qas"]
    ]
    path = tmp_path / "train.parquet"
    parquet.write_table(pa.Table.from_pylist(rows), path)
    assert read_questions(path).questions == wanted


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(
            lambda c: c["data"][1]["paragraphs"][1]["qas"][0].pop("answers"),
            ": article 2, paragraph 2, question 1, `answers`: must be a list, it is missing",
            id="no answers",
        ),
        pytest.param(
            lambda c: c["data"][1]["paragraphs"][1]["qas"][0].update(answers="x"),
            ": article 2, paragraph 2, question 1, `answers`: must be a list, found a text",
            id="answers a text",
        ),
        pytest.param(
            lambda c: c["data"][1]["paragraphs"].__setitem__(0, 7),
            ": article 2, paragraph 1: must be an object with `qas`, found a number",
            id="paragraph a number",
        ),
        pytest.param(
            lambda c: c["data"][0].pop("paragraphs"),
            ": article 1, `paragraphs`: must be a list, it is missing",
            id="no paragraphs",
        ),
        pytest.param(lambda c: c.pop("data"), ", `data`: must be a list, it is missing", id="data"),
        pytest.param(
            lambda c: c["data"][0]["paragraphs"][0].update(context=" \n"),
            ": article 1, paragraph 1: `context` is empty; a text is needed",
            id="empty context",
        ),
        pytest.param(
            lambda c: c["data"][0]["paragraphs"][0]["qas"][0].update(question=""),
            ": article 1, paragraph 1, question 1: `question` is empty; a text is needed",
            id="empty question",
        ),
        pytest.param(
            lambda c: c["data"][0]["paragraphs"][0]["qas"][0].update(id=5),
            ": article 1, paragraph 1, question 1, `id`: must be a text, found a number",
            id="id a number",
        ),
        pytest.param(
            lambda c: c["data"][1]["paragraphs"][0]["qas"][0]["answers"][1].update(text=""),
            ": article 2, paragraph 1, question 1, answer 2: `text` is empty; a text is needed",
            id="empty answer",
        ),
        pytest.param(
            lambda c: c["data"][1]["paragraphs"][0]["qas"][0]["answers"][1].pop("answer_start"),
            ": article 2, paragraph 1, question 1, answer 2, `answer_start`: must be a whole"
            " number, it is missing",
            id="no answer_start",
        ),
        pytest.param(
            lambda c: c["data"][0]["paragraphs"][0]["qas"][0].update(is_impossible=True),
            ": article 1, paragraph 1, question 1: `is_impossible` is true, and there are"
            " `answers`",
            id="impossible with answers",
        ),
        pytest.param(
            lambda c: c["data"][0]["paragraphs"][0]["qas"][0].update(
                is_impossible=False, answers=[]
            ),
            ": article 1, paragraph 1, question 1: `is_impossible` is false, and `answers` is"
            " empty",
            id="possible without answers",
        ),
        pytest.param(
            lambda c: c["data"][1]["paragraphs"][1]["qas"][1].update(id="a"),
            ": article 2, paragraph 2, question 2: its id 'a' is that of another question; ids"
            " must be unique",
            id="duplicate id",
        ),
        pytest.param(
            lambda c: c["data"][1]["paragraphs"][0].update(context="rain " * 200_000),
            ": article 2, paragraph 1: `context` has 1,000,000 bytes; less than 1,000,000 are"
            " allowed; split it",
            id="context of 1 MB",
        ),
        pytest.param(
            lambda c: c.update(data=[]),
            ": has no questions; articles with paragraphs with qas",
            id="no questions",
        ),
    ],
)
def test_a_wrong_shape_is_named_by_its_place(
    tmp_path: Path, change: Callable[[Any], None], expected: str
) -> None:
    assert refusal(tmp_path / "a.json", changed(change)) == expected


@pytest.mark.parametrize("content", ["[]", "7", '"text"', "null", "true"])
def test_other_json_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(DataError, match="must be an object with `data`"):
        read_questions(path)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.77, 0.999])
def test_a_file_cut_short_is_refused_with_the_place(tmp_path: Path, share: float) -> None:
    text = json.dumps(GOOD)
    path = tmp_path / "a.json"
    path.write_text(text[: round(share * len(text))])
    with pytest.raises(DataError, match=r"(cut short|not JSON \(.*\)), at line 1, column \d+"):
        read_questions(path)


def test_json_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("[" * 200_000)
    with pytest.raises(DataError, match="nested too deeply"):
        read_questions(path)


def many(num_bad: int, count: int) -> Any:
    qas = [qa(f"q{n}", "Which?", TOWN, "river") for n in range(count)]
    for one in qas[:num_bad]:
        one["answers"][0]["answer_start"] += 1
    return layout([paragraph(TOWN, *qas)])


def test_few_misplaced_answers_are_counted_and_not_learnt(tmp_path: Path) -> None:
    file = read_questions(write(tmp_path / "a.json", many(1, 20)))
    assert [(one.start, one.end) for one in file.questions[:2]] == [(-1, -1), (19, 24)]
    assert file.questions[0].answers == ("river",)
    assert "1 of 20 answers do not stand at their answer_start" in file.notes[0]


def test_more_than_one_misplaced_answer_in_twenty_is_refused(tmp_path: Path) -> None:
    said = refusal(tmp_path / "a.json", many(2, 39))
    assert said.startswith(": 2 of 39 answers do not stand at their answer_start")


def test_offsets_beyond_the_passage_and_below_zero_are_misplaced(tmp_path: Path) -> None:
    for start in (-1, 10**9, -3):
        content = many(0, 20)
        content["data"][0]["paragraphs"][0]["qas"][0]["answers"][0]["answer_start"] = start
        assert read_questions(write(tmp_path / "a.json", content)).num_misplaced == 1


def test_of_several_answers_the_first_that_is_at_its_place_is_learnt(tmp_path: Path) -> None:
    content = many(0, 20)
    answers = content["data"][0]["paragraphs"][0]["qas"][0]["answers"]
    answers.insert(0, {"text": "bridge", "answer_start": 3})
    (first, *_) = read_questions(write(tmp_path / "a.json", content)).questions
    assert (first.start, first.end, first.answers) == (19, 24, ("bridge", "river"))


def test_the_same_question_twice_is_read_once_and_reported(tmp_path: Path) -> None:
    again = qa("a", "What?", "A hill.", "A")
    content = changed(lambda c: c["data"][0]["paragraphs"][0]["qas"].append(again))
    file = read_questions(write(tmp_path / "a.json", content))
    assert [one.answers for one in file.questions if one.id == "a"] == [("hill",)]
    assert "1 questions stood there twice" in file.notes[0]


@pytest.mark.parametrize(
    "context",
    [
        pytest.param("x \ud800 y", id="half a surrogate pair"),
        pytest.param("x\0y", id="NUL"),
        pytest.param("\u05e9\u05dc\u05d5\u05dd \u200f\u05e2\u05d5\u05dc\u05dd", id="right to left"),
        pytest.param("\U0001f469\u200d\U0001f680 e\u0301", id="emoji"),
    ],
)
def test_odd_characters_are_kept_as_they_are(tmp_path: Path, context: str) -> None:
    content = layout([paragraph(context, qa("q", "What?", context, context[2:]))])
    (one,) = read_questions(write(tmp_path / "a.json", content)).questions
    assert (one.context, one.context[one.start : one.end]) == (context, context[2:])


@pytest.mark.parametrize(
    ("name", "count", "is_v2", "misplaced", "repeated"),
    [
        ("dev-v1.1.json.xz", 10570, False, 0, 0),
        ("dev-v2.0.reconstructed.json.xz", 11873, True, 0, 0),
        ("train-v1.1.first12articles.json.xz", 4370, False, 0, 0),
        ("train-v1.1.sample.json.xz", 3828, False, 0, 2),
        ("squadshifts-new_wiki_v1.0.json.xz", 7936, False, 8, 0),
    ],
)
def test_real_files_are_read_whole(
    name: str, count: int, is_v2: bool, misplaced: int, repeated: int
) -> None:
    file = read_questions(shared_squad() / name)
    assert (len(file.questions), file.is_v2) == (count, is_v2)
    assert (file.num_misplaced, file.num_repeated) == (misplaced, repeated)
