"""N workers on this host, under PyTorch's own agent."""

import logging
import os
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from demo_bert.choices import Duration
from demo_bert.stopping import StoppedAtOnce

if TYPE_CHECKING:
    from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent

_LOG = logging.getLogger(__name__)
_MOST_BY_DEFAULT = 8
_FAILURE = 1
_LAST_WORDS = 20  # lines
_FIRST_SPEAKS_S = 5.0

# What a worker runs: the same program from the same place.
_WORKER = """
import sys
source = sys.argv.pop(1)
if source not in sys.path:
    sys.path.insert(0, source)
from demo_bert.cli import run
run()
"""
_SOURCE = Path(__file__).parents[2]


def num_local_workers(asked: int | str, *, device: str, bytes_each: int | None) -> int:
    """How many workers `-v` starts here.

    Args:
        asked: A number, or "auto" for `-v` alone.
        device: As `--device` gives it.
        bytes_each: Memory that a worker needs where the host's is what it uses; None: not known.

    Returns:
        The number; "auto" is the host's accelerators, else 8 but not more than its cores nor than
        fit in its free memory.
    """
    if isinstance(asked, int):
        return asked
    from demo_bert.hardware import select
    from demo_bert.hardware.cpu import usable_cores

    backend = select(device)
    if backend.name != "cpu":
        return backend.device_count()
    most = min(_MOST_BY_DEFAULT, usable_cores())
    free = backend.free_memory_bytes()
    if bytes_each is None or free is None or most * bytes_each <= free:
        return most
    fitting = max(1, free // bytes_each)
    _LOG.info(
        "%d of %d workers fit in the %.1f GB of free memory, at about %.1f GB each",
        *(fitting, most, free / 1e9, bytes_each / 1e9),
    )
    return fitting


def run_workers(argv: Sequence[str], *, num_workers: int, timeout: Duration) -> int:
    """Runs the same command line once for each worker and waits for all.

    Stop requests are passed on to the workers, which save and end by themselves.

    Args:
        argv: The program's arguments.
        num_workers: Workers to start.
        timeout: How long the workers may take to meet.

    Returns:
        The exit code of the worker that was the cause of the end; 1 where that one was killed.

    Raises:
        StoppedAtOnce: It was stopped before the workers listened.
    """
    from demo_bert.hardware.cpu import usable_cores

    threads = max(1, usable_cores() // num_workers)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    threads_each = os.environ["OMP_NUM_THREADS"]
    _LOG.info("%d workers on this host, threads of each: %s", num_workers, threads_each)
    with tempfile.TemporaryDirectory(prefix="demo_bert-workers-") as directory:
        agent = _agent(
            ("-P", "-c", _WORKER, str(_SOURCE), *argv),  # -P: nothing of the current directory
            num_workers=num_workers,
            timeout_s=timeout.seconds or 600.0,
            directory=directory,
        )
        with _stop_requests_passed_on(agent) as requests:
            failures = agent.run().failures
        if not failures:
            return 0
        codes = {rank: failure.exitcode for rank, failure in failures.items()}
        rank = min(codes, key=lambda rank: _as_cause(codes[rank], rank))
        code = codes[rank]
        if code < 0 and requests:
            raise StoppedAtOnce(signal.Signals(requests[0]).name)
        if rank > 0 or code < 0:
            end = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
            _LOG.error("worker %d: %s%s", rank, end, _last_words(Path(directory), rank))
    return code if code > 0 else _FAILURE


def let_first_speak(rank: int) -> None:
    """Keeps a worker that fails alive for a moment, as the first one to end ends all.

    What the first worker says is what the user sees, and most errors are the same for all.

    Args:
        rank: This worker's; the first does not wait.
    """
    if rank > 0:
        time.sleep(_FIRST_SPEAKS_S)


def _agent(
    arguments: Sequence[str], *, num_workers: int, timeout_s: float, directory: str
) -> "LocalElasticAgent":
    """The agent for one job of fixed size, with a rendezvous of its own."""
    from torch.distributed.elastic.agent.server.api import WorkerSpec
    from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
    from torch.distributed.elastic.rendezvous import RendezvousParameters
    from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    rendezvous = RendezvousParameters(
        backend="c10d",
        endpoint="127.0.0.1:0",
        run_id=uuid.uuid4().hex,
        min_nodes=1,
        max_nodes=1,
        local_addr="127.0.0.1",
        timeout=timeout_s,
    )
    spec = WorkerSpec(
        role="worker",
        local_world_size=num_workers,
        rdzv_handler=get_rendezvous_handler(rendezvous),
        entrypoint=sys.executable,
        args=tuple(argument.replace("$", "$$") for argument in arguments),  # it fills in templates
        max_restarts=0,
        monitor_interval=0.1,
        local_addr="127.0.0.1",
    )
    # Rank 0 speaks; what the others print lies in files while they run.
    quiet = {rank: Std.ALL for rank in range(1, num_workers)}
    return LocalElasticAgent(spec, DefaultLogsSpecs(log_dir=directory, redirects=quiet))


@contextmanager
def _stop_requests_passed_on(agent: "LocalElasticAgent") -> Iterator[list[int]]:
    """Sends workers the signals that ask them to stop; the third one ends this process too.

    Yields:
        The signals that came.
    """
    # The agent would not let the workers finish their step and their checkpoint.
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = "SIGQUIT"
    requests: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        del frame
        requests.append(number)
        workers = [worker.id for worker in agent.get_worker_group().workers if worker.id]
        if len(requests) > 2:
            raise KeyboardInterrupt
        if not workers:
            raise StoppedAtOnce(signal.Signals(number).name)
        for process in workers:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM if number == signal.SIGHUP else number)

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
    before = {
        number: signal.signal(number, pass_on)
        for number in numbers
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _as_cause(code: int, rank: int) -> tuple[bool, bool, int]:
    """Sorts ends of workers: those that others brought about come last."""
    return code == -signal.SIGTERM, code == _FAILURE, rank


def _last_words(directory: Path, rank: int) -> str:
    """The end of what a worker wrote to standard error; empty where there is nothing."""
    lines: list[str] = []
    for path in directory.glob(f"**/{rank}/stderr.log"):
        lines += path.read_text("utf-8", "replace").splitlines()[-_LAST_WORDS:]
    return "".join(f"\n  {line}" for line in lines)
