"""Drawn examples with the lengths of the tasks: measuring needs no data and no network.

What a step costs depends on the lengths of its examples and not on their words. Lengths of MRPC
and SQuAD are drawn from the published data's distribution, kept here as 33 quantiles (the shortest,
then each further 32nd of the examples, the longest; standard uncased vocabulary). For pre-training,
documents are drawn and go through the program's own pairs and masks.
"""

from collections.abc import Sequence

import numpy as np

from demo_bert.data.packing import Example
from demo_bert.data.sample_text import MemoryShard

NUM_EXAMPLES = 4096
"""Of a fine-tuning task."""
_QUANTILES = {
    # GLUE's 3,668 training pairs, at most 128 tokens: mean 53.2, deviation 13.0.
    "mrpc": (
        *(19, 30, 33, 36, 38, 39, 41, 42, 44, 45, 46, 47, 49, 50, 51, 52, 53),
        *(54, 56, 57, 58, 59, 60, 61, 62, 64, 65, 67, 69, 70, 73, 77, 103),
    ),
    # The 10,833 windows of SQuAD 1.1's development part, at most 384 tokens: mean 178.5,
    # deviation 68.5; of the first articles of its training part: mean 177.6, deviation 76.4.
    "squad": (
        *(41, 76, 94, 108, 116, 121, 126, 130, 133, 136, 140, 144, 147, 151, 155, 159, 164),
        *(169, 174, 179, 183, 189, 196, 202, 210, 218, 228, 242, 260, 277, 302, 363, 384),
    ),
}
_QUESTION_TOKENS = 14  # [CLS] question [SEP], the mean of the same windows
_LEAST_ID = 1000  # the words of the standard vocabulary begin about there
_SENTENCE_TOKENS = 25
_LONG_DOCUMENT_SENTENCES = 40
_SHORT_DOCUMENT_FILL = 0.6  # mean tokens of a document, in longest examples: half-full examples
_NUM_DOCUMENTS = 2000


def drawn_examples(task: str, *, vocab_size: int, max_seq_length: int, seed: int) -> list[Example]:
    """Rows of a fine-tuning task.

    Args:
        task: "mrpc" or "squad".
        vocab_size: V of the model.
        max_seq_length: Longer rows are cut to it.
        seed: Of the draw.

    Returns:
        NUM_EXAMPLES rows.
    """
    random = np.random.default_rng(seed)
    quantiles = _QUANTILES[task]
    places = random.uniform(0, len(quantiles) - 1, NUM_EXAMPLES)
    lengths = np.interp(places, np.arange(len(quantiles)), quantiles).round().astype(int)
    rows: list[Example] = []
    for length in np.minimum(lengths, max_seq_length).tolist():
        ids = random.integers(min(_LEAST_ID, vocab_size // 2), vocab_size, length).astype(np.int32)
        if task == "squad":
            first = min(_QUESTION_TOKENS, length - 2)
            label: int | tuple[int, int] = (first, min(first + 3, length - 1))
        else:
            first, label = length // 2, int(random.integers(2))
        rows.append(Example(ids, first, label))
    return rows


def drawn_documents(
    *, max_seq_length: int, is_long: bool, vocab_size: int, seed: int
) -> MemoryShard:
    """Text for pre-training; every tenth document is held out.

    Args:
        max_seq_length: The longest example, which short documents are to fill to one half.
        is_long: Documents of about 40 sentences of 25 tokens, which fill nine of ten examples;
            else of one sentence or a few, so that examples are half full on average.
        vocab_size: V of the model.
        seed: Of the draw.

    Returns:
        A shard in memory.
    """
    random = np.random.default_rng(seed)
    documents: list[np.ndarray] = []
    for _ in range(_NUM_DOCUMENTS):
        if is_long:
            count = 2 + int(random.geometric(1 / _LONG_DOCUMENT_SENTENCES))
        else:
            tokens = random.gamma(2.0, _SHORT_DOCUMENT_FILL * max_seq_length / 2.0)
            count = max(2, round(tokens / _SENTENCE_TOKENS))
        lengths = np.clip(random.lognormal(3.0, 0.6, count), 2, 120).astype(int)
        documents.append(lengths)
    return _shard(documents, vocab_size=vocab_size, random=random)


def _shard(
    documents: Sequence[np.ndarray], *, vocab_size: int, random: np.random.Generator
) -> MemoryShard:
    lengths = np.concatenate(documents)
    least = min(_LEAST_ID, vocab_size // 2)
    return MemoryShard(
        ids=random.integers(least, vocab_size, int(lengths.sum())).astype(np.uint32),
        sentence_ends=np.cumsum(lengths, dtype=np.uint32),
        document_ends=np.cumsum([len(one) for one in documents], dtype=np.uint32),
        is_held_out=np.arange(len(documents)) % 10 == 9,
    )
