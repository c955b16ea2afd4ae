"""The environment of a checkout, made by one process at a time, or found ready."""

import errno
import fcntl
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from demo_bert.bootstrap.existing_torch import find_torch
from demo_bert.bootstrap.lines import Lines
from demo_bert.bootstrap.place import Place, require_fit, work_left
from demo_bert.errors import DiskError, UserError

_INTERRUPTED = 130
_KILLED_BY = 128


class _Stopped(BaseException):
    """A signal asks this process to end."""

    def __init__(self, signum: int) -> None:
        super().__init__()
        self.signum = signum


def ensure(root: Path) -> None:
    """Makes sure that this process runs in the checkout's environment, which it makes where needed.

    Where it runs elsewhere, the process is replaced by the same command in the environment, so
    this returns only once it runs inside.

    Args:
        root: The checkout.

    Raises:
        UserError: This Python cannot make environments, the directory is not ours or not writable.
        FailureError: pip failed, or the disk is full.
        SystemExit: Interrupted, or stopped by a signal; a line has said so.
    """
    place = Place.of(root)
    _make_ready(place, with_tools=False)
    if not place.is_running():
        _become(str(place.python))


def ensure_for_development(root: Path) -> Path:
    """Makes the checkout's environment with the tools of ``./check`` in it.

    Args:
        root: The checkout.

    Returns:
        The environment's interpreter.

    Raises:
        UserError: As `ensure`.
        FailureError: As `ensure`.
        SystemExit: As `ensure`.
    """
    place = Place.of(root)
    _make_ready(place, with_tools=True)
    return place.python


def _make_ready(place: Place, *, with_tools: bool) -> None:
    work = work_left(place, with_tools=with_tools)
    if place.is_running():
        if work == "none":
            return
        # What this interpreter finds is the environment's own: the one below it has to look.
        below = Path(sys.executable).resolve()
        if not below.is_relative_to(place.directory.resolve()):
            _become(str(below))
        raise UserError(
            f"{place.directory} is running this and cannot be brought up to date meanwhile;"
            " deactivate it, or run another python, then call again"
        )
    kept, passed_over = find_torch(sys.path, place.root / "pyproject.toml")
    require_fit(place, None if work == "all" else kept)
    if work == "none":
        return
    # Imported here, as it takes longer than all of the above.
    from demo_bert.bootstrap.making import Making, require_room

    lines = Lines(sys.stderr)
    try:
        if work == "all":
            require_room(place)
        with _ended_by_signals(), _one_at_a_time(place, lines) as lock:
            work = work_left(place, with_tools=with_tools)
            if work != "none":
                making = Making(place, lock=lock, lines=lines, with_tools=with_tools)
                making.run(work, kept, passed_over=passed_over)
    except OSError as error:
        raise _explained(error, place) from error
    except KeyboardInterrupt:
        lines.say("interrupted; call again to go on")
        raise SystemExit(_INTERRUPTED) from None
    except _Stopped as stopped:
        lines.say(f"stopped by {signal.Signals(stopped.signum).name}; call again to go on")
        raise SystemExit(_KILLED_BY + stopped.signum) from None


@contextmanager
def _one_at_a_time(place: Place, lines: Lines) -> Iterator[int]:
    """Holds the lock; yields its descriptor, which the processes that we start share."""
    place.lock.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(place.lock, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, 100, 0).decode(errors="replace").strip() or "another process"
            lines.say(f"{holder} is making {place.directory}; waiting until it is done")
            fcntl.flock(lock, fcntl.LOCK_EX)
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"process {os.getpid()} on {os.uname().nodename}\n".encode(), 0)
        yield lock
    finally:
        os.close(lock)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Turns signals that ask for an end into an exception, so that what was started ends too."""

    def stop(signum: int, _frame: FrameType | None) -> None:
        raise _Stopped(signum)

    before = {
        signum: signal.signal(signum, stop)
        for signum in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(signum) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _explained(error: OSError, place: Place) -> DiskError | UserError:
    path = error.filename or place.directory
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
        return UserError(
            f"{path}: cannot be written ({error.strerror}); set DEMO_BERT_VENV to a directory that"
            " can be made and written"
        )
    return DiskError(f"{path}: {error.strerror}; make room or set DEMO_BERT_VENV, then call again")


def _become(python: str) -> NoReturn:
    """Runs the same command line under another interpreter, in this process."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(python, [python, *sys.orig_argv[1:]])
