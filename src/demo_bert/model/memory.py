"""How much memory a worker's training takes, before anything is built."""

import math
from collections.abc import Sequence

import numpy as np

from demo_bert.model.bert import BertConfig
from demo_bert.model.layout import encoder_shapes

_PROCESS = 400 << 20
"""Bytes of the interpreter with its libraries, before a model is there."""
_EACH_WEIGHT = 16
"""Bytes of a weight: float32 weight, gradient and two moments."""
_EACH_ACTIVATION = 96
"""Bytes for each token, layer and hidden unit; measured 75 to 91 on CPU (benchmarks/NOTES.md)."""
_EACH_SCORE = 16
"""Bytes for each pair of tokens of an example, layer and head: attention weights, their mask."""


def training_bytes(config: BertConfig, *, batch_size: int, max_seq_length: int) -> int:
    """Memory of one worker that trains on a CPU, where every example is as long as allowed.

    Args:
        config: The encoder's shape.
        batch_size: Examples of a micro-step.
        max_seq_length: The longest example, in tokens.

    Returns:
        Bytes.
    """
    weights = sum(math.prod(shape) for shape in encoder_shapes(config).values())
    (each,) = activation_bytes(config, [max_seq_length]).tolist()
    return _PROCESS + _EACH_WEIGHT * weights + batch_size * int(each)


def activation_bytes(config: BertConfig, lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    """What the backward pass needs of each example, an upper bound on a CPU.

    Args:
        config: The encoder's shape.
        lengths: Tokens of each example.

    Returns:
        (examples,) float64; their ratios are good on other devices too.
    """
    tokens = np.asarray(lengths, np.float64)
    activations = _EACH_ACTIVATION * tokens * config.hidden_size
    scores = _EACH_SCORE * tokens**2 * config.num_attention_heads
    return config.num_hidden_layers * (activations + scores)
