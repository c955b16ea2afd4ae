"""Calls of one function in several processes, each result handed over when it is there."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from demo_bert.errors import DemoBertError, FailureError

_FROM_THE_TERMINAL = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


def each(
    function: Callable[..., Any],
    calls: Sequence[tuple[Any, ...]],
    *,
    num_workers: int,
    poll_s: float = 1.0,
) -> Generator[tuple[int, Any] | None]:
    """Calls the function with each of the arguments; the order of results is not that of calls.

    Args:
        function: Of a module's top level; so it can be sent to another process.
        calls: Arguments of each call, which are sent as well.
        num_workers: Processes. They end when the iterator is closed, and when this process dies.
        poll_s: The longest time without an item.

    Yields:
        The number of a call and its result, or None where no call has ended for a while.

    Raises:
        DemoBertError: A call raised it; the other calls in progress are given up.
        FailureError: A process died.
    """
    context = multiprocessing.get_context("spawn")
    processes: dict[Connection, BaseProcess] = {}
    waiting = list(enumerate(calls))[::-1]
    try:
        for _ in range(min(num_workers, len(calls))):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(function, theirs), daemon=True)
            process.start()
            theirs.close()
            processes[ours] = process
        # What is sent may be more than a pipe holds, so all are started before.
        for ours in processes:
            ours.send(waiting.pop())
        busy = set(processes)
        while busy:
            ready = wait(busy, timeout=poll_s)
            if not ready:
                yield None
            for ours in ready:
                assert isinstance(ours, Connection)
                number, result = _received(ours, processes[ours])
                if waiting:
                    ours.send(waiting.pop())
                else:
                    busy.discard(ours)
                yield number, result
    finally:
        for process in processes.values():
            process.kill()
        for ours, process in processes.items():
            process.join()
            ours.close()


def _received(ours: Connection, process: BaseProcess) -> tuple[int, Any]:
    try:
        number, result = ours.recv()
    except (EOFError, ConnectionResetError) as error:
        process.join()
        raise FailureError(
            f"a worker ended with exit code {process.exitcode} (-9: killed, often for want of"
            " memory); what is finished is kept: give the same command again, with fewer workers"
            " where memory is short"
        ) from error
    if isinstance(result, DemoBertError):
        raise result
    return number, result


def _work(function: Callable[..., Any], theirs: Connection) -> None:
    """A process: calls until the other side has gone; it dies with it, in the middle of a call."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    if wait([parent.sentinel], timeout=0):
        # What is in the pipe is for the next start, which may be there already.
        return
    threading.Thread(target=_end_after, args=(parent.sentinel,), daemon=True).start()
    for number in _FROM_THE_TERMINAL:
        signal.signal(number, signal.SIG_IGN)
    try:
        while True:
            number, arguments = theirs.recv()
            try:
                result = function(*arguments)
            except DemoBertError as error:
                result = error
            theirs.send((number, result))
    except (EOFError, OSError):
        return


def _end_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
