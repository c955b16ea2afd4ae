"""The forecast beside what became of it."""

from pathlib import Path

import pytest

from corpus.recipes import make, prose, recipe
from demo_bert.corpus import forecast as forecasts
from demo_bert.corpus import streams
from demo_bert.corpus.forecast import forecast


@pytest.mark.parametrize("kind", ["text", "books", "jsonl"])
def test_tokens_and_bytes_are_foreseen_within_a_fifth(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecasts, "_SAMPLE_BYTES", 1 << 12)
    monkeypatch.setattr(streams, "CHUNK_BYTES", 1 << 12)
    path = tmp_path / "text"
    if kind == "jsonl":
        path.write_text(
            "".join(f'{{"text": "{prose(n, 3).strip()}"}}\n' for n in range(800)), "utf-8"
        )
    else:
        path.write_text(prose(1, 4000), "utf-8")
    assert path.stat().st_size > 100_000
    wanted = recipe((kind, path), dedupe="off")
    expected = forecast(wanted, num_workers=1)
    store = make(tmp_path / "store", wanted)
    assert expected.input_bytes == path.stat().st_size
    assert expected.tokens == pytest.approx(store.num_tokens, rel=0.2)
    num_bytes = sum(shard.num_bytes for shard in store.shards)
    assert expected.store_bytes == pytest.approx(num_bytes, rel=0.2)
    assert expected.disk_bytes > num_bytes
