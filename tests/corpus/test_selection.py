"""Held-out documents and duplicates: by documents, by blocks, stable, and with nothing near."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from corpus.recipes import LETTERS, make, recipe
from demo_bert.corpus import selection
from demo_bert.corpus.store import TokenStore


def sentence(draw: random.Random) -> str:
    words = ["".join(draw.choices(LETTERS, k=4)) for _ in range(8)]
    return " ".join(words).capitalize() + "."


def text(seed: int, num_sentences: int) -> list[str]:
    draw = random.Random(seed)
    return [sentence(draw) for _ in range(num_sentences)]


def store_of(path: Path, documents: Sequence[Sequence[str]], dedupe: str = "near") -> TokenStore:
    """A store of books, in order."""
    books = path / "books"
    books.mkdir(parents=True)
    for number, lines in enumerate(documents):
        (books / f"{number:04d}").write_text("\n".join(lines) + "\n", "utf-8")
    return make(path / "store", recipe(("books", books), dedupe=dedupe))


def rows(store: TokenStore) -> list[tuple[bytes, bool, int]]:
    """Ids, flag and number of sentences of each document."""
    found = []
    for shard in store.shards:
        limits = np.concatenate(([0], shard.document_ends))
        tokens = np.concatenate(([0], shard.sentence_ends))[limits]
        for place, flag in enumerate(shard.is_held_out):
            ids = shard.ids[tokens[place] : tokens[place + 1]].tobytes()
            found.append((ids, bool(flag), int(limits[place + 1] - limits[place])))
    return found


@pytest.fixture
def half_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "_THRESHOLD", np.uint64(1 << 63))


@pytest.mark.usefixtures("half_held_out")
def test_a_held_out_document_stays_so_when_text_is_added(tmp_path: Path) -> None:
    documents = [text(seed, 20) for seed in range(60)]
    few = rows(store_of(tmp_path / "few", documents[:40]))
    more = rows(store_of(tmp_path / "more", [*documents[40:], *documents[:40]]))
    flags = {ids: flag for ids, flag, _ in more}
    assert [flags[ids] for ids, _, _ in few] == [flag for _, flag, _ in few]
    assert 5 < sum(flag for _, flag, _ in few) < 35


def test_about_half_a_percent_of_the_documents_is_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "LEAST_HELD_OUT_SENTENCES", 1)
    store = store_of(tmp_path, [text(seed, 1) for seed in range(3000)], dedupe="exact")
    assert store.manifest["held_out"]["rule"] == "documents"
    # 15 are expected, with a deviation of 3.9.
    assert 3 <= store.manifest["held_out"]["documents"] <= 30


@pytest.mark.usefixtures("half_held_out")
def test_long_documents_are_cut_into_blocks_where_too_little_is_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "LEAST_HELD_OUT_SENTENCES", 10**6)
    documents = [text(1, 1990), text(2, 30)]
    store = store_of(tmp_path, documents)
    assert store.manifest["held_out"]["rule"] == "blocks"
    found = rows(store)
    assert sum(count for _, _, count in found) == 2020
    held_out = [count for _, flag, count in found if flag]
    assert held_out
    assert set(held_out) <= {200, 190, 30}
    # Training text between two held-out blocks is one document.
    flags = [flag for _, flag, _ in found[:-1]]
    assert all(first or second for first, second in zip(flags, flags[1:], strict=False))


def test_where_no_block_qualifies_the_smallest_hash_is_held_out(tmp_path: Path) -> None:
    store = store_of(tmp_path, [text(1, 30), text(2, 30), text(3, 30)])
    assert store.manifest["held_out"]["rule"] == "smallest"
    assert store.manifest["held_out"]["documents"] == 1


@pytest.mark.usefixtures("half_held_out")
def test_nothing_near_a_held_out_document_stays_in_training(tmp_path: Path) -> None:
    documents = []
    for seed in range(40):
        lines = text(seed, 40)
        documents += [lines, [text(1000 + seed, 1)[0], *lines[1:]]]
    store = store_of(tmp_path, documents)
    assert store.num_documents == 40
    assert store.manifest["dropped"]["near_duplicates"] == 40
    flags = [flag for _, flag, _ in rows(store)]
    # Each pair leaves its held-out one if it has one: three in four instead of one in two.
    assert 22 <= sum(flags) <= 38
    assert store_of(tmp_path / "exact", documents, dedupe="exact").num_documents == 80


def test_of_near_duplicates_the_first_in_the_order_of_the_sources_stays(tmp_path: Path) -> None:
    first, other = text(1, 60), text(2, 60)
    copy = [*first[:59], text(3, 1)[0]]
    store = store_of(tmp_path / "first", [first, other, copy])
    alone = store_of(tmp_path / "alone", [first, other])
    assert {ids for ids, _, _ in rows(store)} == {ids for ids, _, _ in rows(alone)}


@pytest.mark.usefixtures("half_held_out")
def test_training_blocks_near_a_held_out_one_are_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "LEAST_HELD_OUT_SENTENCES", 10**6)
    shared = text(1, 1000)
    documents = [[*shared, *text(2, 3000)], [*shared, *text(3, 3000)]]
    store = store_of(tmp_path, documents)
    held_out = {ids for ids, flag, _ in rows(store) if flag}
    training = b"".join(ids for ids, flag, _ in rows(store) if not flag)
    assert store.manifest["held_out"]["rule"] == "blocks"
    assert not [ids for ids in held_out if ids in training]
