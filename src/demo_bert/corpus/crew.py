"""Workers that make one store together over a file system that all of them see.

Which parts and shards a worker makes is arithmetic: rank r of w has every w-th from r on. Files in
the store's work directory tell the others that a stage is done, that a worker is still there, and
that it gave up; a name drawn for each start keeps them apart from those of an earlier one.
"""

import json
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path

from demo_bert.errors import DemoBertError, FailureError, StopRequested
from demo_bert.files import write_text
from demo_bert.launchers import World

_BEAT_S = 5.0
_PATIENCE_S = 600.0
_POLL_S = 0.2
_JOB = "job.json"


class Crew:
    """This worker's side.

    Args:
        directory: The store's work directory.
        world: This worker's place among all; with a world of one nothing is written or waited for.
        stop_if_asked: Raises where this worker is to stop.
    """

    def __init__(self, directory: Path, world: World, *, stop_if_asked: Callable[[], None]) -> None:
        self.world = world
        self._directory = directory
        self._stop_if_asked = stop_if_asked
        self._job = ""
        self._beats = 0
        self._next_beat_s = 0.0

    def meet(self) -> None:
        """Returns when all workers are there; the first must have made the directory its own.

        Raises:
            FailureError: They did not come.
            DiskError: The first cannot write.
        """
        if self.world.world_size == 1:
            return
        # It brings torch with it, which nothing else here needs.
        from demo_bert.distributed import join, leave, wait_for_all

        if self.world.is_first:
            write_text(self._directory / _JOB, json.dumps({"job": uuid.uuid4().hex}) + "\n")
        join(self.world, "gloo", timeout_s=_PATIENCE_S)
        wait_for_all(self.world)
        leave(self.world)
        try:
            self._job = json.loads((self._directory / _JOB).read_text("utf-8"))["job"]
        except (OSError, ValueError, KeyError) as error:
            raise FailureError(
                f"{self._directory}: is not the directory that worker 0 writes to; -o has to be on"
                " storage that all hosts see"
            ) from error

    def own(self, count: int) -> range:
        """Which of so many pieces of work are this worker's."""
        return range(self.world.rank, count, self.world.world_size)

    def beat(self) -> None:
        """Tells the others now and then that this worker is there."""
        if self._job and time.monotonic() >= self._next_beat_s:
            self._beats += 1
            self._next_beat_s = time.monotonic() + _BEAT_S
            write_text(self._file("alive", self.world.rank), f"{self._beats}\n")

    def tell(self, stage: str) -> None:
        """Tells the others that this worker has done a stage."""
        if self._job:
            write_text(self._file(stage, self.world.rank), "done\n")

    def give_up(self, error: DemoBertError) -> None:
        """Tells the others that this worker ends, and why."""
        if self._job and self._directory.is_dir():
            is_stop = isinstance(error, StopRequested)
            found = json.dumps({"is_stop": is_stop, "reason": str(error)})
            write_text(self._file("ended", self.world.rank), found + "\n")

    def wait_for(self, stage: str, ranks: Iterable[int] | None = None) -> None:
        """Returns when workers have done a stage.

        Args:
            stage: As `tell` was given it.
            ranks: Whose; all where they are not given.

        Raises:
            FailureError: One gave up, or gave no sign for ten minutes.
            StopRequested: This worker, or one of the others, was asked to stop.
        """
        if not self._job:
            return
        for rank in range(self.world.world_size) if ranks is None else ranks:
            self._wait(rank, self._file(stage, rank).exists)

    def wait_for_end(self, is_finished: Callable[[], bool]) -> None:
        """Returns when the first worker has finished the store.

        Args:
            is_finished: Whether it has.

        Raises:
            FailureError: As `wait_for`.
            StopRequested: As `wait_for`.
        """
        self._wait(0, is_finished)

    def _wait(self, rank: int, is_done: Callable[[], bool]) -> None:
        seen, since_s = "", time.monotonic()
        while not is_done():
            self._stop_if_asked()
            self.beat()
            self._raise_if_ended()
            beats = _text(self._file("alive", rank))
            if beats != seen:
                seen, since_s = beats, time.monotonic()
            elif time.monotonic() - since_s > _PATIENCE_S:
                raise FailureError(
                    f"worker {rank} gave no sign for {_PATIENCE_S / 60:.0f} minutes; what is"
                    " finished is kept: the same command goes on"
                )
            time.sleep(_POLL_S)

    def _raise_if_ended(self) -> None:
        for rank in range(self.world.world_size):
            if found := _text(self._file("ended", rank)):
                ended = json.loads(found)
                kind = StopRequested if ended["is_stop"] else FailureError
                raise kind(f"worker {rank} ended: {ended['reason']}")

    def _file(self, what: str, rank: int) -> Path:
        return self._directory / f"{self._job}.{what}.{rank}"


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError:
        return ""
