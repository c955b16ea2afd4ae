from pathlib import Path

import pytest

from demo_bert.data.split_files import SplitFiles, find_split_files, listed, splits_in
from demo_bert.errors import DataError


def make(directory: Path, *names: str) -> list[Path]:
    directory.mkdir(exist_ok=True)
    for name in names:
        (directory / name).write_text("text\tlabel\na\t1\n", encoding="utf-8")
    return [directory / name for name in names]


def refusal(*paths: Path, training: bool = True) -> str:
    with pytest.raises(DataError) as caught:
        find_split_files(paths, training=training)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("name", ["dev", "validation", "valid", "val", "VALIDATION"])
def test_a_directory_gives_what_is_called_as_splits_are(tmp_path: Path, name: str) -> None:
    train, validation, test, *_ = make(
        tmp_path, "train.tsv", f"{name}.tsv", "test.tsv", "README.md", "trainer.tsv", ".train.tsv"
    )
    files = find_split_files([tmp_path])
    assert (files.train, files.validation, files.test) == ((train,), (validation,), (test,))
    assert files.paths == (train, validation, test)
    assert files.note == f"read: {train}, {validation}, {test}"


def test_the_hubs_data_subdirectory_is_looked_into(tmp_path: Path) -> None:
    paths = make(tmp_path / "data", "train.jsonl", "validation.jsonl")
    assert find_split_files([tmp_path]).paths == tuple(paths)


def test_named_files_are_told_apart_by_a_word_in_their_names(tmp_path: Path) -> None:
    paths = make(tmp_path, "my-test.csv", "reviews_train_v2.csv", "Dev2019.tsv", "more.train.tsv")
    files = find_split_files(paths[:3])
    assert (files.train, files.validation, files.test) == ((paths[1],), (paths[2],), (paths[0],))
    assert "more.train.tsv: its name does not say which split" in refusal(*paths)


def test_several_named_files_of_one_split_follow_one_another(tmp_path: Path) -> None:
    paths = make(tmp_path, "train_b.tsv", "train_a.tsv", "dev.tsv")
    assert find_split_files(paths).train == (paths[0], paths[1])


def test_a_single_file_may_have_any_name(tmp_path: Path) -> None:
    (path,) = make(tmp_path, "anything.tsv")
    files = find_split_files([path])
    assert (files.train, files.validation) == ((path,), ())
    assert "a tenth of each class is held out" in files.note
    assert find_split_files([path], training=False).validation == (path,)


def test_a_training_file_and_a_test_file_leave_the_validation_to_be_held_out(
    tmp_path: Path,
) -> None:
    train, test = make(tmp_path, "train.tsv", "test.tsv")
    files = find_split_files([train, test])
    assert (files.train, files.validation, files.test) == ((train,), (), (test,))
    assert "held out" in files.note


def test_the_form_with_training_and_validation_is_preferred(tmp_path: Path) -> None:
    csv, jsonl, dev = make(tmp_path, "train.csv", "train.jsonl", "dev.jsonl")
    files = find_split_files([tmp_path])
    assert (files.train, files.validation) == ((jsonl,), (dev,))
    assert files.note == f"read: {jsonl}, {dev}; not read: {csv}"


def test_a_split_that_is_there_in_one_form_only_is_taken(tmp_path: Path) -> None:
    dev, train = make(tmp_path, "dev.csv", "train.tsv.gz")
    files = find_split_files([tmp_path])
    assert (files.train, files.validation) == ((train,), (dev,))


def test_shards_are_one_split_in_their_order(tmp_path: Path) -> None:
    names = [f"train-{n:05d}-of-00003.parquet" for n in range(3)]
    shards = make(tmp_path, *reversed(names))
    (dev,) = make(tmp_path, "validation-00000-of-00001-0123456789abcdef.parquet")
    files = find_split_files([tmp_path])
    assert files.train == tuple(reversed(shards))
    assert files.validation == (dev,)
    (tmp_path / names[1]).unlink()
    assert "shard 00001 of train is missing" in refusal(tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        ("train.tsv", "dev.tsv", "validation.tsv"),
        ("train.tsv", "train-00000-of-00001.tsv"),
        ("train-00000-of-00001.tsv", "train-00000-of-00002.tsv", "train-00001-of-00002.tsv"),
    ],
)
def test_two_files_that_could_be_the_same_split_are_refused(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    make(tmp_path, *names)
    assert "several files for" in refusal(tmp_path)


def test_a_directory_with_nothing_known_is_answered_with_what_is_there(tmp_path: Path) -> None:
    make(tmp_path, *(f"file{n}.tsv" for n in range(9)))
    message = refusal(tmp_path)
    assert "found file0.tsv, " in message
    assert "and 1 more" in message
    assert "looked for train.*, dev.* or validation.*, test.*" in message
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "found nothing" in refusal(empty)


def test_missing_paths_and_paths_named_twice_are_refused(tmp_path: Path) -> None:
    (path,) = make(tmp_path, "train.tsv")
    assert "no such file or directory" in refusal(tmp_path / "missing.tsv")
    assert "no such file or directory" in refusal(path / "below")
    assert "named twice" in refusal(path, tmp_path / ".." / tmp_path.name / "train.tsv")
    assert "no data was named" in refusal()


def test_nothing_to_train_on_is_refused_and_is_fine_for_a_score(tmp_path: Path) -> None:
    paths = make(tmp_path, "dev.tsv", "test.tsv")
    assert "no file to train on" in refusal(*paths)
    assert "no file to train on" in refusal(tmp_path)
    assert find_split_files(paths, training=False) == find_split_files([tmp_path], training=False)


def test_splits_in_an_empty_directory_are_none(tmp_path: Path) -> None:
    assert splits_in(tmp_path) == ({}, [])
    assert SplitFiles().paths == ()
    assert listed([]) == ""
