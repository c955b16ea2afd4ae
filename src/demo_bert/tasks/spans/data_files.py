"""Which files are SQuAD's training and validation split, and what is in them.

In a directory count files with `train`, `dev`, `validation`, `valid` or `val` in their names
(`train-v1.1.json`, the hub's Parquet); where a split has files of both versions, those of the
task's. A named file without such a word is one to train on. Standard library alone at import.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from demo_bert.data.split_files import check_paths, entries, listed, nothing_known
from demo_bert.errors import DataError
from demo_bert.seeds import derive
from demo_bert.tasks.spans.questions import Question, QuestionFile, read_questions, unpacked_name

_SPLITS = {"train": "train", **dict.fromkeys(("dev", "validation", "valid", "val"), "validation")}
_TEST = "test"
_PLACES = (".", "squad", "squad_v2", "plain_text", "data")
_HELD_OUT_SHARE = 10  # one passage in this many


@dataclass(frozen=True, slots=True)
class SpanData:
    """Questions by split.

    Attributes:
        splits: "train" (not where only a score is wanted) and "validation".
        files: All files that were read.
        notes: Lines for the user.
    """

    splits: dict[str, list[Question]]
    files: tuple[Path, ...]
    notes: tuple[str, ...]


def read_span_data(paths: Sequence[Path], *, is_v2: bool, training: bool) -> SpanData:
    """Finds and reads the splits.

    Args:
        paths: What the user named: directories or files.
        is_v2: Whether questions may have no answer.
        training: False where only a score is wanted: then a single file is the validation split.

    Returns:
        The data. Without a validation file a tenth of the passages is held out.

    Raises:
        DataError: As `find_files` and `read_questions`; the version is another one; or an id
            stands for two questions of a split.
    """
    found = find_files(paths, is_v2=is_v2, training=training)
    notes = [f"read: {listed(sum(found.values(), []))}"]
    read = {split: [read_questions(path) for path in files] for split, files in found.items()}
    _check_version(sum(read.values(), []), is_v2=is_v2)
    splits: dict[str, list[Question]] = {}
    for split, of_split in read.items():
        notes += [note for file in of_split for note in file.notes]
        splits[split] = _joined(of_split, notes)
    if training:
        if "validation" not in splits:
            splits = _held_out(splits["train"], paths)
            notes.append("no validation file: a tenth of the passages is held out")
        notes += _note_of_known(splits)
        kept = [one for one in splits["train"] if one.start >= 0 or not one.answers]
        if len(kept) < len(splits["train"]):
            notes.append(f"{len(splits['train']) - len(kept)} questions have no answer to learn")
        splits["train"] = kept
    return SpanData(splits, tuple(sum(found.values(), [])), tuple(notes))


def find_files(paths: Sequence[Path], *, is_v2: bool, training: bool) -> dict[str, list[Path]]:
    """The files of each split.

    Args:
        paths: As in `read_span_data`.
        is_v2: Likewise.
        training: Likewise.

    Returns:
        "train" and "validation", as far as they are there and wanted.

    Raises:
        DataError: A path is missing or named twice, a directory has nothing known, a test file is
            named beside others, or there is nothing to train on, or to score.
    """
    check_paths(paths)
    found: dict[str, list[Path]] = {"train": [], "validation": []}
    for path in paths:
        if path.is_dir():
            for split, files in _in_directory(path, is_v2=is_v2).items():
                found[split] += files
        else:
            found[_split_of_named_file(path, num_named=len(paths))].append(path)
    if len(paths) == 1 and not paths[0].is_dir():
        return {"train" if training else "validation": list(paths)}
    if not training:
        del found["train"]
    wanted = "train" if training else "validation"
    if not found[wanted]:
        raise DataError(
            f"{listed(paths)}: no file to {'train on' if training else 'score'}; looked for"
            f" {'train*.json' if training else 'dev*.json, validation*.json'}"
        )
    return {split: files for split, files in found.items() if files}


def _in_directory(directory: Path, *, is_v2: bool) -> dict[str, list[Path]]:
    for place in (directory / name for name in _PLACES):
        splits: dict[str, list[Path]] = {}
        for path in entries(place) if place.is_dir() else ():
            split = _split_of(path)
            if split not in (None, _TEST) and _is_known(path):
                splits.setdefault(split, []).append(path)
        if splits:
            return {split: _of_version(files, is_v2=is_v2) for split, files in splits.items()}
    raise nothing_known(directory, looked_for="train*.json, dev*.json, validation*.json")


def _of_version(files: list[Path], *, is_v2: bool) -> list[Path]:
    """The files of a split that are of the version by their names; all, where none is."""
    return [file for file in files if _version_of(file) in (None, 2 if is_v2 else 1)] or files


def _is_known(path: Path) -> bool:
    return unpacked_name(path).endswith((".json", ".parquet")) and path.is_file()


def _split_of(path: Path) -> str | None:
    """The split that a file's name says, "test" too."""
    words = re.split(r"[^a-z]+", path.name.lower())
    known = next((_SPLITS[word] for word in words if word in _SPLITS), None)
    return known or (_TEST if _TEST in words else None)


def _split_of_named_file(path: Path, *, num_named: int) -> str:
    """The split of a file that the user named; without a word for it, "train"."""
    split = _split_of(path) or "train"
    if split != _TEST:
        return split
    if num_named == 1:
        return "train"
    raise DataError(
        f"{path}: a test file, by its name; it is neither trained on nor does it validate; leave it"
        " out and score it with evaluate, or give it another name"
    )


def _version_of(path: Path) -> int | None:
    match = re.search(r"v([12])(?![0-9])", path.name.lower())
    return int(match[1]) if match else None


def _check_version(files: Sequence[QuestionFile], *, is_v2: bool) -> None:
    """Refuses files of the other version, and both together."""
    names = {True: "SQuAD 2.0", False: "SQuAD 1.1"}
    other = [file for file in files if file.is_v2 is not is_v2]
    if other and len(other) < len(files):
        same = next(file for file in files if file.is_v2 is is_v2)
        raise DataError(
            f"{other[0].path} is {names[not is_v2]}, {same.path} is {names[is_v2]}; they are not"
            " trained on or scored together"
        )
    if other:
        right = "squad" if is_v2 else "squad_v2"
        why = "all its questions have answers" if is_v2 else "some questions may have no answer"
        raise DataError(f"{other[0].path}: is {names[not is_v2]} ({why}); give -t {right}")


def _joined(files: Sequence[QuestionFile], notes: list[str]) -> list[Question]:
    """The questions of several files; one that stands in two is read once."""
    found: dict[str, Question] = {}
    num_repeated = 0
    for file in files:
        for one in file.questions:
            former = found.setdefault(one.id, one)
            if former is not one:
                if (former.question, former.context) != (one.question, one.context):
                    raise DataError(
                        f"{file.path}: the id {one.id!r} is that of another question in another"
                        " file; ids must be unique"
                    )
                num_repeated += 1
    if num_repeated:
        notes.append(f"{num_repeated} questions stand in two files: read once")
    return list(found.values())


def _note_of_known(splits: dict[str, list[Question]]) -> list[str]:
    """Says where questions are scored that are trained on."""
    trained = {(one.question, one.context) for one in splits["train"]}
    known = sum((one.question, one.context) in trained for one in splits["validation"])
    if not known:
        return []
    return [
        f"{known:,} of the {len(splits['validation']):,} validation questions are trained on too:"
        " their score says little about other texts"
    ]


def _held_out(questions: Sequence[Question], paths: Sequence[Path]) -> dict[str, list[Question]]:
    contexts = {one.context for one in questions}
    held = {text for text in contexts if derive("held out", _ascii(text)) % _HELD_OUT_SHARE == 0}
    if not held or held == contexts:
        raise DataError(
            f"{listed(paths)}: {len(contexts)} passages are too few to hold some out; name a"
            " validation file too (dev in its name)"
        )
    return {
        "train": [one for one in questions if one.context not in held],
        "validation": [one for one in questions if one.context in held],
    }


def _ascii(text: str) -> str:
    """Any text, halves of surrogate pairs too, as one that can be hashed."""
    return text.encode("ascii", "backslashreplace").decode("ascii")
