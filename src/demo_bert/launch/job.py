"""What the invoking process, the agents and the workers of a job on several hosts agree on.

Standard library alone. It travels as a file, never on a command line.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

VARIABLE = "DEMO_BERT_JOB"
"""Names the job's file to its workers."""

_FILE = "job.json"


@dataclass(frozen=True)
class Job:
    """One attempt.

    Attributes:
        directory: The job's own directory, the same on each host.
        python: The interpreter on the hosts.
        source: The directory on the hosts that holds the package.
        cwd: Where the program runs on the hosts.
        argv: The program's arguments.
        hosts: Rank 0 is on the first.
        workers: On each host.
        meeting: Address and port of rank 0.
        interface: Between the hosts; None: the one towards the meeting point.
        map_by: What workers are placed by; None: as the agent sees fit.
        cores: Of each worker; None: the host's, divided.
        output_dir: The run directory, as the workers are to use it.
        global_batch_size: Of each phase, from the first attempt on; None: given by other means.
        is_shared: Whether all hosts see the same run directory.
        attempt: 0, 1, ...
        cause: Why the attempt before ended; empty in the first.
        spent_s: Seconds of the attempt before the job was made: the look at the hosts and what they
            were given. Clocks of hosts differ, so it is not the time of day.
        shown: Settings that were worked out when the job was made, for the opening table.
    """

    directory: str
    python: str
    source: str
    cwd: str
    argv: tuple[str, ...]
    hosts: tuple[str, ...]
    workers: int
    meeting: tuple[str, int]
    interface: str | None
    map_by: str | None
    cores: int | None
    output_dir: str
    global_batch_size: tuple[int, ...] | None
    is_shared: bool = False
    attempt: int = 0
    cause: str = ""
    spent_s: float = 0.0
    shown: dict[str, str] = field(default_factory=dict)

    @property
    def world_size(self) -> int:
        """Workers on all hosts."""
        return len(self.hosts) * self.workers

    def host_of(self, rank: int) -> str:
        """Where a worker runs.

        Args:
            rank: The worker's.

        Returns:
            The host, as the user named it.
        """
        return self.hosts[rank // self.workers]

    def as_dict(self) -> dict[str, Any]:
        """The job as plain values."""
        return asdict(self)

    def write(self, directory: Path) -> None:
        """Writes the job's file; only its owner may read it.

        Args:
            directory: The job's, on this host.
        """
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = directory / _FILE
        path.touch(mode=0o600)
        path.write_text(json.dumps(self.as_dict()), encoding="utf-8")


def from_dict(values: dict[str, Any]) -> Job:
    """A job of plain values.

    Args:
        values: From `Job.as_dict`, possibly through JSON.

    Returns:
        The job.
    """
    batch = values["global_batch_size"]
    whole: dict[str, Any] = {
        **values,
        "argv": tuple(values["argv"]),
        "hosts": tuple(values["hosts"]),
        "meeting": tuple(values["meeting"]),
        "global_batch_size": None if batch is None else tuple(batch),
    }
    return Job(**whole)


def read_job(directory: Path) -> Job:
    """Reads a job's file.

    Args:
        directory: The job's, on this host.

    Returns:
        The job.
    """
    return from_dict(json.loads((directory / _FILE).read_text("utf-8")))


def own_job() -> Job | None:
    """The job that this process is a worker of; None where no agent of ours started it."""
    directory = os.environ.get(VARIABLE)
    return read_job(Path(directory)) if directory else None
