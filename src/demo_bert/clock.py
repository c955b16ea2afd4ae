"""When the command began, so that a wall time leaves nothing out."""

import os
import time
from pathlib import Path

VARIABLE = "DEMO_BERT_BEGUN"
"""When the command began that started this worker, Unix time; set by the launcher."""

_IMPORTED = time.time()
_begun: list[float] = []


def begin_command() -> None:
    """A further command begins now in this process: the next stage of a pipeline."""
    _begun.append(time.time())


def command_start() -> float:
    """When the present command began.

    Returns:
        Unix time in seconds: of `begin_command`, else as the launcher says, else of the process.
    """
    if _begun:
        return _begun[-1]
    told = os.environ.get(VARIABLE)
    return float(told) if told else process_start()


def process_start() -> float:
    """When the kernel made this process.

    The launcher becomes the program without a new process, so this is when the user's command
    began.

    Returns:
        Unix time in seconds, on Linux exact to the kernel's tick; elsewhere, when this module was
        imported.
    """
    try:
        stat = Path("/proc/self/stat").read_text(encoding="utf-8")
        ticks = int(stat.rpartition(")")[2].split()[19])  # field 22, counted behind the name
        since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)
        return time.time() - since_boot + ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return _IMPORTED
