"""`prepare inspect STORE...`: what stores hold, and what training makes of it."""

import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from demo_bert.commands.store_vocabulary import vocabulary_of
from demo_bert.corpus.statistics import LENGTH_LIMITS, Statistics, statistics_of
from demo_bert.corpus.store import TokenStore, open_store
from demo_bert.data.masking import pieces_of
from demo_bert.data.packing import Batch
from demo_bert.data.pairs import PairSource
from demo_bert.data.pretraining import Examples
from demo_bert.errors import DataError, ModelError
from demo_bert.report.console import say
from demo_bert.settings import PrepareSettings

_BAR = 40
_WIDTH = 100
_LENGTH = 128


def run(settings: PrepareSettings) -> None:
    """Prints the figures of each store.

    Args:
        settings: As resolved.

    Raises:
        DataError: A store is missing or damaged.
        ModelError: Its vocabulary is damaged.
    """
    for name in settings.stores or ():
        store = open_store(Path(name))
        vocabulary = vocabulary_of(store)
        say(_lines(store, statistics_of(store, vocabulary)))
        if settings.examples:
            say(_shown_examples(store, vocabulary, settings))


def _shown_examples(
    store: TokenStore, vocabulary: Sequence[str], settings: PrepareSettings
) -> list[str]:
    """The first training examples of an epoch, pieces to predict marked with what stands there."""
    length = settings.max_seq_length or _LENGTH
    try:
        source = PairSource(store.shards, max_seq_length=length, seed=settings.seed)
        examples = Examples(source, pieces_of(vocabulary), length)
    except (DataError, ModelError) as error:
        return ["", f"no training examples: {error}"]
    count = min(settings.examples, len(examples))
    if not count:
        return ["", "no training examples: the store is too small"]
    rows = np.arange(count)
    pairs = examples.pairs(np.zeros(count, np.int64), rows)
    is_coloured = sys.stdout.isatty()
    lines: list[str] = []
    for row in rows:
        batch = examples.batch(pairs[row : row + 1])
        relation = "random" if bool(batch.labels[0]) else "what follows"
        heading = f"training example {row}: {batch.num_tokens} tokens, the second segment is"
        text = _marked(batch, vocabulary, is_coloured=is_coloured)
        lines += ["", f"{heading} {relation}", *textwrap.wrap(text, _WIDTH)]
    return lines


def _marked(batch: Batch, vocabulary: Sequence[str], *, is_coloured: bool) -> str:
    """The pieces of one example; `{harbour>[MASK]}` is to be predicted where [MASK] stands."""
    assert batch.masked_tokens is not None and batch.masked_labels is not None
    predicted = dict(zip(batch.masked_tokens.tolist(), batch.masked_labels.tolist(), strict=True))
    before, after = ("\x1b[1;33m", "\x1b[0m") if is_coloured else ("", "")
    words: list[str] = []
    for place, number in enumerate(batch.input_ids.tolist()):
        piece = vocabulary[number]
        if place in predicted:
            piece = f"{before}{{{vocabulary[predicted[place]]}>{piece}}}{after}"
        words.append(piece)
    return " ".join(words)


def _lines(store: TokenStore, found: Statistics) -> list[str]:
    documents, sentences, tokens = store.num_documents, store.num_sentences, store.num_tokens
    lines = [
        f"{store.path}: {documents} documents, {sentences} sentences, {tokens} tokens",
        f"{sentences / max(documents, 1):.1f} sentences a document,"
        f" {tokens / max(sentences, 1):.1f} tokens a sentence, the longest"
        f" {found.longest_sentence_tokens}",
        f"{found.held_out_documents} documents held out, {found.unknown_fraction:.3%} [UNK]",
        "",
        "tokens  sentences  share of tokens",
    ]
    for place, least in enumerate(LENGTH_LIMITS):
        after = LENGTH_LIMITS[place + 1 : place + 2]
        label = f"{least}-{after[0] - 1}" if after else f"{least}-"
        share = found.tokens_by_length[place] / max(tokens, 1)
        bar = "#" * round(_BAR * share)
        lines.append(
            f"{label:<7} {found.sentences_by_length[place]:>9}  {share:>6.1%} {bar}".rstrip()
        )
    pieces = ", ".join(
        f"{piece} {count / max(tokens, 1):.1%}" for piece, count in found.most_frequent
    )
    return [*lines, "", f"most frequent: {pieces}"]
