"""Examples -> one flat batch; no row is padded.

Shapes: T tokens, B examples, M masked tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Example:
    """One model row before it is packed.

    Attributes:
        input_ids: Ids of the pieces, [CLS] and [SEP] included.
        first_segment: How many of them, from the start, are of the first segment.
        label: The class, or -100 where there is none; for spans (start, end), places in the row.
    """

    input_ids: np.ndarray
    first_segment: int
    label: int | tuple[int, int] = -100


@dataclass(frozen=True)
class Batch:
    """A flat micro-batch.

    Attributes:
        input_ids: (T,) int64.
        position_ids: (T,) int64, counted from 0 in each example.
        token_type_ids: (T,) int64, 0 or 1.
        cu_seqlens: (B+1,) int32, the first token of each example, and T.
        max_seqlen: The longest example, in tokens, or more.
        labels: (B,) int64, or (B, 2) for spans; -100 where there is none.
        num_examples: Real examples: B less those that fill up a fixed shape.
        num_tokens: Real tokens: T less those that fill up a fixed shape.
        masked_tokens: (M,) int64, places in [0, T) of the tokens to predict; None without masks.
        masked_labels: (M,) int64, what stood there, or -100 where the place is filled up.
    """

    input_ids: Tensor
    position_ids: Tensor
    token_type_ids: Tensor
    cu_seqlens: Tensor
    max_seqlen: int
    labels: Tensor
    num_examples: int
    num_tokens: int
    masked_tokens: Tensor | None = None
    masked_labels: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """The batch on the device; copies do not block the host.

        Args:
            device: Where the model is.

        Returns:
            This batch where it is there already.
        """
        if self.input_ids.device == device:
            return self
        tensors = {
            field.name: value
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        moved = {name: value.to(device, non_blocking=True) for name, value in tensors.items()}
        return replace(self, **moved)


def unpack(values: Tensor, batch: Batch, *, fill: float) -> Tensor:
    """Lays the tokens of a flat batch out by examples; the inverse of `pack`, but padded.

    Args:
        values: (T, C), one vector for each token of the batch.
        batch: The batch, on the same device.
        fill: What stands where an example has no token.

    Returns:
        (B, S, C), S the batch's `max_seqlen`.
    """
    starts = batch.cu_seqlens[:-1].long()  # (B,)
    lengths = batch.cu_seqlens.diff().long()  # (B,)
    steps = torch.arange(batch.max_seqlen, device=values.device)  # (S,)
    tokens = (starts[:, None] + steps).clamp_(max=values.shape[0] - 1)  # (B, S)
    is_there = (steps < lengths[:, None])[:, :, None]  # (B, S, 1)
    return values[tokens].masked_fill(~is_there, fill)  # (B, S, C)


def pack(examples: Sequence[Example]) -> Batch:
    """Lays examples end to end.

    Args:
        examples: At least one; none is empty.

    Returns:
        The batch, on the host.

    Example:
        >>> rows = [Example(np.array([2, 7, 3]), 3, 1), Example(np.array([2, 9, 3, 8, 3]), 3, 0)]
        >>> batch = pack(rows)
        >>> batch.cu_seqlens.tolist(), batch.position_ids.tolist()
        ([0, 3, 8], [0, 1, 2, 0, 1, 2, 3, 4])
        >>> batch.token_type_ids.tolist()
        [0, 0, 0, 0, 0, 0, 1, 1]
    """
    lengths = np.array([len(example.input_ids) for example in examples], dtype=np.int64)  # (B,)
    first = np.array([example.first_segment for example in examples], dtype=np.int64)  # (B,)
    bounds = np.concatenate([[0], np.cumsum(lengths)])  # (B+1,)
    positions = np.arange(bounds[-1]) - np.repeat(bounds[:-1], lengths)  # (T,)
    ids = np.concatenate([example.input_ids for example in examples]).astype(np.int64)  # (T,)
    return Batch(
        input_ids=torch.from_numpy(ids),
        position_ids=torch.from_numpy(positions),
        token_type_ids=torch.from_numpy((positions >= np.repeat(first, lengths)).astype(np.int64)),
        cu_seqlens=torch.from_numpy(bounds.astype(np.int32)),
        max_seqlen=int(lengths.max()),
        labels=torch.tensor([example.label for example in examples], dtype=torch.int64),
        num_examples=len(examples),
        num_tokens=int(bounds[-1]),
    )
