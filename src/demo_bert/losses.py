"""Losses are sums and counts in float32; the caller divides once, by the global count.

Shapes: B examples, C classes, S longest example.
"""

import torch.nn.functional as F
from torch import Tensor

IGNORED = -100
"""The label of a row that no loss sees."""

PER_MASKED_TOKEN = ("mlm_loss",)
"""Parts of a loss that are divided by the number of masked tokens; the others by that of rows."""


def classification_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy summed over the labelled rows.

    Args:
        logits: (B, C) float32.
        labels: (B,) int64 in [0, C), or -100 where there is none.

    Returns:
        The sum, a float32 scalar; 0 where no row has a label.
    """
    return F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")


def span_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of start and of end over the tokens of each example, their mean.

    Args:
        logits: (B, S, 2) float32, start and end; very negative where an example has no token.
        labels: (B, 2) int64, places in [0, S), or -100 where there is none.

    Returns:
        (B,) float32; 0 where there is no label.

    Source:
        `run_squad.py` of the published code, which counts padding as tokens; here there is none.
    """
    return F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none").mean(1)
