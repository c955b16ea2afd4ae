"""What a store of a billion tokens takes to open, on a small one that is listed again and again."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from corpus.stores import VOCABULARY
from demo_bert.corpus.store import write_manifest, write_shard
from small_run import ENVIRONMENT, ROOT

_SENTENCES, _SENTENCE_TOKENS, _DOCUMENT_SENTENCES = 80_000, 25, 40


def test_a_billion_tokens_open_at_once_and_take_little_memory(tmp_path: Path) -> None:
    num_tokens = _SENTENCES * _SENTENCE_TOKENS
    ids = np.random.default_rng(1).integers(5, len(VOCABULARY), num_tokens, np.uint32)
    num_documents = _SENTENCES // _DOCUMENT_SENTENCES
    shard = write_shard(
        tmp_path / "shard-00000.bin",
        ids,
        sentence_ends=np.arange(1, _SENTENCES + 1) * _SENTENCE_TOKENS,
        document_ends=np.arange(1, num_documents + 1) * _DOCUMENT_SENTENCES,
        is_held_out=np.zeros(num_documents, np.bool_),
        id_dtype="<u2",
    )
    write_manifest(tmp_path, [shard], vocabulary=VOCABULARY, facts={})
    script = ROOT / "benchmarks" / "billion_tokens.py"
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), "--tokens", "1e9"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["tokens"] == 10**9 and found["documents"] == 10**6
    # One passage over all text, both segments of a pair together.
    assert found["examples_an_epoch"] > 4 * 10**6
    assert found["open_s"] < 1.0
    assert found["first_batch_s"] < 2.0
    assert found["batches"] > 100
    assert found["private_growth_mb"] < 50
