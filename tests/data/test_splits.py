from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo_bert.data.splits import hold_out, split_user_files
from demo_bert.data.tables import TextExample
from demo_bert.errors import DataError


def write(path: Path, *rows: str, header: str = "text\tlabel") -> Path:
    path.write_text("".join(f"{row}\n" for row in (header, *rows)), encoding="utf-8")
    return path


def numbered(count: int, *, num_classes: int = 2) -> list[TextExample]:
    return [TextExample(n, f"text {n}", None, str(n % num_classes)) for n in range(count)]


def refusal(*paths: Path, labels: tuple[str, ...] | None = None) -> str:
    with pytest.raises(DataError) as caught:
        split_user_files(paths, labels=labels)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_splits_are_read_from_their_files(tmp_path: Path) -> None:
    train = write(tmp_path / "train.tsv", "a\tgood", "b\tbad")
    dev = write(tmp_path / "dev.tsv", "c\tbad")
    test = write(tmp_path / "test.tsv", "0\td", header="id\ttext")
    data = split_user_files([tmp_path])
    assert data.splits == {
        "train": [TextExample(0, "a", None, "good"), TextExample(1, "b", None, "bad")],
        "validation": [TextExample(0, "c", None, "bad")],
        "test": [TextExample(0, "d", None, None)],
    }
    assert data.files == (train, dev, test)
    assert data.notes == (f"read: {train}, {dev}, {test}",)


def test_rows_of_several_files_are_numbered_through(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"train_{n}.tsv", f"a{n}\t0", f"b{n}\t1") for n in range(2)]
    paths.append(write(tmp_path / "dev.tsv", "c\t0"))
    examples = split_user_files(paths).splits["train"]
    assert [(e.index, e.text) for e in examples] == [(0, "a0"), (1, "b0"), (2, "a1"), (3, "b1")]


def test_a_tenth_of_a_single_file_is_held_out_and_said(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.tsv", *(f"text {n}\t{n % 2}" for n in range(200)))
    data = split_user_files([path])
    train, validation = data.splits["train"], data.splits["validation"]
    assert (len(train), len(validation)) == (180, 20)
    assert sum(example.label == "1" for example in validation) == 10
    assert sorted(e.index for e in [*train, *validation]) == list(range(200))
    assert all(e.text == f"text {e.index}" for e in validation)
    assert "held out" in data.notes[0]


def test_a_single_file_is_scored_whole_by_a_trained_model(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.tsv", "a\t0", "b\t0")
    data = split_user_files([path], labels=("0", "1"))
    assert list(data.splits) == ["validation"]
    assert len(data.splits["validation"]) == 2
    write(path, "a\t2")
    assert "label '2' in column 'label'; allowed: '0', '1'" in refusal(path, labels=("0", "1"))


def test_a_validation_label_that_training_never_shows_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "train.tsv", "a\tgood", "b\tbad")
    dev = write(tmp_path / "dev.tsv", "c\tbad", "d\tugly")
    assert f"{dev}, line 3: label 'ugly'" in refusal(tmp_path)


def test_one_class_in_training_is_refused(tmp_path: Path) -> None:
    train = write(tmp_path / "train.tsv", "a\tgood", "b\tgood")
    write(tmp_path / "dev.tsv", "c\tgood")
    assert f"{train}: one class only, label 'good'" in refusal(tmp_path)


def test_pairs_and_single_texts_do_not_mix(tmp_path: Path) -> None:
    train = write(tmp_path / "train.tsv", "a\tb\t0", "c\td\t1", header="text\ttext_b\tlabel")
    dev = write(tmp_path / "dev.tsv", "c\t1")
    assert f"{train} holds pairs of texts and {dev} single texts" in refusal(tmp_path)


def test_too_few_rows_to_hold_some_out_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.tsv", "a\t0", "b\t0", "c\t1")
    assert "too few different rows" in refusal(path)
    write(path, "a\t0", "b\t0", "c\t1", "d\t1")
    assert len(split_user_files([path]).splits["validation"]) == 2


def test_what_is_held_out_depends_on_the_texts_alone() -> None:
    examples = numbered(300)
    backwards = [TextExample(300 - e.index, e.text, e.text_b, e.label) for e in reversed(examples)]
    _, held = hold_out(examples, source="x")
    _, held_backwards = hold_out(backwards, source="x")
    assert {e.text for e in held} == {e.text for e in held_backwards}
    # The order and the choice are part of what users rely on: the same file, the same scores.
    assert [e.index for e in held][:6] == [0, 11, 12, 21, 30, 41]


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 30), st.sampled_from("ab"), st.sampled_from("xyz")),
        max_size=80,
    )
)
def test_no_text_is_both_learned_and_asked_and_no_row_is_lost(
    rows: list[tuple[int, str, str]],
) -> None:
    examples = [
        TextExample(n, f"text {text}", text_b, label)
        for n, (text, text_b, label) in enumerate(rows)
    ]
    try:
        train, held = hold_out(examples, source="x")
    except DataError:
        return
    assert sorted([*train, *held], key=lambda e: e.index) == examples
    assert not {(e.text, e.text_b) for e in train} & {(e.text, e.text_b) for e in held}
    for part in (train, held):
        assert [e.index for e in part] == sorted(e.index for e in part)
        assert len({e.label for e in part}) >= 2


def test_every_class_with_two_rows_is_asked() -> None:
    train, held = hold_out(numbered(60, num_classes=20), source="x")
    assert len({e.label for e in train}) == len({e.label for e in held}) == 20


def test_the_only_row_of_a_class_is_learned_and_not_asked() -> None:
    rare = TextExample(40, "rare", None, "rare")
    train, held = hold_out([*numbered(40), rare], source="x")
    assert rare in train
    assert len(held) == 4


def test_pairs_that_share_their_first_text_alone_may_be_parted() -> None:
    examples = [TextExample(n, "same", f"second {n}", str(n % 2)) for n in range(40)]
    train, held = hold_out(examples, source="x")
    assert (len(train), len(held)) == (36, 4)
