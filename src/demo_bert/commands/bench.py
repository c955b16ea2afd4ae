"""`bench`: throughput and utilisation on this machine, alone or beside `transformers`.

    demo_bert bench -m base -t mrpc                           # a minute
    demo_bert bench -m base -t all --against huggingface      # the same work through transformers
    demo_bert bench -m large -t all -d bf16                   # on a GPU, with dropout and without

Examples are drawn, with the lengths of the tasks: nothing is fetched, but the configuration of a
model of the hub. The table goes to standard output, the figures as JSON to `-o DIR`.
"""

import itertools
import json
import logging
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo_bert.choices import Duration
from demo_bert.errors import UsageError
from demo_bert.files import write_text
from demo_bert.report.console import say
from demo_bert.settings import BenchSettings, Origin

if TYPE_CHECKING:
    from demo_bert.commands.measuring.blocks import Measured
    from demo_bert.commands.measuring.own import OwnSide, Work
    from demo_bert.distributed import World
    from demo_bert.hardware import Backend

_LOG = logging.getLogger(__name__)
_SIZES = {"mrpc": (32, 128), "squad": (12, 384), "phase1": (32, 128), "phase2": (8, 512)}
"""Task -> examples of a micro-step, longest example."""
_MORE_ON_ACCELERATORS = 8
_DIRECTORY = Path("runs") / "bench"
_REPEATS_ALONE, _REPEATS_BESIDE = 5, 3
_MEETING = Duration(seconds=600.0)
_PEER_OPTIMIZER = "adamw"  # what torch has too


def run(settings: BenchSettings, origins: Mapping[str, Origin], argv: Sequence[str]) -> int:
    """Measures and prints.

    Args:
        settings: As resolved.
        origins: Where each came from.
        argv: The program's arguments.

    Returns:
        The exit code, 0.

    Raises:
        DemoBertError: As the table in `errors.py` says.
    """
    from demo_bert.commands.logs import to_standard_error
    from demo_bert.distributed import is_worker, join, leave, place
    from demo_bert.hardware import select
    from demo_bert.launch.local import num_local_workers, run_workers

    to_standard_error(settings.log_level)
    _check(settings, origins)
    if settings.workers is not None and not is_worker():
        count = num_local_workers(settings.workers, device=settings.device, bytes_each=None)
        if count > 1:
            return run_workers(argv, num_workers=count, timeout=_MEETING)
    world = place()
    backend = select(settings.device, local_rank=world.local_rank)
    backend.prepare()
    join(world, backend.process_group, timeout_s=_MEETING.seconds or 600.0)
    _measure_all(settings, backend=backend, world=world)
    leave(world)
    return 0


def _check(settings: BenchSettings, origins: Mapping[str, Origin]) -> None:
    """Refuses what cannot be measured, or not together, before any of it is."""
    from demo_bert.commands.pretraining_plan import SHORTEST

    length = settings.max_seq_length
    if length and length < SHORTEST and settings.task not in ("mrpc", "squad"):
        raise UsageError(
            f"{origins['max_seq_length']} {length}: -t {settings.task} needs at least {SHORTEST}"
            " tokens"
        )
    if settings.against is None:
        return
    from demo_bert.commands.measuring.huggingface import transformers_version

    if settings.workers not in (None, 1):
        raise UsageError(
            f"{origins['against']} compares one worker with one process; leave"
            f" {origins['workers']} out"
        )
    transformers_version()


def _measure_all(settings: BenchSettings, *, backend: "Backend", world: "World") -> None:
    from demo_bert.commands.measuring.blocks import warm_up_steps
    from demo_bert.commands.measuring.figures import Row, facts_of, lines_of, record_of
    from demo_bert.commands.measuring.own import OwnSide
    from demo_bert.commands.measuring.peak import SQUARES, Peak, model_shapes

    started = time.time()
    repeats = settings.repeats or (_REPEATS_BESIDE if settings.against else _REPEATS_ALONE)
    announce = _LOG.info if world.is_first else _LOG.debug
    peak = Peak(backend, _dtype(settings.dtype))
    peak.measure("before", SQUARES)
    rows: list[Row] = []
    facts: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="demo_bert-bench-") as directory:
        for number, work in enumerate(_works(settings, backend)):
            announce("%s: %s", work.task, _words(work))
            events = Path(directory) / f"{world.rank}-{number}.jsonl"
            own = OwnSide(work, events, announce=announce)
            measured = _measured(own, settings, world=world, repeats=repeats)
            batch = own.source.batch(0)
            masked = 0 if batch.masked_tokens is None else len(batch.masked_tokens)
            tokens = batch.num_tokens // world.world_size
            shapes = model_shapes(own.config, num_tokens=tokens, num_masked=masked)
            peak.measure(f"after {work.task}", (*SQUARES, *shapes))
            facts = facts or facts_of(
                own,
                world_size=world.world_size,
                repeats=repeats,
                peak=peak,
                warm_up=warm_up_steps(backend),
            )
            rows.append(Row(own.released(), measured))
    if not world.is_first:
        return
    if settings.against:
        facts |= _peer_facts(rows[0].own)
    facts |= {"started": started, "seconds": time.time() - started}
    path = _path(settings, started)
    write_text(path, json.dumps(record_of(rows, peak, facts=facts), indent=1) + "\n")
    say([*lines_of(rows, peak, facts=facts), f"json: {path}"])


def _measured(
    own: "OwnSide", settings: BenchSettings, *, world: "World", repeats: int
) -> "Measured":
    from demo_bert.commands.measuring.blocks import measure
    from demo_bert.commands.measuring.huggingface import FORMS

    forms = tuple(FORMS) if settings.against else ()
    return measure(own, world=world, steps=settings.iters, repeats=repeats, forms=forms)


def _works(settings: BenchSettings, backend: "Backend") -> Iterator["Work"]:
    """What is measured, one after the other."""
    from demo_bert.commands.measuring.own import Work

    tasks = tuple(_SIZES) if settings.task == "all" else (settings.task,)
    dropouts = [(settings.dropout, settings.attention_dropout)]
    if backend.name != "cpu" and dropouts == [(None, None)]:
        dropouts.append((0.0, 0.0))
    extra = [f"--compile={settings.compile}"] if settings.compile != "auto" else []
    if settings.checkpoint_activations:
        extra.append("--checkpoint-activations")
    for task in tasks:
        batch, length = _SIZES[task]
        batch *= 1 if backend.name == "cpu" else _MORE_ON_ACCELERATORS
        for dropout, attention_dropout in dropouts:
            yield Work(
                task=task,
                model=settings.model,
                dtype=settings.dtype,
                batch_size=settings.batch_size or batch,
                max_seq_length=settings.max_seq_length or length,
                dropout=dropout,
                attention_dropout=attention_dropout,
                seed=settings.seed,
                device=settings.device,
                optimizer=_PEER_OPTIMIZER if settings.against else None,
                extra=tuple(extra),
            )


def _peer_facts(own: "OwnSide") -> dict[str, Any]:
    from demo_bert.commands.measuring.huggingface import peer_dtype, transformers_version

    peer = {
        "package": "transformers",
        "version": transformers_version(),
        "dtype": peer_dtype(own),
        "optimizer": f"{_PEER_OPTIMIZER} on both sides",
    }
    return {"peer": peer}


def _path(settings: BenchSettings, started: float) -> Path:
    """Where the figures go: a file that is not there, also where two began in the same second."""
    directory = Path(settings.output_dir) if settings.output_dir else _DIRECTORY
    model = Path(settings.model).name or "model"
    moment = time.strftime("%Y%m%d-%H%M%S", time.localtime(started))
    name = f"{model}-{settings.dtype}-{settings.task}-{moment}"
    numbered = (f"{name}{f'-{number}' if number else ''}.json" for number in itertools.count())
    return next(path for each in numbered if not (path := directory / each).exists())


def _words(work: "Work") -> str:
    return f"{work.batch_size} examples a micro-step, at most {work.max_seq_length} tokens"


def _dtype(name: str) -> Any:
    return name
