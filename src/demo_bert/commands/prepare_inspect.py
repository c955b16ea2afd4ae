"""`prepare inspect STORE...`: what stores hold."""

from pathlib import Path

from demo_bert.corpus.statistics import LENGTH_LIMITS, Statistics, statistics_of
from demo_bert.corpus.store import TokenStore, open_store
from demo_bert.model.vocabulary import read_vocabulary
from demo_bert.report.console import say
from demo_bert.settings import PrepareSettings

_BAR = 40


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
        vocabulary = read_vocabulary(store.vocabulary_path)
        say(_lines(store, statistics_of(store, vocabulary)))


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
