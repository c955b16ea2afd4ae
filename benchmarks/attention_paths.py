"""Ways of computing attention on a CPU without crossing examples, at the lengths of three works.

    python benchmarks/attention_paths.py --output FILE.json

Each way does the same: from (T, 3H) queries, keys and values to (T, H), and back to the gradient,
with dropout on the weights. Lengths are those of MRPC's pairs (batches of 32) and of SQuAD's
windows (12), drawn as `bench` draws them, of phase 2 half full (8, even between 16 and 512), and of
phase 1 (32, nine of ten full).

    loop       the product's code, a block for each example
    equal      the product's code, a block for each length
    blocks     the product's code as it is: sorted, cut where padding and calls together cost least
    one        the product's code, one block, padded to the longest
    sdpa loop  torch's scaled_dot_product_attention for each example, autograd's backward
    sdpa one   the same once, padded to the longest, with a mask
    nested     the same over a jagged nested tensor; it has no dropout there, so it runs without

The rule: one round is thrown away, then all ways in turn, `--rounds` times over batches drawn anew;
the median of the times, and of the ratios to `blocks` within a round.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from demo_bert.commands.measuring.drawn import drawn_examples
from demo_bert.hardware import select
from demo_bert.model.blocks import block_attention, make_layout

HEADS, SIZE = 12, 64
Way = Callable[[Tensor, list[int], float], Tensor]


def _product(qkv: Tensor, lengths: list[int], dropout: float, **costs: int) -> Tensor:
    layout = make_layout(lengths, num_heads=HEADS, **costs)
    return block_attention(qkv, layout, num_heads=HEADS, dropout=dropout)


def _equal(qkv: Tensor, lengths: list[int], dropout: float) -> Tensor:
    """Blocks of equal lengths: calls that cost nothing leave no padding."""
    order = np.argsort(lengths, kind="stable")
    parts = qkv.split(lengths)
    outputs: dict[int, Tensor] = {}
    for length in sorted(set(lengths)):
        rows = [int(row) for row in order if lengths[row] == length]
        same = [length] * len(rows)
        found = _product(torch.cat([parts[row] for row in rows]), same, dropout, calls=10**12)
        outputs |= dict(zip(rows, found.split(same), strict=True))
    return torch.cat([outputs[row] for row in range(len(lengths))])


def _heads(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(..., S, 3H) -> three of (..., A, S, D)."""
    split = rows.view(*rows.shape[:-1], 3, HEADS, SIZE)
    query, key, value = (part.transpose(-3, -2) for part in split.unbind(-3))
    return query, key, value


def _sdpa_loop(qkv: Tensor, lengths: list[int], dropout: float) -> Tensor:
    found = []
    for rows in qkv.split(lengths):
        context = F.scaled_dot_product_attention(*_heads(rows[None]), dropout_p=dropout)
        found.append(context[0].transpose(0, 1).reshape(len(rows), -1))
    return torch.cat(found)


def _sdpa_one(qkv: Tensor, lengths: list[int], dropout: float) -> Tensor:
    padded = torch.nn.utils.rnn.pad_sequence(list(qkv.split(lengths)), batch_first=True)
    is_there = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]  # (B, S)
    context = F.scaled_dot_product_attention(
        *_heads(padded), attn_mask=is_there[:, None, None], dropout_p=dropout
    )
    return context.transpose(1, 2).flatten(2)[is_there]


def _nested(qkv: Tensor, lengths: list[int], dropout: float) -> Tensor:
    del dropout
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    query, key, value = (
        torch.nested.nested_tensor_from_jagged(part.contiguous().view(-1, HEADS, SIZE), offsets)
        for part in qkv.chunk(3, dim=1)
    )
    context = F.scaled_dot_product_attention(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    )
    return context.transpose(1, 2).flatten(2).values()


WAYS: dict[str, Way] = {
    "loop": partial(_product, calls=0, most_elements=0),
    "equal": _equal,
    "blocks": _product,
    "one": partial(_product, calls=10**12, most_elements=10**12),
    "sdpa loop": _sdpa_loop,
    "sdpa one": _sdpa_one,
    "nested": _nested,
}


def main() -> None:
    """Measures and prints a table."""
    options = _options()
    torch.set_num_threads(options.threads)
    select("cpu").prepare()
    draw = np.random.default_rng(0)
    rows = []
    for work, lengths_of in _works(draw).items():
        for dtype in (torch.bfloat16, torch.float32):
            times = _measure(lengths_of, dtype, rounds=options.rounds)
            for way, seconds in times.items():
                ratios = [own / other for own, other in zip(seconds, times["blocks"], strict=True)]
                rows.append(
                    {
                        "work": work,
                        "dtype": str(dtype).removeprefix("torch."),
                        "way": way,
                        "ms": 1e3 * statistics.median(seconds),
                        "ratio_to_blocks": statistics.median(ratios),
                    }
                )
                print(json.dumps(rows[-1]), flush=True)
    if options.output:
        facts = {
            "torch": torch.__version__,
            "threads": options.threads,
            "heads": HEADS,
            "head_size": SIZE,
            "dropout": 0.1,
            "rounds": options.rounds,
            "load": os.getloadavg()[0],
            "rows": rows,
        }
        options.output.write_text(json.dumps(facts, indent=1) + "\n")


def _works(draw: np.random.Generator) -> dict[str, Callable[[], list[int]]]:
    """Work -> lengths of a new batch."""

    def like(task: str, count: int, longest: int) -> Callable[[], list[int]]:
        examples = drawn_examples(task, vocab_size=30522, max_seq_length=longest, seed=1)
        sizes = np.array([len(example.input_ids) for example in examples])
        return lambda: draw.choice(sizes, count).tolist()

    def full() -> list[int]:
        return np.where(draw.random(32) < 0.9, 128, draw.integers(8, 128, 32)).tolist()

    return {
        "mrpc b 32": like("mrpc", 32, 128),
        "squad b 12": like("squad", 12, 384),
        "phase 1 b 32": full,
        "phase 2 b 8": lambda: draw.integers(16, 513, 8).tolist(),
    }


def _measure(
    lengths_of: Callable[[], list[int]], dtype: torch.dtype, *, rounds: int
) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(rounds + 1):
        lengths = lengths_of()
        values = torch.randn(sum(lengths), 3 * HEADS * SIZE).to(dtype)
        grad = torch.randn(sum(lengths), HEADS * SIZE).to(dtype)
        for way, attend in WAYS.items():
            qkv = values.clone().requires_grad_()
            started = time.perf_counter()
            attend(qkv, lengths, 0.1).backward(grad)
            if number:
                times[way].append(time.perf_counter() - started)
    return times


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--output", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
