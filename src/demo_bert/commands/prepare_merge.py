"""`prepare merge A B -o C`: one store of several."""

import shlex
from pathlib import Path

from demo_bert.commands.store_vocabulary import vocabulary_of
from demo_bert.corpus.merging import merge
from demo_bert.corpus.store import open_store
from demo_bert.errors import UsageError
from demo_bert.report.console import say
from demo_bert.settings import PrepareSettings


def run(settings: PrepareSettings) -> None:
    """Writes the merged store; standard output says what it holds.

    Args:
        settings: As resolved.

    Raises:
        UsageError: A store comes twice.
        DataError: A store is missing or damaged, or they do not belong together.
        ModelError: Their vocabulary is damaged.
        RunDirectoryError: The new store's directory holds something.
        DiskError: It cannot be written.
    """
    assert settings.stores is not None  # `settings.checks`
    assert settings.output_dir is not None
    paths = [Path(name) for name in settings.stores]
    if len({path.resolve() for path in paths}) < len(paths):
        raise UsageError("prepare merge: a store comes twice; give each once")
    stores = [open_store(path) for path in paths]
    vocabularies = [vocabulary_of(store) for store in stores]
    words = ["demo_bert", "prepare", "merge", *settings.stores, "--dedupe", settings.dedupe]
    merged = merge(
        stores,
        Path(settings.output_dir),
        vocabulary=vocabularies[0],
        dedupe=settings.dedupe,
        command=shlex.join(words),
    )
    dropped = merged.manifest["dropped"]
    say(
        [
            f"dropped: {dropped['exact_duplicates']} exact and {dropped['near_duplicates']} near"
            " duplicates, those of the stores included",
            f"store: {merged.path}: {merged.num_documents} documents, {merged.num_sentences}"
            f" sentences, {merged.num_tokens} tokens",
        ]
    )
