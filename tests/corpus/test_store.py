"""The token store: what is written is read, and what is damaged is refused."""

import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from corpus.stores import VOCABULARY, make_store
from demo_bert.corpus.store import open_store, vocabulary_sha256
from demo_bert.errors import DataError

FIRST = [[[5, 6, 7], [8]], [[9, 10]]]
SECOND = [[[11], [12, 13], [14]]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make_store(tmp_path / "store", [FIRST, SECOND], held_out=[[False, True], [False]])


def change_manifest(path: Path, **values: object) -> None:
    manifest = json.loads((path / "manifest.json").read_text("utf-8"))
    (path / "manifest.json").write_text(json.dumps(manifest | values), "utf-8")


def test_a_store_gives_back_what_was_written(path: Path) -> None:
    store = open_store(path)
    assert (store.num_tokens, store.num_sentences, store.num_documents) == (10, 6, 3)
    first, second = store.shards
    assert first.ids.tolist() == [5, 6, 7, 8, 9, 10]
    assert first.sentence_ends.tolist() == [3, 4, 6]
    assert first.document_ends.tolist() == [2, 3]
    assert first.is_held_out.tolist() == [False, True]
    assert second.ids.tolist() == [11, 12, 13, 14]
    assert second.document_ends.tolist() == [3]
    assert first.ids.dtype == np.uint16
    assert not first.ids.flags.writeable


def test_a_large_vocabulary_gets_ids_of_four_bytes(tmp_path: Path) -> None:
    vocabulary = [*VOCABULARY, *(f"x{n}" for n in range(70_000))]
    store = open_store(make_store(tmp_path / "s", [[[[70_050]]]], vocabulary=vocabulary))
    assert store.shards[0].ids.tolist() == [70_050]


def test_a_store_knows_its_vocabulary(path: Path) -> None:
    store = open_store(path)
    content = store.vocabulary_path.read_bytes()
    assert store.vocabulary_sha256 == hashlib.sha256(content).hexdigest()
    assert store.vocabulary_sha256 == vocabulary_sha256(VOCABULARY)
    assert vocabulary_sha256(VOCABULARY[:-1]) != store.vocabulary_sha256


def test_a_store_travels_to_another_process_without_its_content(path: Path) -> None:
    store = open_store(path)
    assert store.shards[0].ids[0] == 5
    sent = pickle.dumps(store)
    assert len(sent) < 4000
    assert pickle.loads(sent).shards[0].ids.tolist() == store.shards[0].ids.tolist()


def test_an_empty_shard_is_a_shard(tmp_path: Path) -> None:
    store = open_store(make_store(tmp_path / "s", [[], FIRST]))
    assert len(store.shards[0].ids) == len(store.shards[0].document_ends) == 0


def test_a_directory_without_a_manifest_is_no_store(path: Path) -> None:
    (path / "manifest.json").unlink()
    with pytest.raises(DataError, match=r"holds no finished token store.*demo_bert prepare"):
        open_store(path)


def test_a_place_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: no such directory"):
        open_store(tmp_path / "nowhere")


def test_a_store_of_a_newer_version_is_refused(path: Path) -> None:
    change_manifest(path, schema_version=2)
    with pytest.raises(DataError, match=r"of version 2; this demo_bert reads version 1: update"):
        open_store(path)


def test_a_damaged_manifest_is_refused_in_one_line(path: Path) -> None:
    content = (path / "manifest.json").read_text("utf-8")
    (path / "manifest.json").write_text(content[: len(content) // 2], "utf-8")
    with pytest.raises(DataError, match=r"manifest.json: damaged") as caught:
        open_store(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [{"tokens": 11}, {"shards": [{"name": "x"}]}, {"vocabulary": {}}, {"id_dtype": "words"}],
    ids=["total", "shards", "vocabulary", "dtype"],
)
def test_a_manifest_that_disagrees_with_itself_is_refused(
    path: Path, change: dict[str, object]
) -> None:
    change_manifest(path, **change)
    with pytest.raises(DataError, match=r"manifest.json: damaged"):
        open_store(path)


def test_a_shard_that_was_cut_is_named_with_both_sizes(path: Path) -> None:
    shard = path / "shard-00001.bin"
    shard.write_bytes(shard.read_bytes()[:-3])
    with pytest.raises(DataError, match=r"shard-00001.bin: has 22 bytes, its manifest says 25"):
        open_store(path)


def test_a_missing_shard_is_named(path: Path) -> None:
    (path / "shard-00000.bin").unlink()
    with pytest.raises(DataError, match=r"shard-00000.bin: missing"):
        open_store(path)


@pytest.mark.parametrize("name", ["../shard-00000.bin", "/etc/passwd", "\ud800", "", "a/b", ".."])
def test_a_manifest_names_no_file_outside_the_store(path: Path, name: str) -> None:
    manifest = json.loads((path / "manifest.json").read_text("utf-8"))
    manifest["shards"][0]["name"] = name
    (path / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    with pytest.raises(DataError, match="is no name of a shard"):
        open_store(path)
