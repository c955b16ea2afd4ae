"""The forecast beside what became of it."""

import json
import lzma
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from corpus.recipes import make, prose, recipe
from demo_bert.corpus import forecast as forecasts
from demo_bert.corpus import samples, sources, streams
from demo_bert.corpus.document import Piece
from demo_bert.corpus.forecast import Work, forecast, seconds_of
from demo_bert.corpus.parts import PartFacts, Rules

KINDS = ["text", "books", "jsonl", "text.xz", "jsonl.xz"]


@pytest.fixture(autouse=True)
def small_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that little text is much beside them."""
    monkeypatch.setattr(samples, "SAMPLE_BYTES", 1 << 12)
    monkeypatch.setattr(streams, "CHUNK_BYTES", 1 << 12)


def save(directory: Path, kind: str, paragraphs: Sequence[str]) -> Path:
    """Text as an input of a kind; the books are four."""
    path = directory / kind
    if kind == "books":
        path.mkdir()
        for number in range(4):
            (path / f"{number}.txt").write_text("".join(paragraphs[number::4]), "utf-8")
        return path
    if kind.startswith("jsonl"):
        paragraphs = [json.dumps({"text": text.strip()}) + "\n" for text in paragraphs]
    content = "".join(paragraphs).encode()
    path.write_bytes(lzma.compress(content) if kind.endswith("xz") else content)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_and_bytes_are_foreseen_within_a_fifth(tmp_path: Path, kind: str) -> None:
    path = save(tmp_path, kind, prose(1, 4000).splitlines(keepends=True))
    wanted = recipe((kind.removesuffix(".xz"), path), dedupe="off")
    expected = forecast(wanted, num_workers=1)
    store = make(tmp_path / "store", wanted)
    files = path.iterdir() if path.is_dir() else [path]
    assert expected.input_bytes == sum(file.stat().st_size for file in files) > 100_000
    assert expected.tokens == pytest.approx(store.num_tokens, rel=0.2)
    num_bytes = sum(shard.num_bytes for shard in store.shards)
    assert expected.store_bytes == pytest.approx(num_bytes, rel=0.2)
    assert expected.disk_bytes > num_bytes


class Machine:
    """A clock that only work moves: so much at the start, a byte, and a word it has not met."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.words: set[bytes] = set()

    def monotonic(self) -> float:
        return self.now_s

    def make_part(self, directory: Path, pieces: Sequence[Piece], *, rules: Rules) -> PartFacts:
        del rules
        directory.mkdir()
        words: list[bytes] = []
        for piece in pieces:
            data = Path(piece.path).read_bytes()
            if data.startswith(b"\xfd7zXZ"):
                data = lzma.decompress(data)
            else:
                data = data[piece.begin : piece.end]
            self.now_s += 1e-5 * len(data)
            words += data.split()
        if not self.words:
            self.now_s += 1.0
        self.now_s += 5e-4 * len(set(words) - self.words)
        self.words |= set(words)
        return PartFacts(input_bytes=0, tokens=len(words))


def zipf(num_paragraphs: int) -> list[str]:
    """Text that has fewer and fewer new words, as real text."""
    chance = random.Random(1)
    words = (f"{int(min(chance.paretovariate(0.8), 1e9)):x}" for _ in range(40 * num_paragraphs))
    return [" ".join(next(words) for _ in range(40)) + ".\n" for _ in range(num_paragraphs)]


@pytest.mark.parametrize("kind", KINDS)
def test_time_is_foreseen_within_a_fifth_though_new_words_are_dear(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path, kind, zipf(2000))
    inputs = (kind.removesuffix(".xz"), path)
    machine = Machine()
    monkeypatch.setattr(forecasts, "make_part", machine.make_part)
    monkeypatch.setattr(forecasts, "time", machine)
    expected = forecast(recipe(inputs), num_workers=1)
    fact = Machine()
    pieces = sources.plan([inputs], tally=Counter())
    facts = fact.make_part(tmp_path / "all", pieces, rules=SimpleNamespace())  # type: ignore[bad-argument-type]  # not looked at
    assert expected.seconds == pytest.approx(fact.now_s, rel=0.2)
    assert expected.tokens == pytest.approx(facts.tokens, rel=0.2)


def test_a_piece_is_read_by_one_worker_however_many_there_are() -> None:
    packed = Work(100.0, largest_bytes=100.0, sampled_bytes=10.0, known_s=1.0, learning_s=0.0)
    plain = Work(100.0, largest_bytes=5.0, sampled_bytes=10.0, known_s=1.0, learning_s=0.0)
    assert seconds_of([plain], num_workers=4) == pytest.approx(2.5)
    assert seconds_of([plain, plain], num_workers=4) == pytest.approx(5.0)
    assert seconds_of([packed, plain], num_workers=4) == pytest.approx(10.0)
    assert seconds_of([packed, plain], num_workers=1) == pytest.approx(20.0)


def test_each_worker_learns_the_words_of_its_share() -> None:
    work = Work(80.0, largest_bytes=10.0, sampled_bytes=10.0, known_s=0.0, learning_s=1.0)
    assert seconds_of([work], num_workers=1) == pytest.approx(4.0)
    assert seconds_of([work], num_workers=8) == pytest.approx(1.0)
