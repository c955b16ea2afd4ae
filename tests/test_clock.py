"""The beginning of a process."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from demo_bert import clock
from small_run import ENVIRONMENT


def test_a_process_knows_when_it_began_also_after_it_became_another_program() -> None:
    code = "from demo_bert.clock import process_start; print(process_start())"
    become = f"import os, sys; os.execv(sys.executable, ['another', '-c', {code!r}])"
    before = time.time()
    done = subprocess.run(
        [sys.executable, "-c", become], env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    tick = 0.05
    assert before - tick <= float(done.stdout) <= time.time()


def test_without_the_kernels_word_it_is_the_time_of_the_import(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(path: Path, encoding: str) -> str:
        raise FileNotFoundError(path, encoding)

    monkeypatch.setattr(Path, "read_text", missing)
    assert 0 <= time.time() - clock.process_start() < 3600


def test_a_worker_began_when_the_command_did_that_started_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(clock.VARIABLE, repr(1234.5))
    assert clock.command_start() == 1234.5
    monkeypatch.setattr(clock, "_begun", [2345.5])
    assert clock.command_start() == 2345.5
