"""One fine-tuning run: its parts, wired in order.

The order is fixed: task, starting weights, data and plan are found and checked first; only then is
the run directory made. A run that is there goes on from its newest checkpoint, else from the
starting weights.
"""

import dataclasses
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from demo_bert.checkpoint import Checkpoint, newest, of_step, set_aside_after
from demo_bert.clock import process_start
from demo_bert.commands.logs import also_to_file, remove, to_handler, to_standard_error
from demo_bert.commands.run_plan import longest_example, plan_run
from demo_bert.commands.run_records import (
    check_same_inputs,
    going_on_command,
    open_directory,
    program,
    results_of,
    run_record,
    seeds_record,
)
from demo_bert.commands.starting_weights import StartingWeights, find_starting_weights
from demo_bert.commands.worker import Worker
from demo_bert.data.array_cache import ArrayCache
from demo_bert.data.packing import Example
from demo_bert.distributed import join, leave, place, wait_for_all
from demo_bert.downloads import cache_directory
from demo_bert.errors import StopRequested, TrainingError
from demo_bert.files import write_text
from demo_bert.hardware import select
from demo_bert.model.vocabulary import build_tokenizer
from demo_bert.report.console import Console, say
from demo_bert.report.events import EventLog
from demo_bert.report.page import write_report
from demo_bert.report.summary import final_lines
from demo_bert.report.tensorboard import TensorBoardWriter
from demo_bert.run_directory import RunDirectory
from demo_bert.settings import Origin, TrainingSettings, opening_table, with_defaults
from demo_bert.stopping import StopRequests
from demo_bert.tasks import load_task
from demo_bert.tasks.task import DataRequest, TaskData

_LOG = logging.getLogger(__name__)
COMMAND = "finetuning"


class FineTuning:
    """A worker's fine-tuning runs, one after the other.

    Args:
        settings: As resolved.
        origins: Where each came from.
        argv: The program's arguments.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        origins: Mapping[str, Origin],
        argv: Sequence[str],
    ) -> None:
        self.settings, self.origins, self.argv = settings, origins, tuple(argv)
        self.started = process_start()
        """Unix time at which the run began: with the command, or where the one before it ended."""
        self.task = load_task(settings.task)
        self.world = place()
        self.backend = select(settings.device, local_rank=self.world.local_rank)
        limit = settings.max_time.seconds if settings.max_time else None
        self.stops = StopRequests(limit, is_supervised=self.world.world_size > 1)
        self.parent: RunDirectory | None = None
        """The directory above those of the seeds, with `--seeds`."""
        self._start: StartingWeights | None = None
        self._data: TaskData | None = None
        self._rows: dict[str, Sequence[Example]] | None = None

    def __enter__(self) -> Self:
        """Takes the device, meets the other workers, listens for stop requests."""
        self.backend.prepare()
        timeout_s = self.settings.timeout.seconds or 600.0
        join(self.world, self.backend.process_group, timeout_s=timeout_s)
        self.stops.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Undoes `__enter__`."""
        self.stops.__exit__()
        if error is None or isinstance(error, StopRequested):
            leave(self.world)

    def run(self) -> int:
        """The run of the settings, and its last lines.

        Returns:
            0.

        Raises:
            DemoBertError: As the table in `errors.py` says.
        """
        results, directory = self.run_one(self.settings, self.origins)
        if self.world.is_first:
            is_pair = results["data"].get("is_pair")
            say(final_lines(results, directory, program=program(), is_pair=is_pair))
        return 0

    def run_one(
        self, settings: TrainingSettings, origins: Mapping[str, Origin]
    ) -> tuple[dict[str, Any], Path]:
        """A run from wherever it stands to its end.

        Args:
            settings: With one seed.
            origins: Where each came from.

        Returns:
            The content of results.json, and the directory it is in.

        Raises:
            DemoBertError: As the table in `errors.py` says.
        """
        settings, origins = self.with_recipe(settings, origins)
        directory = open_directory(COMMAND, settings)
        finished = directory.results()
        wait_for_all(self.world)  # nobody makes a directory before all have looked
        is_complete = finished is not None and finished.get("status") == "complete"
        if finished is not None and is_complete and not isinstance(settings.resume, int):
            if self.world.is_first:
                _LOG.info("%s: this run is finished; --new makes another", directory.path)
            return finished, directory.path
        start, data = self._inputs(settings)
        rows = self._model_rows(settings, start, data)
        plan = plan_run(
            settings,
            self.task.recipe,
            hidden_size=start.config.hidden_size,
            max_positions=start.config.max_position_embeddings,
            num_examples=len(rows["train"]),
            num_workers=self.world.world_size,
        )
        settings, origins = with_defaults(
            settings,
            origins,
            {
                "warmup": (plan.warmup_steps,),
                "learning_rate": (plan.learning_rate,),
            },
            where=self.task.name,
        )
        worker = Worker(
            self.task,
            settings,
            plan=plan,
            start=start,
            data=data,
            rows=rows,
            backend=self.backend,
            world=self.world,
        )
        record = run_record(
            COMMAND,
            settings,
            origins,
            argv=self.argv,
            data=data,
            start=start,
            differences=(worker.missing, worker.unexpected),
            hardware=self.backend.describe(),
        )
        if not self.world.is_first:
            return self._as_other(worker, directory, record=record), directory.path
        with directory.locked():
            log = also_to_file(directory.logs / "rank-0.log")
            try:
                opening = opening_table(COMMAND, settings, origins)
                self._announce(opening, worker)
                return self._as_first(worker, directory, record=record), directory.path
            finally:
                remove(log)

    def with_recipe(
        self, settings: TrainingSettings, origins: Mapping[str, Origin]
    ) -> tuple[TrainingSettings, dict[str, Origin]]:
        """The settings with the recipe's values, and the global batch of these workers.

        Args:
            settings: As resolved.
            origins: Where each came from.

        Returns:
            Both, filled in.
        """
        recipe = self.task.recipe
        filled, found = with_defaults(
            settings,
            origins,
            {
                "batch_size": (recipe.batch_size[settings.dtype],),
                "max_seq_length": (recipe.max_seq_length,),
                "epochs": recipe.epochs,
                "optimizer": recipe.optimizer,
                "schedule": recipe.schedule,
                "weight_decay": recipe.weight_decay,
                "clip_norm": recipe.clip_norm,
            },
            where=self.task.name,
        )
        assert filled.batch_size is not None
        batch = filled.batch_size[0] * self.world.world_size
        return with_defaults(
            filled, found, {"global_batch_size": (batch,)}, where=f"{self.task.name}, -b x workers"
        )

    def _inputs(self, settings: TrainingSettings) -> tuple[StartingWeights, TaskData]:
        """Weights and data, read once for all seeds."""
        announce = _LOG.info if self.world.is_first else _LOG.debug
        if self._start is None:
            self._start = find_starting_weights(
                settings.model, settings.init_checkpoint, announce=announce
            )
        if self._data is None:
            request = DataRequest(
                paths=tuple(Path(path) for path in settings.dataset_path or ()),
                columns=settings.columns or {},
                sample=settings.sample,
            )
            self._data = self.task.load(request, announce)
        dropped: dict[str, Any] = {
            name: value
            for name, value in (
                ("hidden_dropout_prob", settings.dropout),
                ("attention_probs_dropout_prob", settings.attention_dropout),
            )
            if value is not None
        }
        config = dataclasses.replace(self._start.config, **dropped)
        return dataclasses.replace(self._start, config=config), self._data

    def _model_rows(
        self, settings: TrainingSettings, start: StartingWeights, data: TaskData
    ) -> dict[str, Sequence[Example]]:
        """The model rows of each split, made once for all seeds; a host's first worker is first."""
        if self._rows is None:
            features = partial(
                self.task.features,
                labels=data.labels,
                tokenizer=build_tokenizer(start.vocabulary, **vars(start.case_rules)),
                max_seq_length=longest_example(
                    settings,
                    self.task.recipe,
                    max_positions=start.config.max_position_embeddings,
                ),
                cache=ArrayCache(
                    cache_directory() / "windows", round(1e9 * settings.feature_cache)
                ),
            )
            if self.world.local_rank:
                wait_for_all(self.world)
            self._rows = {name: features(data.splits[name]) for name in ("train", "validation")}
            if not self.world.local_rank:
                wait_for_all(self.world)
        return self._rows

    def _announce(self, opening: str, worker: Worker) -> None:
        """The opening lines."""
        plan, data = worker.plan, worker.data
        for line in opening.split("\n"):
            _LOG.info("%s", line)
        counts = ", ".join(f"{len(split):,} {name}" for name, split in data.splits.items())
        _LOG.info("data: %s (%s)", data.name, counts)
        for note in data.notes:
            _LOG.info("data: %s", note)
        start = worker.start.record
        is_same = start["name"] == start["source"]
        _LOG.info(
            "weights: %s", start["name"] if is_same else f"{start['name']}, {start['source']}"
        )
        for kind, names in (("missing", worker.missing), ("unexpected", worker.unexpected)):
            if names:
                _LOG.info("weights: %s: %s", kind, ", ".join(names))
        _LOG.info("learning rate: %s", plan.rate_reason)
        _LOG.info(
            "plan: %d steps of %d examples (%.4g epochs), %d of them warm-up",
            plan.num_steps,
            plan.global_batch_size,
            plan.epochs,
            plan.warmup_steps,
        )
        how = {
            "native": "products in the device's own units",
            "rounded": "no bfloat16 units here: operands are rounded to bfloat16 and multiplied in"
            " float32",
        }[self.backend.product_mode(worker.dtype)]
        _LOG.info("device: %s, %s: %s", self.backend.name, worker.dtype, how)
        for warning in plan.warnings:
            _LOG.warning("%s", warning)

    def _as_first(
        self, worker: Worker, directory: RunDirectory, *, record: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Rank 0's part: it writes and speaks."""
        settings = worker.settings
        checkpoint = self._find_checkpoint(directory, record, resume=settings.resume)
        if checkpoint is not None and isinstance(settings.resume, int):
            set_aside_after(directory.checkpoints, checkpoint.step)
            if finished := directory.results():
                directory.write_results({**finished, "status": "stopped"})
        if self.parent is not None and self.parent.record() is None:
            self.parent.write_record(seeds_record(record, COMMAND, self.settings, self.origins))
        if directory.record() is None:
            directory.write_record(record)
        every = settings.log_every.steps if settings.log_every else None
        tensorboard = TensorBoardWriter(directory.tensorboard)
        with (
            Console(sys.stderr, worker.plan.num_steps, log_every=every) as console,
            EventLog.open(directory.events, readers=(console.on_event, tensorboard.add)) as events,
        ):
            to_handler(console.handler(), settings.log_level)
            try:
                return self._finish(
                    worker, directory, checkpoint, emit=events.append, record=record
                )
            finally:
                tensorboard.close()
                to_standard_error(settings.log_level)

    def _as_other(
        self, worker: Worker, directory: RunDirectory, *, record: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Every other rank's part: it keeps its own log."""
        checkpoint = self._find_checkpoint(directory, record, resume=worker.settings.resume)
        log = also_to_file(directory.logs / f"rank-{self.world.rank}.log")
        try:
            return self._finish(worker, directory, checkpoint, emit=_say_nothing, record=record)
        finally:
            remove(log)

    def _find_checkpoint(
        self, directory: RunDirectory, record: Mapping[str, Any], *, resume: int | str
    ) -> Checkpoint | None:
        """Where to go on, the same for all workers; None: from the starting weights."""
        recorded = directory.record()
        if recorded is not None:
            check_same_inputs(record, recorded)
        found = None
        if recorded is not None and isinstance(resume, int):
            found = of_step(directory.checkpoints, resume)
        elif recorded is not None:
            found, complaints = newest(directory.checkpoints)
            instead = found.path.name if found else "the starting weights"
            for complaint in complaints:
                _LOG.warning("%s; going on from %s", complaint, instead)
        wait_for_all(self.world)
        return found

    def _finish(
        self,
        worker: Worker,
        directory: RunDirectory,
        checkpoint: Checkpoint | None,
        *,
        emit: Callable[..., object],
        record: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Trains to the end, to a stop or to a failure."""
        end = partial(self._end, worker, directory, emit=emit, record=record)
        try:
            reason = worker.train(
                checkpoint, directory.checkpoints, emit=emit, stop_reason=lambda: self.stops.reason
            )
        except TrainingError as error:
            end("failed", message=str(error))
            raise
        results = end("complete" if reason is None else "stopped")
        wait_for_all(self.world)  # the first to end ends all
        if reason is not None:
            command = going_on_command(self.argv, self.settings, self.parent or directory)
            raise StopRequested(
                f"stopped by {reason} after step {worker.step} of {worker.plan.num_steps}, saved;"
                f" it goes on with: {command}"
            )
        return results

    def _end(
        self,
        worker: Worker,
        directory: RunDirectory,
        status: str,
        *,
        emit: Callable[..., object],
        record: Mapping[str, Any],
        **fields: object,
    ) -> dict[str, Any]:
        """Writes what is to stay of an attempt."""
        emit("end", status=status, step=worker.step, **fields)
        if self.world.is_first and status == "complete":
            worker.save_model(directory.model)
            assert worker.scores is not None
            for name, content in worker.scores.files.items():
                write_text(directory.path / name, content)
        results = results_of(
            COMMAND,
            status=status,
            worker=worker,
            directory=directory,
            started=self.started,
            record=record,
        )
        if self.world.is_first:
            directory.write_results(results)
            write_report(directory.path)
        self.started = time.time()  # of the next seed's run
        return results


def _say_nothing(event: str, **fields: object) -> None:
    """Workers but the first record no events."""
