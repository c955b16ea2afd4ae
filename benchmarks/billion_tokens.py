"""A store of a billion tokens, simulated: memory of a process, and the time to the first batch.

    PYTHONPATH=src python benchmarks/billion_tokens.py STORE --tokens 1e9

The shards of STORE are listed again and again until they come to so many tokens, each time mapped
anew. Memory is what the process holds alone (Private_Dirty of smaps_rollup: mapped pages of the
store are not in it), less what it held when everything was imported.
"""

import argparse
import json
import time
from pathlib import Path

from demo_bert.corpus.store import Shard, TokenStore, open_store
from demo_bert.data.masking import pieces_of
from demo_bert.data.pairs import PairSource
from demo_bert.data.pretraining import Examples, pretraining_batches
from demo_bert.model.vocabulary import read_vocabulary


def main() -> None:
    """Measures, and prints a JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("--tokens", type=float, default=1e9)
    parser.add_argument("--length", type=int, default=128)
    given = parser.parse_args()
    print(json.dumps(measured(given.store, int(given.tokens), length=given.length), indent=2))


def measured(path: Path, tokens: int, *, length: int) -> dict[str, float]:
    """Opens, makes the first batch and a hundred more.

    Args:
        path: A store.
        tokens: How large it is to seem.
        length: Of the examples.

    Returns:
        Seconds, bytes and counts.
    """
    pieces = pieces_of(read_vocabulary(path / "vocab.txt"))
    before = private_bytes()
    begin = time.monotonic()
    store = open_store(path)
    shards = repeated(store, tokens)
    examples = Examples(PairSource(shards, max_seq_length=length, seed=1), pieces, length)
    opened = time.monotonic()
    batches = pretraining_batches(
        examples, seed=1, first_step=0, num_steps=101, global_batch_size=256, micro_batch_size=64
    )
    next(batches)
    first = time.monotonic()
    num_batches = 1 + sum(1 for _ in batches)
    return {
        "tokens": sum(shard.entry.tokens for shard in shards),
        "documents": sum(shard.entry.documents for shard in shards),
        "examples_an_epoch": len(examples),
        "open_s": opened - begin,
        "first_batch_s": first - begin,
        "batches": num_batches,
        "private_growth_mb": (private_bytes() - before) / 1e6,
    }


def repeated(store: TokenStore, tokens: int) -> list[Shard]:
    """The shards of a store again and again, each a map of its own."""
    dtype = store.shards[0].ids.dtype
    shards: list[Shard] = []
    total = 0
    while total < tokens:
        one = store.shards[len(shards) % len(store.shards)]
        shards.append(Shard(one.path, one.entry, id_dtype=dtype))
        total += one.entry.tokens
    return shards


def private_bytes() -> int:
    """What this process holds alone, pages of mapped files left out."""
    for line in Path("/proc/self/smaps_rollup").read_text("ascii").splitlines():
        if line.startswith("Private_Dirty:"):
            return 1024 * int(line.split()[1])
    raise OSError("smaps_rollup has no Private_Dirty")


if __name__ == "__main__":
    main()
