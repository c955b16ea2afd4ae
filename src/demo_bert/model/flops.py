"""Operations that a model must do: matrix products on real tokens, nothing else.

A multiplication and an addition are two operations. Counted: the linear layers, attention by the
sum of squared lengths, the heads where a label asks. Not counted: look-ups, norms, the optimizer,
recomputation, padding.
"""

from collections.abc import Sequence

from demo_bert.model.bert import BertConfig

TRAINING_FACTOR = 3
"""Forward and backward over forward: each product has two in the backward pass."""


def classifier_flops(config: BertConfig, lengths: Sequence[int], num_labels: int) -> int:
    """Operations of one forward pass of a sequence classifier.

    Args:
        config: The encoder's shape.
        lengths: Tokens of each example.
        num_labels: Classes.

    Returns:
        Operations; `TRAINING_FACTOR` times as many for a training step.
    """
    hidden = config.hidden_size
    heads = 2 * len(lengths) * hidden * (hidden + num_labels)
    return encoder_flops(config, lengths, num_wanted=len(lengths)) + heads


def span_flops(config: BertConfig, lengths: Sequence[int]) -> int:
    """Operations of one forward pass of a model of start and end logits.

    Args:
        config: The encoder's shape.
        lengths: Tokens of each row.

    Returns:
        Operations; `TRAINING_FACTOR` times as many for a training step.
    """
    return encoder_flops(config, lengths) + 2 * sum(lengths) * config.hidden_size * 2


def pretraining_flops(config: BertConfig, lengths: Sequence[int], num_masked: int) -> int:
    """Operations of one forward pass of masked LM and next sentence prediction.

    Args:
        config: The encoder's shape.
        lengths: Tokens of each example.
        num_masked: Masked tokens of all examples together.

    Returns:
        Operations; `TRAINING_FACTOR` times as many for a training step.

    Example:
        >>> config = BertConfig(vocab_size=7, hidden_size=2, num_hidden_layers=1,
        ...                     num_attention_heads=1, intermediate_size=3)
        >>> pretraining_flops(config, [4], 1) - encoder_flops(config, [4], num_wanted=2)
        52
    """
    hidden = config.hidden_size
    words = 2 * num_masked * hidden * (hidden + config.vocab_size)
    pairs = 2 * len(lengths) * hidden * (hidden + 2)
    return encoder_flops(config, lengths, num_wanted=len(lengths) + num_masked) + words + pairs


def encoder_flops(
    config: BertConfig, lengths: Sequence[int], *, num_wanted: int | None = None
) -> int:
    """Operations of one forward pass of the encoder, without pooler.

    Args:
        config: The encoder's shape.
        lengths: Tokens of each example.
        num_wanted: Tokens whose states are read; None for all. What the last layer leaves out for
            the others is not counted.

    Returns:
        Operations.

    Example:
        >>> tiny = BertConfig(hidden_size=2, num_hidden_layers=1, num_attention_heads=1,
        ...                   intermediate_size=3)
        >>> encoder_flops(tiny, [1]) == 2 * (2 * 6 + 2 * 2 + 2 * 2 * 3) + 4 * 2
        True
    """
    hidden, wide = config.hidden_size, config.intermediate_size
    tokens = sum(lengths)
    squares = sum(length * length for length in lengths)
    after_attention = 2 * (hidden * hidden + 2 * hidden * wide)
    layer = tokens * (6 * hidden * hidden + after_attention) + 4 * squares * hidden
    left_out = 0 if num_wanted is None else tokens - num_wanted
    return config.num_hidden_layers * layer - left_out * after_attention
