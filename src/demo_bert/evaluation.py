"""The one evaluation loop: outputs of every example, or sums over all of them.

Shapes: N examples, B of a batch, C outputs for each, K sums.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from demo_bert.data.loader import ahead, token_batches
from demo_bert.data.packing import Batch, Example, pack
from demo_bert.distributed import World, sum_numbers, sum_tensor
from demo_bert.hardware.backend import Backend, Dtype

Key = TypeVar("Key")
Outputs = Callable[[nn.Module, Batch], Tensor]
"""Model and batch, on its device -> (B, C): what is to be known of each example."""


class EvaluationStopped(Exception):
    """A stop request came before the last batch; raised on every worker."""


def _never() -> None:
    return None


def logits_of(
    model: nn.Module,
    examples: Sequence[Example],
    *,
    outputs: Outputs,
    num_outputs: int,
    max_tokens: int,
    max_examples: int = 1024,
    dtype: Dtype,
    backend: Backend,
    world: World,
    fill: Callable[[Batch], Batch] | None = None,
    stop_reason: Callable[[], str | None] = _never,
) -> np.ndarray:
    """The model's outputs for every example, in the examples' order.

    Args:
        model: On the backend's device; put into evaluation mode.
        examples: At least one.
        outputs: The task's: logits of classes, the best starts and ends of spans.
        num_outputs: C.
        max_tokens: Tokens of a batch, at most; batches are made of examples of similar length and
            dealt to the workers.
        max_examples: Examples of a batch, at most.
        dtype: "bf16" or "fp32".
        backend: The hardware.
        world: This worker's place; every worker gets all outputs.
        fill: Brings a batch to one of a few shapes, for backends that need it.
        stop_reason: Why to stop, or None; asked before each batch.

    Returns:
        (N, C) float32.

    Raises:
        EvaluationStopped: A worker was asked to stop.
    """
    device = backend.device()
    lengths = [len(example.input_ids) for example in examples]
    groups = token_batches(lengths, max_tokens=max_tokens, max_examples=max_examples)
    mine = groups[world.rank :: world.world_size]

    def prepared() -> Iterator[tuple[list[int], Batch]]:
        for rows in mine:
            batch = pack([examples[row] for row in rows])
            yield rows, fill(batch) if fill else batch

    logits = torch.zeros(len(examples), num_outputs, device=device)  # (N, C)
    asked = _Asked(stop_reason)
    batches = _each(
        model, prepared(), partial(outputs, model), dtype=dtype, backend=backend, asked=asked
    )
    for rows, found in batches:  # found: (B, C)
        logits[torch.tensor(rows, device=device)] = found[: len(rows)].float()
    asked.end_if_stopped(world, backend)
    return sum_tensor(logits, world).cpu().numpy()  # (N, C)


def totals_of(
    model: nn.Module,
    batches: Iterator[Batch],
    measure: Callable[[Batch], Tensor],
    *,
    num_totals: int,
    dtype: Dtype,
    backend: Backend,
    world: World,
    stop_reason: Callable[[], str | None] = _never,
) -> list[float]:
    """What a measure gives, summed over all batches of all workers, exactly.

    Args:
        model: On the backend's device; put into evaluation mode.
        batches: This worker's, on the host; batches are dealt to the workers in turn.
        measure: Batch -> (K,) float32 sums and counts.
        num_totals: K.
        dtype: "bf16" or "fp32".
        backend: The hardware.
        world: This worker's place; every worker gets all sums.
        stop_reason: Why to stop, or None; asked before each batch.

    Returns:
        K sums.

    Raises:
        EvaluationStopped: A worker was asked to stop.
    """
    numbered = ((None, batch) for batch in batches)
    asked = _Asked(stop_reason)
    found = _each(model, numbered, measure, dtype=dtype, backend=backend, asked=asked)
    mine = [sums.double().tolist() for _, sums in found]  # (K,) of each batch
    asked.end_if_stopped(world, backend)
    device = backend.device()
    (most,) = sum_numbers([len(mine)], world, device)
    table = [0.0] * int(most) * num_totals * world.world_size
    for number, sums in enumerate(mine):
        place = (number * world.world_size + world.rank) * num_totals
        table[place : place + num_totals] = sums
    table = sum_numbers(table, world, device)
    return [math.fsum(table[k::num_totals]) for k in range(num_totals)]


class _Asked:
    """Whether this worker was asked to stop, and then whether any of them was."""

    def __init__(self, stop_reason: Callable[[], str | None]) -> None:
        self._stop_reason = stop_reason
        self._is_cut = False

    def __call__(self) -> bool:
        self._is_cut = self._is_cut or self._stop_reason() is not None
        return self._is_cut

    def end_if_stopped(self, world: World, backend: Backend) -> None:
        """Raises on all workers where one left out a batch."""
        if self._stop_reason is _never:
            return
        (num_cut,) = sum_numbers([self._is_cut], world, backend.device())
        if num_cut:
            raise EvaluationStopped


def _each(
    model: nn.Module,
    batches: Iterator[tuple[Key, Batch]],
    outputs_of: Callable[[Batch], Tensor],
    *,
    dtype: Dtype,
    backend: Backend,
    asked: "_Asked",
) -> Iterator[tuple[Key, Tensor]]:
    """What the model in evaluation mode makes of each batch; they are prepared ahead."""
    model.eval()
    device = backend.device()
    with torch.inference_mode():
        for key, batch in ahead(batches):
            if asked():
                return
            with backend.autocast(dtype):
                outputs = outputs_of(batch.to(device))
            yield key, outputs
            backend.step_boundary()
