r"""Table formats: TSV, CSV, JSON lines, a JSON list and Parquet become rows with line numbers.

The ending of a file's name says what it is; where the ending is not known, the content does. TSV,
CSV and JSON may be packed (`.gz`). In TSV a quote is text and only `\n` ends a line; where the
header ends in `\r\n`, the `\r` before each `\n` belongs to the line end. CSV is RFC 4180. A
byte order mark is dropped. Every other character is text, NUL too (tokenizers drop it).

Only the standard library is imported; pyarrow when a Parquet file is read.
"""

import csv
import importlib
import io
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from demo_bert.data.packed import MAX_UNPACKED_BYTES, check_is_file, reason_of, unpacked_text
from demo_bert.errors import DataError
from demo_bert.files import read_text

FORMATS = {
    ".tsv": "tsv",
    ".tab": "tsv",
    ".txt": "tsv",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
}
"""What the ending of a file's name says about its form, best known first."""

_SHOWN_CHARACTERS = 60


class Row(NamedTuple):
    """One row of a table."""

    line: int
    """Where it begins: the 1-based line, or item, or row, as `Table.unit` says."""

    cells: dict[str, object]
    """Values by column; text formats hold str alone, a JSON line may lack a column."""


@dataclass(frozen=True, slots=True)
class Table:
    """A whole file in rows."""

    path: Path
    columns: tuple[str, ...]
    rows: list[Row]
    unit: str = "line"
    """What `Row.line` counts: `line`, `item` (JSON list) or `row` (Parquet)."""

    def place(self, row: Row) -> str:
        """Where the row is, as the beginning of a message.

        Args:
            row: One of `rows`.

        Returns:
            The path and the line.
        """
        return f"{self.path}, {self.unit} {row.line}"


def read_table(path: Path) -> Table:
    """Reads a file of any known form.

    Args:
        path: A file; its first line is the header (TSV, CSV).

    Returns:
        The table, with at least one row.

    Raises:
        DataError: The file is missing, a directory, empty, not UTF-8, without rows, of no known
            form, damaged, unpacks to too much, or has a row of another width than the header.
    """
    form = form_of(path)
    is_packed = path.name.lower().endswith(".gz")
    if form == "parquet":
        if is_packed:
            raise DataError(f"{path}: packed Parquet is not read; unpack it first (gunzip)")
        return _parquet(path)
    text = unpacked_text(path) if is_packed else read_text(path)
    if not text or text.isspace():
        raise DataError(f"{path}: empty; a header line and rows are needed")
    match form or _form_of_content(path, text):
        case "csv":
            return _csv(path, text)
        case "json" if text.lstrip().startswith("["):
            return _json_list(path, text)
        case "json" | "jsonl":
            return _json_lines(path, text)
        case _:
            return _tsv(path, text)


def form_of(path: Path) -> str | None:
    """The form that the file's name promises.

    Args:
        path: Any path.

    Returns:
        A value of `FORMATS`, or None where the ending is not known.

    Example:
        >>> form_of(Path("train.tsv.gz")), form_of(Path("notes"))
        ('tsv', None)
    """
    return FORMATS.get(Path(path.name.lower().removesuffix(".gz")).suffix)


def shown(value: object) -> str:
    r"""The value as a message shows it: quoted, on one line, not too long.

    Args:
        value: Anything out of a user's file.

    Returns:
        Its representation, cut at 60 characters.

    Example:
        >>> shown("two\nlines")
        "'two\\nlines'"
    """
    cut = value[:_SHOWN_CHARACTERS] if isinstance(value, str) else value
    text = repr(cut)
    is_cut = cut != value or len(text) > 2 * _SHOWN_CHARACTERS
    return f"{text[: 2 * _SHOWN_CHARACTERS]}..." if is_cut else text


def _form_of_content(path: Path, text: str) -> str:
    first_line = text.split("\n", 1)[0]
    if text.lstrip()[:1] in ("{", "["):
        return "json"
    if "\t" in first_line:
        return "tsv"
    if "," in first_line:
        return "csv"
    raise DataError(
        f"{path}: neither its name nor its first line says what form it has; name it"
        f" {', '.join(FORMATS)} (text forms also with .gz)"
    )


def _tsv(path: Path, text: str) -> Table:
    lines = text.split("\n")
    if lines[0].endswith("\r"):
        lines = [line.removesuffix("\r") for line in lines]
    while not lines[-1]:
        lines.pop()
    if len(lines) == 1 and "\r" in lines[0]:
        raise DataError(f"{path}: its lines end in \\r alone; save it with \\n or \\r\\n line ends")
    records = ((number, line.split("\t")) for number, line in enumerate(lines, start=1))
    return _checked(path, records, advice="columns are separated by one tab, quotes are text")


def _csv(path: Path, text: str) -> Table:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    records: list[tuple[int, list[str]]] = []
    line = 1
    usual_limit = csv.field_size_limit(max(len(text), 1))  # too long texts are refused by line
    try:
        for cells in reader:
            records.append((line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        if "unexpected end" in str(error):
            raise DataError(
                f"{path}, line {line}: a quote opens in this row and never closes; close it"
            ) from error
        raise DataError(
            f"{path}, line {line}: not CSV ({reason_of(error)}); put a text with quotes in quotes"
            ' and double those inside: "say ""yes"""'
        ) from error
    finally:
        csv.field_size_limit(usual_limit)
    while records and not records[-1][1]:
        records.pop()
    return _checked(path, records, advice="put a text with commas or line ends in quotes")


def _checked(path: Path, records: Iterable[tuple[int, list[str]]], *, advice: str) -> Table:
    """Makes rows of records, the first of which is the header."""
    numbered = iter(records)
    header = tuple(name.strip() for _, names in itertools.islice(numbered, 1) for name in names)
    if not any(header):
        raise DataError(f"{path}, line 1: the header is empty; name the columns there")
    _check_unique(path, header)
    rows: list[Row] = []
    for line, cells in numbered:
        if len(cells) != len(header):
            raise DataError(
                f"{path}, line {line}: {_counted(len(cells))} where the header has {len(header)};"
                f" {advice}"
            )
        rows.append(Row(line, dict(zip(header, cells, strict=True))))
    if not rows:
        raise DataError(f"{path}: a header and no rows; add examples below it")
    return Table(path, header, rows)


def _json_lines(path: Path, text: str) -> Table:
    rows: list[Row] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line and not line.isspace():
            place = f"{path}, line {number}"
            rows.append(Row(number, _json_object(_json(line, place), place)))
    return Table(path, _union(rows), rows)


def _json_list(path: Path, text: str) -> Table:
    values = _json(text, str(path))
    if not isinstance(values, list) or not values:
        raise DataError(f"{path}: an empty JSON list; a list of objects is needed")
    rows = [
        Row(number, _json_object(value, f"{path}, item {number}"))
        for number, value in enumerate(values, start=1)
    ]
    return Table(path, _union(rows), rows, unit="item")


def _json(text: str, place: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column" if error.lineno > 1 else "column"
        why = error.msg.removesuffix(" at")
        raise DataError(f"{place}: not JSON ({why}, {where} {error.colno})") from error
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, 100,000 brackets
        raise DataError(f"{place}: not JSON that can be read ({reason_of(error)})") from error


def _json_object(value: object, place: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise DataError(f"{place}: {shown(value)} is not a JSON object; each row must be one")
    return {str(name): cell for name, cell in value.items()}


def _union(rows: list[Row]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for row in rows for name in row.cells))


def _parquet(path: Path) -> Table:
    try:
        # By name: pyarrow has no type information, and is needed by nobody else.
        arrow: Any = importlib.import_module("pyarrow")
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise DataError(f"{path}: reading Parquet needs pyarrow; pip install pyarrow") from error
    try:
        check_is_file(path)
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            _check_parquet_size(path, file.metadata)
            columns = file.read(use_threads=False)
        names, count = tuple(map(str, columns.column_names)), columns.num_rows
        _check_unique(path, names)
        values = [
            # Another type's values may not translate (nanoseconds, say); it is no text anyway.
            column.to_pylist() if _is_plain(arrow.types, column.type) else [column.type] * count
            for column in columns.columns
        ]
    except (arrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: not Parquet, or damaged ({reason_of(error)})") from error
    rows = [
        Row(number, dict(zip(names, cells, strict=True)))
        for number, cells in enumerate(zip(*values, strict=True), start=1)
    ]
    if not rows:
        raise DataError(f"{path}: no rows")
    return Table(path, names, rows, unit="row")


def _is_plain(types: Any, kind: Any) -> bool:
    """Whether an Arrow type is text, a number, a boolean or nothing."""
    kind = kind.value_type if types.is_dictionary(kind) else kind
    is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    is_number = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
    return is_text or is_number or types.is_null(kind)


def _check_parquet_size(path: Path, metadata: Any) -> None:
    size = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    if size > MAX_UNPACKED_BYTES:
        raise DataError(f"{path}: holds {size:,} bytes; at most {MAX_UNPACKED_BYTES:,} are read")


def _check_unique(path: Path, names: tuple[str, ...]) -> None:
    seen: set[str] = set()
    for name in names:
        if name and name in seen:
            raise DataError(f"{path}: two columns are called {shown(name)}; rename one")
        seen.add(name)


def _counted(num_columns: int) -> str:
    return "1 column" if num_columns == 1 else f"{num_columns} columns"
