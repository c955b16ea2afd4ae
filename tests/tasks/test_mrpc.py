"""MRPC: from paths, from the hub, and the stand-in, which never passes for the real thing."""

from pathlib import Path
from typing import Any, NoReturn

import pytest

from demo_bert import hub
from demo_bert.errors import DataError, NetworkError, UnreachableError
from demo_bert.tasks.mrpc import SOURCE, TASK
from demo_bert.tasks.task import DataRequest

HEADER = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"


def save_glue(directory: Path) -> Path:
    directory.mkdir(exist_ok=True)
    for name, count in (("train", 6), ("dev", 4)):
        rows = [f"{n % 2}\t{n}\t{n + 9}\tone {n}\ttwo {n}\n" for n in range(count)]
        (directory / f"{name}.tsv").write_text(HEADER + "".join(rows))
    return directory


@pytest.fixture
def said() -> list[str]:
    return []


def no_hub(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(*arguments: Any, **options: Any) -> NoReturn:
        raise error

    monkeypatch.setattr(hub, "fetch", refuse)


def test_named_paths_are_read_and_nothing_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    no_hub(monkeypatch, AssertionError("asked"))
    data = TASK.load(DataRequest(paths=(save_glue(tmp_path),)), said.append)
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 6,
        "validation": 4,
    }
    assert data.labels == ("0", "1")
    assert str(tmp_path) in data.name
    assert not data.is_sample
    assert said == []


def test_without_paths_the_hubs_copy_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    asked = []

    def fetch(source: object, *, announce: object) -> Path:
        asked.append(source)
        return save_glue(tmp_path)

    monkeypatch.setattr(hub, "fetch", fetch)
    data = TASK.load(DataRequest(), said.append)
    assert asked == [SOURCE]
    assert (data.name, data.is_sample) == ("MRPC", False)
    assert SOURCE.revision in data.source
    assert "redistribution" in data.licence


def test_where_nobody_answers_the_stand_in_is_announced(
    monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    no_hub(monkeypatch, UnreachableError("no route"))
    data = TASK.load(DataRequest(), said.append)
    assert data.is_sample
    assert "stand-in" in data.name.lower()
    assert data.licence == "CC0-1.0"
    (line,) = said
    assert "no route" in line
    assert "STAND-IN" in line
    assert len(data.splits["train"]) + len(data.splits["validation"]) > 1500


def test_a_stand_in_that_is_forbidden_is_an_error(
    monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    no_hub(monkeypatch, UnreachableError("no route"))
    with pytest.raises(NetworkError, match="no route.*--no-sample.*--dataset-path"):
        TASK.load(DataRequest(sample=False), said.append)
    assert said == []


@pytest.mark.parametrize("error", [NetworkError("401"), NetworkError("checksum")])
def test_an_error_of_the_hub_is_never_a_reason_for_the_stand_in(
    error: Exception, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    no_hub(monkeypatch, error)
    with pytest.raises(NetworkError, match=str(error)):
        TASK.load(DataRequest(), said.append)
    assert said == []


def test_the_stand_in_that_is_asked_for_asks_nobody(
    monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    no_hub(monkeypatch, AssertionError("asked"))
    data = TASK.load(DataRequest(sample=True), said.append)
    assert data.is_sample
    assert "--sample was given" in said[0]
    assert {example.label for example in data.splits["train"]} == {"0", "1"}


def test_a_path_with_something_else_is_an_error_and_no_reason_for_the_stand_in(
    tmp_path: Path, said: list[str]
) -> None:
    (tmp_path / "train.tsv").write_text("a\tb\n1\t2\n")
    with pytest.raises(DataError, match="train.tsv"):
        TASK.load(DataRequest(paths=(tmp_path,)), said.append)
    assert said == []
