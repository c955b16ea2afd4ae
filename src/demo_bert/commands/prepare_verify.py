"""`prepare verify STORE...`: re-reads stores, every byte."""

import logging
from pathlib import Path

from demo_bert.corpus.store import open_store
from demo_bert.corpus.verification import verify
from demo_bert.model.vocabulary import read_vocabulary
from demo_bert.report.console import say
from demo_bert.settings import PrepareSettings

_LOG = logging.getLogger(__name__)


def run(settings: PrepareSettings) -> None:
    """Verifies each store; standard output has a line for each that is whole.

    Args:
        settings: As resolved.

    Raises:
        DataError: The first shard that is not whole, and where.
        ModelError: The store's vocabulary is damaged.
    """
    for name in settings.stores or ():
        store = open_store(Path(name))
        vocabulary = read_vocabulary(store.vocabulary_path)
        verify(
            store,
            vocabulary,
            report=lambda done, total: _LOG.debug("%d of %d shards checked", done, total),
        )
        say([f"{name}: whole: {len(store.shards)} shards, {store.num_tokens} tokens"])
