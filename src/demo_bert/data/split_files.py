"""Which of the user's files is the training split, which the validation and which the test split.

A split's name is in the file's name: `train`; `dev`, `validation`, `valid` or `val`; `test`. In a
directory only files called just so count (`train.tsv`, `dev.csv.gz`, the hub's
`train-00000-of-00002.parquet`); a file that the user names may have more in its name
(`reviews_train.csv`). Without a validation file a tenth of the training split is held out.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from demo_bert.data.formats import FORMATS, form_of
from demo_bert.errors import DataError

LOOKED_FOR = "train.*, dev.* or validation.*, test.*"
"""The names of files that `splits_in` knows, as messages give them."""

_SPLIT_OF_WORD = {
    "train": "train",
    "dev": "validation",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
}
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})(?:-[0-9a-f]{16})?$")
_SHOWN_FILES = 8


@dataclass(frozen=True, slots=True)
class SplitFiles:
    """The files of each split; several are read one after the other."""

    train: tuple[Path, ...] = ()
    validation: tuple[Path, ...] = ()
    """Empty: a tenth of `train` is held out."""

    test: tuple[Path, ...] = ()
    note: str = ""
    """What is read, held out and left unread, in one line for the user."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files that are read."""
        return self.train + self.validation + self.test


def find_split_files(paths: Sequence[Path], *, training: bool = True) -> SplitFiles:
    """Finds the splits among files and directories.

    Args:
        paths: What the user named: directories, or files (a single one may have any name).
        training: False where only a score is wanted: then a single file is the validation split,
            and no training split is needed.

    Returns:
        The files of each split, and a note.

    Raises:
        DataError: A path is missing or named twice, a directory cannot be read or holds nothing
            known, a file's split is unclear, a shard is missing, or there is nothing to train on.
    """
    check_paths(paths)
    if len(paths) == 1 and not paths[0].is_dir():
        lone = SplitFiles(train=(paths[0],)) if training else SplitFiles(validation=(paths[0],))
        return with_note(lone)
    found: dict[str, list[Path]] = {}
    unread: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside, left = _splits_below(path)
            unread += left
        else:
            inside = {_split_of_named_file(path): [path]}
        for split, files in inside.items():
            found.setdefault(split, []).extend(files)
    files = split_files(found)
    if training and not files.train:
        raise DataError(f"{listed(paths)}: no file to train on; looked for {LOOKED_FOR}")
    return with_note(files, unread=unread)


def splits_in(directory: Path) -> tuple[dict[str, list[Path]], list[Path]]:
    """The files of a directory that are called as splits are.

    Where a split is there in several forms, the form is taken that has most of the splits
    (training and validation first), else the one that stands first in `FORMATS`.

    Args:
        directory: A directory.

    Returns:
        The files by split, and those that are left unread.

    Raises:
        DataError: Two files of one form are the same split, a shard is missing, or the directory
            cannot be read.
    """
    by_ending: dict[str, dict[str, list[Path]]] = {}
    for path in entries(directory):
        stem, _, ending = path.name.lower().partition(".")
        split = _SPLIT_OF_WORD.get(_SHARD.sub("", stem))
        if split and form_of(path) and path.is_file():
            by_ending.setdefault(ending, {}).setdefault(split, []).append(path)
    order = list(FORMATS)

    def rank(ending: str) -> tuple[bool, int, int]:
        splits = by_ending[ending]
        place = order.index("." + ending.removesuffix(".gz").rpartition(".")[2])
        return not {"train", "validation"} <= splits.keys(), -len(splits), place

    chosen: dict[str, list[Path]] = {}
    unread: list[Path] = []
    for ending in sorted(by_ending, key=rank):
        for split, files in by_ending[ending].items():
            if split in chosen:
                unread += files
            else:
                chosen[split] = files
    for split, files in chosen.items():
        _check_whole(files, split=split)
    return chosen, unread


def check_paths(paths: Sequence[Path]) -> None:
    """Refuses paths that are missing or named twice.

    Args:
        paths: What the user named.

    Raises:
        DataError: No path, a missing one, or one that was named twice.
    """
    if not paths:
        raise DataError("no data was named; name a file or a directory with --dataset-path")
    seen: set[Path] = set()
    for path in paths:
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise DataError(f"{path}: no such file or directory") from error
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error
        if path.resolve() in seen:
            raise DataError(f"{path}: named twice; name each file once")
        seen.add(path.resolve())


def split_files(found: Mapping[str, Sequence[Path]]) -> SplitFiles:
    """Files by split, as one value.

    Args:
        found: Files of `train`, `validation`, `test`; any may be missing.

    Returns:
        The same, without a note.
    """
    return SplitFiles(
        train=tuple(found.get("train", ())),
        validation=tuple(found.get("validation", ())),
        test=tuple(found.get("test", ())),
    )


def with_note(files: SplitFiles, *, unread: Sequence[Path] = ()) -> SplitFiles:
    """Adds what the user should know.

    Args:
        files: What is read.
        unread: What could have been read instead.

    Returns:
        The same files, with a note.
    """
    note = f"read: {listed(files.paths)}"
    if files.train and not files.validation:
        note += "; no validation file: a tenth of each class is held out, chosen by its texts"
    if unread:
        note += f"; not read: {listed(unread)}"
    return replace(files, note=note)


def entries(directory: Path) -> list[Path]:
    """What a directory holds.

    Args:
        directory: A directory.

    Returns:
        Its entries in the order of their names, without hidden ones.

    Raises:
        DataError: It cannot be read.
    """
    try:
        return sorted(path for path in directory.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"{directory}: cannot be read ({error.strerror})") from error


def listed(names: Iterable[Path | str]) -> str:
    """Paths as a message shows them.

    Args:
        names: Any paths or names.

    Returns:
        The first eight, separated by commas, and how many more there are.

    Example:
        >>> listed(["a", "b"])
        'a, b'
    """
    shown = [str(name) for name in names]
    more = len(shown) - _SHOWN_FILES
    return ", ".join(shown[:_SHOWN_FILES]) + (f" and {more} more" if more > 0 else "")


def nothing_known(directory: Path, *, looked_for: str = LOOKED_FOR) -> DataError:
    """The error of a directory that holds nothing known.

    Args:
        directory: The directory.
        looked_for: The names that would be known.

    Returns:
        An error that says what is there and what was looked for.
    """
    there = listed(path.name for path in entries(directory)) or "nothing"
    return DataError(
        f"{directory}: no data that is known; found {there}; looked for {looked_for};"
        " a file of another name can be named itself"
    )


def _splits_below(directory: Path) -> tuple[dict[str, list[Path]], list[Path]]:
    """The splits of a directory, or of its `data` subdirectory, where the hub keeps them."""
    for place in (directory, directory / "data"):
        if place.is_dir():
            found, unread = splits_in(place)
            if found:
                return found, unread
    raise nothing_known(directory)


def _split_of_named_file(path: Path) -> str:
    words = re.split(r"[^a-z]+", path.name.lower().partition(".")[0])
    splits = {_SPLIT_OF_WORD[word] for word in words if word in _SPLIT_OF_WORD}
    if len(splits) != 1:
        raise DataError(
            f"{path}: its name does not say which split it is; with several files each must have"
            " one of train, dev, validation, valid, val, test in its name"
        )
    return splits.pop()


def _check_whole(files: Sequence[Path], *, split: str) -> None:
    """Refuses two files for one split, unless they are all the shards of it."""
    shards = [_SHARD.search(path.name.lower().partition(".")[0]) for path in files]
    numbers = sorted(int(shard[1]) for shard in shards if shard)
    totals = {int(shard[2]) for shard in shards if shard}
    if not numbers and len(files) == 1:
        return
    if len(numbers) < len(files) or len(totals) > 1 or len(set(numbers)) < len(numbers):
        raise DataError(
            f"{listed(files)}: several files for {split}; name the one with --dataset-path"
        )
    missing = sorted(set(range(totals.pop())) - set(numbers))
    if missing:
        raise DataError(
            f"{files[0].parent}: shard {missing[0]:05d} of {split} is missing"
            f" (there: {listed(path.name for path in files)}); fetch it again"
        )
