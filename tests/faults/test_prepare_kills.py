"""kill -9 of `prepare` with 1, 2 or 7 workers: the same store, and no finished part made again.

./check tests/faults/test_prepare_kills.py           3 kills
./check tests/faults/test_prepare_kills.py --full    30
"""

import bz2
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from corpus.recipes import VOCABULARY, prose, write_books
from faults.runs import seed_of_the_drill
from small_run import ENVIRONMENT, contents

VICTIMS = ("process", "process and workers", "worker")
MOMENTS = ("starting", "parts", "shards")
WORKERS = (2, 7, 1)
_PAGE = "<page><title>P{0}</title><ns>0</ns><revision><text>{1}</text></revision></page>\n"


def write_sources(root: Path, num_sentences: int) -> list[str]:
    """A dump of several streams, books, JSON lines, texts; some documents come twice or nearly."""
    texts = [prose(seed, num_sentences) for seed in range(8)]
    near = [text.replace("a", "e", 3) for text in texts[:3]]
    pages = [_PAGE.format(number, text) for number, text in enumerate((*texts[:4], near[0]))]
    dump = root / "dump.xml.bz2"
    dump.write_bytes(b"".join(bz2.compress(one.encode()) for one in ("<mediawiki>", *pages)))
    lines = root / "lines.jsonl"
    lines.write_text("".join(json.dumps({"text": text}) + "\n" for text in (*texts[2:6], near[1])))
    words = ["--wikipedia", str(dump), "--jsonl", str(lines)]
    for number in range(2):
        books = write_books(root / f"books-{number}", 4, num_sentences=num_sentences)
        words += ["--books", str(books)]
    for number, text in enumerate((*texts[4:], near[2])):
        (root / f"{number}.txt").write_text(text)
        words += ["--text", str(root / f"{number}.txt")]
    (root / "vocab.txt").write_text("".join(f"{entry}\n" for entry in VOCABULARY))
    return [*words, "--vocab", str(root / "vocab.txt")]


@contextmanager
def prepare(sources: list[str], store: Path, workers: int) -> Iterator[subprocess.Popen[str]]:
    """The command, in a process group of its own."""
    command = [sys.executable, "-m", "demo_bert", "prepare", *sources, "-o", str(store)]
    with subprocess.Popen(
        [*command, "-v", str(workers)],
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            # Workers of a process that was killed are left to themselves: the drill is about them.
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def finished_parts(store: Path) -> dict[str, tuple[int, int]]:
    """What tells a finished part from the same part made again."""
    found = {}
    for record in (store / "work").glob("part-*/part.json"):
        with suppress(FileNotFoundError):  # the store is finished just now
            state = record.stat()
            found[record.parent.name] = (state.st_ino, state.st_mtime_ns)
    return found


def await_moment(
    process: subprocess.Popen[str], store: Path, moment: str, drawn: random.Random
) -> None:
    """Returns at a random time of a stage, or when the process has ended."""
    if moment == "starting":
        with suppress(subprocess.TimeoutExpired):
            process.wait(drawn.uniform(0.0, 4.0))
        return
    if moment == "parts":
        wanted = len(finished_parts(store)) + drawn.randint(0, 2)
        while process.poll() is None and len(finished_parts(store)) < wanted:
            time.sleep(0.002)
    else:
        while process.poll() is None and not any(store.glob("shard-*")):
            time.sleep(0.002)
    time.sleep(drawn.uniform(0.0, 0.3 if moment == "parts" else 0.02))


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """Its children that make parts and shards."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    found = []
    for pid in children.read_text().split() if children.exists() else []:
        with suppress(OSError):
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(int(pid))
    return found


def kill(process: subprocess.Popen[str], victim: str, drawn: random.Random) -> bool:
    """Kills; whether there was something to be killed."""
    if process.poll() is not None:
        return False
    if victim == "worker":
        workers = workers_of(process)
        if not workers:
            return False
        with suppress(ProcessLookupError):
            os.kill(drawn.choice(workers), signal.SIGKILL)
        _, err = process.communicate(timeout=120)
        # It may have had nothing left to do.
        assert process.returncode == 0 or (process.returncode == 1 and "exit code -9" in err), err
        return process.returncode == 1
    if victim == "process":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return True


@pytest.mark.timeout(7200)
def test_a_store_that_is_killed_again_and_again_is_the_same(tmp_path: Path, is_full: bool) -> None:
    drawn = random.Random(seed_of_the_drill())
    sources = write_sources(tmp_path, 1200 if is_full else 300)
    with prepare(sources, tmp_path / "straight", 1) as process:
        assert process.wait() == 0, process.stderr and process.stderr.read()
    straight = contents(tmp_path / "straight")
    wanted = 30 if is_full else 3
    kills: Counter[str] = Counter()
    attempts = runs = 0
    while kills.total() < wanted:
        runs += 1
        store = tmp_path / f"run-{runs}"
        while not (store / "manifest.json").exists():
            victim = VICTIMS[attempts % len(VICTIMS)]
            moment = MOMENTS[attempts // len(VICTIMS) % len(MOMENTS)]
            moment = "parts" if victim == "worker" or not is_full else moment
            workers = WORKERS[attempts // 2 % len(WORKERS)] if is_full else 2
            kept = finished_parts(store)
            with prepare(sources, store, workers) as process:
                if kills.total() < wanted:
                    await_moment(process, store, moment, drawn)
                    is_killed = kill(process, victim, drawn)
                    kills[f"{victim}, {moment}"] += is_killed
                else:
                    assert process.wait() == 0, process.stderr and process.stderr.read()
            attempts += 1
            if not (store / "manifest.json").exists():
                assert kept.items() <= finished_parts(store).items(), "made again"
        # A kill just after the end leaves the workplace, which the same command removes.
        with prepare(sources, store, 1) as process:
            assert process.wait() == 0
        assert contents(store) == straight
    print(f"{dict(kills)} in {runs} runs, {attempts} attempts")
