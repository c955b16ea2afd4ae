"""Dropout, residual and layer norm: what follows each block of a layer.

Shapes: N tokens, H hidden size.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

from demo_bert.model.dropout import Masks, masked


class ResidualNorm(nn.LayerNorm):
    """norm(hidden + dropout(update)), with the weights and names of `torch.nn.LayerNorm`."""

    def add(self, hidden: Tensor, update: Tensor, dropout: float) -> Tensor:
        """The block's output.

        Args:
            hidden: (N, H), what went into the block.
            update: (N, H), what came out of its last product.
            dropout: Probability of dropping an element of the update, 0 in evaluation.

        Returns:
            (N, H).
        """
        if not update.is_cpu or torch.compiler.is_compiling():
            return self(hidden + nn.functional.dropout(update, dropout))
        dtype = torch.promote_types(hidden.dtype, update.dtype)
        return cast(
            Tensor,
            _ResidualNorm.apply(
                hidden.to(dtype), update.to(dtype), self.weight, self.bias, self.eps, dropout
            ),
        )


class _ResidualNorm(torch.autograd.Function):
    """Keeps the sum and the mask for the backward pass; sums and moments are float32."""

    @staticmethod
    def forward(  # type: ignore[bad-override]  # autograd.Function is declared with *args
        ctx: Any,
        hidden: Tensor,
        update: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: float,
        dropout: float,
    ) -> Tensor:
        mask, ctx.scale = None, 1.0
        if dropout > 0.0:
            masks = Masks(dropout, update.dtype)
            mask, ctx.scale = masks.draw(*update.shape), masks.scale
            update = masked(update, mask)
        total = torch.add(hidden, update, alpha=ctx.scale)  # (N, H)
        normed, mean, deviation = torch.native_layer_norm(total, weight.shape, weight, bias, eps)
        ctx.save_for_backward(total, mean, deviation, weight, bias, mask)
        return normed

    @staticmethod
    def backward(  # type: ignore[bad-override]  # autograd.Function is declared with *args
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        total, mean, deviation, weight, bias, mask = ctx.saved_tensors
        needed = [any(ctx.needs_input_grad[:2]), *ctx.needs_input_grad[2:4]]
        grad_total, grad_weight, grad_bias = torch.ops.aten.native_layer_norm_backward(
            grad.contiguous(), total, weight.shape, mean, deviation, weight, bias, needed
        )
        grad_update = grad_total
        if mask is not None and ctx.needs_input_grad[1]:
            grad_update = masked(grad_total, mask).mul_(ctx.scale)
        return grad_total, grad_update, grad_weight, grad_bias, None, None
