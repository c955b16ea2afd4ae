"""Starts a job's agents with Open MPI over ssh, one per host, and reads what they tell."""

import os
import queue
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from demo_bert import launchers
from demo_bert.errors import FailureError
from demo_bert.launch.channel import parse
from demo_bert.launch.host import START
from demo_bert.launch.remote import Program

INSTALL = "Open MPI is not installed: apt-get install openmpi-bin (or your system's package)"

_PASSED_PREFIXES = (
    *("DEMO_BERT_", "GLOO_", "NCCL_", "TORCH_NCCL_", "HCCL_", "HABANA_", "PT_HPU_", "OMP_"),
    "GOMP_",
    *("KMP_", "MKL_", "CUDA_VISIBLE", "HF_"),
)
_PASSED = (
    *("MULTI_HLS_IPS", "NUM_WORKERS_PER_HLS", "MPI_TPC_INCLUDE", "MPI_TCP_INCLUDE", "SSH_PORT"),
    *("DOCKER_SSHD_PORT", "MPI_MAP_BY", "MPI_MAP_BY_PE", "INPUT_FILES_PREFIX", "OUTPUT_DIR"),
    *("LOG_LEVEL_ALL", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY"),
    "NO_PROXY",
)
_OF_THIS_MACHINE = frozenset(
    ("DEMO_BERT_VENV", "DEMO_BERT_JOB", "DEMO_BERT_HEARTBEATS", "DEMO_BERT_BEGUN", "HF_HOME")
)
_SECRETS = ("TOKEN", "KEY", "SECRET", "PASSWORD")
_PR_SET_PDEATHSIG = 1


def passed_variables(environ: Mapping[str, str]) -> list[str]:
    """The environment variables that go to the hosts: those that matter, and no secret.

    Args:
        environ: The environment.

    Returns:
        Their names, sorted. One whose value holds credentials of an address stays here too.
    """
    return sorted(
        name
        for name, value in environ.items()
        if (name in _PASSED or name.startswith(_PASSED_PREFIXES))
        and name not in _OF_THIS_MACHINE
        and not any(word in name.upper() for word in _SECRETS)
        and not ("://" in value and "@" in value)
        and value
    )


def mpirun_line(
    hosts: Sequence[str],
    program: Program,
    *,
    directory: str,
    ssh_arguments: Sequence[str],
    command: str | None,
    interface: str | None,
    environ: Mapping[str, str],
) -> list[str]:
    """The command that starts the agents.

    Args:
        hosts: In the order of ranks.
        program: Where the program stands there.
        directory: The job's, on each host.
        ssh_arguments: What follows `ssh`.
        command: What the user gave instead of `mpirun`, with options of its own; None: nothing.
        interface: Between the hosts; None: Open MPI finds it.
        environ: The environment, of which what matters is passed on.

    Returns:
        The words.

    Raises:
        FailureError: Open MPI is not installed here.
    """
    words = shlex.split(command) if command else ["mpirun"]
    found = shutil.which(words[0])
    if found is None:
        raise FailureError(INSTALL if not command else f"MPIRUN_CMD: {words[0]}: not found")
    prefix = Path(found).parents[1]
    if prefix not in (Path("/usr"), Path("/usr/local"), Path("/")) and "--prefix" not in words:
        words += ["--prefix", str(prefix)]
    if os.geteuid() == 0:
        words.append("--allow-run-as-root")
    words += ["-np", str(len(hosts)), "-H", ",".join(hosts), "--map-by", "seq", "--bind-to", "none"]
    settings = {
        "plm_rsh_agent": "ssh",
        "plm_rsh_args": " ".join(ssh_arguments),
        "plm_rsh_no_tree_spawn": "1",  # only this machine needs to reach the hosts
        "orte_abort_on_non_zero_status": "0",  # else the first to end takes the others with it
    }
    if interface is not None and interface in launchers.addresses():
        settings["oob_tcp_if_include"] = interface
    for name, value in settings.items():
        words += ["--mca", name, value]
    for name in passed_variables(environ):
        words += ["-x", name]
    there = (program.python, "-P", "-c", START, program.source, "agent", directory)
    return [*words, "--wdir", "/", *there]


class Mpirun:
    """A running mpirun.

    Args:
        words: From `mpirun_line`.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            list(words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is ours to pass on
            preexec_fn=_stop_with_parent,
        )
        self._records: queue.Queue[dict[str, Any]] = queue.Queue()
        self._said: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=(stream,), daemon=True)
            for stream in (self._process.stdout, self._process.stderr)
        ]
        for reader in self._readers:
            reader.start()

    @property
    def said(self) -> list[str]:
        """What mpirun and ssh themselves said."""
        return self._said

    def records(self, *, wait_s: float) -> Iterator[dict[str, Any]]:
        """What agents have told since the last question.

        Args:
            wait_s: How long to wait for the first record.

        Yields:
            Records of `channel`.
        """
        with suppress(queue.Empty):
            yield self._records.get(timeout=wait_s)
            while True:
                yield self._records.get_nowait()

    def code(self) -> int | None:
        """Its exit code; None while it runs, or while what it said is not yet read."""
        code = self._process.poll()
        if code is None or any(reader.is_alive() for reader in self._readers):
            return None
        return code if self._records.empty() else None

    def signal(self, number: int) -> None:
        """Sends a signal, which mpirun forwards to all agents.

        Args:
            number: SIGUSR1 or SIGUSR2; others it keeps for itself.
        """
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    def end(self, *, grace_s: float = 3.0) -> None:
        """Ends it with its ssh, which it does not always do by itself.

        Args:
            grace_s: Between asking and killing.
        """
        family = [self._process.pid, *_descendants(self._process.pid)]
        if self._process.poll() is None:
            self.signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(grace_s)
        if self._process.poll() is None:
            for process in [*family, *_descendants(self._process.pid)]:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            self._process.wait()
        deadline = time.monotonic() + grace_s
        for reader in self._readers:
            reader.join(max(0.0, deadline - time.monotonic()))

    def _read(self, stream: IO[bytes]) -> None:
        for raw in stream:
            text = raw.decode("utf-8", "replace").rstrip("\r\n")
            record = parse(text)
            if record is not None:
                self._records.put(record)
            elif text.strip():
                self._said.append(text)


def _descendants(process: int) -> list[int]:
    """The processes that a process started, and those that they started."""
    found: list[int] = []
    with suppress(OSError, ValueError):
        for path in Path(f"/proc/{process}/task").glob("*/children"):
            for child in map(int, path.read_text("ascii").split()):
                found += [child, *_descendants(child)]
    return found


def _stop_with_parent() -> None:
    """Where the invoking process dies, the workers are asked to save and stop."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGUSR1)
