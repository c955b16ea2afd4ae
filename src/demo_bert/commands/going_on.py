"""The command that goes on with what was stopped.

Imports nothing heavy, for a stop may come before that is there.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from demo_bert.run_directory import RunDirectory
from demo_bert.settings import TrainingSettings, redact


def program() -> str:
    """How the user calls the program: the launcher of a checkout by its path, else by name."""
    called = Path(sys.argv[0])
    if called.name != "demo_bert" or not (called.parent / "src" / "demo_bert").is_dir():
        return "demo_bert"
    is_here = called.resolve().parent == Path.cwd()
    return "./demo_bert" if is_here else str(called)


def same_command(argv: Sequence[str]) -> str:
    """The command that was called.

    Args:
        argv: The program's arguments.

    Returns:
        One line for a shell, without secrets.
    """
    return shlex.join([program(), *map(redact, argv)])


def going_on_command(
    name: str, argv: Sequence[str], settings: TrainingSettings, directory: RunDirectory
) -> str:
    """The command that goes on with a stopped run.

    Args:
        name: The command's name.
        argv: The program's arguments.
        settings: As resolved from them.
        directory: The run's, or the one above those of the seeds.

    Returns:
        One line for a shell: the same command where it finds the directory and its newest
        checkpoint again, else one that names the directory, whose record has the rest.
    """
    if settings.resume == "auto" and not settings.new:
        return same_command(argv)
    command = [program(), name, "-o", str(directory.path)]
    if settings.workers is not None:
        command += ["-v"] if settings.workers == "auto" else ["-v", str(settings.workers)]
    return shlex.join(command)
