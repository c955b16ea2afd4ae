import csv
import gzip
import io
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from demo_bert.data.formats import form_of, read_table, shown
from demo_bert.errors import DataError

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

CELL = st.text(st.characters(blacklist_categories=["Cs"]), max_size=20)
TSV_CELL = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\t\n"))
QUICK = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def rows_of(path: Path) -> list[list[object]]:
    table = read_table(path)
    return [[row.cells[name] for name in table.columns] for row in table.rows]


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_table(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert len(message) < len(str(path)) + 500
    return message


@QUICK
@given(cells=st.lists(st.tuples(TSV_CELL, TSV_CELL), min_size=1, max_size=8))
def test_any_text_without_tab_and_newline_comes_back_from_tsv(
    tmp_path: Path, cells: list[tuple[str, str]]
) -> None:
    lines = ["a\tb", *("\t".join(pair) for pair in cells)]
    path = write(tmp_path / "x.tsv", "".join(f"{line}\n" for line in lines))
    assert rows_of(path) == [list(pair) for pair in cells]


@QUICK
@given(cells=st.lists(st.tuples(TSV_CELL, TSV_CELL), min_size=1, max_size=8))
def test_lines_that_end_in_crlf_read_like_lines_that_end_in_lf(
    tmp_path: Path, cells: list[tuple[str, str]]
) -> None:
    lines = ["a\tb", *("\t".join(pair) for pair in cells)]
    path = write(tmp_path / "x.tsv", "".join(f"{line}\r\n" for line in lines))
    assert rows_of(path) == [list(pair) for pair in cells]


@QUICK
@given(cells=st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=8))
def test_any_text_comes_back_from_csv(tmp_path: Path, cells: list[tuple[str, str, str]]) -> None:
    file = io.StringIO(newline="")
    writer = csv.writer(file, quoting=csv.QUOTE_ALL)
    writer.writerows([("a", "b", "c"), *cells])
    path = write(tmp_path / "x.csv", file.getvalue())
    assert rows_of(path) == [list(row) for row in cells]


@QUICK
@given(cells=st.lists(st.tuples(CELL, CELL), min_size=1, max_size=8), is_ascii=st.booleans())
def test_any_text_comes_back_from_json_lines_and_from_a_json_list(
    tmp_path: Path, cells: list[tuple[str, str]], is_ascii: bool
) -> None:
    objects = [{"a": a, "b": b} for a, b in cells]
    lines = "\n".join(json.dumps(one, ensure_ascii=is_ascii) for one in objects)
    assert rows_of(write(tmp_path / "x.jsonl", lines)) == [list(row) for row in cells]
    whole = json.dumps(objects, ensure_ascii=is_ascii, indent=1)
    assert rows_of(write(tmp_path / "x.json", whole)) == [list(row) for row in cells]


@settings(QUICK, max_examples=30)
@given(cells=st.lists(st.tuples(CELL, st.integers(0, 9)), min_size=1, max_size=8))
def test_any_text_comes_back_from_parquet(tmp_path: Path, cells: list[tuple[str, int]]) -> None:
    texts, numbers = zip(*cells, strict=True)
    path = tmp_path / "x.parquet"
    parquet.write_table(pyarrow.table({"a": list(texts), "b": list(numbers)}), path)
    assert rows_of(path) == [list(row) for row in cells]


@pytest.mark.parametrize("name", ["x.tsv", "x.csv", "x.jsonl", "x.json", "x", "x.tsv.gz", "x.dat"])
@QUICK
@given(content=st.binary(max_size=200))
def test_random_bytes_are_read_or_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes
) -> None:
    path = write(tmp_path / name, content)
    try:
        read_table(path)
    except DataError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("name", ["x.tsv", "x.csv", "x.jsonl", "x.json", "x"])
@QUICK
@given(content=st.text(st.sampled_from('a,"\t\n\r{}[]:1\\u\0\ufeff\u2028'), max_size=40))
def test_random_punctuation_is_read_or_refused_in_one_line(
    tmp_path: Path, name: str, content: str
) -> None:
    path = write(tmp_path / name, content)
    try:
        read_table(path)
    except DataError as error:
        assert len(str(error).splitlines()) == 1


@settings(QUICK, max_examples=50)
@given(data=st.data())
def test_damaged_parquet_and_damaged_gzip_are_read_or_refused_in_one_line(
    tmp_path: Path, data: st.DataObject
) -> None:
    source = tmp_path / "whole.parquet"
    parquet.write_table(pyarrow.table({"a": ["one", "two"], "b": [0, 1]}), source)
    packed = gzip.compress(b"a\tb\none\t0\ntwo\t1\n", mtime=0)
    for name, whole in (("x.parquet", source.read_bytes()), ("x.tsv.gz", packed)):
        content = bytearray(whole)
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        cut = data.draw(st.integers(0, len(content)))
        path = write(tmp_path / name, bytes(content[: cut or None]))
        try:
            read_table(path)
        except DataError as error:
            assert "\n" not in str(error)


def test_quotes_are_text_in_tsv_and_only_newline_ends_a_line(tmp_path: Path) -> None:
    text = 'He said "no\x0b\x0c\x1c\x85\u2028\r" once'
    path = write(tmp_path / "x.tsv", f'\ufefftext\tlabel\n{text}\t1\n"open\t0\n')
    assert rows_of(path) == [[text, "1"], ['"open', "0"]]
    assert [row.line for row in read_table(path).rows] == [2, 3]


def test_a_return_at_the_end_of_a_text_stays_where_the_header_has_none(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tsv", "label\ttext\n1\tends in return\r\n")
    assert rows_of(path) == [["1", "ends in return\r"]]


def test_csv_rows_are_numbered_by_the_line_they_begin_on(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", 'text,label\r\n"one\r\ntwo, ""three""",1\r\nfour,0\r\n')
    assert rows_of(path) == [['one\r\ntwo, "three"', "1"], ["four", "0"]]
    assert [row.line for row in read_table(path).rows] == [2, 4]


def test_a_csv_field_above_the_modules_own_limit_is_read_and_the_limit_stays(
    tmp_path: Path,
) -> None:
    before = csv.field_size_limit()
    path = write(tmp_path / "x.csv", f"text,label\n{'a' * 200_000},1\n")
    assert len(str(rows_of(path)[0][0])) == 200_000
    assert csv.field_size_limit() == before


def test_json_lines_skip_blank_lines_and_keep_their_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", '{"a": 1}\n\n{"a": null, "b": "x"}\r\n')
    table = read_table(path)
    assert table.columns == ("a", "b")
    assert [(row.line, row.cells) for row in table.rows] == [
        (1, {"a": 1}),
        (3, {"a": None, "b": "x"}),
    ]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("data", "text\tlabel\na\t1\n", ["a", "1"]),
        ("data", "text,label\na,1\n", ["a", "1"]),
        ("data.anything", '{"text": "a", "label": "1"}\n', ["a", "1"]),
        ("DATA.JSON", '[{"text": "a", "label": "1"}]', ["a", "1"]),
        ("data.json", '{"text": "a", "label": "1"}\n', ["a", "1"]),
        ("data.csv.gz", gzip.compress(b"text,label\na,1\n", mtime=0), ["a", "1"]),
        ("data.jsonl.gz", gzip.compress(b'{"text": "a", "label": "1"}', mtime=0), ["a", "1"]),
        ("data.tsv.gz", gzip.compress(b"\xef\xbb\xbftext\tlabel\na\t1", mtime=0), ["a", "1"]),
    ],
)
def test_the_form_is_told_by_the_name_else_by_the_content(
    tmp_path: Path, name: str, content: str | bytes, expected: list[str]
) -> None:
    assert rows_of(write(tmp_path / name, content)) == [expected]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.tsv", b"", "empty"),
        ("x.tsv", b" \n\n", "empty"),
        ("x.tsv", b"text\tlabel\n", "no rows"),
        ("x.csv", b"text,label\r\n\r\n", "no rows"),
        ("x.tsv", b"\t\t\na\tb\tc\n", "line 1: the header is empty"),
        ("x.tsv", b"text\ttext\na\tb\n", "two columns are called 'text'"),
        ("x.tsv", b"text\tlabel\na\t1\nb\n", "line 3: 1 column where the header has 2"),
        ("x.tsv", b"text\tlabel\na\t1\n\nb\t1\n", "line 3: 1 column where"),
        ("x.tsv", b"text\tlabel\na\t1\t2\n", "line 2: 3 columns where the header has 2"),
        ("x.tsv", b"text\tlabel\ra\t1\r", "end in \\r alone"),
        ("x.csv", b"text,label\na,b,c\n", "line 2: 3 columns where the header has 2"),
        ("x.csv", b'text,label\n"a,1\nb,2\n', "line 2: a quote opens in this row"),
        ("x.csv", b'text,label\na,1\n"a"b,2\n', "line 3: not CSV"),
        ("x.tsv", b"text\tlabel\nab\xff\t1\n", "not UTF-8 at byte 13 (line 2, value 0xff)"),
        (
            "x.tsv.gz",
            gzip.compress(b"text\tlabel\nab\xff\t1\n", mtime=0),
            "at byte 13 of what it unpacks",
        ),
        ("x.tsv.gz", gzip.compress(b"text\tlabel\na\t1\n", mtime=0)[:-9], "cannot be unpacked"),
        ("x.tsv.gz", b"text\tlabel\na\t1\n", "cannot be unpacked"),
        ("x.parquet.gz", b"", "unpack it first"),
        ("x.jsonl", b'{"a": 1}\n{"a": 1\n', "line 2: not JSON"),
        ("x.jsonl", b'{"a": 1}\n["a"]\n', "line 2: ['a'] is not a JSON object"),
        ("x.jsonl", b'{"a": ' + b"9" * 5000 + b"}", "line 1: not JSON that can be read"),
        ("x.jsonl", b"[" * 200_000, "line 1: not JSON"),
        ("x.json", b"[]", "empty JSON list"),
        ("x.json", b'[{"a": 1}, 2]', "item 2: 2 is not a JSON object"),
        ("x.parquet", b"PAR1 and no more", "not Parquet, or damaged"),
        ("x.parquet", b"", "not Parquet, or damaged"),
        ("notes", b"one line of prose\n", "neither its name nor its first line"),
    ],
)
def test_bad_content_is_refused_with_the_place(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    assert words in refusal(write(tmp_path / name, content))


@pytest.mark.parametrize("name", ["x.tsv", "x.csv", "x.jsonl", "x.tsv.gz", "x.parquet", "x"])
def test_missing_files_and_directories_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    assert "no such file" in refusal(path)
    path.mkdir()
    assert "is a directory" in refusal(path)


def test_parquet_without_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    parquet.write_table(pyarrow.table({"text": pyarrow.array([], pyarrow.string())}), path)
    assert "no rows" in refusal(path)


def test_parquet_without_pyarrow_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    assert "pip install pyarrow" in refusal(tmp_path / "x.parquet")


def test_form_of_ignores_case_and_packing() -> None:
    assert form_of(Path("A.TSV.GZ")) == "tsv"
    assert form_of(Path("a.ndjson")) == "jsonl"
    assert form_of(Path("a.doc")) is None


def test_shown_values_stay_on_one_short_line() -> None:
    assert shown("a\nb") == r"'a\nb'"
    assert shown("x" * 1000) == repr("x" * 60) + "..."
    assert len(shown(list(range(1000)))) < 150
    assert shown(3) == "3"
