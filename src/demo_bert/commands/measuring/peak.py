"""The machine's peak, measured: the best rate that a matrix product reaches."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from demo_bert.hardware import Backend, Dtype
from demo_bert.model.bert import BertConfig

Shape = tuple[int, int, int]
"""(N, K, M) of a product of (N, K) with (K, M)."""

SQUARES: tuple[Shape, ...] = ((2048, 2048, 2048), (4096, 4096, 4096))
MOST_REPEATS = 20
_FEWEST_REPEATS = 3
_QUEUED = 10  # products at once on an accelerator, or starting them would count


def model_shapes(config: BertConfig, *, num_tokens: int, num_masked: int = 0) -> tuple[Shape, ...]:
    """The products of a model's forward pass.

    Args:
        config: The encoder's shape.
        num_tokens: T of a batch.
        num_masked: M of it, in pre-training.

    Returns:
        Each once.
    """
    hidden, wide = config.hidden_size, config.intermediate_size
    tokens = max(1, num_tokens)
    found = [
        (tokens, hidden, 3 * hidden),
        (tokens, hidden, hidden),
        (tokens, hidden, wide),
        (tokens, wide, hidden),
    ]
    if num_masked:
        found.append((num_masked, hidden, config.vocab_size))
    return tuple(dict.fromkeys(found))


@dataclass
class Peak:
    """The highest rate seen so far.

    Attributes:
        backend: The hardware.
        dtype: The compute type; where products are rounded, of float32.
        most_s: Seconds that a shape's repeats may take, but for the first three.
        seen: Every measurement: when, the shape, operations per second.
    """

    backend: Backend
    dtype: Dtype
    most_s: float = 1.0
    seen: list[tuple[str, Shape, float]] = field(default_factory=list)

    @property
    def flops_per_s(self) -> float:
        """The highest rate, operations per second."""
        return max(rate for _, _, rate in self.seen)

    @property
    def shape(self) -> Shape:
        """The shape that reached it."""
        return max(self.seen, key=lambda one: one[2])[1]

    def measure(self, when: str, shapes: Sequence[Shape]) -> None:
        """Measures shapes, the best of 20 repeats of each, or of as many as there is time for.

        Args:
            when: "before mrpc", "after": for the record.
            shapes: At least one.
        """
        for shape in shapes:
            self.seen.append((when, shape, best_rate(self.backend, self.dtype, shape, self.most_s)))


def best_rate(backend: Backend, dtype: Dtype, shape: Shape, most_s: float) -> float:
    """The best rate of one product.

    Args:
        backend: The hardware.
        dtype: The compute type.
        shape: Of the product.
        most_s: Seconds that the repeats may take, but for the first three.

    Returns:
        Operations per second, a multiplication and an addition being two.
    """
    rows, inner, columns = shape
    is_narrow = dtype == "bf16" and backend.product_mode(dtype) == "native"
    kind = torch.bfloat16 if is_narrow else torch.float32
    left = torch.rand(rows, inner, device=backend.device()).to(kind)  # (N, K)
    right = torch.rand(columns, inner, device=backend.device()).to(kind)  # (M, K)
    at_once = 1 if backend.name == "cpu" else _QUEUED
    with torch.inference_mode():
        torch.nn.functional.linear(left, right)
        backend.synchronize()
        best, begun = float("inf"), time.perf_counter()
        for repeat in range(MOST_REPEATS):
            if repeat >= _FEWEST_REPEATS and time.perf_counter() - begun > most_s:
                break
            started = time.perf_counter()
            for _ in range(at_once):
                torch.nn.functional.linear(left, right)
            backend.synchronize()
            best = min(best, (time.perf_counter() - started) / at_once)
    return 2.0 * rows * inner * columns / best
