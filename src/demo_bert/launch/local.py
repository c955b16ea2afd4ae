"""N workers on this host, under PyTorch's own agent."""

import logging
import os
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from demo_bert import clock, heartbeat
from demo_bert.choices import Duration
from demo_bert.launch import placement
from demo_bert.stopping import StoppedAtOnce

if TYPE_CHECKING:
    from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent

_LOG = logging.getLogger(__name__)
_MOST_BY_DEFAULT = 8
_FAILURE = 1
_LAST_WORDS = 20  # lines
_FIRST_SPEAKS_S = 5.0

WORKER = """
import sys
source = sys.argv.pop(1)
if source not in sys.path:
    sys.path.insert(0, source)
from demo_bert.cli import run
run()
"""
"""What a worker runs: the same program from the same place."""

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


def run_workers(
    argv: Sequence[str],
    *,
    num_workers: int,
    timeout: Duration,
    max_restarts: int = 0,
    cores: int | None = None,
) -> int:
    """Runs the same command line once for each worker and waits for all.

    Stop requests are passed on to the workers, which save and end by themselves. Workers that were
    killed are started again, all of them, and go on from the newest checkpoint.

    Args:
        argv: The program's arguments.
        num_workers: Workers to start.
        timeout: How long the workers may take to meet, or not answer.
        max_restarts: How often they are started again.
        cores: Of each worker; None: the host's, divided.

    Returns:
        The exit code of the worker that was the cause of the end; 1 where that one was killed.

    Raises:
        StoppedAtOnce: It was stopped before the workers listened.
    """
    from demo_bert.hardware.cpu import usable_cores

    shares = placement.shares_of(num_workers, each=cores)
    threads = len(shares[0]) if shares else max(1, usable_cores() // num_workers)
    _LOG.info(
        "%d workers on this host, threads of each: %s, cores: %s",
        *(num_workers, os.environ.setdefault("OMP_NUM_THREADS", str(threads))),
        placement.named(shares),
    )
    timeout_s = timeout.seconds or 600.0
    run: str | None = None
    begun = clock.command_start()
    for number in range(max_restarts + 1):
        end = _attempt(argv, num_workers=num_workers, timeout_s=timeout_s, run=run, begun=begun)
        if end.cause:
            _LOG.error("%s", end.cause)
        if not end.is_worth_another or number == max_restarts:
            return end.code
        run, begun = end.run or run, time.time()
        _LOG.warning("starting the workers again (%d of %d)", number + 1, max_restarts)
    raise AssertionError("the last attempt returns")


@dataclass(frozen=True)
class _End:
    """How an attempt ended: exit code, what to tell, whether to try again, the run directory."""

    code: int
    cause: str = ""
    is_worth_another: bool = False
    run: str | None = None


def _attempt(
    argv: Sequence[str], *, num_workers: int, timeout_s: float, run: str | None, begun: float
) -> _End:
    """Starts the workers once, and waits for all.

    Args:
        argv: The program's arguments.
        num_workers: Workers to start.
        timeout_s: How long they may not answer.
        run: The directory that they go on in.
        begun: Unix time at which the attempt began, for the run's wall time.

    Returns:
        How it ended.
    """
    with tempfile.TemporaryDirectory(prefix="demo_bert-workers-") as directory:
        beats = Path(directory, "beats")
        beats.mkdir()
        agent = _agent(
            ("-P", "-c", WORKER, str(_SOURCE), *argv),  # -P: nothing of the current directory
            num_workers=num_workers,
            timeout_s=timeout_s,
            directory=directory,
        )
        told = {heartbeat.VARIABLE: str(beats), clock.VARIABLE: repr(begun)}
        told |= {heartbeat.GOES_ON: run} if run else {}
        with _variables(told), _stop_requests_passed_on(agent) as requests:
            failures = agent.run().failures
        if not failures:
            return _End(0)
        codes = {rank: failure.exitcode for rank, failure in failures.items()}
        rank = min(codes, key=lambda rank: _as_cause(codes[rank], rank))
        code = codes[rank]
        if code < 0 and len(requests) > 1:
            raise KeyboardInterrupt
        if code < 0 and requests:
            raise StoppedAtOnce(signal.Signals(requests[0]).name)
        found = heartbeat.read(beats)
        step = found[rank].step if rank in found else -1
        if (silent := _silent(found, timeout_s=timeout_s)) is not None:
            last = max(found[silent].step, 0)
            what = f"worker {silent}: did not answer for {timeout_s:.0f} s; last step {last}"
            return _End(_FAILURE, what)
        words = _last_words(Path(directory), rank)
        if code < 0:
            after = f" after step {step}" if step >= 0 else ""
            cause = f"worker {rank}: killed by {signal.Signals(-code).name}{after}{words}"
            is_worth_another = code != -signal.SIGTERM
            return _End(_FAILURE, cause, is_worth_another, heartbeat.told_run(beats))
        return _End(code, f"worker {rank}: ended with {code}{words}" if rank > 0 else "")


@contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    """Within it the environment, which workers inherit, has these too."""
    os.environ |= values
    try:
        yield
    finally:
        for name in values:
            del os.environ[name]


def _silent(beats: Mapping[int, heartbeat.Beat], *, timeout_s: float) -> int | None:
    """The worker that the others waited for until they gave up; None where there is none.

    One that was killed is missed at once, one that hangs only after the time limit; PyTorch's agent
    kills it then, so that its end looks the same.
    """
    lost_at = max((beat.at for beat in beats.values() if beat.has_lost), default=0.0)
    silent = [
        rank
        for rank, beat in beats.items()
        if not beat.has_lost and lost_at - beat.at > 0.9 * timeout_s
    ]
    return min(silent, key=lambda rank: beats[rank].sums, default=None)


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
