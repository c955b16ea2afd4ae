"""Attention inside each example of a flat batch; nothing is padded and nothing crosses examples.

Shapes: T tokens of the micro-batch, B examples, S longest example, H hidden size, A heads,
D head size.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor

AttentionPath = Literal["loop", "padded", "varlen"]


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

    @cached_property
    def lengths(self) -> list[int]:
        """The examples' lengths, on the host."""
        return self.cu_seqlens.diff().tolist()

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
        "loop" on CPU (measured fastest there, benchmarks/NOTES.md); "varlen" (flash attention) on
        CUDA in half precision without dropout, which that kernel lacks; else "padded".
    """
    del needs_grad  # all three differentiate; named so that a backend that cannot has its place
    if device_type == "cpu":
        return "loop"
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
    if path == "loop":
        return cast(Tensor, _LoopAttention.apply(qkv, sequences.lengths, num_heads, dropout))
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


class _LoopAttention(torch.autograd.Function):
    """One matrix product per example, forward and backward written out.

    Autograd over the same loop, and torch's attention call, were 1.2 to 2 times slower on CPU with
    dropout (benchmarks/NOTES.md). The weights after softmax are kept for the backward pass.
    """

    @staticmethod
    def forward(  # type: ignore[bad-override]  # autograd.Function is declared with *args
        ctx: Any, qkv: Tensor, lengths: list[int], num_heads: int, dropout: float
    ) -> Tensor:
        hidden = qkv.shape[1] // 3
        head = hidden // num_heads
        heads = qkv.view(-1, 3, num_heads, head)  # (T, 3, A, D)
        output = torch.empty_like(qkv[:, :hidden])  # (T, H)
        flat = output.view(-1, num_heads, head)  # (T, A, D)
        kept: list[tuple[Tensor, Tensor | None]] = []
        for start, end in _spans(lengths):
            query, key, value = heads[start:end].permute(1, 2, 0, 3).unbind(0)  # (A, S, D)
            scores = torch.bmm(query * head**-0.5, key.transpose(1, 2))  # (A, S, S)
            weights = scores.softmax(-1, dtype=torch.float32).to(qkv.dtype)  # (A, S, S)
            mask = None
            if dropout > 0.0:
                mask = torch.empty_like(weights).bernoulli_(1.0 - dropout).div_(1.0 - dropout)
            kept.append((weights, mask))
            dropped = weights if mask is None else weights * mask  # (A, S, S)
            flat[start:end].copy_(torch.bmm(dropped, value).transpose(0, 1))  # (S, A, D)
        ctx.save_for_backward(qkv)
        ctx.kept, ctx.lengths, ctx.num_heads = kept, lengths, num_heads
        return output

    @staticmethod
    def backward(  # type: ignore[bad-override]  # autograd.Function is declared with *args
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor, None, None, None]:
        (qkv,) = ctx.saved_tensors
        hidden = qkv.shape[1] // 3
        head = hidden // ctx.num_heads
        scale = head**-0.5
        heads = qkv.view(-1, 3, ctx.num_heads, head)  # (T, 3, A, D)
        grad_qkv = torch.empty_like(qkv)  # (T, 3H)
        grad_heads = grad_qkv.view_as(heads)  # (T, 3, A, D)
        grad_flat = grad.to(qkv.dtype).reshape(-1, ctx.num_heads, head)  # (T, A, D)
        for (start, end), (weights, mask) in zip(_spans(ctx.lengths), ctx.kept, strict=True):
            query, key, value = heads[start:end].permute(1, 2, 0, 3).unbind(0)  # (A, S, D)
            grad_out = grad_flat[start:end].transpose(0, 1)  # (A, S, D)
            grad_weights = torch.bmm(grad_out, value.transpose(1, 2))  # (A, S, S)
            dropped = weights
            if mask is not None:
                grad_weights *= mask
                dropped = weights * mask
            grad_value = torch.bmm(dropped.transpose(1, 2), grad_out)  # (A, S, D)
            grad_weights -= (grad_weights * weights).sum(-1, keepdim=True)
            grad_scores = grad_weights.mul_(weights).mul_(scale)  # (A, S, S)
            target = grad_heads[start:end].permute(1, 2, 0, 3)  # (3, A, S, D)
            target[0].copy_(torch.bmm(grad_scores, key))
            target[1].copy_(torch.bmm(grad_scores.transpose(1, 2), query))
            target[2].copy_(grad_value)
        return grad_qkv, None, None, None


def _spans(lengths: list[int]) -> Iterator[tuple[int, int]]:
    """(start, end) of each example that is not empty."""
    start = 0
    for length in lengths:
        if length:
            yield start, start + length
        start += length
