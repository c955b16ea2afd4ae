"""One host's agent: starts its workers, passes on their output and signals. Standard library alone.

It is started by mpirun, and tells the invoking process what happens by `channel` records. When it
dies its workers die with it.
"""

import ctypes
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import IO

from demo_bert import clock, heartbeat
from demo_bert.launch import job as jobs
from demo_bert.launch import placement
from demo_bert.launch.channel import Channel
from demo_bert.launch.job import Job, read_job
from demo_bert.launch.local import WORKER
from demo_bert.launch.worker_output import RankLog
from demo_bert.launchers import World, interface_towards, mpi_index, worker_variables

_BEAT_EVERY_S = 2.0
_LOOK_EVERY_S = 0.1
_LAST_GRACE_S = 15.0  # that workers get after the first of them has failed
_PR_SET_PDEATHSIG = 1
_WORTH = re.compile(rb'"event": ?"(?:evaluation|checkpoint)"')
# mpirun forwards only these two; they stand for what the user sent.
_STANDS_FOR = {signal.SIGUSR1: signal.SIGTERM, signal.SIGUSR2: signal.SIGINT}


def run_agent(directory: Path) -> int:
    """Runs this host's workers of a job to their end.

    Args:
        directory: The job's.

    Returns:
        The exit code of the worker that failed first; on other hosts than the first one 0, for the
        exit code of the job is that of one host.
    """
    job = read_job(directory)
    index = mpi_index() or 0
    with tempfile.TemporaryDirectory(prefix="beats-", dir=directory) as beats:
        return _Agent(job, index, Path(beats)).run()


class _Agent:
    def __init__(self, job: Job, index: int, beats: Path) -> None:
        self._job, self._index, self._beats = job, index, beats
        self._begun = clock.process_start() - job.spent_s
        self._channel = Channel()
        self._workers: dict[int, subprocess.Popen[bytes]] = {}
        self._readers: list[threading.Thread] = []
        self._ends: dict[int, int] = {}
        self._asked: list[int] = []  # signals that are to be passed on
        self._has_killed = False
        self._seen: dict[Path, int] = {}  # bytes of each log of events

    def run(self) -> int:
        for number, stands_for in _STANDS_FOR.items():
            signal.signal(number, lambda *_, stands_for=stands_for: self._asked.append(stands_for))
        signal.signal(signal.SIGTERM, self._give_up)
        self._channel.send("up", host=self._index, name=os.uname().nodename)
        shares = self._shares()
        for local_rank in range(self._job.workers):
            self._start(local_rank, shares[local_rank] if shares else None)
        for rank, worker in self._workers.items():
            for stream, is_error in ((worker.stdout, False), (worker.stderr, True)):
                assert stream is not None
                reader = threading.Thread(target=self._read, args=(rank, stream, is_error))
                reader.start()
                self._readers.append(reader)
        self._watch()
        for reader in self._readers:
            reader.join(timeout=5.0)
        for rank, code in self._ends.items():  # after all that they said
            self._channel.send("end", rank=rank, code=code)
        first = next((code for code in self._ends.values() if code), 0)
        return 0 if self._index else (first if first > 0 else 1 if first else 0)

    def _shares(self) -> list[list[int]] | None:
        """The cores of each worker; None: not divided."""
        cores, job = placement.own_cores(), self._job
        nodes = [cores] if job.map_by == "slot" else placement.nodes_of(cores)
        shares = placement.divide(nodes, job.workers, each=job.cores) if cores else None
        threads = len(shares[0]) if shares else max(1, len(cores) // job.workers)
        threads_each = os.environ.setdefault("OMP_NUM_THREADS", str(threads))
        self._channel.send("cores", host=self._index, shares=shares, threads=threads_each)
        return shares

    def _start(self, local_rank: int, cores: list[int] | None) -> None:
        job = self._job
        rank = self._index * job.workers + local_rank
        # The first host aims at the second, for its own address leads to loopback.
        aim = job.hosts[1] if self._index == 0 and len(job.hosts) > 1 else job.meeting[0]
        world = World(rank, local_rank, job.world_size, job.workers)
        interface = job.interface or interface_towards(aim)
        variables = worker_variables(world, meeting=job.meeting, interface=interface)
        # What mpirun says of the agent is not true of the workers.
        # gloo warns where an address has no name, which is harmless.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMPI_", "PMIX_"))}
        self._workers[rank] = subprocess.Popen(
            [job.python, "-P", "-c", WORKER, job.source, *job.argv],
            cwd=job.cwd,
            env={
                **kept,
                **variables,
                jobs.VARIABLE: job.directory,
                heartbeat.VARIABLE: str(self._beats),
                clock.VARIABLE: repr(self._begun),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,  # mpirun signals the agent's whole group
            preexec_fn=partial(_as_worker, cores),
        )

    def _read(self, rank: int, stream: IO[bytes], is_error: bool) -> None:
        """Passes on what a worker says, until it ends."""
        with RankLog(Path(self._job.cwd, self._job.output_dir), rank) as log:
            for raw in stream:
                text = raw.decode("utf-8", "replace").rstrip("\r\n")
                log.add(text)
                self._channel.send_line(rank, text, is_error=is_error)

    def _watch(self) -> None:
        """Until all workers have ended; the rest is ended some time after the first failure."""
        failed_at: float | None = None
        beat_at = 0.0
        while len(self._ends) < len(self._workers):
            while self._asked:
                self._pass_on(self._asked.pop(0))
            for rank, worker in self._workers.items():
                if rank not in self._ends and (code := worker.poll()) is not None:
                    self._ends[rank] = code
                    if code and not self._has_killed:
                        self._beat()
                        failed_at = failed_at or time.monotonic()
                        self._channel.send("failing", rank=rank, code=code)
            if failed_at and time.monotonic() - failed_at > _LAST_GRACE_S:
                self._kill()
            if time.monotonic() - beat_at > _BEAT_EVERY_S:
                beat_at = time.monotonic()
                self._beat()
            time.sleep(_LOOK_EVERY_S)
        self._beat()

    def _beat(self) -> None:
        self._look_at_events()
        beats = {
            rank: [beat.step, beat.sums, beat.is_waiting, beat.has_lost]
            for rank, beat in heartbeat.read(self._beats).items()
        }
        self._channel.send("beat", host=self._index, ranks=beats)

    def _look_at_events(self) -> None:
        """Tells when the run has scored or saved: then its directory is worth bringing back."""
        if self._index:
            return
        size = 0
        output_dir = Path(self._job.cwd, self._job.output_dir)
        for path in (output_dir / "events.jsonl", *output_dir.glob("seed-*/events.jsonl")):
            with suppress(OSError), path.open("rb") as file:
                file.seek(self._seen.get(path, 0))
                new = file.read()
                self._seen[path] = self._seen.get(path, 0) + len(new)
                size += len(_WORTH.findall(new))
        if size:
            self._channel.send("saved", host=self._index)

    def _pass_on(self, number: int) -> None:
        for worker in self._workers.values():
            with suppress(ProcessLookupError):
                worker.send_signal(number)

    def _kill(self) -> None:
        self._has_killed = True  # what ends from now on is not the cause
        for worker in self._workers.values():
            if worker.poll() is None:
                worker.kill()

    def _give_up(self, number: int, frame: FrameType | None) -> None:
        """The job is being torn down; there is no time left to save."""
        del number, frame
        self._kill()


def _as_worker(cores: list[int] | None) -> None:
    """In the worker, before it runs: it keeps to its cores, and dies with its agent."""
    if sys.platform == "linux":
        if cores:
            os.sched_setaffinity(0, cores)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
