"""Documents as Parquet: `--parquet`; a column `text` of strings, read row group by row group."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from demo_bert.corpus.document import Paragraphs, Piece, Tally
from demo_bert.corpus.jsonl import TEXT_COLUMNS
from demo_bert.corpus.text_form import limited
from demo_bert.errors import DataError

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

_BATCH_ROWS = 256


def plan(kind: str, path: Path, *, tally: Tally) -> list[Piece]:
    """The pieces of a file: its row groups.

    Args:
        kind: "parquet".
        path: The file.
        tally: Counts files without rows.

    Returns:
        One piece for each row group.

    Raises:
        DataError: It is damaged, cannot be read, or has no column of text.
    """
    with _opened(path) as file:
        column_of(file, path)
        if not file.metadata.num_rows:
            tally["empty files"] += 1
            return []
        sizes = packed_sizes(file, size_bytes=path.stat().st_size)
    return [Piece(kind, str(path), at, at + 1, size) for at, size in enumerate(sizes)]


def read(piece: Piece, *, tally: Tally) -> Iterator[Paragraphs]:
    """The documents of a row group.

    Args:
        piece: From `plan`.
        tally: Counts rows without text.

    Yields:
        Paragraphs of each document; a line feed in the text ends a paragraph.

    Raises:
        DataError: The file is damaged or cannot be read.
    """
    path = Path(piece.path)
    with _opened(path) as file:
        for text in texts_of(file, piece, column=column_of(file, path)):
            lines = text.splitlines() if text else []
            paragraphs = [stripped for line in lines if (stripped := line.strip())]
            if not paragraphs:
                tally["documents without text"] += 1
            yield from limited(paragraphs)


def texts_of(file: "ParquetFile", piece: Piece, *, column: str) -> Iterator[str | None]:
    """The texts of a row group, some hundreds in memory at a time.

    Args:
        file: The file.
        piece: Its `begin` and `end` are numbers of row groups.
        column: Where the texts are.

    Yields:
        Each text.

    Raises:
        DataError: The file is damaged or cannot be read.
    """
    import pyarrow as pa

    groups = range(piece.begin, piece.end)
    try:
        for batch in file.iter_batches(_BATCH_ROWS, row_groups=groups, columns=[column]):
            yield from batch.column(0).to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{piece.path}: damaged Parquet ({_first_line(error)})") from error


def _opened(path: Path) -> "ParquetFile":
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        return ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path}: cannot be read as Parquet ({_first_line(error)}); give the whole file"
        ) from error


def packed_sizes(file: "ParquetFile", *, size_bytes: int) -> list[int]:
    """Bytes of each row group on disk, about.

    Not by the columns' own sizes: pyarrow ends the process where a damaged file's are asked for.

    Args:
        file: The file.
        size_bytes: Its size.

    Returns:
        The sizes, by what the groups have unpacked.
    """
    groups = range(file.metadata.num_row_groups)
    unpacked = [max(1, file.metadata.row_group(place).total_byte_size) for place in groups]
    return [size_bytes * one // sum(unpacked) for one in unpacked]


def column_of(file: "ParquetFile", path: Path | str) -> str:
    """The column that has the text.

    Args:
        file: The file.
        path: Its name, for messages.

    Returns:
        The column's name.

    Raises:
        DataError: There is none.
    """
    names = {field.name: str(field.type) for field in file.schema_arrow}
    for name in TEXT_COLUMNS:
        if names.get(name) in ("string", "large_string", "string_view"):
            return name
    raise DataError(
        f"{path}: has no column of text; its columns are {', '.join(names)}, and one of"
        f" {', '.join(TEXT_COLUMNS)} is needed"
    )


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0]
