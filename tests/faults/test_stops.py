"""Stop requests in every stage: saved, exit code 75, resumed exactly; twice: at once, no damage.

./check tests/faults             8 requests
./check tests/faults --full      24, two signals at once in each stage, two workers
"""

import os
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest

from faults.runs import Kind, make_kind
from hub_process import environment
from hub_server import Repository, hub_server
from small_run import Program, events, read_json, start

TERM, INT, USR1 = signal.SIGTERM, signal.SIGINT, signal.SIGUSR1
AT_ONCE = ("starting", "reading", "making")
"""Stages in which nothing is to be saved."""

Request = tuple[str, signal.Signals | None]
"""Stage, and the signal that comes in it; None: the time limit ends in it."""

CHAINS: dict[str, tuple[Request, ...]] = {
    "finetuning": (
        ("starting", TERM),
        ("reading", INT),
        ("training", TERM),
        ("evaluating", INT),
        ("saving", USR1),
        ("reading", USR1),
        ("evaluating", USR1),
        ("training", None),
        ("saving", TERM),
    ),
    "pretraining": (
        ("training", USR1),
        ("evaluating", TERM),
        ("starting", INT),
        ("reading", TERM),
        ("saving", INT),
        ("training", INT),
        ("evaluating", None),
    ),
    "prepare": (
        ("making", None),
        ("making", TERM),
        ("making", INT),
        ("making", USR1),
        ("starting", TERM),
    ),
}
"""One request after the other, each to the run that goes on; with 3 in a download 24."""

OFTEN = {"finetuning": 4, "pretraining": 2, "prepare": 1}
"""How many of them always; with 1 in a download 8."""


AT_ONCE_S = 2.0


def seconds_to_end(process: subprocess.Popen[str], number: signal.Signals) -> float:
    """Sends a signal, waits for the end, and gives how long that took.

    What the process waited for a core while others had it is left out, so that the figure is that
    of a machine that has nothing else to do.
    """
    before_s, began_s = waited_for_a_core(process.pid), time.monotonic()
    process.send_signal(number)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    took_s = time.monotonic() - began_s
    return took_s - (waited_for_a_core(process.pid) - before_s)


def waited_for_a_core(pid: int) -> float:
    """Seconds so far, of the main thread."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except FileNotFoundError:  # a kernel that does not count it
        return 0.0


def wait_for(stage: str, process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    if stage == "starting":
        maps = Path(f"/proc/{process.pid}/maps")
        while not re.search("libtorch|tokenizers", maps.read_text()):  # its imports
            time.sleep(0.005)
        return
    for line in process.stderr:
        if line == f"## {stage}\n":
            return


def ask(kind: Kind, directory: Path, request: Request) -> tuple[int, str, float]:
    """Lets it come to the stage and asks it to stop: exit code, what it said, how long it took."""
    stage, number = request
    limit = "0.01s" if kind.name == "prepare" else "0.3s"  # all of its work takes 0.1 s
    more = () if number is not None else ("--max-time", limit)
    process = kind.start(directory, *more, is_marked=stage != "starting")
    with process:
        took_s = 0.0
        if number is not None:
            wait_for(stage, process)
            took_s = seconds_to_end(process, number)
        _, err = process.communicate(timeout=120)
    return process.returncode, err, took_s


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", CHAINS)
def test_a_request_in_any_stage_ends_with_75_and_the_run_goes_on_exactly(
    tmp_path: Path, name: str, is_full: bool
) -> None:
    kind = make_kind(name, tmp_path)
    kind.finish(tmp_path / "straight")
    directory = tmp_path / "run"
    requests = CHAINS[name] if is_full else CHAINS[name][: OFTEN[name]]
    for stage, number in requests:
        code, err, took_s = ask(kind, directory, (stage, number))
        assert code == 75, err
        (line,) = [line for line in err.splitlines() if "it goes on with: " in line]
        what = "the time limit" if number is None else number.name
        assert line.startswith(f"demo_bert: stopped by {what}")
        assert "Traceback" not in err
        assert stage not in AT_ONCE or took_s < AT_ONCE_S
        if is_full and number is not None:
            print(f"{name} {stage} {what}: {took_s:.2f} s")
    kind.finish(directory)
    kind.assert_same(directory, tmp_path / "straight")


def test_there_are_twenty_four() -> None:
    assert sum(map(len, CHAINS.values())) + 3 == 24
    assert sum(OFTEN.values()) + 1 == 8


def test_a_download_stops_at_once_and_the_same_command_fetches_it(
    program: Program, tmp_path: Path, is_full: bool
) -> None:
    files = {path.name: path.read_bytes() for path in program.model.iterdir()}
    argv = program.argv(tmp_path / "run", "-i", "4")
    argv[argv.index("-m") + 1] = "some/model"
    for number in (TERM, INT, USR1) if is_full else (TERM,):
        with hub_server() as server:
            server.repositories["some/model"] = Repository(files, behaviour="stall")
            home = environment(server.address, tmp_path / number.name)
            process = start(argv, tmp_path, environment=home)
            assert server.stalled.wait(60)
            took_s = seconds_to_end(process, number)
            _, err = process.communicate(timeout=60)
            assert process.returncode == 75, err
            last = err.splitlines()[-1]
            assert last.startswith(f"demo_bert: stopped by {number.name} before training began")
            assert took_s < AT_ONCE_S, "it waits for the server"
            assert not (tmp_path / "run").exists()
            with start(
                shlex.split(last.split("goes on with: ")[1])[1:], tmp_path, environment=home
            ) as again:
                _, err = again.communicate(timeout=120)
            assert again.returncode == 0, err
        print(f"download {number.name}: {took_s:.2f} s")
        (tmp_path / "run").rename(tmp_path / f"run-{number.name}")


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", CHAINS)
def test_two_signals_end_it_at_once_and_without_damage(
    tmp_path: Path, name: str, is_full: bool
) -> None:
    if not is_full:
        pytest.skip("with --full; one stage is in tests/commands/test_finetuning.py")
    kind = make_kind(name, tmp_path)
    kind.finish(tmp_path / "straight")
    directory = tmp_path / "run"
    for stage in dict.fromkeys(stage for stage, _ in CHAINS[name]):
        process = kind.start(directory, is_marked=stage != "starting")
        with process:
            wait_for(stage, process)
            process.send_signal(TERM)
            time.sleep(0.001)
            process.send_signal(TERM)
            began_s = time.monotonic()
            _, err = process.communicate(timeout=60)
        # The first may have done its work before the second came, or Python's own end was cut.
        assert process.returncode in (130, 75, -TERM), err
        print(f"{name} {stage} twice: {process.returncode}, {time.monotonic() - began_s:.2f} s")
    kind.finish(directory)
    kind.assert_same(directory, tmp_path / "straight")


@pytest.mark.timeout(3600)
def test_two_workers_stop_at_the_same_step_and_go_on_with_the_same_bits(
    tmp_path: Path, is_full: bool
) -> None:
    if not is_full:
        pytest.skip("with --full; SIGTERM to two workers is in tests/launch")
    kind = make_kind("finetuning", tmp_path)
    kind.finish(tmp_path / "straight", "-v", "2")
    directory = tmp_path / "run"
    for number, place in ((TERM, 1), (INT, 4), (USR1, 6), (TERM, None)):
        with kind.start(directory, "-v", "2", is_marked=False) as process:
            assert process.stderr is not None
            if place is None:
                time.sleep(4.0)  # the workers start
            else:
                for line in process.stderr:
                    if len(re.findall(r"^step +\d+/40  loss", line)) and not (place := place - 1):
                        break
            process.send_signal(number)
            _, err = process.communicate(timeout=120)
        assert process.returncode == 75, err
        assert f"stopped by {number.name}" in err
        assert "Traceback" not in err
    kind.finish(directory, "-v", "2")
    kind.assert_same(directory, tmp_path / "straight")
    steps = [event["step"] for event in events(directory, "step")]
    assert sorted(set(steps)) == steps == list(range(1, 41)), "a finished step was done twice"
    assert read_json(directory / "results.json")["world_size"] == 2
