"""Merged stores: every document once, in order, with its flag."""

import json
from pathlib import Path

import pytest

from corpus.recipes import VOCABULARY, decoded, make, recipe, write_books
from corpus.stores import make_store
from demo_bert.corpus.merging import merge
from demo_bert.corpus.store import TokenStore, open_store
from demo_bert.corpus.verification import verify
from demo_bert.errors import DataError, RunDirectoryError


def store_of(path: Path, lines: list[str]) -> TokenStore:
    path.mkdir()
    text = "".join(json.dumps({"text": line}) + "\n" for line in lines)
    (path / "x.jsonl").write_text(text, "utf-8")
    return make(path / "store", recipe(("jsonl", path / "x.jsonl")))


def merged(path: Path, *stores: TokenStore, dedupe: str = "near") -> TokenStore:
    return merge(stores, path, vocabulary=VOCABULARY, dedupe=dedupe, command="x")


def test_documents_keep_their_order_and_their_flags(tmp_path: Path) -> None:
    first = store_of(tmp_path / "a", ["the rain falls", "the sun of rain"])
    second = store_of(tmp_path / "b", ["and of the rain", "rained and rained"])
    store = merged(tmp_path / "both", first, second)
    assert decoded(store) == decoded(first) + decoded(second)
    flags = [flag for one in (first, second) for flag in one.shards[0].is_held_out.tolist()]
    assert store.shards[0].is_held_out.tolist() == flags
    assert len(store.manifest["sources"]) == 2
    verify(store, VOCABULARY, report=lambda done, total: None)
    assert {entry.name for entry in store.path.iterdir()} == {
        "manifest.json",
        "vocab.txt",
        "shard-00000.bin",
    }


def test_what_both_stores_have_stays_once_and_held_out_where_it_was(tmp_path: Path) -> None:
    first = store_of(tmp_path / "a", ["the rain falls", "the sun of rain"])
    second = store_of(tmp_path / "b", ["THE rain falls", "rained and rained", "the sun of rain"])
    held_out = {
        text[0]
        for store in (first, second)
        for text, flag in zip(decoded(store), store.shards[0].is_held_out, strict=True)
        if flag
    }
    store = merged(tmp_path / "both", first, second)
    assert sorted(text[0] for text in decoded(store)) == [
        "rained and rained",
        "the rain falls",
        "the sun of rain",
    ]
    flags = store.shards[0].is_held_out
    assert {text[0] for text, flag in zip(decoded(store), flags, strict=True) if flag} == held_out
    assert merged(tmp_path / "all", first, second, dedupe="off").num_documents == 5


def test_near_duplicates_across_stores_are_dropped(tmp_path: Path) -> None:
    books = write_books(tmp_path / "books", 1, num_sentences=90)
    first = make(tmp_path / "a", recipe(("books", books)))
    text = (books / "book-000.txt").read_text("utf-8")
    (tmp_path / "copy.txt").write_text(text + "The rain of the end.\n", "utf-8")
    second = make(tmp_path / "b", recipe(("books", tmp_path / "copy.txt")))
    assert merged(tmp_path / "near", first, second).num_documents == 1
    assert merged(tmp_path / "exact", first, second, dedupe="exact").num_documents == 2


def test_stores_of_different_vocabularies_are_refused(tmp_path: Path) -> None:
    first = open_store(make_store(tmp_path / "a", [[[[5]]]]))
    second = open_store(make_store(tmp_path / "b", [[[[5]]]], vocabulary=VOCABULARY))
    with pytest.raises(DataError, match="vocabulary or case rules are not those of"):
        merge((first, second), tmp_path / "c", vocabulary=VOCABULARY, dedupe="off", command="x")
    assert not (tmp_path / "c").exists()


def test_a_finished_store_is_not_written_over(tmp_path: Path) -> None:
    first = store_of(tmp_path / "a", ["the rain falls"])
    second = store_of(tmp_path / "b", ["and of the rain"])
    with pytest.raises(RunDirectoryError, match="holds a finished store"):
        merged(first.path, first, second)
