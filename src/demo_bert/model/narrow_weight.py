"""A weight's bfloat16 copies for a CPU, made once for each update of the float32 master.

oneDNN lays the weight out for its kernels in every product anew, and adds a bias in a pass before
it. A copy in that layout, made once, and the bias added on the way took `base`'s forward products
of 1 740 tokens, alone, from 725-810 to 950-970 GF/s on two cores; laying out costs what it gains on
some 350 tokens. Within a step it is 1 to 2 % (benchmarks/NOTES.md, also why the backward pass has
plain weights). The number of rows of a product decides, and nothing else does: a run that goes on
multiplies as it began.

Shapes: N rows, K inputs, O outputs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

_FEWEST_ROWS = 512
"""Rows of a forward product for which laying out pays."""
_FEWEST_COLUMNS = 64
"""Outputs and inputs of a layer that is worth it: what a kernel does at once."""
_COUNTED = ContextVar("how many rows each row counts for", default=1.0)


@contextmanager
def each_row_counts(times: float) -> Iterator[None]:
    """Within it a few examples are multiplied as the many that they stand for.

    Args:
        times: How many rows each row counts for where their number decides.
    """
    token = _COUNTED.set(times)
    try:
        yield
    finally:
        _COUNTED.reset(token)


class NarrowWeight:
    """Copies of one state of a weight.

    Args:
        weight: (O, K) float32.
    """

    def __init__(self, weight: Tensor) -> None:
        self.plain = weight.detach().bfloat16()
        """(O, K)."""
        self._can_pack = can_pack() and min(weight.shape) >= _FEWEST_COLUMNS
        self._packed: Tensor | None = None

    def product(self, inputs: Tensor, bias: Tensor | None) -> Tensor:
        """The product with bias: inputs @ weight.T + bias.

        Args:
            inputs: (N, K) bfloat16.
            bias: (O,) bfloat16 or None.

        Returns:
            (N, O) bfloat16.
        """
        if not self._can_pack or inputs.shape[0] * _COUNTED.get() < _FEWEST_ROWS:
            return F.linear(inputs, self.plain, bias)
        operations = torch.ops.mkldnn
        if self._packed is None:
            # Made in an evaluation, it serves the next training step as well.
            with torch.inference_mode(False), torch.no_grad():
                self._packed = operations._reorder_linear_weight(self.plain, inputs.shape[0])
        found = operations._linear_pointwise(inputs, self._packed, bias, "none", [], "")
        return cast(Tensor, found)


@cache
def can_pack() -> bool:
    """Whether this torch lays weights out for oneDNN, on a CPU for which that was measured."""
    names = ("_linear_pointwise", "_reorder_linear_weight")  # what torch's compiler calls
    return (
        torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability().startswith("AVX512")
        and all(hasattr(torch.ops.mkldnn, name) for name in names)
    )
