"""Examples per second from a token store to flat batches: pairs found, gathered, masked.

    python benchmarks/store_to_batches.py --store STORE --length 128
    python benchmarks/store_to_batches.py --store STORE --length 128 --processes 2

Without --store one is drawn: documents of about 40 sentences of about 25 tokens. Processor time of
this process is counted, so other work on the machine does not change the figure much. With
--processes so many are compared with one, in turn, by the clock: the machine must be idle.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np

from demo_bert.corpus.store import open_store
from demo_bert.data.masking import pieces_of
from demo_bert.data.pairs import PairSource, ShardOfTokens
from demo_bert.data.pretraining import Examples, pretraining_batches
from demo_bert.model.vocabulary import STANDARD_VOCABULARY, read_vocabulary

_STEPS = 12


@dataclass(frozen=True)
class _Drawn:
    """A shard in memory."""

    ids: np.ndarray
    sentence_ends: np.ndarray
    document_ends: np.ndarray
    is_held_out: np.ndarray


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    shards = open_store(options.store).shards if options.store else _drawn_shards()
    source = PairSource(shards, max_seq_length=options.length, seed=1)
    pieces = pieces_of(read_vocabulary(STANDARD_VOCABULARY))
    examples = Examples(source, pieces, options.length)
    micro = 64 if options.length <= 128 else 8
    if options.processes > 1:
        _compare(examples, options.processes, repeats=options.repeats, micro=micro)
        return
    rates = [
        _rate(examples, step=step, size=128 * micro, micro=micro)
        for step in range(options.repeats + 1)
    ][1:]
    print(
        f"length {options.length}: {statistics.median(rates):,.0f} examples/s of processor time"
        f" ({min(rates):,.0f} to {max(rates):,.0f}; {len(rates)} times {128 * micro} examples)"
    )


def _rate(examples: Examples, *, step: int, size: int, micro: int) -> float:
    started = time.process_time()
    batches = pretraining_batches(
        examples,
        seed=1,
        first_step=step,
        num_steps=step + 1,
        global_batch_size=size,
        micro_batch_size=micro,
    )
    count = sum(batch.batch.num_examples for batch in batches if batch.batch)
    return count / (time.process_time() - started)


def _compare(examples: Examples, processes: int, *, repeats: int, micro: int) -> None:
    """Several processes against one, in turn."""
    pairs = [
        [_clock_rate(examples, count, micro=micro) for count in (1, processes)]
        for _ in range(repeats)
    ]
    for alone, together in pairs:
        print(f"1: {alone:,.0f}, {processes}: {together:,.0f} examples/s by the clock")
    ratios = sorted(together / alone for alone, together in pairs)
    print(f"ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")


def _clock_rate(examples: Examples, processes: int, *, micro: int) -> float:
    """What processes make together in a second, once each is warm."""
    fork = multiprocessing.get_context("fork")
    barrier = fork.Barrier(processes + 1)
    size = 128 * micro
    workers = [
        fork.Process(target=_work, args=(examples, number, size, micro, barrier))
        for number in range(processes)
    ]
    for worker in workers:
        worker.start()
    barrier.wait()
    started = time.monotonic()
    barrier.wait()
    elapsed_s = time.monotonic() - started
    for worker in workers:
        worker.join()
    return processes * _STEPS * size / elapsed_s


def _work(examples: Examples, number: int, size: int, micro: int, barrier: Barrier) -> None:
    """One process: a step to become warm, then steps of its own."""
    _rate(examples, step=1000, size=size, micro=micro)
    barrier.wait()
    for step in range(_STEPS):
        _rate(examples, step=number * _STEPS + step, size=size, micro=micro)
    barrier.wait()


def _drawn_shards(count: int = 4) -> Sequence[ShardOfTokens]:
    random = np.random.default_rng(0)
    shards: list[ShardOfTokens] = []
    for _ in range(count):
        sentences = random.geometric(1 / 40, 2000)
        lengths = np.clip(random.lognormal(3.0, 0.6, sentences.sum()), 1, 400).astype(int)
        shards.append(
            _Drawn(
                ids=random.integers(1000, 30_000, lengths.sum()).astype(np.uint16),
                sentence_ends=np.cumsum(lengths).astype(np.uint32),
                document_ends=np.cumsum(sentences).astype(np.uint32),
                is_held_out=np.zeros(2000, bool),
            )
        )
    return shards


if __name__ == "__main__":
    main()
