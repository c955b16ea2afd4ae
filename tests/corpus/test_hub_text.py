"""Without a source: Wikipedia and books from a hub on loopback, read in place."""

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from demo_bert.corpus.hub_text import BOOKS, WIKIPEDIA
from hub_process import environment
from hub_server import HubServer, Repository, hub_server

PROSE = "The rain fell on the old house in the valley number {}. It was wet outside."
ARTICLES = [
    f"Title of it\n\n{PROSE.format(number)}\n\nHistory\nAnd so it went on.\n\nReferences\nA book."
    for number in range(40)
]
BOOK = "\n".join(["A NOVEL", "", *["It was a dark and stormy night in the town by the sea."] * 30])
WORKER = """
import sys, time
time.sleep = lambda seconds: None
from demo_bert.cli import main
sys.exit(main(sys.argv[1:]))
"""


def parquet(texts: list[str], *, rows: int) -> bytes:
    content = io.BytesIO()
    names = [str(place) for place in range(len(texts))]
    pq.write_table(pa.table({"id": names, "text": texts}), content, row_group_size=rows)
    return content.getvalue()


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with hub_server() as server:
        where = WIKIPEDIA[2].format("en")
        server.repositories[WIKIPEDIA[0]] = Repository(
            {
                f"{where}train-0000{number}-of-00002.parquet": parquet(
                    ARTICLES[number * 20 : number * 20 + 20], rows=8
                )
                for number in range(2)
            }
            | {"20231101.de/train-00000-of-00001.parquet": b"other", "README.md": b"x"},
            commit=WIKIPEDIA[1] or "",
        )
        server.repositories[BOOKS[0]] = Repository(
            {f"{BOOKS[2]}00000-of-00001.parquet": parquet([BOOK], rows=1)}, behaviour="cut"
        )
        yield server


def prepared(
    hub: HubServer, place: Path, *options: str, **more: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WORKER, "prepare", "-o", str(place / "s"), "-v", "1", *options],
        env=environment(hub.address, place, **more),
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_without_a_source_wikipedia_and_books_are_streamed(hub: HubServer, tmp_path: Path) -> None:
    hub.repositories[WIKIPEDIA[0]].behaviour = "elsewhere"
    done = prepared(hub, tmp_path, "--dedupe", "off")
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "s" / "manifest.json").read_text("utf-8"))
    wikipedia, books = manifest["sources"]
    assert wikipedia["path"] == f"{WIKIPEDIA[0]}@{WIKIPEDIA[1]}/20231101.en"
    assert (wikipedia["documents"], wikipedia["sentences"]) == (40, 120)
    assert books["path"] == f"{BOOKS[0]}@{'c' * 40}/data/train-"
    assert books["documents"] == 1
    assert "licence: apache-2.0" in done.stderr
    assert not list(tmp_path.glob("hf/**/*.parquet")), "nothing but ids is kept"
    # The books may have a newer commit by now; the store is the same.
    hub.repositories[BOOKS[0]].commit = "d" * 40
    assert prepared(hub, tmp_path, "--dedupe", "off").returncode == 0


def test_books_that_the_hub_does_not_have_are_left_out_with_a_warning(
    hub: HubServer, tmp_path: Path
) -> None:
    del hub.repositories[BOOKS[0]]
    done = prepared(hub, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "books are left out: give them with --books" in done.stderr


def test_a_language_that_is_not_there_and_a_hub_out_of_reach_are_one_line(
    hub: HubServer, tmp_path: Path
) -> None:
    done = prepared(hub, tmp_path, "--language", "tlh", DEMO_BERT_LOG_LEVEL="error")
    assert done.returncode == 2
    assert "the hub has no such files; give a dump with --wikipedia" in done.stderr
    away = prepared(hub, tmp_path, HF_HUB_OFFLINE="1", DEMO_BERT_LOG_LEVEL="error")
    assert away.returncode == 1
    assert away.stderr.count("\n") == 1
    assert "HF_HUB_OFFLINE forbids to ask" in away.stderr
