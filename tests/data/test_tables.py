import hashlib
import json
import math
from pathlib import Path

import pytest

from demo_bert.data.tables import (
    TextExample,
    check_labels,
    file_facts,
    read_examples,
)
from demo_bert.errors import DataError, UsageError


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="")
    return path


def write_json(path: Path, *rows: dict[str, object]) -> Path:
    return write(path, *(json.dumps(row) for row in rows))


def refusal(path: Path, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        read_examples(path, **options)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize(
    "header",
    [
        ("text", "text_b", "label"),
        ("sentence1", "sentence2", "label"),
        ("sentence", "sentence2", "label"),
        ("text1", "text2", "label"),
        ("#1 String", "#2 String", "Quality"),
    ],
)
def test_pairs_are_found_under_the_usual_names(tmp_path: Path, header: tuple[str, ...]) -> None:
    path = write(tmp_path / "x.tsv", "\t".join(header), "one\ttwo\t1", "three\tfour\t0")
    assert read_examples(path) == [
        TextExample(0, "one", "two", "1"),
        TextExample(1, "three", "four", "0"),
    ]


def test_single_texts_have_no_second_one(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "id,label,text", "7,good,one")
    assert read_examples(path) == [TextExample(0, "one", None, "good")]


def test_named_columns_win_over_the_usual_names(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tsv", "text\tq1\tq2\tlabel\tsame", "no\tone\ttwo\tx\t1")
    columns = {"text": "q1", "text_b": "q2", "label": "same"}
    assert read_examples(path, columns=columns) == [TextExample(0, "one", "two", "1")]


def test_a_column_that_is_named_for_one_role_is_not_taken_for_another(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tsv", "sentence1\tsentence2\tlabel", "one\ttwo\t1")
    examples = read_examples(path, columns={"text": "sentence2"})
    assert examples == [TextExample(0, "two", None, "1")]


def test_a_missing_column_is_answered_with_near_ones_and_all(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tsv", "Text\tother\tlabel", "one\ttwo\t1")
    message = refusal(path)
    assert "no column for the text (text, sentence1" in message
    assert "did you mean 'Text'?" in message
    assert "its columns are 'Text', 'other', 'label'" in message
    assert "--columns text=NAME" in message
    message = refusal(path, columns={"text": "othr"})
    assert "no column 'othr' (did you mean 'other'?)" in message
    path = write(tmp_path / "y.tsv", "text\tlabels", "one\t1")
    message = refusal(path)
    assert "no column for the label" in message
    assert "did you mean 'labels'?" in message
    assert "--columns label=NAME" in message


def test_questions_on_passages_are_told_from_a_table(tmp_path: Path) -> None:
    path = tmp_path / "dev.json"
    path.write_text('{"version": "1.1", "data": [{"title": "x", "paragraphs": []}]}')
    with pytest.raises(DataError, match="SQuAD's layout, it seems; -t squad reads it"):
        read_examples(path)


def test_a_header_that_is_no_header_makes_a_short_message(tmp_path: Path) -> None:
    path = write(
        tmp_path / "x.tsv", "\t".join(f"{n}{'word ' * 9999}" for n in range(50)), "\t" * 49
    )
    message = refusal(path)
    assert "and 38 more" in message
    assert len(message) < 1500


def test_two_columns_that_could_be_the_text_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tsv", "text\tsentence1\tlabel", "one\ttwo\t1")
    message = refusal(path)
    assert "'text', 'sentence1' could each be the text" in message
    assert "--columns text=text" in message
    assert read_examples(path, columns={"text": "text"})[0].text == "one"


def test_a_role_that_does_not_exist_is_a_wrong_option(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tsv", "text\tlabel", "one\t1")
    with pytest.raises(UsageError, match="'txt' given; allowed: text, text_b, label"):
        read_examples(path, columns={"txt": "text"})


@pytest.mark.parametrize("empty", ["", " ", "\u3000\x0b"])
@pytest.mark.parametrize("column", ["text", "text_b"])
def test_an_empty_text_is_refused_by_line_and_column(
    tmp_path: Path, empty: str, column: str
) -> None:
    cells = {"text": "one", "text_b": "two", column: empty}
    row = f"{cells['text']}\t{cells['text_b']}\t1"
    path = write(tmp_path / "x.tsv", "text\ttext_b\tlabel", "a\tb\t0", row)
    assert f"{path}, line 3: no text in column '{column}'" in refusal(path)


def test_a_text_of_one_megabyte_is_refused_and_a_shorter_one_is_not(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tsv", "text\tlabel", "a\t0", f"{'a' * 999_999}\t1")
    assert len(read_examples(path)[1].text) == 999_999
    for text in ("a" * 1_000_000, "\u20ac" * 333_334):
        write(path, "text\tlabel", "a\t0", f"{text}\t1")
        message = refusal(path)
        assert f"{path}, line 3: a text of 1,000,00" in message
        assert len(message) < 500


def test_nul_and_other_control_characters_are_text(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tsv", "text\tlabel", "a\0b\x07\x85\u2028c\t1")
    assert read_examples(path)[0].text == "a\0b\x07\x85\u2028c"


@pytest.mark.parametrize(
    ("value", "label"),
    [("1", "1"), (" yes ", "yes"), (1, "1"), (-3, "-3"), (1.0, "1"), (True, "1"), (False, "0")],
)
def test_labels_of_every_type_become_text(tmp_path: Path, value: object, label: str) -> None:
    path = write_json(tmp_path / "x.jsonl", {"text": "one", "label": value})
    assert read_examples(path)[0].label == label


@pytest.mark.parametrize("value", [None, "", "  ", math.nan])
def test_a_missing_label_is_refused_where_one_is_needed(tmp_path: Path, value: object) -> None:
    path = write_json(
        tmp_path / "x.jsonl", {"text": "a", "label": 0}, {"text": "b", "label": value}
    )
    assert f"{path}, line 2: no label" in refusal(path)
    assert read_examples(path, require_label=False)[1].label is None


@pytest.mark.parametrize("value", [0.5, [1], {"a": 1}, math.inf, "two\nlines", "a\tb", "x" * 201])
def test_a_label_that_is_no_name_is_refused(tmp_path: Path, value: object) -> None:
    path = write_json(tmp_path / "x.jsonl", {"text": "a", "label": value})
    assert f"{path}, line 1: " in refusal(path)


def test_a_label_outside_the_set_is_refused_with_the_set(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tsv", "text\tlabel", "a\t0", "b\t2")
    message = refusal(path, labels=("0", "1"))
    assert f"{path}, line 3: label '2' in column 'label'; allowed: '0', '1'" in message
    assert [example.label for example in read_examples(path)] == ["0", "2"]


def test_a_file_without_labels_is_read_where_none_are_needed(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tsv", "index\tsentence1\tsentence2", "0\ta\tb")
    expected = [TextExample(0, "a", "b", None)]
    assert read_examples(path, labels=("0", "1"), require_label=False) == expected
    columns = {"label": "gold"}
    assert read_examples(path, columns=columns, require_label=False) == expected
    assert "no column 'gold'" in refusal(path, columns=columns)


def test_minus_one_is_a_hidden_label_in_a_test_set_alone(tmp_path: Path) -> None:
    path = write_json(tmp_path / "x.jsonl", {"text": "a", "label": -1})
    assert read_examples(path, labels=("0", "1"), require_label=False)[0].label is None
    assert "label '-1'" in refusal(path, labels=("0", "1"))
    assert read_examples(path, require_label=False)[0].label == "-1"


def test_half_a_character_out_of_json_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", r'{"text": "ab\ud83d", "label": "1"}')
    assert f"{path}, line 1: half a character (\\ud83d) in column 'text', character 2" in refusal(
        path
    )
    write(path, r'{"text": "ab\ud83d\ude00", "label": "1"}')
    assert read_examples(path)[0].text == "ab\U0001f600"


def test_a_text_that_is_a_number_is_refused_in_json_and_read_in_tsv(tmp_path: Path) -> None:
    path = write_json(tmp_path / "x.jsonl", {"text": 12, "label": "1"})
    assert "column 'text' holds 12; a text is needed" in refusal(path)
    path = write(tmp_path / "x.tsv", "text\tlabel", "12\t1")
    assert read_examples(path)[0].text == "12"


def test_a_key_that_one_line_lacks_is_refused_by_line(tmp_path: Path) -> None:
    first = {"text": "a", "text_b": "b", "label": "1"}
    path = write_json(tmp_path / "x.jsonl", first, {"text": "a", "label": "1"})
    assert f"{path}, line 2: no text in column 'text_b'" in refusal(path)


def test_parquet_with_whole_numbers_as_labels_is_read(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "train-00000-of-00001.parquet"
    table = {"sentence1": ["a", "b"], "sentence2": ["c", "d"], "label": [1, 0], "idx": [7, 8]}
    parquet.write_table(pyarrow.table(table), path)
    expected = [TextExample(0, "a", "c", "1"), TextExample(1, "b", "d", "0")]
    assert read_examples(path, labels=("0", "1")) == expected
    parquet.write_table(pyarrow.table({**table, "label": [1.0, None]}), path)
    assert f"{path}, row 2: no label" in refusal(path)


def test_parquet_columns_of_other_types_do_not_hinder(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "x.parquet"
    table = {
        "text": pyarrow.array(["a"]).dictionary_encode(),
        "label": pyarrow.array([True]),
        "when": pyarrow.array([1], pyarrow.timestamp("ns", tz="Europe/Berlin")),
        "tokens": pyarrow.array([["a"]]),
    }
    parquet.write_table(pyarrow.table(table), path)
    assert read_examples(path) == [TextExample(0, "a", None, "1")]
    message = refusal(path, columns={"text": "tokens"})
    assert f"{path}, row 1: column 'tokens' holds ListType(list<" in message


def test_one_class_only_is_refused_with_its_name_and_count() -> None:
    examples = [TextExample(n, "a", None, "yes") for n in range(3)]
    with pytest.raises(DataError, match=r"^x\.tsv: one class only, label 'yes' on all 3 examples"):
        check_labels(examples, source="x.tsv")
    with pytest.raises(DataError, match="no examples"):
        check_labels([])
    with pytest.raises(DataError, match="1 of the examples have no label"):
        check_labels([*examples, TextExample(3, "b", None, None)])
    check_labels([*examples, TextExample(3, "b", None, "no")])


def test_file_facts_identify_the_files(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_bytes(b"text\n")
    assert file_facts([path]) == [
        {"path": str(path), "sha256": hashlib.sha256(b"text\n").hexdigest(), "size_bytes": 5}
    ]
    with pytest.raises(DataError, match="cannot be read"):
        file_facts([tmp_path / "missing"])
