"""A run's forecast: said before its first step, held against the fact after its last."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from demo_bert.checkpoint import Checkpoint
from demo_bert.commands.forecast import Forecast, Part, forecast_of, halved_to_fit
from demo_bert.commands.memory_limits import agreed
from demo_bert.distributed import SumSpeed
from demo_bert.report import wording

if TYPE_CHECKING:
    from demo_bert.commands.run_worker import RunWorker

_LOG = logging.getLogger(__name__)


class Outlook:
    """What an attempt was expected to take.

    Micro-batches that do not fit in memory are halved here, before the first step; a run that goes
    on keeps those that it began with.

    Args:
        worker: This worker's share, before its first step.
        checkpoint: Where it goes on.
        begun: Unix time at which the command began.
        emit: Records an event.
        speed: How fast the workers sum, where they measured it.
    """

    def __init__(
        self,
        worker: "RunWorker",
        checkpoint: Checkpoint | None,
        *,
        begun: float,
        emit: Callable[..., object],
        speed: SumSpeed | None = None,
    ) -> None:
        self._worker, self._speed, self._begun = worker, speed, begun
        self._before = worker.backend.peak_memory_bytes() or 0
        self.forecast: Forecast | None = None
        if checkpoint is not None:
            worker.use_micro_batches(worker.micro_batches_of(checkpoint))
        if worker.backend.wants_fixed_shapes:
            return  # each new shape would be compiled for the probe alone
        first_step = checkpoint.step if checkpoint else 0
        found = forecast_of(worker, first_step=first_step, begun=begun, speed=speed)
        if checkpoint is None and found.parts:
            found = self._fitted(found, begun=begun)
        worker.backend.reset_peak_memory()
        if not found.parts:
            return
        self.forecast = found
        emit("forecast", step=first_step, **found.fields())
        if worker.world.is_first:
            for line in forecast_lines(found):
                _LOG.info("%s", line)
            if (warning := too_large(found)) is not None:
                _LOG.warning("%s", warning)

    def beside(self, results: Mapping[str, Any]) -> dict[str, Any]:
        """What the results keep, and the closing line.

        Args:
            results: Of the attempt.

        Returns:
            `peak_memory_bytes` and `forecast`; in this, where the attempt is complete, `took_s`:
            what it took, which is less than `wall_s` where the run goes on.
        """
        peak = self._worker.backend.peak_memory_bytes()
        memory = None if peak is None else max(peak, self._before)
        kept = {"peak_memory_bytes": memory}
        if self.forecast is None:
            return kept
        fields = self.forecast.fields()
        if results["status"] == "complete":
            fields["took_s"] = took_s = time.time() - self._begun
            if self._worker.world.is_first:
                _LOG.info("%s", closing_line(self.forecast, took_s, memory))
        return {**kept, "forecast": fields}

    def _fitted(self, found: Forecast, *, begun: float) -> Forecast:
        """The forecast with micro-batches that fit, the same on all workers."""
        worker = self._worker
        asked = {part.load.name: part.load.micro_batch_size for part in found.parts}
        sizes = agreed(asked | halved_to_fit(found), worker.world, worker.backend)
        changed = {name: size for name, size in sizes.items() if size != asked[name]}
        if not changed:
            return found
        for part in found.parts:
            if part.load.name in changed and worker.world.is_first:
                _LOG.warning("%s", _halved(found, part, changed[part.load.name]))
        worker.use_micro_batches(changed)
        return forecast_of(worker, first_step=0, begun=begun, speed=self._speed)


def too_large(forecast: Forecast) -> str | None:
    """What is to be said of a run that does not fit however small its micro-batches are.

    Args:
        forecast: With micro-batches that were halved to fit.

    Returns:
        A line; None where it fits, or where halving may still help.
    """
    free = forecast.free_bytes
    alone = [p.memory_bytes or 0 for p in forecast.parts if p.load.micro_batch_size == 1]
    memory = max(alone, default=0)
    if free is None or memory <= free:
        return None
    return (
        f"with 1 example a micro-step it still takes about {wording.size(memory)} of the"
        f" {wording.size(free)} that there are, and may be killed; a smaller model, a shorter -s or"
        " --checkpoint-activations takes less"
    )


def forecast_lines(forecast: Forecast) -> list[str]:
    """The forecast in words.

    Args:
        forecast: Of a run.

    Returns:
        Lines without line ends.
    """
    lines: list[str] = []
    for part in forecast.parts:
        name = f" {part.load.name}" if part.load.name else ""
        lines.append(
            f"forecast:{name} {wording.count(part.load.num_steps, 'step')} of"
            f" {_short(part.step_s)}, {part.load.tokens_per_step:,.0f} tokens each; evaluations"
            f" {wording.duration(part.evaluations_s)}"
        )
    if forecast.link is not None:
        waits = " and ".join(_short(part.communication_s) for part in forecast.parts)
        lines.append(f"forecast: {waits} of a step for sums; link: {forecast.link.words()}")
    memory = "unknown" if forecast.memory_bytes is None else wording.size(forecast.memory_bytes)
    free = "" if forecast.free_bytes is None else f" of {wording.size(forecast.free_bytes)}"
    fitting = [str(part.fitting) for part in forecast.parts if part.fitting]
    fits = f" (about {' and '.join(fitting)} examples a micro-step would fit)" if fitting else ""
    lines.append(
        f"forecast: {wording.duration(forecast.seconds)} in all, memory {memory}{free}{fits},"
        f" disk {wording.size(forecast.disk_bytes)}; probed in {forecast.probe_s:.1f} s"
    )
    return lines


def closing_line(forecast: Forecast, took_s: float, memory_bytes: int | None) -> str:
    """Forecast against fact.

    Args:
        forecast: From before the first step.
        took_s: That the command took.
        memory_bytes: Its peak; None where unknown.

    Returns:
        One line.
    """
    words = (
        f"time {wording.duration(took_s)}, forecast {wording.duration(forecast.seconds)}"
        f" ({_off(forecast.seconds, took_s)})"
    )
    if memory_bytes is not None and forecast.memory_bytes is not None:
        words += (
            f"; memory {wording.size(memory_bytes)}, forecast"
            f" {wording.size(forecast.memory_bytes)} ({_off(forecast.memory_bytes, memory_bytes)})"
        )
    return f"against the forecast: {words}"


def _halved(forecast: Forecast, part: Part, size: int) -> str:
    load = part.load
    name = f"{load.name}: " if load.name else ""
    return (
        f"{name}{load.micro_batch_size} examples a micro-step would take"
        f" {wording.size(part.memory_bytes or 0)} of the {wording.size(forecast.free_bytes or 0)}"
        f" that there are: {size} are taken, with more micro-steps; the global batch of"
        f" {load.examples_per_step} stays"
    )


def _off(forecast: float, fact: float) -> str:
    return f"{100 * (forecast - fact) / fact:+.0f} %" if fact else "unknown"


def _short(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
