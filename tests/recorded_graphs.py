"""Stands for a device that records what it is given to do and does it again: a graph on a CPU.

As with a recording on a GPU, what is replayed are the same operations with the same numbers of the
host on the same memory, in which other tensors may lie by then; the host's own work is not done
again, draws are made anew from the generator. What an operation made while it was recorded is no
result: it is spoilt.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from demo_bert.hardware.backend import Work
from demo_bert.hardware.cpu import CpuBackend


class Recording(TorchDispatchMode):
    """Every operation within it, forward and backward, with its tensors as places in memory."""

    draws_anew = True

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self.states: list[Tensor] = []  # of the generator, before each call

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if not self.draws_anew:
            self.states.append(torch.get_rng_state())
        out = func(*args, **(kwargs or {}))
        kept = tree_map_only(Tensor, torch.Tensor.detach, (args, kwargs or {}, out))
        self.calls.append((func, *kept))
        return out

    @torch.no_grad()
    def spoil(self) -> None:
        """Nothing that was made while recording is there afterwards."""
        for _, args, kwargs, out in self.calls:
            given = {_memory(tensor) for tensor in _tensors((args, kwargs))}
            for tensor in _tensors(out):
                if _memory(tensor) not in given and tensor.is_floating_point():
                    tensor.fill_(math.nan)

    @torch.no_grad()
    def replay(self) -> None:
        """Does everything again."""
        for number, (func, args, kwargs, out) in enumerate(self.calls):
            if not self.draws_anew:
                torch.set_rng_state(self.states[number])
            again = func(*args, **kwargs)
            for kept, new in zip(_tensors(out), _tensors(again), strict=True):
                if _memory(kept) != _memory(new):
                    kept.copy_(new)


def _tensors(values: Any) -> Iterator[Tensor]:
    return (value for value in tree_leaves(values) if isinstance(value, Tensor))


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class RecordingBackend(CpuBackend):
    """A CPU that has graphs."""

    recordings: list[Recording]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.recordings = []

    def capture(self, works: Sequence[Work]) -> list[Work]:
        return capture(works, self.recordings)


def capture(works: Sequence[Work], recordings: list[Recording]) -> list[Work]:
    """See `Backend.capture`."""
    for work in works:
        work()
        recording = Recording()
        with recording:
            work()
        recording.spoil()
        recordings.append(recording)
    return [recording.replay for recording in recordings[-len(works) :]]


def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models take the operations of a device that is no CPU: torch's own dropout and norms, padded
    attention."""
    plain = "demo_bert.model."
    monkeypatch.setattr(plain + "bert.select_path", lambda *args, **kwargs: "padded")
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    monkeypatch.setattr(plain + "heads.word_loss", _word_loss)


def _word_loss(
    states: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, *, is_rounded: bool
) -> Tensor:
    del is_rounded
    logits = F.linear(states, weight, bias).float()
    return F.cross_entropy(logits, labels, ignore_index=-100, reduction="sum")
