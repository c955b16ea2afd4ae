"""Programs that several real processes run together over gloo."""

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from small_run import ENVIRONMENT

TESTS = Path(__file__).parents[1]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def answers(program: str, *arguments: str, count: int) -> list[Any]:
    """Runs a program in so many processes, to which its first arguments are rank and a port.

    Args:
        program: Python source; it prints one line of JSON.
        *arguments: More arguments.
        count: Processes.

    Returns:
        What each printed, by rank.
    """
    environment = ENVIRONMENT | {"MASTER_ADDR": "127.0.0.1"}
    environment["PYTHONPATH"] += f":{TESTS}"
    port = str(free_port())
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", program, str(rank), port, *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    try:
        outputs = [process.communicate(timeout=100) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [p.returncode for p in processes] == [0] * count, "\n".join(e for _, e in outputs)
    return [json.loads(output) for output, _ in outputs]
