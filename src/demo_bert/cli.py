"""The command line: reads it, checks it, prepares the environment, and runs one command.

The standard library alone, up to the command itself; and each part is imported when it is its turn,
for the help must answer in a blink.
"""

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from demo_bert import __version__
from demo_bert.commands import COMMANDS
from demo_bert.errors import DemoBertError, StopRequested, UsageError

if TYPE_CHECKING:
    from demo_bert.settings.argv import CommandLine
    from demo_bert.settings.origin import Origin
    from demo_bert.settings.typed import Settings

_FAILURE = 1
_INTERRUPTED = 130
_WIDTHS = (60, 100)
_MOST_CHARACTERS = 1500
_NOT_HERE = "Not here yet"


def run(*, prepare_environment: Callable[[], None] | None = None) -> None:
    """The program `demo_bert`: runs the command line and exits.

    Args:
        prepare_environment: See `main`.
    """
    code = main(sys.argv[1:], prepare_environment=prepare_environment)
    for number in (signal.SIGINT, signal.SIGTERM):
        # All is said and done: taking the interpreter down, which lasts, is no work to interrupt.
        signal.signal(number, lambda *_: os._exit(code))
    sys.exit(code)


def main(argv: Sequence[str], *, prepare_environment: Callable[[], None] | None = None) -> int:
    """Runs a command line.

    Args:
        argv: The arguments, without the program's name.
        prepare_environment: Makes sure that the packages are there; called at most once, when all
            that can be checked without them is right. It may replace the process. None: they are
            there.

    Returns:
        The exit code: 0 done; 2 the user's mistake; 1 a failure; 75 stopped on request with a
        checkpoint saved; 130 interrupted.

    Raises:
        Exception: A bug; its traceback is for us.
    """
    try:
        code = _run(list(argv), cache(prepare_environment or _nothing))
        sys.stdout.flush()
        return code
    except DemoBertError as error:
        if isinstance(error, StopRequested):
            if _is_first():  # all workers stop, and for the same reason
                _say(f"demo_bert: {error}")
        else:
            _say(f"demo_bert: error: {error}", most=_MOST_CHARACTERS)
        return error.exit_code
    except KeyboardInterrupt:
        _say("demo_bert: interrupted")
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader has gone. What is still buffered must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILURE


def _run(argv: list[str], prepare_environment: Callable[[], None]) -> int:
    if not argv or argv in (["help"], ["-h"], ["--help"]):
        print(_help(None), end="")
        return 0
    from demo_bert.settings.argv import read_argv

    line = read_argv(argv, COMMANDS)
    if line.wants_version:
        print(f"demo_bert {__version__}")
        return 0
    if line.command is None and line.problems:
        raise UsageError("; ".join(line.problems))
    if line.command is None or line.wants_help:
        print(_help(line.command), end="")
        return 0
    if not COMMANDS[line.command].is_delivered:
        raise UsageError("; ".join((*line.problems, _not_here_yet(line.command))))
    settings, origins = _settings(line, line.command, prepare_environment)
    prepare_environment()
    _warn(line.command, settings, origins)
    return import_module(COMMANDS[line.command].module).run(settings, origins, argv)


def _settings(
    line: "CommandLine", command: str, prepare_environment: Callable[[], None]
) -> "tuple[Settings, Mapping[str, Origin]]":
    """Resolves the settings; a YAML file wants a package, so the environment comes first then."""
    try:
        return _resolved(line, command)
    except ImportError as error:
        if error.name != "yaml":
            raise
    prepare_environment()
    try:
        return _resolved(line, command)
    except ImportError as error:
        raise UsageError(
            "--config: reading YAML needs the package pyyaml; install it, or write the file as TOML"
        ) from error


def _resolved(line: "CommandLine", command: str) -> "tuple[Settings, Mapping[str, Origin]]":
    from demo_bert.settings.recorded import read_recorded
    from demo_bert.settings.resolution import resolve, run_dir_of
    from demo_bert.tasks import PLANNED, TASKS

    run_dir = run_dir_of(command, line.given, os.environ)
    return resolve(
        command,
        line.given,
        os.environ,
        tasks=tuple(TASKS),
        planned_tasks=PLANNED,
        recorded=read_recorded(run_dir) if run_dir else None,
        problems=line.problems,
    )


def _warn(command: str, settings: "Settings", origins: "Mapping[str, Origin]") -> None:
    from demo_bert.settings.environment import environment_warning
    from demo_bert.settings.recorded import values_of

    warning = environment_warning(command, values_of(settings), origins, environ=os.environ)
    if warning and _is_first():
        _say(f"demo_bert: warning: {warning}")


def _is_first() -> bool:
    """Whether this process is the first of several workers, or alone."""
    return bool(import_module("demo_bert.launchers").place().is_first)


def _help(command: str | None) -> str:
    from demo_bert.settings import help as texts

    if command is None:
        rows = [
            (line.group if line.is_delivered else _NOT_HERE, name, line.help)
            for name, line in COMMANDS.items()
        ]
        rows.sort(key=lambda row: row[0] == _NOT_HERE)
        return texts.program_help(rows, width=_width())
    from demo_bert.tasks import TASKS

    line = COMMANDS[command]
    summary = line.help if line.is_delivered else f"{line.help} (not here yet)"
    return texts.command_help(
        command, summary, examples=line.examples, tasks=tuple(TASKS), width=_width()
    )


def _not_here_yet(command: str) -> str:
    there = ", ".join(name for name, line in COMMANDS.items() if line.is_delivered)
    return f"{command} is not here yet; there are {there}"


def _width() -> int:
    """Columns of the terminal, within reason; 80 where there is none."""
    try:
        columns = int(os.environ.get("COLUMNS") or os.get_terminal_size(sys.stdout.fileno())[0])
    except (OSError, ValueError):
        columns = 80
    return min(max(columns, _WIDTHS[0]), _WIDTHS[1])


def _say(text: str, *, most: int | None = None) -> None:
    """One line on standard error, without secrets, its middle left out where it is too long."""
    from demo_bert.settings.origin import redact

    line = redact(" ".join(text.splitlines()))
    if most is not None and len(line) > most:  # it may quote all of a damaged file
        line = f"{line[: most // 2]} ... {line[-most // 2 :]}"
    print(line, file=sys.stderr, flush=True)


def _nothing() -> None:
    pass
