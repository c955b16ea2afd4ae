"""Workers die with the process that started them, wherever they are."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from small_run import ENVIRONMENT

SLEEPING = """
import time
from demo_bert.corpus.workers import each
if __name__ == "__main__":
    for _ in each(time.sleep, [(60,), (60,)], num_workers=2, poll_s=0.1):
        print("waits", flush=True)
"""


def is_alive(pid: str) -> bool:
    """Whether it runs; one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("is_busy", [True, False], ids=["in a call", "while they start"])
def test_workers_die_with_a_process_that_is_killed(tmp_path: Path, is_busy: bool) -> None:
    script = tmp_path / "sleeping.py"
    script.write_text(SLEEPING)
    with subprocess.Popen(
        [sys.executable, str(script)], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        for _ in range(10 if is_busy else 1):
            assert process.stdout.readline() == "waits\n"
        pids = children.read_text().split()
        process.kill()
    assert len(pids) >= 2
    until_s = time.monotonic() + 20
    while alive := [pid for pid in pids if is_alive(pid)]:
        assert time.monotonic() < until_s, alive
        time.sleep(0.02)
