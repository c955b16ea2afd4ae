"""The one training loop.

Order of events in a step: micro-steps (forward, backward; in the last one's backward the gradients
begin to be summed over workers, see `exchange`), check for non-finite values, clipping, update,
`step` event; then, where due, evaluation and checkpoint; then stop requests, which are also heard
before each micro-step: the unfinished step is dropped, and done again when the run goes on. So is
an evaluation that they cut short. Weights and moments change only at the update, and a value that
is not finite never comes so far.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from demo_bert.data.loader import MicroBatch
from demo_bert.data.packing import Batch
from demo_bert.distributed import World, sum_numbers
from demo_bert.errors import TrainingError
from demo_bert.exchange.gradients import Gradients
from demo_bert.hardware.backend import Backend, Dtype
from demo_bert.losses import PER_MASKED_TOKEN
from demo_bert.optim import Optimizer, Schedule
from demo_bert.seeds import derive

LossSum = Callable[[nn.Module, Batch], Tensor]
"""Model and batch -> the loss summed over the batch, float32: a scalar, or (P,) of its parts."""

MicroStep = Callable[[Batch, Tensor, Callable[[str], None]], Tensor]
"""A forward and a backward: batch on the host, what each part of its loss is divided by (P,), and
what tells the clock that "forward" or "backward" is over -> the parts (P,), without a graph. It
adds to the gradients of the parameters, which have None before a step's first micro-batch."""


ASKED_ELSEWHERE = "a stop request to another worker"
"""The reason of a worker that has heard none itself."""

MOST_SKIPPED_IN_A_ROW = 3
"""Steps in a row with a value that is not finite, after which skipping is no way out."""


@dataclass
class Faults:
    """What was done about values that are not finite; part of a checkpoint.

    Attributes:
        skips: Whether such a step is skipped; else the run ends there.
        in_a_row: Steps skipped since the last good one.
        skipped: Steps skipped in all.
        returns: How often the run went back to a checkpoint.
    """

    skips: bool = False
    in_a_row: int = 0
    skipped: int = 0
    returns: int = 0

    def counters(self) -> dict[str, int]:
        """What a checkpoint keeps."""
        return {name: getattr(self, name) for name in ("in_a_row", "skipped", "returns")}


class StepClock:
    """Where the time of a step goes: data, forward, backward, communication, optimizer.

    Args:
        synchronize: Waits for the device before each reading; None: read as it is, which on a
            device that runs ahead of the host says how long the host waited, no more.
    """

    def __init__(self, synchronize: Callable[[], None] | None = None) -> None:
        self._synchronize = synchronize
        self.is_exact = synchronize is not None
        self.parts: dict[str, float] = {}
        """Part -> seconds since the last `start`."""
        self.start()

    def start(self) -> None:
        """Begins a step."""
        self.parts = {}
        self._last = time.perf_counter()

    def lap(self, part: str) -> None:
        """Adds the time since the last reading to a part.

        Args:
            part: What was done in it.
        """
        if self._synchronize is not None:
            self._synchronize()
        now = time.perf_counter()
        self.parts[part] = self.parts.get(part, 0.0) + now - self._last
        self._last = now


class TooManySkipped(TrainingError):
    """Skipping steps did not help; whoever keeps checkpoints may go back to one."""


@dataclass(frozen=True)
class Actions:
    """What the loop calls besides its own work; every worker calls them at the same step.

    Attributes:
        emit: Records an event: its name and its fields.
        evaluate: Evaluates after the given number of updates; False, on every worker, where a stop
            request cut it short.
        save: Saves a checkpoint after the given number of updates.
        is_evaluation_due: Whether to evaluate after so many updates.
        is_save_due: Whether to save after so many updates.
        stop_reason: Why the run is to stop now, or None.
    """

    emit: Callable[..., None]
    evaluate: Callable[[int], bool | None]
    save: Callable[[int], None]
    is_evaluation_due: Callable[[int], bool]
    is_save_due: Callable[[int], bool]
    stop_reason: Callable[[], str | None]

    @classmethod
    def of_steps_alone(cls, emit: Callable[..., None]) -> "Actions":
        """Steps and their events; no evaluation, no checkpoint, no stop.

        Args:
            emit: Records an event.

        Returns:
            The actions.
        """
        return cls(
            emit=emit,
            evaluate=_nothing,
            save=_nothing,
            is_evaluation_due=_never,
            is_save_due=_never,
            stop_reason=lambda: None,
        )


def _nothing(step: int) -> None:
    del step


def _never(step: int) -> bool:
    del step
    return False


def train(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    batches: Iterator[MicroBatch],
    num_steps: int,
    loss_sum: LossSum,
    schedule: Schedule,
    peak_rate: float,
    clip_norm: float | None,
    dtype: Dtype,
    seed: int,
    backend: Backend,
    world: World,
    actions: Actions,
    parts: Sequence[str] = ("loss",),
    faults: Faults | None = None,
    clock: StepClock | None = None,
    gradients: Gradients | None = None,
    micro_step: MicroStep | None = None,
) -> str | None:
    """Updates the model until the batches end or a stop is asked for.

    Args:
        model: On the backend's device, float32 weights.
        optimizer: Over the model's parameters.
        batches: This worker's micro-batches, from the first step that is to be done.
        num_steps: Steps of the whole run.
        loss_sum: The task's loss; it is divided once, by the step's global number of rows, or of
            masked tokens where its part's name says so.
        schedule: Factor of the peak rate at each step.
        peak_rate: The learning rate at factor 1.
        clip_norm: Gradients with a larger global norm are scaled down to it; None: never.
        dtype: "bf16" or "fp32".
        seed: The run's seed; dropout draws are a function of (seed, step, micro-batch).
        backend: The hardware.
        world: This worker's place.
        actions: Events, evaluation, checkpoints, stop requests.
        parts: Names of the parts of the loss, in the order of `loss_sum`; the loss is their sum.
        faults: What to do about values that are not finite, counted here; None: the run ends.
        clock: Tells where the time goes; its readings are part of each `step` event.
        gradients: Of the optimizer's parameters; None: summed in the usual way.
        micro_step: Another way to do what `loss_sum`, `model`, `dtype` and `backend` say; None: one
            operation after the other.

    Returns:
        The reason for which it stopped early, or None when all steps and evaluations are done.

    Raises:
        TrainingError: A loss or gradient was not finite; weights and moments are those of the step
            before. `TooManySkipped` where steps were skipped first.
    """
    model.train()
    faults = faults or Faults()
    gradients = gradients or Gradients(optimizer.parameters, world)
    gradients.expect_all()
    device = backend.device()
    if micro_step is None:
        losses_of = partial(divided_losses, model, loss_sum=loss_sum, dtype=dtype, backend=backend)
        micro_step = partial(_plain_micro_step, losses_of=losses_of, backend=backend)
    num_tokens = 0
    each: dict[int, Tensor] = {}  # losses of this worker's micro-batches of the step, (P,)
    counts: Tensor | None = None
    reason: str | None = None
    clock = clock or StepClock()
    clock.start()
    started = time.perf_counter()
    for micro in batches:
        clock.lap("data")
        if counts is None:
            counts = _counts(micro, parts, world=world, device=device)
        reason = reason or actions.stop_reason()
        is_cut = reason is not None  # before the step's last micro-batch: it is dropped
        if micro.batch is not None and not is_cut:
            backend.seed(derive(seed, "dropout", micro.step, micro.index))
            gradients.before_backward(micro.index, is_last=micro.is_last)
            each[micro.index] = micro_step(micro.batch, counts, clock.lap)
            num_tokens += micro.batch.num_tokens
        if not micro.is_last:
            continue
        step = micro.step
        gradients.launch(micro.num_in_step)
        reason = reason or actions.stop_reason()
        has = gradients.has()
        tokens, num_stopping, num_cut, *rest = sum_numbers(
            [num_tokens, reason is not None, is_cut, *has, *_table(each, micro, len(parts))],
            world,
            device,
        )
        gradients.finish([count > 0 for count in rest[: len(has)]])
        if num_cut:
            gradients.drop()
            return reason or actions.stop_reason() or ASKED_ELSEWHERE
        clock.lap("communication")
        # Summed exactly, so that it does not matter who computed what.
        means = [_exact_sum(rest[len(has) + part :: len(parts)]) for part in range(len(parts))]
        mean_loss = sum(means)
        norm = gradients.norm()
        rate = peak_rate * schedule(step)
        is_finite = math.isfinite(mean_loss) and math.isfinite(norm)
        where = ""
        if is_finite:
            faults.in_a_row = 0
            factor = 1.0 if clip_norm is None else clip_norm / max(norm, clip_norm)
            optimizer.step(rate, step, norm=norm, factor=factor)
        else:
            where = _broken(mean_loss, gradients)
            actions.emit(
                "fault",
                kind="nonfinite",
                step=step + 1,
                tensor=where,
                rank=gradients.broken_ranks()[0],
                micro_batches=[k for k, x in each.items() if not bool(torch.isfinite(x).all())],
                first_example=step * micro.num_rows,
                skipped=faults.skips,
            )
        gradients.drop()
        if not is_finite:
            _count_fault(faults, step=step, where=where)
        backend.step_boundary()
        backend.synchronize()
        clock.lap("optimizer")
        seconds = time.perf_counter() - started
        done = step + 1
        actions.emit(
            "step",
            step=done,
            loss=mean_loss,
            learning_rate=rate,
            grad_norm=norm,
            examples_per_s=micro.num_rows / seconds,
            real_tokens_per_s=tokens / seconds,
            seconds=seconds,
            examples=micro.num_rows,
            tokens=int(tokens),
            parts_s=dict(clock.parts),
            **(dict(zip(parts, means, strict=True)) if len(parts) > 1 else {}),
            **({"sent_bytes": gradients.sent_bytes} if world.world_size > 1 else {}),
            **({} if is_finite else {"skipped": True}),
        )
        if actions.is_evaluation_due(done):
            if actions.evaluate(done) is False:
                return reason or actions.stop_reason() or ASKED_ELSEWHERE
            model.train()
        if actions.is_save_due(done):
            actions.save(done)
        if num_stopping and done < num_steps:
            return reason or actions.stop_reason() or ASKED_ELSEWHERE
        num_tokens, counts = 0, None
        each.clear()
        clock.start()
        started = time.perf_counter()
    return None


def divided_losses(
    model: nn.Module,
    batch: Batch,
    counts: Tensor,
    *,
    loss_sum: LossSum,
    dtype: Dtype,
    backend: Backend,
) -> Tensor:
    """What a micro-step's backward pass begins from.

    Args:
        model: On the backend's device.
        batch: There too.
        counts: What each part of the loss is divided by, (P,) float32.
        loss_sum: The task's loss.
        dtype: "bf16" or "fp32".
        backend: The hardware.

    Returns:
        The parts of the loss, (P,) float32.
    """
    with backend.autocast(dtype):
        return loss_sum(model, batch).reshape(-1) / counts  # (P,)


def _plain_micro_step(
    batch: Batch,
    counts: Tensor,
    lap: Callable[[str], None],
    *,
    losses_of: Callable[[Batch, Tensor], Tensor],
    backend: Backend,
) -> Tensor:
    """One operation after the other; see `MicroStep`."""
    losses = losses_of(batch.to(backend.device()), counts)  # (P,)
    lap("forward")
    losses.sum().backward()
    backend.step_boundary()
    lap("backward")
    return losses.detach()


def _counts(
    micro: MicroBatch, parts: Sequence[str], *, world: World, device: torch.device
) -> Tensor:
    """What each part of the loss is divided by in the step that the micro-batch begins, (P,)."""
    num_masked = 1.0
    if micro.own_masked is not None:
        (num_masked,) = sum_numbers([micro.own_masked], world, device)
    numbers = [max(1.0, num_masked) if p in PER_MASKED_TOKEN else micro.num_rows for p in parts]
    return torch.tensor(numbers, dtype=torch.float32, device=device)


def _table(each: dict[int, Tensor], micro: MicroBatch, num_parts: int) -> list[float]:
    """The losses of all micro-batches of the step, zeros for those of other workers."""
    table = [0.0] * (micro.num_in_step * num_parts)
    if each:
        for index, losses in zip(each, torch.stack([*each.values()]).tolist(), strict=True):
            table[index * num_parts : (index + 1) * num_parts] = losses
    return table


def _exact_sum(values: Sequence[float]) -> float:
    """The sum, rounded once; not finite where a value is not."""
    return math.fsum(values) if all(map(math.isfinite, values)) else sum(values)


def _broken(loss: float, gradients: Gradients) -> str:
    """Where a value is not finite: the loss, else the first such gradient."""
    return f"gradient of {gradients.broken() or 'all'}" if math.isfinite(loss) else "loss"


def _count_fault(faults: Faults, *, step: int, where: str) -> None:
    """Counts a step that is skipped, or ends the loop before the update."""
    if not faults.skips:
        raise TrainingError(
            f"step {step + 1}: the {where} is not finite; weights are those of step {step}."
            " A lower --learning-rate or --dtype fp32 often mends this"
        )
    faults.in_a_row += 1
    faults.skipped += 1
    if faults.in_a_row >= MOST_SKIPPED_IN_A_ROW:
        raise TooManySkipped(
            f"step {step + 1}: the {where} is not finite, for the third step in a"
            " row; the weights are those from before. A lower --learning-rate, a longer --warmup or"
            " --dtype fp32 often mends this"
        )
