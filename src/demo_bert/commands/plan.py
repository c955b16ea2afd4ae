"""`plan`: what a training command would take, before it is started.

    demo_bert plan finetuning -d bf16 -m base -t mrpc -b 32
    demo_bert plan pretraining -d bf16 -m base --dataset-path STORE -v 8

The command is read, its data too, and its model is made, with random weights; then a few of its
own examples are run through it, which takes a second or two. Nothing is written.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo_bert.report import wording
from demo_bert.report.console import say
from demo_bert.settings import Origin, TrainingSettings, resolve
from demo_bert.settings.argv import read_argv
from demo_bert.settings.typed import OtherSettings
from demo_bert.tasks import PLANNED, TASKS

if TYPE_CHECKING:
    from demo_bert.commands.forecast import Forecast, Part
    from demo_bert.commands.run_worker import RunWorker


def run(settings: OtherSettings, origins: Mapping[str, Origin], argv: Sequence[str]) -> int:
    """Prints the forecast.

    Args:
        settings: As resolved; the planned command reads its own.
        origins: Where each came from.
        argv: The program's arguments.

    Returns:
        The exit code, 0.

    Raises:
        DemoBertError: As the training command would raise it, before its first step.
    """
    del origins
    from demo_bert.clock import process_start
    from demo_bert.commands.forecast import forecast_of
    from demo_bert.commands.logs import to_standard_error

    command = str(settings.values["planned"])
    asked, sources = _planned_settings(command, argv)
    to_standard_error("warning")
    worker = _worker(command, asked, sources)
    found = forecast_of(worker, first_step=0, begun=process_start())
    say(_lines(command, worker, found))
    return 0


def _planned_settings(
    command: str, argv: Sequence[str]
) -> tuple[TrainingSettings, dict[str, Origin]]:
    """The settings that the training command would have."""
    given = read_argv(argv, ("plan",)).given
    options = {name: value for name, value in given.items() if name != "planned"}
    found, sources = resolve(
        command, options, os.environ, tasks=tuple(TASKS), planned_tasks=PLANNED
    )
    assert isinstance(found, TrainingSettings)
    return found, sources


def _worker(command: str, settings: TrainingSettings, origins: Mapping[str, Origin]) -> "RunWorker":
    """The first worker that the command would have."""
    import torch

    from demo_bert.commands.fine_tune import FineTuning
    from demo_bert.commands.pretrain import PreTraining
    from demo_bert.commands.worker_memory import worker_bytes
    from demo_bert.hardware.cpu import usable_cores
    from demo_bert.launch.local import num_local_workers
    from demo_bert.launchers import World

    here = 1
    if settings.workers is not None:
        here = num_local_workers(
            settings.workers, device=settings.device, bytes_each=worker_bytes(settings)
        )
    world_size = here * max(1, len(settings.hosts or ()))
    # The shape counts, not the weights: nothing is fetched for a forecast.
    settings = dataclasses.replace(settings, init_checkpoint="random")
    runs: Any = (FineTuning if command == "finetuning" else PreTraining)(settings, origins, ())
    runs.backend.prepare()
    if runs.backend.name == "cpu" and here > 1:
        torch.set_num_threads(max(1, usable_cores() // here))
    all_workers = World(world_size=world_size, local_size=here)
    runs.world = all_workers
    filled, found = runs.with_recipe(settings, origins)
    runs.world = World()  # reading waits for nobody
    inputs = runs.inputs(filled)
    runs.world = all_workers
    if command == "finetuning":
        return runs.make_worker(filled, found, inputs=inputs)[0]
    return runs.make_worker(filled, found, data=inputs[0], start=inputs[1])[0]


def _lines(command: str, worker: "RunWorker", found: "Forecast") -> list[str]:
    settings, world = worker.settings, worker.world
    lines = [
        f"{command} {settings.task}, {Path(settings.model).name} in {settings.dtype} on"
        f" {worker.backend.name}, {wording.count(world.world_size, 'worker')}",
        "",
    ]
    for part in found.parts:
        lines += _part_lines(part, world.world_size)
    if found.scaled_link is not None and any(line.startswith("scaling") for line in lines):
        lines.append(f"scaling    over {found.scaled_link.words()}")
    memory = "unknown" if found.memory_bytes is None else wording.size(found.memory_bytes)
    free = "" if found.free_bytes is None else f" of the {wording.size(found.free_bytes)} free"
    each = " a worker" if world.world_size > 1 else ""
    lines += [
        f"time       {wording.duration(found.seconds)} in all: start"
        f" {wording.duration(found.start_s)}, end {wording.duration(found.end_s)}",
        f"memory     {memory}{each}{free}",
        f"disk       {wording.size(found.disk_bytes)}: {found.checkpoints:,} checkpoints and the"
        " model",
        f"measured   in {found.probe_s:.1f} s, on the run's own examples",
    ]
    if found.link is not None:
        lines.append(f"link       {found.link.words()}")
    if settings.seeds is not None:
        lines.append(
            f"seeds      {settings.seeds} such runs, one after the other: about"
            f" {wording.duration(settings.seeds * found.seconds)}, disk"
            f" {wording.size(settings.seeds * found.disk_bytes)}"
        )
    return lines


def _short(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _part_lines(part: "Part", num_workers: int) -> list[str]:
    load = part.load
    named = [load.name] if load.name else []
    micro = load.micro_steps(num_workers)
    lines = [
        *named,
        f"steps      {load.num_steps:,} of {load.examples_per_step:,} examples,"
        f" {load.tokens_per_step:,.0f} tokens each;"
        f" {load.num_steps * load.tokens_per_step:,.0f} tokens, {load.epochs:.3g} epochs",
        f"step       {part.step_s:.3g} s: {wording.count(micro, 'micro-step')} of"
        f" {wording.count(load.micro_batch_size, 'example')}",
        f"           all steps {wording.duration(part.steps_s)}, evaluations"
        f" {wording.duration(part.evaluations_s)}, checkpoints {wording.duration(part.saves_s)}",
    ]
    if num_workers > 1:
        lines.append(f"           {_short(part.communication_s)} of it waiting for other workers")
    if micro * num_workers > 1:
        steps = ", ".join(f"with {n} {_short(step_s)}" for n, step_s in part.scaling.items())
        lines.append(f"scaling    computed, a step {steps}")
    if part.fitting is not None:
        fits = f"fits       about {part.fitting:,} examples a micro-step"
        if part.fitting < load.micro_batch_size:
            fits += f"; {load.micro_batch_size} would be halved"
        lines.append(fits)
    return lines
