"""Weights for a vocabulary that has grown: old entries keep their rows, new ones get theirs.

Shapes: V entries, H hidden size.
"""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from demo_bert.model.convert import LoadedWeights
from demo_bert.model.vocabulary import build_tokenizer

_EMBEDDINGS = "embeddings.word.weight"
_BIAS = "mlm.bias"


def is_extension(old: Sequence[str], new: Sequence[str]) -> bool:
    """Whether a vocabulary is another one with further entries.

    Args:
        old: Entries in the order of their ids.
        new: Likewise.

    Returns:
        True where the new one begins with all of the old one and has more.

    Example:
        >>> is_extension(["a", "b"], ["a", "b", "ab"]), is_extension(["a", "b"], ["a", "ab", "b"])
        (True, False)
    """
    return len(new) > len(old) and list(new[: len(old)]) == list(old)


def extend_weights(
    weights: LoadedWeights, *, old: Sequence[str], new: Sequence[str]
) -> LoadedWeights:
    """Gives every new entry the mean of its old pieces: embedding, and bias of masked LM.

    Args:
        weights: Of the old vocabulary.
        old: Its entries.
        new: Those entries and more.

    Returns:
        The weights with a row for each entry; nothing else is changed.
    """
    tokenizer = build_tokenizer(old, **dataclasses.asdict(weights.case_rules))
    words = [entry.removeprefix("##") for entry in new[len(old) :]]
    encoded = tokenizer.encode_batch(words, add_special_tokens=False)
    pieces = [torch.tensor(one.ids or [old.index("[UNK]")]) for one in encoded]
    size = max(weights.config.vocab_size, len(new))

    def grown(tensor: Tensor) -> Tensor:
        """(V, H) or (V,) with the rows of `old` kept."""
        found = tensor.new_zeros((size, *tensor.shape[1:]))
        found[: len(tensor)] = tensor
        for place, ids in enumerate(pieces, start=len(old)):
            found[place] = tensor[ids].mean(0)
        return found

    tensors = {**weights.tensors, _EMBEDDINGS: grown(weights.tensors[_EMBEDDINGS])}
    head = dict(weights.head)
    if _BIAS in head:
        head[_BIAS] = grown(head[_BIAS])
    config = dataclasses.replace(weights.config, vocab_size=size)
    return dataclasses.replace(weights, config=config, tensors=tensors, head=head)
