"""What the training commands share: an attempt of a run in its directory, from lock to results.

A run that is there goes on from its newest checkpoint, else from the starting weights. Rank 0
writes and speaks; every other rank keeps its own log.
"""

import itertools
import logging
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from demo_bert.checkpoint import Checkpoint, newest, of_step, set_aside_after
from demo_bert.clock import command_start
from demo_bert.commands.checkpoint_copies import has_copies, spread
from demo_bert.commands.going_on import going_on_command, program
from demo_bert.commands.logs import also_to_file, remove, to_handler, to_standard_error
from demo_bert.commands.outlook import Outlook
from demo_bert.commands.record_copies import give_records
from demo_bert.commands.run_conditions import (
    check_same_conditions,
    check_same_workers,
    conditions,
    use_one_thread,
)
from demo_bert.commands.run_records import (
    check_same_inputs,
    inputs_digest,
    keep_record,
    seeds_record,
)
from demo_bert.commands.run_worker import RunWorker
from demo_bert.distributed import (
    SumSpeed,
    join,
    leave,
    place,
    sum_numbers,
    sum_speed,
    wait_for_all,
)
from demo_bert.errors import FailureError, RunDirectoryError, StopRequested, TrainingError
from demo_bert.hardware import Backend, select
from demo_bert.heartbeat import tell_run, tell_step
from demo_bert.launch.job import own_job
from demo_bert.report.console import Console, say
from demo_bert.report.events import EventLog
from demo_bert.report.page import write_report
from demo_bert.report.summary import final_lines
from demo_bert.report.tensorboard import TensorBoardWriter
from demo_bert.run_directory import RunDirectory
from demo_bert.settings import Origin, TrainingSettings, is_longer
from demo_bert.stopping import StoppedAtOnce, StopRequests
from demo_bert.training import ASKED_ELSEWHERE

if TYPE_CHECKING:
    from demo_bert.commands.profiling import StepProfiler

_LOG = logging.getLogger(__name__)
_FROM_THE_START = "no checkpoint was saved yet: it starts over from the starting weights"


class RunSession(ABC):
    """A worker's runs of one training command, one after the other.

    Args:
        command: The command's name.
        settings: As resolved.
        origins: Where each came from.
        argv: The program's arguments.
    """

    def __init__(
        self,
        command: str,
        settings: TrainingSettings,
        origins: Mapping[str, Origin],
        argv: Sequence[str],
    ) -> None:
        self.command = command
        self.settings, self.origins, self.argv = settings, origins, tuple(argv)
        self.started = command_start()
        """Unix time at which the run began: with the command, or where the one before it ended."""
        self.world = place()
        limit = settings.max_time.seconds if settings.max_time else None
        self.stops = StopRequests(limit, is_supervised=self.world.world_size > 1, is_at_once=True)
        self._over = ExitStack()
        self._speed: SumSpeed | None = None
        self.parent: RunDirectory | None = None
        """The directory above those of the seeds, with `--seeds`."""

    @cached_property
    def backend(self) -> Backend:
        """The hardware of this worker; the process that supervises hosts asks for none."""
        return select(self.settings.device, local_rank=self.world.local_rank)

    def __enter__(self) -> Self:
        """Listens for stop requests, takes the device, meets the other workers."""
        self.stops.__enter__()
        self.backend.prepare()
        if self.settings.reproducible:
            use_one_thread(self.backend)
        timeout_s = self.settings.timeout.seconds or 600.0
        join(self.world, self.backend.process_group, timeout_s=timeout_s)
        if own_job() is not None:
            self._speed = sum_speed(self.world, self.backend.device())
            level = logging.INFO if self.world.is_first else logging.DEBUG
            _LOG.log(level, "%s", self._speed)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Undoes `__enter__`."""
        if error is None or isinstance(error, StopRequested):
            leave(self.world)
        self.stops.__exit__(kind, error, trace)

    @abstractmethod
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

    @abstractmethod
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

    def run(self) -> int:
        """The run of the settings, and its last lines.

        Returns:
            0.

        Raises:
            DemoBertError: As the table in `errors.py` says.
        """
        results, directory = self.run_one(self.settings, self.origins)
        self._over.enter_context(self.stops.noted())  # all is done: there is nothing to stop
        if self.world.is_first:
            is_pair = results["data"].get("is_pair")
            say(final_lines(results, directory, program=program(), is_pair=is_pair))
        return 0

    def finished(
        self, directory: RunDirectory, settings: TrainingSettings
    ) -> dict[str, Any] | None:
        """The results of a run that needs no further attempt; every worker asks together.

        Args:
            directory: The run's.
            settings: With one seed.

        Returns:
            The content of results.json; None where there is something to do.
        """
        give_records(directory, world=self.world, device=self.backend.device())
        found = directory.results()
        wait_for_all(self.world)  # nobody makes a directory before all have looked
        is_complete = found is not None and found.get("status") == "complete"
        if not is_complete or isinstance(settings.resume, int):
            return None
        if is_longer(settings, (directory.record() or {}).get("settings", ())):
            return None
        if self.world.is_first:
            _LOG.info("%s: this run is finished; --new makes another", directory.path)
        return found

    def go(
        self,
        worker: RunWorker,
        directory: RunDirectory,
        *,
        record: Mapping[str, Any],
        announce: Callable[[], None],
    ) -> dict[str, Any]:
        """An attempt, from wherever the run stands to its end.

        Args:
            worker: This worker's share.
            directory: The run's.
            record: The content of run.json.
            announce: Says the opening lines; on rank 0 only.

        Returns:
            The content of results.json.

        Raises:
            DemoBertError: As the table in `errors.py` says.
        """
        if worker.settings.reproducible:
            record = {**record, "reproducible": conditions(self.backend, worker.dtype)}
        with ExitStack() as noting:
            if not self.world.is_first:
                return self._as_other(worker, directory, record=record, noting=noting)
            tell_run((self.parent or directory).path)
            with directory.locked():
                log = also_to_file(directory.logs / "rank-0.log")
                try:
                    announce()
                    return self._as_first(worker, directory, record=record, noting=noting)
                finally:
                    remove(log)

    def _as_first(
        self,
        worker: RunWorker,
        directory: RunDirectory,
        *,
        record: Mapping[str, Any],
        noting: ExitStack,
    ) -> dict[str, Any]:
        """Rank 0's part: it writes and speaks."""
        settings = worker.settings
        self._meet(record, noting)
        checkpoint = self._find_checkpoint(directory, record, resume=settings.resume)
        if finished := directory.results():
            directory.write_results({**finished, "status": "stopped"})  # until it is done again
        if self.parent is not None:
            whole = seeds_record(record, self.command, self.settings, self.origins)
            keep_record(self.parent, whole)
        for change in keep_record(directory, record):
            _LOG.info("goes on with another setting: %s", change)
        self._give_records(directory)
        with _told(worker, directory) as emit:
            if (job := own_job()) is not None and job.cause:
                emit("fault", kind="lost_workers", message=job.cause)
            return self._finish(
                worker, directory, checkpoint, emit=emit, record=record, noting=noting
            )

    def _as_other(
        self,
        worker: RunWorker,
        directory: RunDirectory,
        *,
        record: Mapping[str, Any],
        noting: ExitStack,
    ) -> dict[str, Any]:
        """Every other rank's part: it keeps its own log."""
        self._meet(record, noting)
        checkpoint = self._find_checkpoint(directory, record, resume=worker.settings.resume)
        self._give_records(directory)
        log = also_to_file(directory.logs / f"rank-{self.world.rank}.log")
        try:
            return self._finish(
                worker, directory, checkpoint, emit=_say_nothing, record=record, noting=noting
            )
        finally:
            remove(log)

    def _give_records(self, directory: RunDirectory) -> None:
        """Every host gets what makes the directory a run, and the one above those of the seeds."""
        for each in (self.parent, directory):
            if each is not None:
                give_records(each, world=self.world, device=self.backend.device())

    def _find_checkpoint(
        self, directory: RunDirectory, record: Mapping[str, Any], *, resume: int | str
    ) -> Checkpoint | None:
        """Where to go on, the same for all workers; None: from the starting weights."""
        recorded = directory.record()
        if recorded is not None:
            check_same_inputs(record, recorded)
        if now := record.get("reproducible"):
            check_same_workers(now, self.world, self.backend)
            if recorded is not None:
                check_same_conditions(now, recorded.get("reproducible") or {})
        elif recorded is not None and recorded.get("reproducible"):
            _LOG.warning("--no-reproducible: from here on the bits depend on the workers")
        found = None
        checkpoints = directory.checkpoints
        if recorded is not None and (self.world.is_first or not has_copies()):
            found = self._own_checkpoint(checkpoints, resume=resume)
        elif self.world.is_first and self.parent is None and (job := own_job()) and job.attempt:
            _LOG.warning("%s", _FROM_THE_START)
        wait_for_all(self.world)
        found = spread(found, checkpoints, world=self.world, device=self.backend.device())
        writes = self.world.is_first or (has_copies() and self.world.local_rank == 0)
        if found is not None and isinstance(resume, int) and writes:
            set_aside_after(checkpoints, found.step)
        return found

    def _own_checkpoint(self, checkpoints: Path, *, resume: int | str) -> Checkpoint | None:
        """Where the checkpoints of this host say to go on."""
        if isinstance(resume, int):
            return of_step(checkpoints, resume)
        found, complaints = newest(checkpoints)
        instead = found.path.name if found else "the starting weights"
        for complaint in complaints:
            _LOG.warning("%s; going on from %s", complaint, instead)
        if found is None and not complaints and self.world.is_first:
            _LOG.warning("%s", _FROM_THE_START)
        return found

    def _meet(self, record: Mapping[str, Any], noting: ExitStack) -> None:
        """Several workers compare what they start from; from here on they stop together.

        A request that reached some of them before ends all, for nothing was changed yet.
        """
        if self.world.world_size == 1:
            return
        self._check_alike(record)
        noting.enter_context(self.stops.noted())
        try:
            asked = sum_numbers([self.stops.reason is not None], self.world, self.backend.device())
        except FailureError:  # one that was not noting yet went at once
            if self.stops.reason is None:
                raise
            asked = [1.0]
        if asked[0]:
            raise StoppedAtOnce(self.stops.reason or ASKED_ELSEWHERE)

    def _check_alike(self, record: Mapping[str, Any]) -> None:
        """Refuses hosts whose data or starting weights are others than rank 0's."""
        size, rank = self.world.world_size, self.world.rank
        digest = float(inputs_digest(record) >> 232)  # 24 bits: exact in every float
        own = [digest if number == rank else 0.0 for number in range(size)]
        digests = sum_numbers(own, self.world, self.backend.device())
        job = own_job()
        others = [number for number, found in enumerate(digests) if found != digests[0]]
        if others:
            names = [job.host_of(number) if job else f"rank {number}" for number in others]
            raise RunDirectoryError(
                f"{', '.join(dict.fromkeys(names))}: data or starting weights are not those of the"
                " first host; make them equal, or remove them there"
            )

    def _finish(
        self,
        worker: RunWorker,
        directory: RunDirectory,
        checkpoint: Checkpoint | None,
        *,
        emit: Callable[..., object],
        record: Mapping[str, Any],
        noting: ExitStack,
    ) -> dict[str, Any]:
        """Trains to the end, to a stop or to a failure."""
        outlook = Outlook(worker, checkpoint, begun=self.started, emit=emit, speed=self._speed)
        end = partial(self._end, worker, directory, emit=emit, record=record, outlook=outlook)

        try:
            reason = worker.train(
                checkpoint,
                directory.checkpoints,
                emit=partial(self._watched, emit),
                stop_reason=self._asked(noting),
            )
        except TrainingError as error:
            end("failed", message=str(error))
            raise
        noting.enter_context(self.stops.noted())
        results = end("complete" if reason is None else "stopped")
        wait_for_all(self.world)  # the first to end ends all
        if reason is not None:
            command = going_on_command(
                self.command, self.argv, self.settings, self.parent or directory
            )
            raise StopRequested(
                f"stopped by {reason} after step {worker.step} of {worker.num_steps}, saved;"
                f" it goes on with: {command}"
            )
        return results

    def _watched(self, emit: Callable[..., object], event: str, **fields: Any) -> None:
        """Records an event of the worker; those who watch are told of its step."""
        if "step" in fields:
            tell_step(fields["step"])
        if event in ("start", "resume"):
            fields["begun"] = self.started
        emit(event, **fields)

    def _asked(self, noting: ExitStack) -> Callable[[], str | None]:
        """Why to stop, for the loop; from its second question on requests are noted.

        Up to there it has changed nothing, and its first micro-step may compile for long: a request
        ends it where it stands. Several workers note them since they met.
        """
        questions = itertools.count(1)

        def reason() -> str | None:
            if next(questions) == 2:
                noting.enter_context(self.stops.noted())
            return self.stops.reason

        return reason

    def _end(
        self,
        worker: RunWorker,
        directory: RunDirectory,
        status: str,
        *,
        emit: Callable[..., object],
        record: Mapping[str, Any],
        outlook: Outlook,
        **fields: object,
    ) -> dict[str, Any]:
        """Writes what is to stay of an attempt."""
        emit("end", status=status, step=worker.step, **fields)
        if self.world.is_first and status == "complete":
            worker.write_products(directory)
        results = worker.results(directory, status=status, started=self.started, record=record)
        results |= outlook.beside(results)
        if self.world.is_first:
            directory.write_results(results)
            write_report(directory.path)
        self.started = time.time()  # of the next seed's run
        return results


def _say_nothing(event: str, **fields: object) -> None:
    """Workers but the first record no events."""


@contextmanager
def _told(worker: RunWorker, directory: RunDirectory) -> Iterator[Callable[..., object]]:
    """Records a run's events, and shows them; yields what records one."""
    settings = worker.settings
    every = settings.log_every.steps if settings.log_every else None
    tensorboard = TensorBoardWriter(directory.tensorboard)
    profiler = _profiler_of(settings.profile_steps, directory.path / "trace")
    with (
        Console(sys.stderr, worker.num_steps, log_every=every) as console,
        EventLog.open(
            directory.events,
            readers=(
                console.on_event,
                tensorboard.add,
                *([profiler.on_event] if profiler else []),
            ),
        ) as events,
    ):
        to_handler(console.handler(), settings.log_level)
        if profiler is not None:
            profiler.emit = events.append
        try:
            yield events.append
        finally:
            if profiler is not None:
                profiler.close()
            tensorboard.close()
            to_standard_error(settings.log_level)


def _profiler_of(window: tuple[int, int] | None, directory: Path) -> "StepProfiler | None":
    """What traces a window of steps; None without one, and then nothing is imported for it."""
    if window is None:
        return None
    from demo_bert.commands.profiling import StepProfiler

    return StepProfiler(window, directory)
