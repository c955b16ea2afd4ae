"""Attention inside each example of a flat batch; nothing is padded and nothing crosses examples.

Shapes: T tokens of the micro-batch, B examples, S longest example, H hidden size, A heads,
D head size.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from demo_bert.model.blocks import Layout, block_attention, make_layout

AttentionPath = Literal["blocks", "padded", "varlen"]


@dataclass(frozen=True)
class Sequences:
    """Where the examples of a flat batch begin and end, shared by all layers.

    Attributes:
        cu_seqlens: (B+1,) int32, the first token of each example and the end; repeated values are
            empty examples.
        max_seqlen: The longest example, in tokens, or more.
        num_tokens: T.
    """

    cu_seqlens: Tensor
    max_seqlen: int
    num_tokens: int

    _layouts: dict[int, Layout] = field(default_factory=dict, init=False, compare=False)

    def blocks(self, num_heads: int) -> Layout:
        """The examples in blocks of similar length, on the host.

        Args:
            num_heads: A.

        Returns:
            The layout, made once.
        """
        if num_heads not in self._layouts:
            lengths = self.cu_seqlens.diff().tolist()
            self._layouts[num_heads] = make_layout(lengths, num_heads=num_heads)
        return self._layouts[num_heads]

    @cached_property
    def padded(self) -> tuple[Tensor, Tensor, Tensor]:
        """Indices between the flat and the padded layout, of shapes that depend on (B, S, T) alone.

        Returns:
            The token of each padded place (B, S); which keys may be seen (B, 1, 1, S), True for
            yes, with the first key of an empty example let through so that its softmax is finite;
            the padded place of each token (T,).
        """
        starts = self.cu_seqlens[:-1].long()  # (B,)
        lengths = self.cu_seqlens.diff().long()  # (B,)
        steps = torch.arange(self.max_seqlen, device=starts.device)  # (S,)
        tokens = (starts[:, None] + steps).clamp_(max=self.num_tokens - 1)  # (B, S)
        is_visible = (steps < lengths[:, None].clamp(min=1))[:, None, None]  # (B, 1, 1, S)
        flat = torch.arange(self.num_tokens, device=starts.device)  # (T,)
        example = torch.bucketize(flat, self.cu_seqlens[1:].long(), right=True)  # (T,)
        return tokens, is_visible, example * self.max_seqlen + flat - starts[example]


def select_path(
    device_type: str, dtype: torch.dtype, *, dropout: float, needs_grad: bool
) -> AttentionPath:
    """Which way attention is computed: the one place that decides.

    Args:
        device_type: "cpu", "cuda", "hpu".
        dtype: Type of queries, keys and values.
        dropout: Probability of dropping an attention weight, 0 in evaluation.
        needs_grad: Whether a backward pass follows.

    Returns:
        "blocks" on CPU (measured fastest there, benchmarks/NOTES.md); "varlen" (flash attention) on
        CUDA in half precision without dropout, which that kernel lacks; else "padded".
    """
    del needs_grad  # all three differentiate; named so that a backend that cannot has its place
    if device_type == "cpu":
        return "blocks"
    if device_type == "cuda" and dropout == 0.0 and dtype in (torch.bfloat16, torch.float16):
        return "varlen"
    return "padded"


def attention(
    qkv: Tensor, sequences: Sequences, *, num_heads: int, dropout: float, path: AttentionPath
) -> Tensor:
    """Scaled dot-product attention of every example with itself.

    Args:
        qkv: (T, 3H), queries, keys and values side by side.
        sequences: The examples.
        num_heads: A.
        dropout: Probability of dropping an attention weight.
        path: From `select_path`; all paths compute the same function.

    Returns:
        (T, H), in the type of `qkv`.

    Source:
        Vaswani et al. 2017, equation 1, with dropout on the weights as in BERT.
    """
    if path == "blocks":
        layout = sequences.blocks(num_heads)
        return block_attention(qkv, layout, num_heads=num_heads, dropout=dropout)
    if path == "padded":
        return _padded_attention(qkv, sequences, num_heads=num_heads, dropout=dropout)
    return _varlen_attention(qkv, sequences, num_heads=num_heads)


def _padded_attention(
    qkv: Tensor, sequences: Sequences, *, num_heads: int, dropout: float
) -> Tensor:
    hidden = qkv.shape[1] // 3
    tokens, is_visible, places = sequences.padded
    rows = qkv.index_select(0, tokens.reshape(-1))  # (B*S, 3H)
    heads = rows.view(*tokens.shape, 3, num_heads, hidden // num_heads)  # (B, S, 3, A, D)
    query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)  # (B, A, S, D) each
    context = F.scaled_dot_product_attention(
        query, key, value, attn_mask=is_visible, dropout_p=dropout
    )  # (B, A, S, D)
    return context.transpose(1, 2).reshape(-1, hidden).index_select(0, places)  # (T, H)


def _varlen_attention(qkv: Tensor, sequences: Sequences, *, num_heads: int) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    hidden = qkv.shape[1] // 3
    query, key, value = qkv.view(-1, 3, num_heads, hidden // num_heads).unbind(1)  # (T, A, D)
    bounds, longest = sequences.cu_seqlens, sequences.max_seqlen
    context = varlen_attn(query, key, value, bounds, bounds, longest, longest)  # (T, A, D)
    return cast(Tensor, context).reshape(-1, hidden)  # (T, H)
