"""kill -9 at random moments of every stage: the end has the bits of what nothing disturbed.

./check tests/faults             10 kills
./check tests/faults --full      100
"""

import random
import subprocess
import time
from pathlib import Path

import pytest

from faults.runs import KINDS, SAVE_EVERY, Kind, make_kind, seed_of_the_drill
from small_run import events

STAGES = ("starting", "reading", "training", "saving", "evaluating", "ending")
SHARES = {"finetuning": 0.4, "pretraining": 0.4, "prepare": 0.2}


def kill_in(stage: str, process: subprocess.Popen[str], drawn: random.Random) -> bool:
    """Kills the process at a random moment of a stage, if it comes to it.

    Returns:
        Whether it was still there to be killed.
    """
    assert process.stderr is not None
    if stage == "starting":
        try:
            process.wait(drawn.uniform(0.0, 2.5))
        except subprocess.TimeoutExpired:
            pass
    else:
        left = drawn.randint(1, 8) if stage in ("training", "saving", "making") else 1
        for line in process.stderr:
            left -= line == f"## {stage}\n"
            if not left:
                break
        time.sleep(drawn.uniform(0.0, 0.05))
    code = process.poll()
    process.kill()
    process.communicate()
    assert code in (None, 0), "it failed by itself"
    return code is None


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", KINDS)
def test_what_is_killed_again_and_again_ends_with_the_same_bits(
    tmp_path: Path, name: str, num_kills: int
) -> None:
    drawn = random.Random(seed_of_the_drill())
    kind = make_kind(name, tmp_path)
    kind.finish(tmp_path / "straight")
    wanted = round(num_kills * SHARES[name])
    stages = [stage for stage in STAGES if name != "prepare"] or ["starting", "making", "making"]
    drawn.shuffle(stages)
    done: dict[str, int] = {}
    attempts = runs = 0
    while sum(done.values()) < wanted:
        runs += 1
        directory = tmp_path / f"run-{runs}"
        in_background = False
        while not kind.is_finished(directory) and sum(done.values()) < wanted:
            stage = stages[attempts % len(stages)]
            attempts += 1
            in_background = not in_background
            process = kind.start(directory, in_background=in_background and name != "prepare")
            if kill_in(stage, process, drawn):
                done[stage] = done.get(stage, 0) + 1
        kind.finish(directory)
        kind.assert_same(directory, tmp_path / "straight")
        if name != "prepare":
            assert_little_was_lost(directory)
    print(f"{name}: {done} in {runs} runs")


def assert_little_was_lost(directory: Path) -> None:
    """No attempt did more than the save interval's steps again.

    Every other attempt saves in the background, as it does a state of 64 MB or more.
    """
    done = 0
    for event in events(directory):
        if event["event"] in ("start", "resume"):
            resumed = event["step"] if event["event"] == "resume" else 0
            assert done - resumed <= SAVE_EVERY
        if event["event"] == "step":
            done = event["step"]


def test_the_kinds_of_runs_take_all_kills() -> None:
    assert sum(SHARES.values()) == pytest.approx(1)
    assert Kind("prepare", ()).is_finished(Path("/nowhere")) is False
