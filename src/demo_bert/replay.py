"""Micro-steps recorded once for each fixed shape and replayed: CUDA graphs, seen from outside.

What is replayed are the same operations on the same memory. So a micro-step reads its batch from
tensors that stay, adds to gradients that stay and puts its losses into a tensor that stays; weights
change where they lie. What the host worked out is baked in. That is why nothing is believed: before
the first step every recording runs real examples beside the plain micro-step, and one difference is
enough to do without.

Shapes: P parts of the loss.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from functools import partial
from typing import Any

import torch
from torch import Tensor

from demo_bert.data.packing import Batch
from demo_bert.hardware import Backend
from demo_bert.hardware.backend import Dtype, Work

LossesOf = Callable[[Batch, Tensor], Tensor]
"""Batch on the device, and what each part of its loss is divided by, (P,) -> the parts, (P,)."""

_TOLERANCE: Mapping[Dtype, float] = {"bf16": 0.05, "fp32": 1e-3}
"""Difference of a gradient from the plain one, as a share of its norm. On a CPU, 4 layers of 128:
other draws of dropout 0.6 and more, the same sums in another order 0.0001 in bfloat16, 0.000002 in
float32."""
_SMALL = 0.01
"""Share of the norm of all gradients under which one of them counts as that large."""
_SEEDS = (1, 2)


class ReplayedSteps:
    """Micro-steps by replay; batches of other shapes are worked on one operation after the other.

    Args:
        batches: On the host, one of each shape; what is in them does not matter.
        parameters: The model's, by name; weights stay where they are.
        losses_of: Forward pass and loss, the model in training mode.
        num_parts: P.
        backend: With a `capture`.

    Raises:
        RuntimeError: It cannot be recorded; so do other errors of PyTorch's.
    """

    def __init__(
        self,
        batches: Iterable[Batch],
        *,
        parameters: Mapping[str, Tensor],
        losses_of: LossesOf,
        num_parts: int,
        backend: Backend,
    ) -> None:
        assert backend.capture is not None
        self._losses_of, self._backend, self._parameters = losses_of, backend, dict(parameters)
        device = backend.device()
        self._counts = torch.ones(num_parts, device=device)  # (P,)
        self._losses = torch.zeros(num_parts, device=device)  # (P,)
        inputs = [_copy(batch, device) for batch in batches]
        self._drop_gradients()
        self._run(inputs[0])  # tells which parameters get a gradient; the largest batch comes first
        self._gradients = {
            name: torch.zeros_like(parameter)
            for name, parameter in self._parameters.items()
            if parameter.grad is not None
        }
        self._first = next(iter(self._gradients))
        self._begin_step()
        replays = backend.capture([partial(self._run, batch) for batch in inputs])
        self._recorded: dict[object, tuple[Batch, Work]] = {
            _shapes(batch): (batch, work) for batch, work in zip(inputs, replays, strict=True)
        }
        self._drop_gradients()

    def __len__(self) -> int:
        """Shapes that are replayed."""
        return len(self._recorded)

    def __call__(self, batch: Batch, counts: Tensor, lap: Callable[[str], None]) -> Tensor:
        """A micro-step; see `training.MicroStep`. The forward pass is a part of "backward"."""
        if self._parameters[self._first].grad is None:
            self._begin_step()
        self._counts.copy_(counts)
        found = self._recorded.get(_shapes(batch))
        if found is None:
            self._run(batch.to(self._backend.device()))
        else:
            for ours, given in zip(_tensors(found[0]), _tensors(batch), strict=True):
                ours.copy_(given, non_blocking=True)
            lap("forward")
            found[1]()
        lap("backward")
        return self._losses.clone()

    def difference(self, batches: Iterable[Batch], dtype: Dtype) -> str | None:
        """Holds replays against plain micro-steps; gradients are dropped, weights untouched.

        Each batch makes a step of two micro-steps with different draws of dropout and different
        counts, so that draws, counts, inputs, or sums that were baked in would show.

        Args:
            batches: On the host, real ones.
            dtype: The compute type, from which it follows what is a difference.

        Returns:
            What differs, in one line; None: nothing does.
        """
        for batch in batches:
            plain = self._step(batch, self._plain)
            ours = self._step(batch, partial(self, lap=_unheard))
            if reason := _difference(ours, plain, tolerance=_TOLERANCE[dtype]):
                return f"{len(batch.input_ids)} tokens: {reason}"
        return None

    def _run(self, batch: Batch) -> None:
        """What is recorded."""
        losses = self._losses_of(batch, self._counts)  # (P,)
        losses.sum().backward()
        self._losses.copy_(losses.detach())

    def _plain(self, batch: Batch, counts: Tensor) -> Tensor:
        losses = self._losses_of(batch.to(self._backend.device()), counts)  # (P,)
        losses.sum().backward()
        return losses.detach()

    def _begin_step(self) -> None:
        torch._foreach_zero_([*self._gradients.values()])
        for name, gradient in self._gradients.items():
            self._parameters[name].grad = gradient

    def _drop_gradients(self) -> None:
        for parameter in self._parameters.values():
            parameter.grad = None

    def _step(
        self, batch: Batch, micro_step: Callable[[Batch, Tensor], Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Losses of two micro-steps, one after the other, and the gradients of both together."""
        losses: list[Tensor] = []
        for seed in _SEEDS:
            self._backend.seed(seed)
            counts = torch.full_like(self._counts, seed * max(1, batch.num_examples))
            losses.append(micro_step(batch, counts))
        taken = {n: p.grad.clone() for n, p in self._parameters.items() if p.grad is not None}
        self._drop_gradients()
        return torch.cat(losses), taken


def _difference(
    ours: tuple[Tensor, dict[str, Tensor]],
    plain: tuple[Tensor, dict[str, Tensor]],
    *,
    tolerance: float,
) -> str | None:
    """What differs between two steps, in words."""
    if not torch.allclose(ours[0], plain[0], rtol=tolerance, atol=0.0):
        return f"the losses are {ours[0].tolist()} instead of {plain[0].tolist()}"
    if others := ours[1].keys() ^ plain[1].keys():
        return f"{min(others)} has a gradient in one of both alone"
    names = list(plain[1])
    norms = torch.stack([plain[1][name].norm() for name in names])
    errors = torch.stack([(ours[1][name] - plain[1][name]).norm() for name in names])
    shares = errors / norms.clamp(min=_SMALL * float(norms.norm()))
    worst = int(shares.argmax())  # a value that is not a number counts as the largest
    if float(shares[worst]) <= tolerance:
        return None
    return f"the gradient of {names[worst]} is off by {float(shares[worst]):.2g} of its norm"


def _tensors(batch: Batch) -> list[Tensor]:
    values = (getattr(batch, field.name) for field in fields(batch))
    return [value for value in values if isinstance(value, Tensor)]


def _shapes(batch: Batch) -> object:
    """What batches of one recording have in common, the longest example too: it is baked in."""
    return batch.max_seqlen, *(tensor.shape for tensor in _tensors(batch))


def _copy(batch: Batch, device: torch.device) -> Batch:
    """The batch in tensors of its own on the device."""
    values: dict[str, Any] = {field.name: getattr(batch, field.name) for field in fields(batch)}
    tensors = {n: value for n, value in values.items() if isinstance(value, Tensor)}
    values |= {n: tensor.to(device, copy=True) for n, tensor in tensors.items()}
    return Batch(**values)


def _unheard(part: str) -> None:
    del part
