"""How much memory a worker's training takes, before anything is built."""

import math

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
    tokens = batch_size * max_seq_length
    activations = _EACH_ACTIVATION * tokens * config.hidden_size
    scores = _EACH_SCORE * tokens * max_seq_length * config.num_attention_heads
    return _PROCESS + _EACH_WEIGHT * weights + config.num_hidden_layers * (activations + scores)
