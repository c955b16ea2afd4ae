"""From inputs to a store: the same for any number of workers, stops and restarts."""

import fcntl
import os
from pathlib import Path

import pytest

from corpus.recipes import decoded, files_of, make, prose, recipe, write_books
from demo_bert.corpus import making
from demo_bert.corpus import recipe as recipes
from demo_bert.corpus.making import Progress
from demo_bert.corpus.store import open_store
from demo_bert.errors import DataError, DiskError, RunDirectoryError, StopRequested


@pytest.fixture(autouse=True)
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "_UNIT_BYTES", 4000)


def test_the_store_is_the_same_for_one_two_and_seven_workers(tmp_path: Path) -> None:
    books = write_books(tmp_path / "books", 12)
    made = {
        count: make(tmp_path / f"store-{count}", recipe(("books", books)), num_workers=count)
        for count in (1, 2, 7)
    }
    assert made[1].num_documents >= 12
    first = files_of(tmp_path / "store-1")
    assert first == files_of(tmp_path / "store-2")
    assert first == files_of(tmp_path / "store-7")
    assert set(first) == {"manifest.json", "vocab.txt", "shard-00000.bin"}


def test_a_stopped_making_goes_on_without_doing_a_part_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = recipe(("books", write_books(tmp_path / "books", 12)))
    make(tmp_path / "whole", wanted)
    seen: list[Progress] = []
    with pytest.raises(StopRequested, match="the same command goes on"):
        make(
            tmp_path / "store",
            wanted,
            report=seen.append,
            stop_reason=lambda: "SIGTERM" if len(seen) == 3 else None,
        )
    assert not (tmp_path / "store" / "manifest.json").exists()
    finished = {path.parent.name for path in (tmp_path / "store").glob("work/*/part.json")}
    assert len(finished) == 3
    again: list[Progress] = []
    make(tmp_path / "store", wanted, report=again.append)
    text = [one for one in again if one.stage == "text"]
    assert text[-1].fresh == text[-1].total - text[2].done
    assert files_of(tmp_path / "store") == files_of(tmp_path / "whole")


def test_a_damaged_part_is_made_again(tmp_path: Path) -> None:
    wanted = recipe(("books", write_books(tmp_path / "books", 12)))
    make(tmp_path / "whole", wanted)
    seen: list[Progress] = []
    with pytest.raises(StopRequested):
        make(
            tmp_path / "store",
            wanted,
            report=seen.append,
            stop_reason=lambda: "SIGTERM" if len(seen) == 2 else None,
        )
    ids = tmp_path / "store" / "work" / "part-00000" / "ids"
    content = bytearray(ids.read_bytes())
    content[7] ^= 1
    ids.write_bytes(content)
    make(tmp_path / "store", wanted)
    assert files_of(tmp_path / "store") == files_of(tmp_path / "whole")


def test_a_finished_store_is_opened_and_not_made_again(tmp_path: Path) -> None:
    wanted = recipe(("books", write_books(tmp_path / "books", 3)))
    make(tmp_path / "store", wanted)
    before = (tmp_path / "store" / "manifest.json").stat().st_mtime_ns
    assert make(tmp_path / "store", wanted).num_documents >= 3
    assert (tmp_path / "store" / "manifest.json").stat().st_mtime_ns == before


def test_a_source_that_has_grown_since_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    books = write_books(tmp_path / "books", 3)
    wanted = recipe(("books", books))
    make(tmp_path / "store", wanted)
    make(tmp_path / "store", wanted)
    assert "bytes now" not in caplog.text
    (books / "book-more.txt").write_text(prose(99, 20), "utf-8")
    make(tmp_path / "store", wanted)
    assert "books has" in caplog.text and "another directory (-o) gets a new one" in caplog.text


def test_what_a_kill_just_after_the_end_left_is_removed(tmp_path: Path) -> None:
    wanted = recipe(("books", write_books(tmp_path / "books", 3)))
    make(tmp_path / "store", wanted)
    before = files_of(tmp_path / "store")
    (tmp_path / "store" / "work" / "part-00000").mkdir(parents=True)
    (tmp_path / "store" / "prepare.lock").write_text("7\n")
    make(tmp_path / "store", wanted)
    assert files_of(tmp_path / "store") == before
    assert not (tmp_path / "store" / "work").exists()


def test_a_finished_store_of_other_settings_is_refused_with_the_difference(tmp_path: Path) -> None:
    books = write_books(tmp_path / "books", 3)
    make(tmp_path / "store", recipe(("books", books)))
    with pytest.raises(RunDirectoryError, match="whose dedupe were others"):
        make(tmp_path / "store", recipe(("books", books), dedupe="off"))


def test_an_unfinished_store_of_changed_inputs_is_refused(tmp_path: Path) -> None:
    books = write_books(tmp_path / "books", 4)
    with pytest.raises(StopRequested):
        make(tmp_path / "store", recipe(("books", books)), stop_reason=lambda: "SIGTERM")
    (books / "book-000.txt").write_text(prose(99, 20), "utf-8")
    with pytest.raises(RunDirectoryError, match="unfinished store whose inputs were others"):
        make(tmp_path / "store", recipe(("books", books)))


def test_a_second_making_is_refused_while_the_first_is_at_work(tmp_path: Path) -> None:
    wanted = recipe(("books", write_books(tmp_path / "books", 3)))
    (tmp_path / "store" / "work").mkdir(parents=True)
    with (tmp_path / "store" / "prepare.lock").open("w") as lock:
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RunDirectoryError, match=f"process {os.getpid()} is making this store"):
            make(tmp_path / "store", wanted)
    # The lock went with its owner.
    assert make(tmp_path / "store", wanted).num_documents >= 3


def test_a_directory_with_something_else_is_left_alone(tmp_path: Path) -> None:
    wanted = recipe(("books", write_books(tmp_path / "books", 3)))
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "letters.txt").write_text("mine")
    with pytest.raises(RunDirectoryError, match=r"holds no token store \('letters.txt' is in it\)"):
        make(tmp_path / "store", wanted)
    assert files_of(tmp_path / "store") == {"letters.txt": b"mine"}


def test_text_that_the_vocabulary_does_not_know_is_refused_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    path = tmp_path / "greek.txt"
    path.write_text("\u03b1\u03b2\u03b3 \u03b4\u03b5 \u03b6\u03b7.\n" * 50, "utf-8")
    with pytest.raises(DataError, match=r"of the first tokens are \[UNK\].*--vocab"):
        make(tmp_path / "store", recipe(("text", path)))
    assert not (tmp_path / "store").exists()


def test_more_than_one_percent_unknown_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "mixed.txt"
    path.write_text("The rain. \u03b1\u03b2\u03b3 " + prose(1, 9), "utf-8")
    make(tmp_path / "store", recipe(("text", path)))
    assert "of the first tokens are [UNK]" not in caplog.text
    path.write_text("The rain of the \u03b1\u03b2\u03b3. " * 3 + prose(1, 9)[:300], "utf-8")
    make(tmp_path / "store-2", recipe(("text", path)))
    assert "of the first tokens are [UNK]" in caplog.text


def test_a_full_disk_keeps_what_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = recipe(("books", write_books(tmp_path / "books", 8)))
    make(tmp_path / "whole", wanted)
    real = making.make_part
    calls: list[Path] = []

    def failing(directory: Path, *arguments: object, **named: object) -> object:
        calls.append(directory)
        if len(calls) == 3:
            monkeypatch.setattr(making, "make_part", real)
            raise DiskError("no space left")
        return real(directory, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(making, "make_part", failing)
    with pytest.raises(DiskError):
        make(tmp_path / "store", wanted)
    assert len(list((tmp_path / "store").glob("work/*/part.json"))) == 2
    make(tmp_path / "store", wanted)
    assert files_of(tmp_path / "store") == files_of(tmp_path / "whole")


def test_sources_without_any_text_leave_nothing(tmp_path: Path) -> None:
    path = tmp_path / "empty.txt"
    path.write_text("\n \n\n", "utf-8")
    with pytest.raises(DataError, match="the sources hold no text; nothing was written"):
        make(tmp_path / "store", recipe(("text", path)))
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("text", ["The rain raining.", "rain"], ids=["sentence", "word"])
def test_a_document_of_one_sentence_or_word_is_a_document(tmp_path: Path, text: str) -> None:
    path = tmp_path / "one.txt"
    path.write_text(text, "utf-8")
    store = make(tmp_path / "store", recipe(("text", path)))
    assert decoded(store) == [[text.lower().replace(".", " .").strip()]]
    assert not store.shards[0].is_held_out.any()


def test_all_sources_keep_their_order_and_are_counted(tmp_path: Path) -> None:
    books = write_books(tmp_path / "books", 2)
    (tmp_path / "more.jsonl").write_text('{"text": "the rain and the rain"}\n', "utf-8")
    store = make(tmp_path / "store", recipe(("books", books), ("jsonl", tmp_path / "more.jsonl")))
    assert decoded(store)[-1] == ["the rain and the rain"]
    first, second = store.manifest["sources"]
    assert (first["kind"], first["documents"], second["documents"]) == ("books", 2, 1)
    assert first["tokens"] + second["tokens"] == store.num_tokens
    assert store.manifest["command"] == "demo_bert prepare"


def test_exact_duplicates_are_dropped_and_the_first_stays(tmp_path: Path) -> None:
    lines = ["the rain and rain", "The  RAIN and rain", "the rain of rain"]
    path = tmp_path / "x.jsonl"
    path.write_text("".join(f'{{"text": "{line}"}}\n' for line in lines), "utf-8")
    store = make(tmp_path / "store", recipe(("jsonl", path), dedupe="exact"))
    assert decoded(store) == [["the rain and rain"], ["the rain of rain"]]
    assert store.manifest["dropped"]["exact_duplicates"] == 1
    assert make(tmp_path / "all", recipe(("jsonl", path), dedupe="off")).num_documents == 3


def test_a_document_beyond_the_size_of_a_shard_makes_one_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "shard_limits", lambda tokens: [0, 1, 2, len(tokens)])
    make(tmp_path / "store", recipe(("books", write_books(tmp_path / "books", 5))))
    store = open_store(tmp_path / "store")
    assert [shard.entry.name for shard in store.shards] == [f"shard-0000{n}.bin" for n in range(3)]
    assert sum(len(shard.document_ends) for shard in store.shards) == store.num_documents
