"""The vocabulary that a token store was prepared with."""

from demo_bert.corpus.store import TokenStore, vocabulary_sha256
from demo_bert.errors import DataError
from demo_bert.model.vocabulary import read_vocabulary


def vocabulary_of(store: TokenStore) -> list[str]:
    """Reads the vocabulary of a store, which is no use where its entries are others.

    Args:
        store: The store.

    Returns:
        The entries in the order of their ids.

    Raises:
        DataError: The file is not the one that the store was prepared with.
        ModelError: It is damaged.
    """
    vocabulary = read_vocabulary(store.vocabulary_path)
    if vocabulary_sha256(vocabulary) != store.vocabulary_sha256:
        raise DataError(
            f"{store.vocabulary_path}: is not the vocabulary of this store; copy it again"
        )
    return vocabulary
