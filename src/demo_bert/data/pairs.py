"""Token store -> pairs of segments, by the published rules, each found by arithmetic.

Every document is cut into chunks: cells of T tokens (the longest example less [CLS], [SEP], [SEP]),
their ends moved to the next start of a sentence, so that how many chunks a document has follows
from its tokens. In an epoch a keyed permutation deals the chunks into threes. Two of three become a
true pair: a first segment of whole sentences, and what follows it up to T tokens. The third becomes
two examples, its two parts each with a segment from another document. So half of the pairs are
random, and every sentence is a first segment or a true continuation once, or twice where a true
pair reaches into the next chunk. A tenth of all examples, beside these, is made shorter.

Nothing is kept but two numbers for each document; an example is found with a search over documents
and one over sentences.

Shapes: N examples, D documents.

Source:
    `create_pretraining_data.py` of the published code. Deliberate differences: chunks lie on a grid
    instead of following from each other, and a segment that is too long loses its end, where the
    published code drops tokens at either end of the longer one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from demo_bert.data.order import as_fractions, drawn, permuted
from demo_bert.errors import DataError
from demo_bert.seeds import derive

NUM_SPECIAL = 3
"""[CLS], [SEP] and [SEP]."""

_EXAMPLES_OF_THREE = 4
_SHORT_FRACTION = 0.1
_TRUE, _HEAD, _TAIL, _SHORT = range(4)  # what an example makes of its chunk
_DRAWS = ("target", "document", "sentence", "coin")

Split = Literal["train", "held_out"]


class ShardOfTokens(Protocol):
    """What is read of a shard; all arrays may be mapped from disk."""

    @property
    def ids(self) -> np.ndarray:
        """(tokens,) uint16 or uint32."""
        ...

    @property
    def sentence_ends(self) -> np.ndarray:
        """(sentences,) uint32, tokens from the shard's first."""
        ...

    @property
    def document_ends(self) -> np.ndarray:
        """(documents,) uint32, sentences from the shard's first."""
        ...

    @property
    def is_held_out(self) -> np.ndarray:
        """(documents,) bool."""
        ...


@dataclass(frozen=True)
class Pairs:
    """Examples as places in the store.

    Attributes:
        shards: (N, 2) int64, where each of the two segments lies.
        starts: (N, 2) int64, its first token there.
        lengths: (N, 2) int64, its tokens; 0 for a second segment that is not there.
        is_random: (N,) bool, whether the second does not follow the first.
        keys: (N,) uint64, from which everything else about the example is drawn.
    """

    shards: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    is_random: np.ndarray
    keys: np.ndarray

    def __len__(self) -> int:
        """N."""
        return len(self.keys)

    def __getitem__(self, part: slice) -> "Pairs":
        """Some of them."""
        return Pairs(*(getattr(self, name)[part] for name in _FIELDS))

    @property
    def num_tokens(self) -> np.ndarray:
        """(N,) int64, tokens of each example, [CLS] and [SEP] included."""
        return self.lengths.sum(1) + NUM_SPECIAL - (self.lengths[:, 1] == 0)


_FIELDS = ("shards", "starts", "lengths", "is_random", "keys")


def joined(parts: Sequence[Pairs]) -> Pairs:
    """Examples of several parts, in order.

    Args:
        parts: At least one.

    Returns:
        All of them.
    """
    return Pairs(*(np.concatenate([getattr(one, name) for one in parts]) for name in _FIELDS))


class PairSource:
    """The examples of a store at one length.

    Args:
        shards: The store's.
        max_seq_length: Longest example in tokens, at least 5.
        seed: The run's seed.
        split: Which documents: those for training, or those held out.
        with_random: Whether half of the second segments come from another document; False for
            training without next sentence prediction.

    Raises:
        DataError: There is no document, or a single one where pairs of two are needed.
    """

    def __init__(
        self,
        shards: Sequence[ShardOfTokens],
        *,
        max_seq_length: int,
        seed: int,
        split: Split = "train",
        with_random: bool = True,
    ) -> None:
        self.shards = shards
        self.most_tokens = max_seq_length - NUM_SPECIAL
        self.with_random = with_random
        self._seed = seed
        self._shard_ends = np.cumsum([len(shard.document_ends) for shard in shards])
        self._documents, sizes = _chosen(shards, is_held_out=split == "held_out")
        self.num_documents = len(self._documents)
        self.num_tokens = int(sizes.sum())
        if self.num_documents < 1 + with_random:
            kind = "to train on" if split == "train" else split.replace("_", " ")
            raise DataError(
                f"the token store has {self.num_documents} document"
                f"{'s' * (self.num_documents != 1)} {kind}: next sentence"
                " prediction needs at least two; prepare more text, or train with --objectives mlm"
                if with_random
                else f"the token store has no document {kind}; prepare more text"
            )
        self._first_chunk = np.concatenate([[0], np.cumsum(-(-sizes // self.most_tokens))])
        self.num_chunks = int(self._first_chunk[-1])
        self._num_threes = self.num_chunks // 3 if with_random else 0
        self._num_whole = self.num_chunks + self._num_threes
        self._num_short = round(self._num_whole * _SHORT_FRACTION / (1 - _SHORT_FRACTION))
        self._num_short = min(self._num_short, self.num_chunks)

    def __len__(self) -> int:
        """Examples of an epoch."""
        return self._num_whole + self._num_short

    def pairs(self, epoch: int, rows: np.ndarray) -> Pairs:
        """Examples of an epoch.

        Args:
            epoch: From 0.
            rows: (N,) int64 in [0, len(self)).

        Returns:
            N pairs, a function of (store, seed, length, epoch, row).
        """
        keys = drawn(rows, key=derive(self._seed, "pairs", epoch))
        fractions = {
            name: as_fractions(drawn(keys, key=derive(self._seed, name))) for name in _DRAWS
        }
        roles, chunks = self._roles(epoch, rows)
        # Both examples of a chunk in two parts must agree on where it is split.
        where = as_fractions(drawn(chunks, key=derive(self._seed, "split", epoch)))
        targets = np.full(len(rows), self.most_tokens)
        is_short = roles == _SHORT
        some = 2 + (fractions["target"] * (self.most_tokens - 1)).astype(np.int64)
        targets[is_short] = some[is_short]
        places = _Places(self, chunks)
        is_true = np.where(is_short, fractions["coin"] < 0.5, roles == _TRUE) | (
            not self.with_random
        )
        places.narrow(is_short)
        firsts, seconds, is_true = places.split(
            targets, where, is_true=is_true, is_tail=roles == _TAIL, is_short=is_short
        )
        shards = np.stack([places.shards, places.shards], 1)
        starts = np.stack([firsts[:, 0], seconds[:, 0]], 1)
        lengths = np.stack([firsts[:, 1] - firsts[:, 0], seconds[:, 1] - seconds[:, 0]], 1)
        other = np.flatnonzero(~is_true)
        if self.with_random and len(other):
            room = targets[other] - lengths[other, 0]
            shards[other, 1], starts[other, 1], lengths[other, 1] = self._elsewhere(
                places.documents[other],
                room,
                {name: values[other] for name, values in fractions.items()},
            )
        return Pairs(shards, starts, lengths, ~is_true & self.with_random, keys)

    def _roles(self, epoch: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What each row makes of which chunk."""
        in_threes = _EXAMPLES_OF_THREE * self._num_threes
        three, member = np.divmod(rows, _EXAMPLES_OF_THREE)
        dealt = np.where(
            rows < in_threes,
            3 * three + np.minimum(member, 2),
            3 * self._num_threes + rows - in_threes,
        )
        roles = np.where((rows < in_threes) & (member >= 2), member - 1, _TRUE)
        is_short = rows >= self._num_whole
        roles[is_short] = _SHORT
        dealt[is_short] = rows[is_short] - self._num_whole
        chunks = np.empty(len(rows), np.int64)
        for chosen, purpose in ((~is_short, "chunks"), (is_short, "short chunks")):
            key = derive(self._seed, purpose, epoch)
            chunks[chosen] = permuted(dealt[chosen], size=self.num_chunks, key=key)
        return roles, chunks

    def _elsewhere(
        self, documents: np.ndarray, room: np.ndarray, fractions: dict[str, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A segment from another document: any document, from any of its sentences on."""
        others = (fractions["document"] * (self.num_documents - 1)).astype(np.int64)
        others += others >= documents  # never the example's own
        shards, numbers = self.place_of(others)
        first, last = self.sentences_of(shards, numbers)
        sentences = first + (fractions["sentence"] * (last - first)).astype(np.int64)
        starts = self.read("sentence_ends", shards, sentences - 1)
        ends = self.read("sentence_ends", shards, last - 1)
        return shards, starts, np.minimum(ends - starts, room)

    def chunk_of(self, chunks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Document and number within it of chunks.

        Args:
            chunks: (N,) int64.

        Returns:
            (N,) index among the chosen documents, (N,) number from 0.
        """
        documents = np.searchsorted(self._first_chunk, chunks, "right") - 1
        return documents, chunks - self._first_chunk[documents]

    def place_of(self, documents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shard of documents, and their number in it.

        Args:
            documents: (N,) index among the chosen documents.

        Returns:
            (N,) and (N,) int64.
        """
        numbers = self._documents[documents]
        shards = np.searchsorted(self._shard_ends, numbers, "right")
        before = np.concatenate([[0], self._shard_ends])
        return shards, numbers - before[shards]

    def sentences_of(
        self, shards: np.ndarray, numbers: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """First sentence of documents, and the one after their last.

        Args:
            shards: (N,).
            numbers: (N,) documents, counted in the shard.

        Returns:
            (N,) and (N,) int64, counted in the shard.
        """
        return (
            self.read("document_ends", shards, numbers - 1),
            self.read("document_ends", shards, numbers),
        )

    def read(self, name: str, shards: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Values of an array of ends, at places in several shards.

        Args:
            name: "sentence_ends" or "document_ends".
            shards: (N,).
            places: (N,) int64; -1 stands for the shard's beginning.

        Returns:
            (N,) int64.
        """
        found = np.zeros(len(places), np.int64)
        for shard in np.unique(shards):
            chosen = np.flatnonzero((shards == shard) & (places >= 0))
            found[chosen] = getattr(self.shards[shard], name)[places[chosen]]
        return found

    def sentence_from(self, shards: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """The first sentence that starts at a token or after it.

        Args:
            shards: (N,).
            tokens: (N,) int64, counted in the shard.

        Returns:
            (N,) int64, counted in the shard; their number or more where there is none.
        """
        found = np.zeros(len(tokens), np.int64)
        for shard in np.unique(shards):
            chosen = np.flatnonzero((shards == shard) & (tokens > 0))
            ends = self.shards[shard].sentence_ends
            # Of the same type, or all of it would be converted for each search.
            found[chosen] = np.searchsorted(ends, tokens[chosen].astype(ends.dtype)) + 1
        return found


class _Places:
    """Where chunks lie: documents, first and last tokens, the starts of sentences in them."""

    def __init__(self, source: PairSource, chunks: np.ndarray) -> None:
        self._source = source
        self.documents, self._numbers = source.chunk_of(chunks)
        self.shards, numbers = source.place_of(self.documents)
        first, self._last = source.sentences_of(self.shards, numbers)
        self._begin = source.read("sentence_ends", self.shards, first - 1)
        self._end = source.read("sentence_ends", self.shards, self._last - 1)
        self.starts, self._inner = self._starts(self._numbers)
        self.ends, _ = self._starts(self._numbers + 1)

    def narrow(self, chosen: np.ndarray) -> None:
        """Lets chosen chunks begin where no true pair from the chunk before can reach.

        Args:
            chosen: (N,) bool.
        """
        if not chosen.any():
            return
        before, _ = self._starts(np.maximum(self._numbers - 1, 0))
        reach = np.where(self._numbers > 0, before + self._source.most_tokens, self.starts)
        inner = self._source.sentence_from(self.shards, np.maximum(reach, self.starts))
        inner = np.minimum(inner, self._last)
        starts = self._source.read("sentence_ends", self.shards, inner - 1)
        is_inside = chosen & (starts > self.starts) & (starts < self.ends)
        self.starts = np.where(is_inside, starts, self.starts)
        self._inner = np.where(is_inside, inner + 1, self._inner)

    def split(
        self,
        targets: np.ndarray,
        fractions: np.ndarray,
        *,
        is_true: np.ndarray,
        is_tail: np.ndarray,
        is_short: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The two segments of each chunk.

        Args:
            targets: (N,) tokens of both together, at most.
            fractions: (N,) where to split, 0..1.
            is_true: (N,) whether the second is to follow the first.
            is_tail: (N,) whether the first is the chunk's second part.
            is_short: (N,) whether the pair stays inside its chunk.

        Returns:
            (N, 2) first and last token of the first segments; the same of the second ones, for
            true pairs; and which pairs can be true.
        """
        limits = np.minimum(self.ends, self.starts + targets)
        after = np.minimum(self._source.sentence_from(self.shards, limits), self._last)
        counts = np.maximum(after - self._inner, 0)
        at_sentence = self._inner + (fractions * counts).astype(np.int64)
        # A chunk of one sentence is followed by the next one, as far as that fits.
        at_sentence = np.where(counts > 0, at_sentence, after)
        splits = self._source.read("sentence_ends", self.shards, at_sentence - 1)
        splits = np.minimum(splits, self._end)
        reach = np.minimum(np.where(is_short, self.ends, self._end), self.starts + targets)
        # A sentence that is longer than an example is split anywhere.
        anywhere = self.starts + 1 + (fractions * (reach - self.starts - 1)).astype(np.int64)
        is_long = (counts == 0) & (splits >= self.starts + targets)
        is_alone = (counts == 0) & ~is_long & (splits >= reach)
        if not self._source.with_random:
            is_long, is_alone = is_long | is_alone, is_alone & False
        splits = np.where(is_long, np.minimum(anywhere, reach), splits)
        is_true = is_true & ~is_alone
        first_end = np.where(counts > 0, splits, self.ends)
        starts = np.where(~is_true & is_tail & (counts > 0), splits, self.starts)
        ends = np.where(is_true, splits, np.where(is_tail, self.ends, first_end))
        ends = np.minimum(ends, starts + np.maximum(targets - 1, 1))
        ends = np.where(is_true, np.minimum(splits, reach), ends)
        return np.stack([starts, ends], 1), np.stack([splits, reach], 1), is_true

    def _starts(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where chunks of those numbers begin, and the first sentence that starts after that."""
        cell = self._source.most_tokens
        nominal = self._begin + numbers * cell
        sentences = np.minimum(self._source.sentence_from(self.shards, nominal), self._last)
        starts = self._source.read("sentence_ends", self.shards, sentences - 1)
        has_start = (sentences < self._last) & (starts < nominal + cell)
        found = np.where(has_start, starts, nominal)
        return np.minimum(found, self._end), sentences + has_start


def _chosen(shards: Sequence[ShardOfTokens], *, is_held_out: bool) -> tuple[np.ndarray, np.ndarray]:
    """Numbers over all shards of the documents of one kind that are not empty, and their tokens."""
    numbers: list[np.ndarray] = []
    sizes: list[np.ndarray] = []
    before = 0
    for shard in shards:
        last = shard.document_ends.astype(np.int64)
        ends = np.concatenate([[0], shard.sentence_ends[last[last > 0] - 1]]).astype(np.int64)
        tokens = np.zeros(len(last), np.int64)
        tokens[last > 0] = np.diff(ends)
        chosen = np.flatnonzero((shard.is_held_out == is_held_out) & (tokens > 0))
        numbers.append(chosen + before)
        sizes.append(tokens[chosen])
        before += len(shard.document_ends)
    if not numbers:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    return np.concatenate(numbers), np.concatenate(sizes)
