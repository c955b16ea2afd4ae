"""Examples of pre-training -> flat batches: pairs gathered from the store, masks drawn.

Shapes: T tokens, B examples, M masked tokens.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from demo_bert.data.loader import MicroBatch
from demo_bert.data.masking import Pieces, choose, num_masked, replace
from demo_bert.data.order import places_at
from demo_bert.data.packing import Batch
from demo_bert.data.pairs import Pairs, PairSource, joined
from demo_bert.exchange.tree import dealt

_PLANNED_AT_ONCE = 8192
_GATHERED_AT_ONCE = 512


@dataclass(frozen=True)
class Examples:
    """All examples of one phase: example i of epoch e, for any i and e.

    Attributes:
        source: The pairs.
        pieces: Of the store's vocabulary.
        max_seq_length: Longest example in tokens.
        is_masked: Whether tokens are masked; False for next sentence prediction alone.
        whole_words: Whether all pieces of a word are masked together.
        draws_once: Whether every epoch is the first one over again, masks too.
        num_rows: How many of an epoch's rows there are at most; None: all.
    """

    source: PairSource
    pieces: Pieces
    max_seq_length: int
    is_masked: bool = True
    whole_words: bool = False
    draws_once: bool = False
    num_rows: int | None = None

    def __len__(self) -> int:
        """Examples of an epoch."""
        return min(len(self.source), self.num_rows or len(self.source))

    def pairs(self, epochs: np.ndarray, rows: np.ndarray) -> Pairs:
        """Examples as places in the store.

        Args:
            epochs: (B,) int64, ascending.
            rows: (B,) int64.

        Returns:
            B pairs.
        """
        if self.draws_once:
            return self.source.pairs(0, rows)
        parts = [self.source.pairs(int(e), rows[epochs == e]) for e in np.unique(epochs)]
        return joined(parts)

    def num_masked(self, pairs: Pairs) -> int:
        """Masked tokens of examples, before they are gathered.

        Args:
            pairs: From `pairs`.

        Returns:
            The sum; with whole words kept together it is found by gathering them.
        """
        if not self.is_masked:
            return 0
        if self.whole_words:
            total = 0
            for begin in range(0, len(pairs), _GATHERED_AT_ONCE):
                places = self.batch(pairs[begin : begin + _GATHERED_AT_ONCE]).masked_tokens
                total += 0 if places is None else len(places)
            return total
        return int(num_masked(pairs.num_tokens, max_seq_length=self.max_seq_length).sum())

    def batch(self, pairs: Pairs) -> Batch:
        """Gathers examples and masks them.

        Args:
            pairs: At least one.

        Returns:
            The batch, on the host; `labels` are 0 where the second segment follows the first, 1
            where it is random.
        """
        lengths = pairs.num_tokens  # (B,)
        bounds = np.concatenate([[0], np.cumsum(lengths)])  # (B+1,)
        ids = np.full(bounds[-1], self.pieces.sep, np.int64)  # (T,)
        ids[bounds[:-1]] = self.pieces.cls
        is_word = np.zeros(len(ids), bool)
        begins = bounds[:-1, None] + np.stack([np.ones_like(lengths), pairs.lengths[:, 0] + 2], 1)
        self._gather(ids, is_word, pairs, begins)
        positions = np.arange(len(ids)) - np.repeat(bounds[:-1], lengths)  # (T,)
        second = positions >= np.repeat(pairs.lengths[:, 0] + 2, lengths)  # (T,)
        places, labels = None, None
        if self.is_masked:
            places = choose(
                is_word,
                bounds,
                keys=pairs.keys,
                counts=num_masked(lengths, max_seq_length=self.max_seq_length),
                goes_on=self.pieces.goes_on[ids] if self.whole_words else None,
            )  # (M,)
            labels = replace(ids, places, bounds, keys=pairs.keys, pieces=self.pieces)  # (M,)
        return Batch(
            input_ids=torch.from_numpy(ids),
            position_ids=torch.from_numpy(positions),
            token_type_ids=torch.from_numpy(second.astype(np.int64)),
            cu_seqlens=torch.from_numpy(bounds.astype(np.int32)),
            max_seqlen=int(lengths.max()),
            labels=torch.from_numpy(pairs.is_random.astype(np.int64)),
            num_examples=len(pairs),
            num_tokens=len(ids),
            masked_tokens=None if places is None else torch.from_numpy(places),
            masked_labels=None if labels is None else torch.from_numpy(labels),
        )

    def _gather(
        self, ids: np.ndarray, is_word: np.ndarray, pairs: Pairs, begins: np.ndarray
    ) -> None:
        """Copies both segments of all examples to their places, shard by shard."""
        for shard in np.unique(pairs.shards):
            chosen = pairs.shards == shard  # (B, 2)
            lengths: np.ndarray = pairs.lengths[chosen]
            total = np.cumsum(lengths)
            inside = np.arange(total[-1]) - np.repeat(total - lengths, lengths)
            targets = np.repeat(begins[chosen], lengths) + inside
            sources = np.repeat(pairs.starts[chosen], lengths) + inside
            ids[targets] = self.source.shards[shard].ids[sources]
            is_word[targets] = True


def pretraining_batches(
    examples: Examples,
    *,
    seed: int,
    first_step: int,
    num_steps: int,
    global_batch_size: int,
    micro_batch_size: int,
    rank: int = 0,
    world_size: int = 1,
    is_canonical: bool = False,
    fill: Callable[[Batch], Batch] | None = None,
) -> Iterator[MicroBatch]:
    """A worker's micro-batches from a step on; the same rows whoever computes them.

    Args:
        examples: Of the phase.
        seed: Of the order.
        first_step: Where to begin; its rows follow `first_step * global_batch_size` others.
        num_steps: Where to end.
        global_batch_size: G, rows of a step over all workers.
        micro_batch_size: b; micro-batch k holds rows [k*b, (k+1)*b) of the step.
        rank: This worker.
        world_size: Workers in all; micro-batches are dealt round-robin.
        is_canonical: Whether they are computed in the order of `exchange.tree`.
        fill: Brings a batch to one of a few shapes, for backends that need it.

    Yields:
        Micro-batches in order of (step, k), or of (step, the tree); at least one for each step.
    """
    size = global_batch_size
    for step in range(first_step, num_steps):
        epochs, rows = places_at(step * size, size, num_rows=len(examples), seed=seed)
        parts = -(-size // micro_batch_size)
        made = partial(MicroBatch, num_rows=size, num_in_step=parts)
        mine = dealt(parts, rank=rank, world_size=world_size, is_canonical=is_canonical)
        chosen = [slice(k * micro_batch_size, (k + 1) * micro_batch_size) for k in mine]
        if not chosen:
            yield made(step, parts, is_last=True, batch=None, own_masked=0)
            continue
        own = np.concatenate([np.arange(size)[part] for part in chosen])
        planned = _planned(examples, epochs[own], rows[own])
        own_masked = examples.num_masked(planned)
        begin = 0
        for index in mine:
            end = begin + min(micro_batch_size, size - index * micro_batch_size)
            batch = examples.batch(planned[begin:end])
            begin = end
            yield made(
                step,
                index,
                is_last=index == mine[-1],
                batch=fill(batch) if fill else batch,
                own_masked=own_masked,
            )


def _planned(examples: Examples, epochs: np.ndarray, rows: np.ndarray) -> Pairs:
    """The pairs of a worker's rows of a step, planned some at a time."""
    parts = np.array_split(np.arange(len(rows)), -(-len(rows) // _PLANNED_AT_ONCE))
    return joined([examples.pairs(epochs[some], rows[some]) for some in parts])
