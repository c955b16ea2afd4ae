from pathlib import Path

import pytest

from demo_bert.hub.records import (
    record_hashes,
    recorded_hashes,
    remember_commit,
    remembered_commit,
)
from demo_bert.hub.sources import HubFile, HubSource

SOURCE = HubSource("some/model", "model", "c" * 40, "mit", (HubFile("config.json"),))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEMO_BERT_CACHE", str(tmp_path))
    return tmp_path


def test_a_new_source_has_no_hashes() -> None:
    assert recorded_hashes(SOURCE) == {}


def test_the_first_hash_holds() -> None:
    record_hashes(SOURCE, {"config.json": "1"})
    record_hashes(SOURCE, {"config.json": "2", "vocab.txt": "3"})
    assert recorded_hashes(SOURCE) == {"config.json": "1", "vocab.txt": "3"}


def test_sources_are_kept_apart_by_commit_and_kind() -> None:
    record_hashes(SOURCE, {"config.json": "1"})
    other = HubSource("some/model", "dataset", "c" * 40, "mit", SOURCE.files)
    assert recorded_hashes(other) == {}
    assert recorded_hashes(HubSource("some/model", "model", "d" * 40, "mit", ())) == {}


def test_a_damaged_record_counts_as_none(own_cache: Path) -> None:
    record_hashes(SOURCE, {"config.json": "1"})
    (record,) = own_cache.glob("hub/sha256/*.json")
    record.write_text("[1")
    assert recorded_hashes(SOURCE) == {}


def test_a_name_stands_for_its_last_commit() -> None:
    assert remembered_commit("some/model", None) == "main"
    remember_commit("some/model", None, "c" * 40)
    remember_commit("some/model", None, "d" * 40)
    remember_commit("some/model", "v1", "e" * 40)
    assert remembered_commit("some/model", None) == "d" * 40
    assert remembered_commit("some/model", "v1") == "e" * 40
    assert remembered_commit("some/model", "refs/pr/1") == "refs/pr/1"
