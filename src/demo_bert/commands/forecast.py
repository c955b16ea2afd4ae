"""What a run will take: time, memory, disk, and the micro-batch that fits; measured, not believed.

A forecast is made of a probe of this run on this machine: forward and backward passes over a few of
its examples, small and larger, their time and memory read. No weight, no gradient and no random
draw of the run is touched by it. What is added by arithmetic: how many tokens each micro-step has
(the order of examples is known), the moments, the copy that a checkpoint is saved from, the
evaluations, what workers wait for each other.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from demo_bert.checkpoint import BYTES_PER_WEIGHT
from demo_bert.commands.exchange_outlook import RunLink, exchange_of, link_of
from demo_bert.commands.starting_weights import StartingWeights
from demo_bert.data.packing import Batch
from demo_bert.distributed import SumSpeed, World
from demo_bert.exchange.norms import norms
from demo_bert.hardware import Backend, Dtype
from demo_bert.model.memory import activation_bytes
from demo_bert.model.narrow_weight import each_row_counts
from demo_bert.optim import make_optimizer
from demo_bert.saver import Saver
from demo_bert.settings import TrainingSettings

_BUDGET_S = 0.8  # that a pass over more examples may take, and more passes than one
_FEW_EXAMPLES = 2
_APART = 3
_PASSES = 3
_PROBED_WEIGHTS = 1 << 21
_MOMENT_BYTES, _GRADIENT_BYTES = 8, 4
_COPIED_BYTES_PER_S = 1.5e9
_WRITTEN_BYTES_PER_S = 0.3e9
_SMALL_WRITTEN_BYTES_PER_S = 0.6e9  # 53 MB in 0.06 to 0.19 s, 0.086 s in the middle
_END_S = 0.5  # the page, the results
_STEP_S = 0.0015  # events, the loader
_LAST_COPY = 0.5  # of a copy made after the last step; the rest lies where activations were
_LATER_BYTES = 15 << 20  # the writer of TensorBoard's files, pages and the like
_EACH_LENGTH_BYTES = 200_000  # kernels kept of lengths that come later, and the holes between them
_USABLE_FRACTION = 0.95

SCALED_TO = (8, 64, 1024)
"""Workers that a step is computed for beside those of the run."""


@dataclass(frozen=True)
class Load:
    """The work of a run, or of one phase of it, that is still to be done.

    Attributes:
        name: "" or "phase 1".
        num_steps: Updates.
        examples_per_step: Of all workers.
        micro_batch_size: Examples of a micro-step.
        max_seq_length: Longest example in tokens.
        tokens: Of a micro-step, on average.
        most_activations: What a micro-step keeps for its backward pass, at most, by
            `model.memory.activation_bytes`; probes measure what of that is true.
        example_activations: The same of the longest example.
        flops: Operations of a micro-step's forward pass, on average.
        evaluation_flops: Of all evaluations together.
        num_saves: Checkpoints by steps and ends of epochs.
        scoring_bytes: What scoring an evaluation takes on the host, beside the outputs.
        epochs: Passes over the data.
        measured_step_s: Seconds of a step, where steps of the run's own were timed already.
        measured_evaluations_s: Of all evaluations, timed with them.
    """

    name: str
    num_steps: int
    examples_per_step: int
    micro_batch_size: int
    max_seq_length: int
    tokens: float
    most_activations: float
    example_activations: float
    flops: float
    evaluation_flops: float
    num_saves: int
    scoring_bytes: int = 0
    epochs: float = 0.0
    measured_step_s: float | None = None
    measured_evaluations_s: float | None = None

    @property
    def tokens_per_step(self) -> float:
        """Of all workers, on average."""
        return self.tokens * self.examples_per_step / self.micro_batch_size

    def micro_steps(self, world_size: int) -> int:
        """Micro-steps of a step, on the worker that has most."""
        return math.ceil(math.ceil(self.examples_per_step / self.micro_batch_size) / world_size)


class Probed(Protocol):
    """What a probe needs of one worker's share of a run."""

    model: nn.Module
    settings: TrainingSettings
    backend: Backend
    world: World
    dtype: Dtype
    start: StartingWeights

    def loads(self, first_step: int) -> tuple[Load, ...]:
        """The work from a step on, one for each phase."""
        ...

    def probe_batch(self, load: Load, size: int) -> tuple[Batch, float]:
        """Some of the run's examples, on the host, and the operations of their forward pass."""
        ...

    def probe_loss(self, load: Load, batch: Batch) -> Tensor:
        """Their loss, a scalar."""
        ...


@dataclass(frozen=True)
class Reading:
    """One probe: so much work took so much.

    Attributes:
        size: Examples of the batch.
        activations: Of the batch, by `model.memory.activation_bytes`.
        flops: Operations of the forward pass.
        forward_s: Seconds of the forward pass.
        seconds: Of both passes.
        peak_bytes: Memory at most, of the whole process or device; None where unknown.
    """

    size: int
    activations: float
    flops: float
    forward_s: float
    seconds: float
    peak_bytes: int | None


@dataclass(frozen=True)
class Part:
    """The forecast of a load.

    Attributes:
        load: The work.
        step_s: Seconds of a step.
        evaluations_s: Of all evaluations.
        saves_s: That training waits for checkpoints.
        memory_bytes: At most; None where unknown.
        activation_scale: Bytes in truth of each that `model.memory.activation_bytes` counts.
        fitting: Examples of a micro-step that fit in memory; None where unknown.
        communication_s: In `step_s`, waiting for sums over workers; 0 with one worker.
        scaling: Number of workers -> seconds of a step, the same work divided among them.
    """

    load: Load
    step_s: float
    evaluations_s: float
    saves_s: float
    memory_bytes: int | None
    activation_scale: float
    fitting: int | None
    communication_s: float = 0.0
    scaling: Mapping[int, float] = field(default_factory=dict)

    @property
    def steps_s(self) -> float:
        """Seconds of all steps."""
        return self.load.num_steps * self.step_s


@dataclass(frozen=True)
class Forecast:
    """What a run will take.

    Attributes:
        parts: One for each phase.
        start_s: Seconds that have passed already.
        end_s: Of writing what a run leaves.
        checkpoints: On disk at most, the one that is being written too.
        disk_bytes: Of them and the model.
        free_bytes: Memory that the run may have in all; None where unknown.
        probe_s: Seconds that probing took.
        link: Between workers; None where there is one worker.
        scaled_link: That `Part.scaling` is computed with.
    """

    parts: tuple[Part, ...]
    start_s: float
    end_s: float
    checkpoints: int
    disk_bytes: int
    free_bytes: int | None
    probe_s: float
    link: RunLink | None = None
    scaled_link: RunLink | None = None

    @property
    def seconds(self) -> float:
        """Of the whole command."""
        each = (part.steps_s + part.evaluations_s + part.saves_s for part in self.parts)
        return self.start_s + sum(each) + self.end_s

    @property
    def memory_bytes(self) -> int | None:
        """At most; None where unknown."""
        known = [part.memory_bytes for part in self.parts if part.memory_bytes is not None]
        return max(known, default=None)

    def fields(self) -> dict[str, Any]:
        """What the event and the results keep."""
        return {
            "seconds": self.seconds,
            "memory_bytes": self.memory_bytes,
            "disk_bytes": self.disk_bytes,
            "start_s": self.start_s,
            "steps_s": sum(part.steps_s for part in self.parts),
            "evaluations_s": sum(part.evaluations_s for part in self.parts),
            "saves_s": sum(part.saves_s for part in self.parts),
            "end_s": self.end_s,
            "probe_s": self.probe_s,
            "fitting_micro_batch_size": [part.fitting for part in self.parts],
            "communication_s": [part.communication_s for part in self.parts],
            "link_bytes_per_s": None if self.link is None else self.link.link.bytes_per_s,
            "link_is_measured": None if self.link is None else self.link.is_measured,
        }


def forecast_of(
    worker: Probed, *, first_step: int, begun: float, speed: SumSpeed | None = None
) -> Forecast:
    """Probes a run and forecasts the rest of it.

    Args:
        worker: Before its first step.
        first_step: Updates that are done already.
        begun: Unix time at which the command began.
        speed: How fast the workers sum, where they measured it.

    Returns:
        The forecast.
    """
    backend, world = worker.backend, worker.world
    weights = sum(parameter.numel() for parameter in worker.model.parameters())
    started = time.perf_counter()
    before = backend.peak_memory_bytes() or 0
    link = link_of(world, backend.name, speed)
    free = backend.free_memory_bytes()
    backend.reset_peak_memory()
    now = backend.peak_memory_bytes()
    sharing = world.local_size if backend.name == "cpu" else 1
    available = None
    if free is not None and now is not None:
        available = int(now + _USABLE_FRACTION * free / sharing)
    update_s = weights * _update_s_per_weight(worker)
    parts = [
        _part(
            *(worker, load),
            update_s=update_s,
            weights=weights,
            before=before,
            available=available,
            link=link,
        )
        for load in worker.loads(first_step)
    ]
    probe_s = time.perf_counter() - started
    checkpoints = _kept(worker.settings, first_step + sum(part.load.num_steps for part in parts))
    return Forecast(
        parts=tuple(parts),
        start_s=time.time() - begun,
        end_s=_END_S + (BYTES_PER_WEIGHT + 4) * weights / _WRITTEN_BYTES_PER_S,
        checkpoints=checkpoints,
        disk_bytes=(checkpoints * BYTES_PER_WEIGHT + 4) * weights,
        free_bytes=available,
        probe_s=probe_s,
        link=link if world.world_size > 1 else None,
        scaled_link=link.between_hosts,
    )


def _part(
    worker: Probed,
    load: Load,
    *,
    update_s: float,
    weights: int,
    before: int,
    available: int | None,
    link: RunLink,
) -> Part:
    """The forecast of a load, from a probe of it."""
    num_workers = worker.world.world_size
    readings = _probe(worker, load)
    last = readings[-1]
    each = _line([reading.flops for reading in readings], [r.seconds for r in readings])
    scale, memory = _memory(worker, load, readings, weights=weights)
    micro_step_s = each(load.flops)
    exchanged = partial(
        exchange_of(worker.model, worker.settings).step,
        load,
        micro_step_s=micro_step_s,
        backward_s=micro_step_s * (1.0 - last.forward_s / max(1e-9, last.seconds)),
        update_s=update_s + _STEP_S,
    )
    step = exchanged(num_workers=num_workers, link=link.link)
    return Part(
        load=load,
        step_s=load.measured_step_s or step.step_s,
        evaluations_s=load.measured_evaluations_s or _evaluations_s(worker, load, last.size),
        saves_s=load.num_saves * _save_s(weights),
        memory_bytes=None if memory is None else max(before, memory),
        activation_scale=scale,
        fitting=_fitting(load, memory, scale=scale, available=available),
        communication_s=step.waited_s,
        scaling={
            count: exchanged(num_workers=count, link=link.between_hosts.link).step_s
            for count in SCALED_TO
        },
    )


def _save_s(weights: int) -> float:
    """Seconds that training waits for a checkpoint: a large one is copied, a small one written."""
    size = BYTES_PER_WEIGHT * weights
    return size / (_COPIED_BYTES_PER_S if size >= Saver.small_bytes else _SMALL_WRITTEN_BYTES_PER_S)


def _kept(settings: TrainingSettings, num_steps: int) -> int:
    """Checkpoints on disk at most, the one that is being written too."""
    for_good = settings.keep_every.steps if settings.keep_every else None
    return settings.keep + 1 + (num_steps // for_good if for_good else 0)


def _fitting(load: Load, memory: int | None, *, scale: float, available: int | None) -> int | None:
    """Examples of a micro-step that fit in memory; None where unknown."""
    if memory is None or available is None or scale <= 0:
        return None
    rest = available - (memory - scale * load.most_activations)
    return max(0, int(rest / (scale * load.example_activations)))


def halved_to_fit(forecast: Forecast) -> dict[str, int]:
    """The micro-batches that fit where those that were asked for do not.

    Args:
        forecast: Of the run.

    Returns:
        Name of the load -> examples of a micro-step, halved until they fit; loads that fit as they
        are do not come.
    """
    found: dict[str, int] = {}
    for part in forecast.parts:
        memory, size = part.memory_bytes, part.load.micro_batch_size
        if memory is None or forecast.free_bytes is None:
            continue
        kept = part.activation_scale * part.load.most_activations
        while memory > forecast.free_bytes and size > 1:
            half = -(-size // 2)
            memory -= int(kept * (1 - half / size))
            kept, size = kept * half / size, half
        if size != part.load.micro_batch_size:
            found[part.load.name] = size
    return found


def _probe(worker: Probed, load: Load) -> list[Reading]:
    """A few passes over few examples and over more, as many as there is time for."""
    few = min(_FEW_EXAMPLES, load.micro_batch_size)
    readings = [_least(worker, load, few)]
    affordable = int(few * _BUDGET_S / max(1e-4, readings[0].seconds))
    # Of readings close to each other the noise is more than the difference.
    more = min(load.micro_batch_size, max(affordable, _APART * few))
    if more > few:
        readings.append(_least(worker, load, more))
    return readings


def _evaluations_s(worker: Probed, load: Load, size: int) -> float:
    """Seconds of all evaluations: without dropout and gradients a forward pass is far shorter."""
    if load.evaluation_flops == 0.0:
        return 0.0
    backend, best = worker.backend, math.inf
    batch, flops = worker.probe_batch(load, size)
    on_device, times = batch.to(backend.device()), load.tokens / batch.num_tokens
    worker.model.eval()
    for _ in range(_PASSES):
        backend.synchronize()
        started = time.perf_counter()
        with torch.inference_mode(), each_row_counts(times), backend.autocast(worker.dtype):
            worker.probe_loss(load, on_device)
        backend.synchronize()
        best = min(best, time.perf_counter() - started)
    worker.model.train()
    return best / max(1.0, flops) * load.evaluation_flops / worker.world.world_size


def _least(worker: Probed, load: Load, size: int) -> Reading:
    """The fastest of some passes: what else the machine does only ever adds to one."""
    _pass(worker, load, size)  # the first one makes what the others find made
    passes = [_pass(worker, load, size)]
    while len(passes) < _PASSES and sum(reading.seconds for reading in passes) < _BUDGET_S:
        passes.append(_pass(worker, load, size))
    peaks = [reading.peak_bytes for reading in passes if reading.peak_bytes is not None]
    return replace(
        min(passes, key=lambda reading: reading.seconds),
        forward_s=min(reading.forward_s for reading in passes),
        peak_bytes=max(peaks, default=None),
    )


def _pass(worker: Probed, load: Load, size: int) -> Reading:
    backend = worker.backend
    batch, flops = worker.probe_batch(load, size)
    parameters = [p for p in worker.model.parameters() if p.requires_grad]
    worker.model.train()
    backend.reset_peak_memory()
    backend.synchronize()
    started = time.perf_counter()
    on_device = batch.to(backend.device())
    with each_row_counts(load.tokens / batch.num_tokens):
        with backend.autocast(worker.dtype):
            loss = worker.probe_loss(load, on_device)
        backend.synchronize()
        forward_s = time.perf_counter() - started
        # Not `backward`: the run's own gradients and what hangs on them stay as they are.
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    backend.step_boundary()
    backend.synchronize()
    seconds = time.perf_counter() - started
    del gradients
    lengths = batch.cu_seqlens.diff().numpy()
    kept = float(activation_bytes(worker.start.config, lengths).sum())
    return Reading(size, kept, flops, forward_s, seconds, backend.peak_memory_bytes())


def _memory(
    worker: Probed, load: Load, readings: Sequence[Reading], *, weights: int
) -> tuple[float, int | None]:
    """Bytes in truth of each that activations are counted by, and of the run at most."""
    peaks = [reading.peak_bytes for reading in readings]
    known = [float(peak) for peak in peaks if peak is not None]
    if len(known) < len(readings):
        return 0.0, None
    last = readings[-1]
    line = _line([reading.activations for reading in readings], known)
    most = load.most_activations
    memory = line(most) if len(known) > 1 else known[0] * most / last.activations
    scale = max(0.0, line(1.0) - line(0.0)) if len(known) > 1 else 0.0
    if load.micro_steps(worker.world.world_size) > 1 or worker.world.world_size > 1:
        memory += _GRADIENT_BYTES * weights  # they stay from one micro-step to the next
    if worker.backend.name == "cpu":
        # Moments that no page has been touched of yet, and a checkpoint that is being saved.
        share = 1.0 if _saves_on_the_way(worker, load, last) else _LAST_COPY
        memory += (_MOMENT_BYTES + share * BYTES_PER_WEIGHT) * weights + _LATER_BYTES
        memory += _EACH_LENGTH_BYTES * load.max_seq_length + load.scoring_bytes
    return scale, int(memory)


def _saves_on_the_way(worker: Probed, load: Load, reading: Reading) -> bool:
    """Whether steps are done while a checkpoint is saved: not after the last one alone."""
    every = worker.settings.save_every
    flops = load.num_steps * load.micro_steps(worker.world.world_size) * load.flops
    steps_s = flops * reading.seconds / max(1.0, reading.flops)
    return load.num_saves > 1 or bool(every and every.seconds and every.seconds < steps_s)


def _update_s_per_weight(worker: Probed) -> float:
    """Seconds of an update for each weight, of an optimizer of the same kind."""
    settings, backend = worker.settings, worker.backend
    assert settings.optimizer is not None
    parameter = nn.Parameter(torch.zeros(_PROBED_WEIGHTS, device=backend.device()))
    optimizer = make_optimizer(settings.optimizer, {"weight": parameter}, weight_decay=0.01)
    best = float("inf")
    for step in range(3):
        parameter.grad = torch.ones_like(parameter)
        backend.synchronize()
        started = time.perf_counter()
        norm = float(norms([parameter.grad])[0])
        optimizer.step(1e-4, step, norm=norm, factor=0.5)
        backend.synchronize()
        best = min(best, time.perf_counter() - started)
    return best / _PROBED_WEIGHTS


def _line(places: Sequence[float], values: Sequence[float]) -> Callable[[float], float]:
    """The line through the readings; through zero where there is one reading."""
    first, last = places[0], places[-1]
    if last <= first:
        return lambda x: values[-1] * x / max(1.0, last)
    slope = max(0.0, (values[-1] - values[0]) / (last - first))
    return lambda x: values[-1] + slope * (x - last)
