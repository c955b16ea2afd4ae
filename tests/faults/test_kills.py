"""kill -9 at random moments: the run ends with the bits of one that nothing disturbed.

./check tests/faults             10 kills
./check tests/faults --full      100
"""

import os
import random
import subprocess
import time
from pathlib import Path

import pytest

from corpus.stores import make_store
from small_run import (
    VOCABULARY,
    Program,
    events,
    losses,
    read_json,
    save_data,
    save_model,
    start,
    weights,
)

SAVE_EVERY = 3
FINE_TUNING = ("-i", "40", "-b", "4", "--global-batch-size", "10", "--eval-every", "7")
PRE_TRAINING = ("-i", "20", "12", "-b", "4", "3", "--global-batch-size", "10", "6")


def arguments(command: str, root: Path) -> list[str]:
    """A run of about forty steps, saved every three."""
    shared = ["-d", "fp32", "--device", "cpu", "-m", str(save_model(root / "model"))]
    shared += ["--log-every", "1", "--save-every", str(SAVE_EVERY), "--keep", "3"]
    if command == "finetuning":
        data = str(save_data(root / "data"))
        return [command, *shared, "-s", "24", "--dataset-path", data, *FINE_TUNING]
    documents = [[[5 + number % 9] * 6 for _ in range(9)] for number in range(33)]
    held_out = [number % 5 == 4 for number in range(33)]
    store = make_store(root / "store", [documents], held_out=[held_out], vocabulary=VOCABULARY)
    where = ["-t", "text", "--dataset-path", str(store), "-s", "16", "24"]
    return [command, *shared, *where, *PRE_TRAINING]


def kill_somewhere(process: subprocess.Popen[str], drawn: random.Random, whole_s: float) -> bool:
    """Kills the process after a random time or a random line, a moment later.

    Returns:
        Whether it was still there to be killed.
    """
    assert process.stderr is not None
    if drawn.random() < 0.4:
        try:
            process.wait(drawn.uniform(0.0, whole_s))
        except subprocess.TimeoutExpired:
            pass
    else:
        target = drawn.randint(1, 90)
        for number, _ in enumerate(process.stderr):
            if number == target:
                break
        time.sleep(drawn.uniform(0.0, 0.03))
    was_there = process.poll() is None
    process.kill()
    process.communicate()
    return was_there


@pytest.mark.parametrize("command", ["finetuning", "pretraining"])
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bits(
    program: Program, tmp_path: Path, command: str, num_kills: int
) -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    drawn = random.Random(seed)
    print(f"seed of the kills: {seed}")
    argv = arguments(command, tmp_path)
    straight = tmp_path / "straight"
    began = time.monotonic()
    with start([*argv, "-o", str(straight)], tmp_path) as process:
        _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    whole_s = time.monotonic() - began
    kills = runs = 0
    while kills < num_kills // 2:
        runs += 1
        directory = tmp_path / f"run-{runs}"
        while not (directory / "model").exists() and kills < num_kills // 2:
            kills += kill_somewhere(start([*argv, "-o", str(directory)], tmp_path), drawn, whole_s)
        last = program.call(*argv, "-o", str(directory))
        assert last.code == 0, last.err
        assert weights(directory) == weights(straight)
        assert losses(directory) == losses(straight)
        found, expected = (read_json(path / "results.json") for path in (directory, straight))
        assert found["metrics"] == expected["metrics"]
        assert_little_was_lost(directory)


def assert_little_was_lost(directory: Path) -> None:
    """No attempt did more than the save interval's steps again."""
    done = 0
    for event in events(directory):
        if event["event"] in ("start", "resume"):
            resumed = event["step"] if event["event"] == "resume" else 0
            assert done - resumed <= SAVE_EVERY
        if event["event"] == "step":
            done = event["step"]
