"""MRPC in the forms that it goes by: the original, GLUE's TSV, the hub's Parquet, JSON lines.

The original is `msr_paraphrase_train.txt` (4,076 pairs) and `msr_paraphrase_test.txt`. GLUE took
408 pairs of the first for its development set and left 3,668 to train on, both in the order of the
file; its list of them is `dev_ids.tsv` beside the file, else the one in this package. So the
original and GLUE's `train.tsv` and `dev.tsv` give the same examples in the same order.

Source: Dolan and Brockett 2005 (the corpus); Wang et al. 2018 (GLUE, the list).
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from demo_bert.data.formats import form_of
from demo_bert.data.split_files import (
    LOOKED_FOR,
    SplitFiles,
    check_paths,
    entries,
    find_split_files,
    listed,
    nothing_known,
    split_files,
    splits_in,
    with_note,
)
from demo_bert.data.splits import read_splits
from demo_bert.data.tables import (
    LABEL_NAMES,
    TextExample,
    check_labels,
    examples_of,
    read_examples,
    read_table,
)
from demo_bert.errors import DataError
from demo_bert.files import read_text

LABELS = ("0", "1")
"""Not equivalent, equivalent (the positive class)."""

PACKAGED_DEV_IDS = Path(__file__).with_name("glue_mrpc_dev_ids.txt")
"""GLUE's list of the development pairs, for an original without one beside it."""

_TRAIN = "msr_paraphrase_train"
_TEST = "msr_paraphrase_test"
_IDS = "dev_ids.tsv"
_ID_COLUMNS = ("#1 ID", "#2 ID")

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MrpcFiles:
    """What was found of MRPC."""

    splits: SplitFiles
    """For the original, `train` is the file that both the training and the validation come from."""

    dev_ids: Path | None = None
    """The list of development pairs that divides the original; None for all other forms."""

    @property
    def note(self) -> str:
        """What is read, held out and left unread, in one line for the user."""
        return self.splits.note

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files that are read."""
        return self.splits.paths + ((self.dev_ids,) if self.dev_ids else ())


def find_splits(paths: Sequence[Path], *, training: bool = True) -> MrpcFiles:
    """Finds MRPC, or the user's own pairs with the same labels, among files and directories.

    In a directory, and its subdirectories `mrpc`, `glue_data/MRPC` and `data`, GLUE's TSV with a
    labelled `dev.tsv` comes first, then the original, then what else is called as splits are.

    Args:
        paths: What the user named: a directory, or files.
        training: False where only a score is wanted: then a single file is the validation split,
            and no training split is needed.

    Returns:
        The files, and a note on them.

    Raises:
        DataError: As `data.split_files.find_split_files`; or an original stands among other files.
    """
    check_paths(paths)
    if any(_is_original(path, _TRAIN) for path in paths):
        return _original(paths)
    if len(paths) > 1 or not paths[0].is_dir():
        return MrpcFiles(find_split_files(paths, training=training))
    for place in _places(paths[0]):
        found, unread = splits_in(place)
        original = [path for path in entries(place) if _is_part_of_original(path)]
        if any(_is_original(path, _TRAIN) for path in original):
            if not _is_labelled_glue(found):
                return _original(original, unread=[*sum(found.values(), []), *unread])
            unread += original
        if found.get("train") or (found and not training):
            return MrpcFiles(with_note(split_files(found), unread=unread))
    raise nothing_known(paths[0], looked_for=f"{LOOKED_FOR}, {_TRAIN}.txt, mrpc/")


def read_mrpc(
    paths: Sequence[Path], *, columns: Mapping[str, str] | None = None, training: bool = True
) -> dict[str, list[TextExample]]:
    """Reads MRPC, or the user's own pairs with the same labels.

    Args:
        paths: What the user named: a directory, or files.
        columns: As in `data.tables.read_examples`.
        training: As in `find_splits`.

    Returns:
        `train` and `validation`, and `test` where there is one (its labels may be missing). Labels
        are "0" and "1".

    Raises:
        DataError: As `find_splits` and `data.splits.read_splits`; or the list of development
            pairs is damaged or of another corpus.
    """
    return read_found(find_splits(paths, training=training), columns=columns)


def read_found(
    files: MrpcFiles, *, columns: Mapping[str, str] | None = None
) -> dict[str, list[TextExample]]:
    """Like `read_mrpc`, of files that are already found.

    Args:
        files: From `find_splits`.
        columns: As in `data.tables.read_examples`.

    Returns:
        As `read_mrpc`.

    Raises:
        DataError: As `data.splits.read_splits`; or the list of development pairs is damaged or of
            another corpus.
    """
    if files.dev_ids is None:
        return read_splits(files.splits, columns=columns, labels=LABELS)
    (path,) = files.splits.train
    splits = _divided(path, files.dev_ids, columns=columns)
    for test in files.splits.test:
        splits["test"] = read_examples(test, columns=columns, labels=LABELS, require_label=False)
    return splits


def _divided(
    path: Path, dev_ids: Path, *, columns: Mapping[str, str] | None
) -> dict[str, list[TextExample]]:
    """The original's training file, divided as GLUE did; each split is numbered from 0."""
    table = read_table(path)
    if not set(_ID_COLUMNS) <= set(table.columns):
        raise DataError(f"{path}: no columns '#1 ID' and '#2 ID', which tell the dev pairs")
    wanted = _read_ids(dev_ids)
    splits: dict[str, list[TextExample]] = {"train": [], "validation": []}
    examples = examples_of(table, columns=columns, labels=LABELS)
    for row, example in zip(table.rows, examples, strict=True):
        ids = tuple(str(row.cells[name]) for name in _ID_COLUMNS)
        split = splits["validation" if ids in wanted else "train"]
        split.append(replace(example, index=len(split)))
    count = len(splits["validation"])
    if not count:
        raise DataError(f"{path}: has none of the {len(wanted)} dev pairs of {dev_ids}")
    if count != len(wanted):
        _logger.warning("%s: has %d of the %d dev pairs of %s", path, count, len(wanted), dev_ids)
    check_labels(splits["train"], source=str(path))
    return splits


def _read_ids(path: Path) -> frozenset[tuple[str, ...]]:
    """Pairs of ids, one or more on a line; a line that begins with `#` is a remark."""
    pairs: set[tuple[str, ...]] = set()
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        ids = [] if line.startswith("#") else line.split()
        if len(ids) % 2 or not all(one.isdecimal() for one in ids):
            raise DataError(f"{path}, line {number}: not a pair of ids; two numbers are needed")
        pairs.update(zip(ids[::2], ids[1::2], strict=True))
    if not pairs:
        raise DataError(f"{path}: no pairs of ids; take GLUE's dev_ids.tsv, or remove the file")
    return frozenset(pairs)


def _original(paths: Sequence[Path], *, unread: Sequence[Path] = ()) -> MrpcFiles:
    """The original out of its files; the list of development pairs may lie beside them."""
    for path in paths:
        if not _is_part_of_original(path):
            raise DataError(
                f"{path}: cannot be read together with {_TRAIN}, which holds the dev pairs too;"
                f" only {_TEST} and {_IDS} go with it"
            )
    train = [path for path in paths if _is_original(path, _TRAIN)]
    test = [path for path in paths if _is_original(path, _TEST)]
    if len(train) > 1 or len(test) > 1:
        raise DataError(f"{listed(train + test)}: the same part of MRPC twice; name one")
    beside = [path for path in [*paths, *entries(train[0].parent)] if _is_dev_ids(path)]
    dev_ids = beside[0] if beside else PACKAGED_DEV_IDS
    note = f"read: {listed(train + test)}; the dev pairs are those of {dev_ids}"
    if unread:
        note += f"; not read: {listed(unread)}"
    return MrpcFiles(SplitFiles(train=tuple(train), test=tuple(test), note=note), dev_ids)


def _places(directory: Path) -> list[Path]:
    """The directory and those of its subdirectories that may hold MRPC."""
    named = [path for path in entries(directory) if path.name.lower() == "mrpc"]
    places = [directory, *named, directory / "glue_data" / "MRPC", directory / "data"]
    return [place for place in places if place.is_dir()]


def _is_labelled_glue(found: Mapping[str, Sequence[Path]]) -> bool:
    """Whether there is a training split and a validation split with labels."""
    if not found.get("train") or not found.get("validation"):
        return False
    columns = read_table(found["validation"][0]).columns
    return any(name in columns for name in LABEL_NAMES)


def _is_original(path: Path, name: str) -> bool:
    stem = path.name.lower().partition(".")[0]
    return stem == name and form_of(path) == "tsv" and path.is_file()


def _is_dev_ids(path: Path) -> bool:
    return path.name.lower().endswith(_IDS) and path.is_file()


def _is_part_of_original(path: Path) -> bool:
    return _is_original(path, _TRAIN) or _is_original(path, _TEST) or _is_dev_ids(path)
