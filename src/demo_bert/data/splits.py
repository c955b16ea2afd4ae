"""Reads a data set of several files; holds a tenth out where it has no validation split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from demo_bert.data.split_files import SplitFiles, find_split_files, listed
from demo_bert.data.tables import TextExample, check_labels, read_examples
from demo_bert.errors import DataError
from demo_bert.seeds import derive

_HELD_OUT_SHARE = 10  # one row in this many


@dataclass(frozen=True, slots=True)
class UserData:
    """The user's own files, read."""

    splits: dict[str, list[TextExample]]
    """`train` and `validation` (to train on), and `test` where there is one."""

    files: tuple[Path, ...]
    """All files that were read."""

    notes: tuple[str, ...]
    """What was read, held out and left unread: lines for the user."""


def split_user_files(
    paths: Sequence[Path],
    *,
    columns: Mapping[str, str] | None = None,
    labels: Sequence[str] | None = None,
) -> UserData:
    """Finds the splits among files and directories, and reads them.

    Args:
        paths: What the user named: directories, or files.
        columns: As in `tables.read_examples`.
        labels: The classes of a trained model, whose score is wanted: no training split is
            needed, and a single file is the validation split. None to train: the labels are
            those of the training split, and a tenth of a single file is held out.

    Returns:
        The splits, the files and the notes.

    Raises:
        DataError: As `find_split_files` and `read_splits`.
    """
    found = find_split_files(paths, training=labels is None)
    splits = read_splits(found, columns=columns, labels=labels)
    return UserData(splits, found.paths, (found.note,))


def read_splits(
    files: SplitFiles,
    *,
    columns: Mapping[str, str] | None = None,
    labels: Sequence[str] | None = None,
) -> dict[str, list[TextExample]]:
    """Reads the splits; holds a tenth of the training split out where there is no validation.

    Args:
        files: From `find_split_files`.
        columns: As in `tables.read_examples`.
        labels: The labels that are allowed; None: those of the training split.

    Returns:
        `train` and `validation`, and `test` where there is one (its labels may be missing). Each
        example's index is its row in the split's files; held-out rows keep theirs.

    Raises:
        DataError: As `tables.read_examples`; the training split has one class only, or too few
            rows to hold some out; or some files have pairs and others single texts.
    """
    splits: dict[str, list[TextExample]] = {}
    kinds: dict[bool, Path] = {}
    for split in ("train", "validation", "test"):
        examples: list[TextExample] = []
        for path in getattr(files, split):
            more = read_examples(
                path, columns=columns, labels=labels, require_label=split != "test"
            )
            kinds.setdefault(more[0].text_b is None, path)
            start = len(examples)
            examples += (replace(one, index=start + one.index) for one in more)
        if examples:
            splits[split] = examples
        if examples and split == "train":
            check_labels(examples, source=listed(files.train))
            labels = labels or sorted({str(example.label) for example in examples})
    if len(kinds) == 2:
        raise DataError(
            f"{kinds[False]} holds pairs of texts and {kinds[True]} single texts; give both files"
            " the same columns, or say which with --columns"
        )
    if files.train and not files.validation:
        train, validation = hold_out(splits["train"], source=listed(files.train))
        splits = {**splits, "train": train, "validation": validation}
    return splits


def hold_out(
    examples: Sequence[TextExample], *, source: str
) -> tuple[list[TextExample], list[TextExample]]:
    """Takes a tenth of each class: the rows whose texts have the smallest hashes.

    Rows with the same texts stay together, so that none is both learned and asked.

    Args:
        examples: Labelled examples.
        source: What they are, as the message begins.

    Returns:
        The rest and the tenth, both in the order given.

    Raises:
        DataError: One of the two would have fewer than two classes.
    """
    keys = [derive("held out", example.text, example.text_b or "") for example in examples]
    label_of: dict[int, str | None] = {}
    for key, example in zip(keys, examples, strict=True):
        label_of.setdefault(key, example.label)
    by_label: dict[str | None, list[int]] = {}
    for key in sorted(label_of):
        by_label.setdefault(label_of[key], []).append(key)
    held: set[int] = set()
    for members in by_label.values():
        count = max(1, round(len(members) / _HELD_OUT_SHARE))
        held.update(members[: min(count, len(members) - 1)])
    parts: tuple[list[TextExample], list[TextExample]] = ([], [])
    for key, example in zip(keys, examples, strict=True):
        parts[key in held].append(example)
    if any(len({example.label for example in part}) < 2 for part in parts):
        raise DataError(
            f"{source}: too few different rows to hold some of two classes out for validation;"
            " give a validation file as well (--dataset-path)"
        )
    return parts
