"""JSON lines: each line once, damaged ones counted."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo_bert.corpus import jsonl
from demo_bert.corpus.document import Tally
from demo_bert.errors import DataError


def documents(path: Path, tally: Tally) -> list[list[str]]:
    pieces = jsonl.plan("jsonl", path, tally=tally)
    return [found for piece in pieces for found in jsonl.read(piece, tally=tally)]


@given(st.lists(st.text("ab\u20ac \n", min_size=1), max_size=20), st.integers(5, 200))
def test_ranges_have_each_line_once(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], most: int
) -> None:
    path = tmp_path_factory.mktemp("jsonl") / "x"
    lines = [json.dumps({"text": text}, ensure_ascii=False) for text in texts]
    path.write_text("\n".join(lines), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonl, "_RANGE_BYTES", most)
        found = documents(path, Counter())
    paragraphs = [[line.strip() for line in text.split("\n") if line.strip()] for text in texts]
    assert found == [one for one in paragraphs if one]


def test_damaged_lines_are_counted_and_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x"
    good = ['{"text": "It rains."}', '"A string."', '{"content": "It snows."}']
    path.write_text("\n".join([good[0], '{"text": ', "[1]", '{"title": "x"}', *good[1:]]), "utf-8")
    tally: Tally = Counter()
    assert documents(path, tally) == [["It rains."], ["A string."], ["It snows."]]
    assert tally == {"JSON lines left out as damaged or without a text": 3}


def test_a_file_without_any_good_line_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("It rains.\n", "utf-8")
    with pytest.raises(DataError, match="no line is a JSON object with one of text, content"):
        documents(path, Counter())


def test_half_of_a_surrogate_pair_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text('{"text": "rain \\ud83d falls"}', "utf-8")
    assert documents(path, Counter()) == [["rain  falls"]]
