"""Examples out of tables: which column is what, and what a text and a label may be.

A column is found by its name (`TEXT_NAMES`, `TEXT_B_NAMES`, `LABEL_NAMES`), or named by the user.
All that can be wrong with a row is refused by file and line: an empty text (it has no tokens), a
text of `TEXT_LIMIT_BYTES` or more, a label that is missing or outside the set.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from demo_bert.choices import near
from demo_bert.data.formats import Row, Table, read_table, shown
from demo_bert.errors import DataError, UsageError
from demo_bert.files import sha256_of

__all__ = [
    "LABEL_NAMES",
    "TEXT_B_NAMES",
    "TEXT_LIMIT_BYTES",
    "TEXT_NAMES",
    "Row",
    "Table",
    "TextExample",
    "check_labels",
    "examples_of",
    "file_facts",
    "read_examples",
    "read_table",
]

TEXT_NAMES = ("text", "sentence1", "sentence", "text1", "#1 String")
"""Columns that are the text, or the first of two."""

TEXT_B_NAMES = ("text_b", "sentence2", "text2", "#2 String")
"""Columns that are the second text."""

LABEL_NAMES = ("label", "Quality")
"""Columns that are the label."""

TEXT_LIMIT_BYTES = 1_000_000
"""A text must be shorter than this in UTF-8; a longer one is a wrong file, not an example."""

_logger = logging.getLogger(__name__)

_ROLES = {"text": TEXT_NAMES, "text_b": TEXT_B_NAMES, "label": LABEL_NAMES}
_LABEL_LIMIT_CHARACTERS = 200
_SHOWN_NAMES = 12
_NAME_CHARACTERS = 60
_HIDDEN_LABEL = "-1"  # what the hub's GLUE writes where a test set's labels are kept secret


@dataclass(frozen=True, slots=True)
class TextExample:
    """One text, or a pair of texts, with its label."""

    index: int
    """0-based row in its split, in the order of the file."""

    text: str
    text_b: str | None
    """None where the table has no second text."""

    label: str | None
    """The class by name, as written in the file; None where it is not known."""


def read_examples(
    path: Path,
    *,
    columns: Mapping[str, str] | None = None,
    labels: Sequence[str] | None = None,
    require_label: bool = True,
) -> list[TextExample]:
    """Reads the examples of one file.

    Args:
        path: A TSV, CSV, JSON or Parquet file with a header (`formats.read_table`).
        columns: The column for each of `text`, `text_b`, `label` that has another name than the
            usual ones.
        labels: The labels that are allowed; None allows all.
        require_label: Whether each row must have a label.

    Returns:
        One example for each row, in the file's order.

    Raises:
        DataError: As `read_table`; or a column is missing or ambiguous, or a text or a label
            is not what it may be.
        UsageError: `columns` names something other than `text`, `text_b`, `label`.
    """
    table = read_table(path)
    return examples_of(table, columns=columns, labels=labels, require_label=require_label)


def examples_of(
    table: Table,
    *,
    columns: Mapping[str, str] | None = None,
    labels: Sequence[str] | None = None,
    require_label: bool = True,
) -> list[TextExample]:
    """Like `read_examples`, of a table that is already read.

    Args:
        table: The rows.
        columns: As in `read_examples`.
        labels: As in `read_examples`.
        require_label: As in `read_examples`.

    Returns:
        One example for each row, in the table's order.

    Raises:
        DataError: A column is missing or ambiguous, or a text or a label is not what it may be.
        UsageError: `columns` names something other than `text`, `text_b`, `label`.
    """
    text, text_b, label = _chosen_columns(table, columns or {}, require_label=require_label)
    allowed = None if labels is None else frozenset(labels)
    examples: list[TextExample] = []
    for index, row in enumerate(table.rows):
        found = None if label is None else _label(table, row, label)
        if found == _HIDDEN_LABEL and not require_label and allowed and found not in allowed:
            found = None
        if found is None and require_label:
            raise DataError(f"{table.place(row)}: no label; column {shown(label)} is empty here")
        if found is not None and allowed is not None and found not in allowed:
            raise DataError(
                f"{table.place(row)}: label {shown(found)} in column {shown(label)};"
                f" allowed: {_listed(labels or ())}"
            )
        second = None if text_b is None else _text(table, row, text_b)
        examples.append(TextExample(index, _text(table, row, text), second, found))
    return examples


def check_labels(examples: Iterable[TextExample], *, source: str = "the training split") -> None:
    """Refuses examples that nothing can be learned from.

    Args:
        examples: The examples to train on.
        source: What they are, as the message begins: better a path.

    Raises:
        DataError: There are no examples, one has no label, or all have the same one.
    """
    counts = Counter(example.label for example in examples)
    if not counts:
        raise DataError(f"{source}: no examples; at least two classes are needed")
    if counts[None]:
        raise DataError(f"{source}: {counts[None]:,} of the examples have no label; add them")
    if len(counts) == 1:
        ((label, count),) = counts.items()
        raise DataError(
            f"{source}: one class only, label {shown(label)} on all {count:,} examples;"
            " at least two classes are needed"
        )


def file_facts(paths: Iterable[Path]) -> list[dict[str, str | int]]:
    """What identifies the files of a data set in a run's record.

    Args:
        paths: Files that exist.

    Returns:
        `path`, `sha256` (hexadecimal) and `size_bytes` of each, in the order given.

    Raises:
        DataError: A file cannot be read.
    """
    facts: list[dict[str, str | int]] = []
    for path in paths:
        try:
            facts.append(
                {"path": str(path), "sha256": sha256_of(path), "size_bytes": path.stat().st_size}
            )
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    return facts


def _chosen_columns(
    table: Table, columns: Mapping[str, str], *, require_label: bool
) -> tuple[str, str | None, str | None]:
    """The columns of the text, of the second text and of the label."""
    for role, name in columns.items():
        if role not in _ROLES:
            raise UsageError(f"columns: {shown(role)} given; allowed: {', '.join(_ROLES)}")
        if name not in table.columns and (role != "label" or require_label):
            raise _no_column(table, role, given=name)
    taken = set(columns.values())
    chosen: dict[str, str | None] = {}
    for role, names in _ROLES.items():
        present = [name for name in names if name in table.columns and name not in taken]
        if role in columns:
            present = [columns[role]] if columns[role] in table.columns else []
        if len(present) > 1:
            raise DataError(
                f"{table.path}: columns {_listed(present)} could each be the {role};"
                f" choose one: --columns {role}={present[0]}"
            )
        chosen[role] = present[0] if present else None
    text = chosen["text"]
    if text is None:
        raise _no_column(table, "text")
    if chosen["label"] is None and require_label:
        raise _no_column(table, "label")
    others = [name for name in table.columns if name not in chosen.values()]
    _logger.debug("%s: read as %s; other columns: %s", table.path, chosen, others or "none")
    return text, chosen["text_b"], chosen["label"]


def _no_column(table: Table, role: str, *, given: str | None = None) -> DataError:
    """The error of a column that is not there: what is there, what is near, what to do."""
    if isinstance(table.rows[0].cells.get("data"), list):
        return DataError(
            f"{table.path}: questions on passages in SQuAD's layout, it seems; -t squad reads it,"
            " -t squad_v2 where a question may have no answer"
        )
    wanted = [given] if given else list(_ROLES[role])
    # A header that is a row of long texts would be slow to compare, and means nothing.
    names = [column for column in table.columns if 0 < len(column) <= _NAME_CHARACTERS]
    meant = next((near(name, names)[0] for name in wanted if near(name, names)), None)
    guess = f" (did you mean {shown(meant)}?)" if meant else ""
    missing = f"column {shown(given)}" if given else f"column for the {role} ({', '.join(wanted)})"
    return DataError(
        f"{table.path}: no {missing}{guess}; its columns are {_listed(table.columns)};"
        f" give the name with --columns {role}=NAME, or correct the header"
    )


def _text(table: Table, row: Row, column: str) -> str:
    cell = row.cells.get(column)
    if cell is not None and not isinstance(cell, str):
        raise DataError(
            f"{table.place(row)}: column {shown(column)} holds {shown(cell)}; a text is needed"
        )
    if not cell or cell.isspace():
        raise DataError(
            f"{table.place(row)}: no text in column {shown(column)}; fill it in or drop the row"
        )
    size = _size(table, row, column=column, text=cell)
    if size >= TEXT_LIMIT_BYTES:
        raise DataError(
            f"{table.place(row)}: a text of {size:,} bytes in column {shown(column)};"
            f" less than {TEXT_LIMIT_BYTES:,} are allowed; split it"
        )
    return cell


def _label(table: Table, row: Row, column: str) -> str | None:
    """The label as text: 1, 1.0 and true of a typed format are "1"; None where it is missing."""
    cell = row.cells.get(column)
    if cell is None or cell != cell:  # a hole in a column of floats is not a number
        return None
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    if isinstance(cell, bool):
        cell = int(cell)
    if not isinstance(cell, (int, str)):
        raise DataError(
            f"{table.place(row)}: column {shown(column)} holds {shown(cell)}; a label is a text"
            " or a whole number"
        )
    label = str(cell).strip()
    _size(table, row, column=column, text=label)
    if len(label) > _LABEL_LIMIT_CHARACTERS or _breaks_line(label):
        raise DataError(
            f"{table.place(row)}: label {shown(label)} in column {shown(column)}; a label is one"
            f" line of at most {_LABEL_LIMIT_CHARACTERS} characters; is it the right column?"
        )
    return label or None


def _size(table: Table, row: Row, *, column: str, text: str) -> int:
    """The text's size in bytes; JSON can spell halves of characters, which have none."""
    try:
        return len(text.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise DataError(
            f"{table.place(row)}: half a character (\\u{ord(text[error.start]):04x}) in column"
            f" {shown(column)}, character {error.start}; write both halves or none"
        ) from error


def _breaks_line(label: str) -> bool:
    return "\t" in label or "\0" in label or len(label.splitlines()) > 1


def _listed(names: Sequence[str]) -> str:
    listed = ", ".join(shown(name) for name in names[:_SHOWN_NAMES])
    more = len(names) - _SHOWN_NAMES
    return f"{listed} and {more} more" if more > 0 else listed
