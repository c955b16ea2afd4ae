"""Graphs of a worker's micro-steps: made before its first step, proven, or done without."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from demo_bert.data.capacity import Capacity, fill, inert_batches, rows_of
from demo_bert.data.packing import Batch
from demo_bert.hardware import Backend, Dtype
from demo_bert.model.compiling import FAILURES, reason_of
from demo_bert.replay import LossesOf, ReplayedSteps

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class FixedShapes:
    """Micro-batches in a few shapes.

    Attributes:
        sizes: The shapes, from `capacities`.
        max_seq_length: Longest example in tokens.
        micro_batch_size: Examples of a micro-batch, at most.
        lengths: Tokens of real examples.
        pack: Row numbers of `lengths` -> their batch, on the host.
        parts: Names of the parts of the loss.
        label_shape: Of one example's label.
    """

    sizes: tuple[Capacity, ...]
    max_seq_length: int
    micro_batch_size: int
    lengths: Sequence[int]
    pack: Callable[[list[int]], Batch]
    parts: tuple[str, ...] = ("loss",)
    label_shape: tuple[int, ...] = ()

    def fill(self, batch: Batch) -> Batch:
        """A batch in its shape; see `capacity.fill`."""
        return fill(batch, self.sizes, max_seq_length=self.max_seq_length)

    def inert(self) -> Iterator[Batch]:
        """A batch without examples in each shape."""
        length, labels = self.max_seq_length, self.label_shape
        return inert_batches(self.sizes, max_seq_length=length, label_shape=labels)

    def real(self) -> Iterator[Batch]:
        """A batch of real examples in each shape for which there are some."""
        below = 0
        for size in self.sizes:
            rows = rows_of(size, self.lengths, below=below, micro_batch_size=self.micro_batch_size)
            below = size.tokens
            if rows:
                yield self.fill(self.pack(rows))


class Graphs:
    """What a worker replays, made anew where the shapes change.

    Args:
        model: On the backend's device, its weights filled in; they stay where they lie.
        is_wanted: Whether there are to be any.
        dtype: The compute type.
        backend: The hardware.
    """

    def __init__(
        self, model: nn.Module, *, is_wanted: bool, dtype: Dtype, backend: Backend
    ) -> None:
        self.is_wanted = is_wanted
        self.sizes: dict[object, tuple[Capacity, ...]] = {}
        """The shapes of micro-batches, kept by what they were worked out from."""
        self._model, self._dtype, self._backend = model, dtype, backend
        self._made: ReplayedSteps | None = None
        self._made_of: object = None

    def drop(self) -> None:
        """Lets go of all memory."""
        self._made, self._made_of = None, None

    def micro_step(
        self, shapes: FixedShapes, losses_of: LossesOf, *, emit: Callable[..., object], step: int
    ) -> ReplayedSteps | None:
        """Replays of micro-steps of these shapes.

        Args:
            shapes: Of the micro-batches.
            losses_of: See `replay.LossesOf`.
            emit: Records an event.
            step: Updates that are done.

        Returns:
            The replays; None where none are wanted, or where they failed or differed: that is one
            warning, and for good, but for a lack of memory, which fewer examples may mend.
        """
        made_of = shapes.sizes, shapes.parts
        if not self.is_wanted or self._made_of == made_of:
            return self._made
        self.drop()
        self._made_of = made_of
        started = time.perf_counter()
        reason = self._make(shapes, losses_of)
        if self._made is None:
            self._model.zero_grad(set_to_none=True)
            _LOG.warning("graphs: micro-steps are not replayed: %s", reason)
            emit("graphs", step=step, shapes=0, message=reason)
            return None
        seconds = time.perf_counter() - started
        _LOG.info(
            "graphs: micro-steps of %d shapes are replayed, of %s tokens; recorded and checked in"
            " %.1f s",
            *(len(self._made), ", ".join(str(size.tokens) for size in shapes.sizes), seconds),
        )
        emit("graphs", step=step, shapes=len(self._made), seconds=seconds)
        return self._made

    def _make(self, shapes: FixedShapes, losses_of: LossesOf) -> str | None:
        """Records and proves; returns why there is nothing to replay."""
        self._model.train()
        try:
            made = ReplayedSteps(
                shapes.inert(),
                parameters=dict(self._model.named_parameters()),
                losses_of=losses_of,
                num_parts=len(shapes.parts),
                backend=self._backend,
            )
            reason = made.difference(shapes.real(), self._dtype)
        except FAILURES as error:
            first = _first(error)
            self.is_wanted = self._backend.is_out_of_memory(first)
            return reason_of(first)
        self._made = made if reason is None else None
        self.is_wanted = reason is None
        return reason


def _first(error: BaseException) -> BaseException:
    """The failure that others followed: a recording that is broken off fails at its end again."""
    while error.__context__ is not None:
        error = error.__context__
    return error
