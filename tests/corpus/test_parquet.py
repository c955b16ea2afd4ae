"""Parquet: row groups are pieces; what is no Parquet or has no text is refused."""

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from demo_bert.corpus import parquet
from demo_bert.corpus.document import Tally
from demo_bert.errors import DataError


def write(path: Path, **columns: list[object]) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=2)
    return path


def test_each_row_is_a_document_and_each_row_group_a_piece(tmp_path: Path) -> None:
    texts: list[object] = ["It rains.\nIt is wet.", "Snow.", None, "", "Sun."]
    path = write(tmp_path / "x", id=[1, 2, 3, 4, 5], text=texts)
    tally: Tally = Counter()
    pieces = parquet.plan("parquet", path, tally=tally)
    assert len(pieces) == 3
    found = [one for piece in pieces for one in parquet.read(piece, tally=tally)]
    assert found == [["It rains.", "It is wet."], ["Snow."], ["Sun."]]
    assert tally == {"documents without text": 2}


def test_a_file_without_a_column_of_text_is_refused_with_its_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "x", id=[1], text=[3])
    with pytest.raises(DataError, match="no column of text; its columns are id, text"):
        parquet.plan("parquet", path, tally=Counter())


def test_what_is_no_parquet_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match="cannot be read as Parquet") as caught:
        parquet.plan("parquet", path, tally=Counter())
    assert "\n" not in str(caught.value)
