"""Which file is which split, and which version."""

from pathlib import Path
from typing import Any

import pytest

from demo_bert.errors import DataError
from demo_bert.tasks.spans.data_files import find_files, read_span_data
from squad_files import layout, paragraph, qa, write

TOWN = "The town lies by a river."


def v1(*names: str, town: str = TOWN) -> dict[str, Any]:
    return layout([paragraph(town, *(qa(name, "Where?", town, "river") for name in names))])


def v2(*names: str) -> dict[str, Any]:
    asked = [qa(name, "Where?", TOWN, "river", is_impossible=False) for name in names]
    asked.append(qa("none", "Why?", TOWN, is_impossible=True))
    return layout([paragraph(TOWN, *asked)], version="v2.0")


def ids(path: Path, *others: Path, is_v2: bool = False, training: bool = True) -> dict[str, list]:
    data = read_span_data([path, *others], is_v2=is_v2, training=training)
    return {split: [one.id for one in asked] for split, asked in data.splits.items()}


def test_a_directory_of_both_versions_gives_those_of_the_task(tmp_path: Path) -> None:
    write(tmp_path / "train-v1.1.json", v1("a", "b"))
    write(tmp_path / "dev-v1.1.json", v1("c"))
    write(tmp_path / "train-v2.0.json", v2("d"))
    write(tmp_path / "dev-v2.0.json", v2("e"))
    assert ids(tmp_path) == {"train": ["a", "b"], "validation": ["c"]}
    assert ids(tmp_path, is_v2=True) == {"train": ["d", "none"], "validation": ["e", "none"]}
    assert ids(tmp_path, training=False) == {"validation": ["c"]}


def test_several_training_files_are_read_one_after_the_other(tmp_path: Path) -> None:
    first = write(tmp_path / "train-a.json", v1("a", "b"))
    second = write(tmp_path / "new_wiki.json", v1("c", "a"))
    dev = write(tmp_path / "my-dev.json", v1("d"))
    assert ids(first, second, dev) == {"train": ["a", "b", "c"], "validation": ["d"]}
    notes = read_span_data([first, second, dev], is_v2=False, training=True).notes
    assert "1 questions stand in two files: read once" in notes


def test_an_id_that_means_two_questions_in_two_files_is_refused(tmp_path: Path) -> None:
    first = write(tmp_path / "train-a.json", v1("a"))
    second = write(tmp_path / "train-b.json", v1("a", town="A river is here."))
    with pytest.raises(DataError, match=r"train-b.json: the id 'a' is that of another question"):
        ids(first, second)


def test_a_lone_file_is_scored_whole_or_divided_by_passages(tmp_path: Path) -> None:
    passages = [f"Town {number} lies by a river." for number in range(60)]
    asked = [
        paragraph(text, *(qa(f"{n}-{k}", "Where?", text, "river") for k in range(2)))
        for n, text in enumerate(passages)
    ]
    path = write(tmp_path / "mine.json", layout(asked))
    assert len(ids(path, training=False)["validation"]) == 120
    splits = ids(path)
    assert sorted(splits["train"] + splits["validation"]) == sorted(
        f"{n}-{k}" for n in range(60) for k in range(2)
    )
    parts = [{name.split("-")[0] for name in names} for names in splits.values()]
    assert not parts[0] & parts[1]
    assert 1 <= len(parts[1]) <= 20
    assert ids(path) == splits


def test_too_few_passages_to_hold_some_out_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 passages are too few to hold some out"):
        ids(write(tmp_path / "mine.json", v1("a")))


@pytest.mark.parametrize(
    ("files", "is_v2", "expected"),
    [
        pytest.param({"train-a": v2("a")}, False, "is SQuAD 2.0 .*; give -t squad_v2", id="v2"),
        pytest.param({"train-a": v1("a")}, True, "is SQuAD 1.1 .*; give -t squad$", id="v1"),
        pytest.param(
            {"train-a": v1("a"), "train-b": v2("b")},
            True,
            "train-a.json is SQuAD 1.1, .*train-b.json is SQuAD 2.0; they are not",
            id="mixed",
        ),
    ],
)
def test_files_of_the_other_version_are_refused(
    tmp_path: Path, files: dict[str, Any], is_v2: bool, expected: str
) -> None:
    for name, content in files.items():
        write(tmp_path / f"{name}.json", content)
    write(tmp_path / "dev.json", v1("x") if is_v2 else v2("x"))
    with pytest.raises(DataError, match=expected):
        ids(tmp_path, is_v2=is_v2)


def test_training_and_validation_of_different_versions_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "train.json", v1("a"))
    write(tmp_path / "dev.json", v2("b"))
    for is_v2 in (False, True):
        with pytest.raises(DataError, match="they are not trained on or scored together"):
            ids(tmp_path, is_v2=is_v2)


def test_a_split_that_is_there_in_the_other_version_alone_is_not_passed_over(
    tmp_path: Path,
) -> None:
    write(tmp_path / "train-v1.1.json", v1("a", "b"))
    write(tmp_path / "dev-v2.0.json", v2("c"))
    for is_v2 in (False, True):
        with pytest.raises(DataError, match="they are not trained on or scored together"):
            ids(tmp_path, is_v2=is_v2)


@pytest.mark.parametrize("name", ["dev.json", "squad-valid.json", "val.json", "validation.json"])
def test_every_name_of_a_validation_file_keeps_it_out_of_training(
    tmp_path: Path, name: str
) -> None:
    train = write(tmp_path / "train.json", v1("a"))
    held_out = write(tmp_path / name, v1("b", town="A river is here."))
    expected = {"train": ["a"], "validation": ["b"]}
    assert ids(train, held_out) == ids(tmp_path) == expected


def test_a_test_file_is_not_trained_on(tmp_path: Path) -> None:
    train = write(tmp_path / "train.json", v1("a"))
    dev = write(tmp_path / "dev.json", v1("b"))
    test = write(tmp_path / "test-v1.1.json", v1("c"))
    assert ids(tmp_path) == {"train": ["a"], "validation": ["b"]}
    assert ids(test, training=False) == {"validation": ["c"]}
    with pytest.raises(DataError, match="test-v1.1.json: a test file, by its name"):
        ids(train, dev, test)


def test_questions_that_are_trained_on_and_scored_are_counted(tmp_path: Path) -> None:
    train = write(tmp_path / "train.json", v1("a", "b"))
    dev = write(tmp_path / "dev.json", v1("c"))
    (note,) = read_span_data([train, dev], is_v2=False, training=True).notes[1:]
    assert note.startswith("1 of the 1 validation questions are trained on too")


def test_nothing_known_in_a_directory_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"found notes.txt; looked for train\*.json"):
        find_files([tmp_path], is_v2=False, training=True)


def test_without_a_file_to_train_on_or_to_score_there_is_an_error(tmp_path: Path) -> None:
    dev = write(tmp_path / "d" / "dev.json", v1("b"))
    train = write(tmp_path / "t" / "train.json", v1("a"))
    with pytest.raises(DataError, match=r"no file to train on; looked for train\*.json"):
        find_files([dev.parent], is_v2=False, training=True)
    with pytest.raises(DataError, match="no file to score"):
        find_files([train.parent], is_v2=False, training=False)


def test_questions_without_a_learnable_answer_are_skipped_in_training_alone(
    tmp_path: Path,
) -> None:
    content = v1(*(f"q{n}" for n in range(20)))
    content["data"][0]["paragraphs"][0]["qas"][3]["answers"][0]["answer_start"] = 0
    train = write(tmp_path / "train.json", content)
    dev = write(tmp_path / "dev.json", content)
    splits = ids(train, dev)
    assert (len(splits["train"]), len(splits["validation"])) == (19, 20)
    assert "q3" not in splits["train"]
