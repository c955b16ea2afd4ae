import logging
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from demo_bert.data.tables import TextExample
from demo_bert.errors import DataError
from demo_bert.tasks.mrpc_files import (
    PACKAGED_DEV_IDS,
    find_splits,
    read_mrpc,
)

HEADER = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String"
ORIGINAL = [f"{n % 2}\t{n}\t{n + 100}\tfirst {n}\tsecond {n}" for n in range(8)]
DEV = (2, 5, 6)


def write(path: Path, rows: Iterable[str], *, header: str = HEADER) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{row}\n" for row in (header, *rows)).encode("utf-8"))
    return path


def write_original(directory: Path, *, ids: str | None = "dev_ids.tsv") -> tuple[Path, Path]:
    train = write(directory / "msr_paraphrase_train.txt", ORIGINAL, header=f"\ufeff{HEADER}")
    test = write(directory / "msr_paraphrase_test.txt", ["1\t50\t150\tthird\tfourth"])
    if ids:
        lines = [f"{n}\t{n + 100}" for n in DEV]
        write(directory / ids, lines[1:], header=lines[0])
    return train, test


def write_glue(directory: Path) -> tuple[Path, Path, Path]:
    train = write(directory / "train.tsv", [r for n, r in enumerate(ORIGINAL) if n not in DEV])
    dev = write(directory / "dev.tsv", [r for n, r in enumerate(ORIGINAL) if n in DEV])
    header = "index\t#1 ID\t#2 ID\t#1 String\t#2 String"
    return train, dev, write(directory / "test.tsv", ["0\t50\t150\tthird\tfourth"], header=header)


def refusal(*paths: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_mrpc(paths)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.fixture(scope="module")
def corpus() -> Path:
    for directory in Path(__file__).resolve().parents:
        found = directory / "shared" / "data" / "mrpc"
        if found.is_dir():
            return found
    pytest.skip("MRPC itself is not beside this repository (shared/data/mrpc)")


@pytest.mark.parametrize("ids", ["dev_ids.tsv", "mrpc_dev_ids.tsv"])
def test_the_original_is_divided_by_the_list_beside_it_as_glue_is(tmp_path: Path, ids: str) -> None:
    train, test = write_original(tmp_path / "original", ids=ids)
    write_glue(tmp_path / "glue")
    original, glue = read_mrpc([train.parent]), read_mrpc([tmp_path / "glue"])
    assert (original["train"], original["validation"]) == (glue["train"], glue["validation"])
    assert original["validation"][1] == TextExample(1, "first 5", "second 5", "1")
    assert original["test"] == [TextExample(0, "third", "fourth", "1")]
    assert glue["test"] == [TextExample(0, "third", "fourth", None)]
    found = find_splits([train.parent])
    assert found.paths == (train, test, train.parent / ids)
    assert found.note == f"read: {train}, {test}; the dev pairs are those of {train.parent / ids}"


def test_the_originals_files_may_be_named_one_by_one(tmp_path: Path) -> None:
    train, test = write_original(tmp_path, ids=None)
    ids = write(tmp_path / "elsewhere" / "dev_ids.tsv", ["5\t105"], header="2\t102")
    assert len(read_mrpc([train, test, ids])["validation"]) == 2
    assert "test" not in read_mrpc([train, ids])
    other = write(tmp_path / "dev.tsv", ORIGINAL)
    assert f"{other}: cannot be read together with msr_paraphrase_train" in refusal(train, other)


def test_the_packaged_list_has_glues_408_pairs() -> None:
    text = PACKAGED_DEV_IDS.read_text(encoding="ascii")
    assert "Wang et al. 2018" in text
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    numbers = " ".join(lines).split()
    assert len(set(zip(numbers[::2], numbers[1::2], strict=True))) == 408


def test_the_packaged_list_is_used_where_none_is_beside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    row = "1\t1606495\t1606619\tfirst\tsecond"
    train = write(tmp_path / "msr_paraphrase_train.txt", [*ORIGINAL, row])
    with caplog.at_level(logging.WARNING):
        splits = read_mrpc([train])
    assert splits["validation"] == [TextExample(0, "first", "second", "1")]
    assert find_splits([train]).dev_ids == PACKAGED_DEV_IDS
    assert f"has 1 of the 408 dev pairs of {PACKAGED_DEV_IDS}" in caplog.text


def test_an_original_without_any_dev_pair_is_refused(tmp_path: Path) -> None:
    train, _ = write_original(tmp_path, ids=None)
    assert f"{train}: has none of the 408 dev pairs" in refusal(train)


@pytest.mark.parametrize("line", ["2\t102\t3", "2\tx", "one"])
def test_a_damaged_list_of_pairs_is_refused_by_line(tmp_path: Path, line: str) -> None:
    train, _ = write_original(tmp_path)
    ids = write(tmp_path / "dev_ids.tsv", [line], header="2\t102")
    assert f"{ids}, line 2: not a pair of ids" in refusal(train.parent)
    ids.write_text("# nothing\n", encoding="ascii")
    assert "no pairs of ids" in refusal(train.parent)


def test_an_original_without_ids_is_refused(tmp_path: Path) -> None:
    train = write(tmp_path / "msr_paraphrase_train.txt", ["a\tb\t1"], header="text\ttext_b\tlabel")
    assert f"{train}: no columns '#1 ID' and '#2 ID'" in refusal(train)


def test_glue_with_labelled_dev_pairs_comes_before_the_original(tmp_path: Path) -> None:
    original = write_original(tmp_path)
    glue = write_glue(tmp_path)
    found = find_splits([tmp_path])
    assert found.paths == glue
    assert "not read: " in found.note
    assert all(str(path) in found.note for path in original)


def test_the_original_comes_before_glue_without_dev_labels(tmp_path: Path) -> None:
    train, _ = write_original(tmp_path)
    write_glue(tmp_path)
    write(tmp_path / "dev.tsv", ["0\ta\tb"], header="index\t#1 String\t#2 String")
    assert find_splits([tmp_path]).splits.train == (train,)
    assert len(read_mrpc([tmp_path])["validation"]) == 3


@pytest.mark.parametrize("below", ["", "mrpc", "MRPC", "glue_data/MRPC", "data"])
def test_subdirectories_that_usually_hold_it_are_looked_into(tmp_path: Path, below: str) -> None:
    train, *_ = write_glue(tmp_path / below)
    assert find_splits([tmp_path]).splits.train == (train,)


def test_the_hubs_parquet_is_read_in_one_shard_or_two(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [
        {"sentence1": f"first {n}", "sentence2": f"second {n}", "label": n % 2, "idx": n}
        for n in range(8)
    ]
    (tmp_path / "mrpc").mkdir()
    for name, part in (
        ("train-00000-of-00002", rows[:3]),
        ("train-00001-of-00002", rows[3:5]),
        ("validation-00000-of-00001", rows[5:7]),
        ("test-00000-of-00001", [{**rows[7], "label": -1}]),
    ):
        parquet.write_table(pyarrow.Table.from_pylist(part), tmp_path / f"mrpc/{name}.parquet")
    splits = read_mrpc([tmp_path])
    assert [e.index for e in splits["train"]] == [0, 1, 2, 3, 4]
    assert splits["train"][4] == TextExample(4, "first 4", "second 4", "0")
    assert splits["validation"][0] == TextExample(0, "first 5", "second 5", "1")
    assert splits["test"] == [TextExample(0, "first 7", "second 7", None)]
    assert read_mrpc(sorted((tmp_path / "mrpc").iterdir())) == splits


def test_json_lines_are_read_as_setfit_has_them(tmp_path: Path) -> None:
    row = '{"text1": "a", "text2": "b", "label": %d, "idx": 0, "label_text": "equivalent"}\n'
    (tmp_path / "train.jsonl").write_text(row % 0 + row % 1, encoding="utf-8")
    (tmp_path / "validation.jsonl").write_text(row % 1, encoding="utf-8")
    assert read_mrpc([tmp_path])["validation"] == [TextExample(0, "a", "b", "1")]


def test_a_single_file_of_the_users_own_has_a_tenth_held_out(tmp_path: Path) -> None:
    rows = [f"first {n},second {n},{n % 2}" for n in range(40)]
    path = write(tmp_path / "mine.csv", rows, header="a,b,same")
    columns = {"text": "a", "text_b": "b", "label": "same"}
    splits = read_mrpc([path], columns=columns)
    assert (len(splits["train"]), len(splits["validation"])) == (36, 4)
    assert "held out" in find_splits([path]).note
    assert list(read_mrpc([path], columns=columns, training=False)) == ["validation"]


def test_labels_other_than_0_and_1_are_refused(tmp_path: Path) -> None:
    train, dev, _ = write_glue(tmp_path)
    write(dev, ["2\t1\t2\ta\tb"])
    assert f"{dev}, line 2: label '2' in column 'Quality'; allowed: '0', '1'" in refusal(tmp_path)
    write(train, ["yes\t1\t2\ta\tb"])
    assert f"{train}, line 2: label 'yes'" in refusal(train)


def test_one_class_in_training_is_refused(tmp_path: Path) -> None:
    train, *_ = write_glue(tmp_path)
    write(train, [row for row in ORIGINAL if row.startswith("1")])
    assert f"{train}: one class only, label '1' on all 4 examples" in refusal(tmp_path)
    original, _ = write_original(tmp_path / "original")
    write(original, [row for row in ORIGINAL if row.startswith("1")], header=HEADER)
    assert f"{original}: one class only" in refusal(original)


def test_a_directory_with_nothing_known_says_what_is_there_and_what_is_looked_for(
    tmp_path: Path,
) -> None:
    (tmp_path / "corpus.doc").touch()
    message = refusal(tmp_path)
    assert "found corpus.doc; looked for train.*" in message
    assert "msr_paraphrase_train.txt" in message
    assert "no such file or directory" in refusal(tmp_path / "missing")


def test_the_real_original_gives_glues_splits_row_by_row(corpus: Path, tmp_path: Path) -> None:
    for name in ("msr_paraphrase_train.txt", "msr_paraphrase_test.txt"):
        shutil.copy(corpus / name, tmp_path / name)
    original, glue = read_mrpc([tmp_path]), read_mrpc([corpus])
    assert find_splits([tmp_path]).dev_ids == PACKAGED_DEV_IDS
    assert find_splits([corpus]).dev_ids is None
    assert {split: len(examples) for split, examples in original.items()} == {
        "train": 3668,
        "validation": 408,
        "test": 1725,
    }
    assert original["train"] == glue["train"]
    assert original["validation"] == glue["validation"]
    assert sum(example.label == "1" for example in original["validation"]) == 279
    assert [e.text_b for e in original["test"]] == [e.text_b for e in glue["test"]]
    shutil.copy(corpus / "mrpc_dev_ids.tsv", tmp_path)
    assert read_mrpc([tmp_path]) == original


def test_the_real_untokenised_original_has_the_same_pairs(corpus: Path) -> None:
    plain, tokenised = read_mrpc([corpus / "original"]), read_mrpc([corpus])
    for split in ("train", "validation"):
        assert [e.label for e in plain[split]] == [e.label for e in tokenised[split]]

    # Tokenising only moved spaces and turned quotes and brackets.
    def letters(examples: list[TextExample]) -> list[str]:
        return ["".join(filter(str.isalnum, e.text.lower()))[:20] for e in examples]

    same = map(str.__eq__, letters(plain["train"]), letters(tokenised["train"]))
    assert sum(same) > 0.97 * 3668
