"""The linear layer: plain, in bfloat16 on a CPU, or with operands rounded to bfloat16.

On a CPU with bfloat16 instructions the layer keeps a bfloat16 copy of its weight, made once for
each update of the float32 master, not once for each micro-step as autocast does.

A CPU without bfloat16 instructions multiplies bfloat16 matrices many times slower than float32
ones. There the operands of every product, forward and backward, are rounded to bfloat16 and
multiplied in float32: the products are those of a bfloat16 unit (a product of two bfloat16 numbers
is exact in float32), sums are float32, and the speed is that of float32.

Shapes: N rows, K inputs, O outputs.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from demo_bert.model.narrow_weight import NarrowWeight


class _RoundedLinear(torch.autograd.Function):
    """x @ w.T + bias with bfloat16 operands and float32 sums."""

    @staticmethod
    def forward(  # type: ignore[bad-override]  # autograd.Function is declared with *args
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        narrow_inputs = inputs.to(torch.bfloat16)  # (N, K)
        narrow_weight = weight.to(torch.bfloat16)  # (O, K)
        ctx.save_for_backward(narrow_inputs, narrow_weight)
        ctx.has_bias = bias is not None
        return F.linear(narrow_inputs.float(), narrow_weight.float(), bias)  # (N, O)

    @staticmethod
    def backward(  # type: ignore[bad-override]  # autograd.Function is declared with *args
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        narrow_inputs, narrow_weight = ctx.saved_tensors
        rounded = grad.to(torch.bfloat16).float()  # (N, O)
        grad_inputs = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_inputs = rounded @ narrow_weight.float()  # (N, K)
        if ctx.needs_input_grad[1]:
            grad_weight = rounded.t() @ narrow_inputs.float()  # (O, K)
        if ctx.has_bias and ctx.needs_input_grad[2]:
            grad_bias = grad.sum(0)  # (O,)
        return grad_inputs, grad_weight, grad_bias


class _NarrowLinear(torch.autograd.Function):
    """x @ w.T + bias in bfloat16 with float32 gradients of weight and bias."""

    @staticmethod
    def forward(  # type: ignore[bad-override]  # autograd.Function is declared with *args
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, narrow: NarrowWeight
    ) -> Tensor:
        del weight  # the master, whose gradient is wanted; its copy is multiplied
        ctx.save_for_backward(inputs)
        ctx.narrow = narrow
        return narrow.product(inputs, None if bias is None else bias.bfloat16())  # (N, O)

    @staticmethod
    def backward(  # type: ignore[bad-override]  # autograd.Function is declared with *args
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        (inputs,) = ctx.saved_tensors
        grad_inputs = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_inputs = grad @ ctx.narrow.plain  # (N, K)
        if ctx.needs_input_grad[1]:
            grad_weight = (grad.t() @ inputs).float()  # (O, K)
        if ctx.needs_input_grad[2]:
            grad_bias = grad.sum(0).float()  # (O,)
        return grad_inputs, grad_weight, grad_bias, None


class Linear(nn.Linear):
    """`torch.nn.Linear` whose products can be those of a bfloat16 unit.

    Attributes:
        is_rounded: Round the operands to bfloat16 and multiply them in float32; set for a whole
            model by `round_products`.
    """

    is_rounded: bool = False
    _narrow: NarrowWeight | None = None
    _narrow_of: tuple[int, int] = (-1, -1)

    def forward(self, input: Tensor) -> Tensor:
        """The product.

        Args:
            input: (N, K), float32 or the type of the enclosing autocast.

        Returns:
            (N, O).
        """
        if self.is_rounded:
            return rounded_linear(input, self.weight, self.bias)
        if is_narrow(input):
            narrow = self._narrow_weight()
            return cast(
                Tensor, _NarrowLinear.apply(input.bfloat16(), self.weight, self.bias, narrow)
            )
        return F.linear(input, self.weight, self.bias)

    def _narrow_weight(self) -> NarrowWeight:
        """The bfloat16 copies, made anew where the master was written to since."""
        now = (self.weight._version, self.weight.data_ptr())
        if self._narrow is None or self._narrow_of != now:
            # Made in an evaluation, it serves the next training step as well.
            with torch.inference_mode(False):
                self._narrow, self._narrow_of = NarrowWeight(self.weight), now
        return self._narrow


def is_narrow(inputs: Tensor) -> bool:
    """Whether products of these inputs are made in bfloat16 by our own code.

    Args:
        inputs: Of a layer.

    Returns:
        True on a CPU within autocast; other devices, and a compiler, leave it to autocast itself.
    """
    if torch.compiler.is_compiling():
        return False
    return inputs.is_cpu and torch.is_autocast_enabled("cpu")


def rounded_linear(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`torch.nn.functional.linear` with bfloat16 operands and float32 sums.

    Args:
        inputs: (N, K) float32.
        weight: (O, K) float32.
        bias: (O,) float32 or None.

    Returns:
        (N, O) float32.
    """
    return cast(Tensor, _RoundedLinear.apply(inputs, weight, bias))


def round_products(model: nn.Module, is_rounded: bool) -> None:
    """Switches every `Linear` of the model.

    Args:
        model: Any module.
        is_rounded: Whether operands are rounded to bfloat16.
    """
    for module in model.modules():
        if isinstance(module, Linear):
            module.is_rounded = is_rounded
