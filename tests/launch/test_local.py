"""Several workers on this host: real processes, gloo, loopback."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from demo_bert import clock
from demo_bert.launch import local
from small_run import CONFIG, ENVIRONMENT, ROOT, Program, events, losses, read_json, start, weights

# 10 rows in micro-batches of 4: of four workers one has none.
STEPS = ("-i", "20", "--global-batch-size", "10", "--eval-every", "10")


@contextmanager
def started(program: Program, directory: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Two workers at work; nothing of them is left afterwards."""
    argv = program.argv(directory, *options, "-v", "2", "--log-every", "1")
    process = start(argv, directory.parent, environment={"TMPDIR": str(directory.parent)})
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def read_until(process: subprocess.Popen[str], text: str) -> list[str]:
    """The lines of standard error up to the one with the text."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if text in line:
            return lines
    pytest.fail("".join(lines))


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """Process ids of the workers, by rank."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    found = {}
    for child in children:
        environment = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        ranks = [entry[5:] for entry in environment if entry.startswith(b"RANK=")]
        found.update({int(rank): int(child) for rank in ranks})
    return [found[rank] for rank in sorted(found)]


def test_two_workers_learn_what_one_learns(program: Program, tmp_path: Path) -> None:
    assert program.run(tmp_path / "one", *STEPS).code == 0
    # As a checkout's launcher does: the sources are on the path of this process alone.
    launcher = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r})\n"
        "from demo_bert.cli import main; sys.exit(main(sys.argv[1:]))\n"
    )
    odd = tmp_path / "a $HOME ${local_rank} $$"
    shutil.copytree(program.data, odd)
    argv = program.argv(tmp_path / "two", *STEPS, "-v", "2")
    argv[argv.index("--dataset-path") + 1] = str(odd)
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "PYTHONPATH"}
    (tmp_path / "torch.py").write_text("raise SystemExit('of the current directory')")
    answer = subprocess.run(
        [sys.executable, "-P", "-c", launcher, *argv],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert answer.returncode == 0, answer.stderr
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert [*one] == [*two] == list(range(1, 21))
    for step in one:
        assert two[step] == pytest.approx(one[step], rel=1e-5)
    tokens = [[e["tokens"] for e in events(tmp_path / name, "step")] for name in ("one", "two")]
    assert tokens[0] == tokens[1], "other rows"
    scores = [
        [(e["step"], e["metrics"]) for e in events(tmp_path / name, "evaluation")]
        for name in ("one", "two")
    ]
    assert scores[0] == scores[1]
    results = read_json(tmp_path / "two" / "results.json")
    assert (results["world_size"], results["status"]) == (2, "complete")
    assert results["global_batch_size"] == 10
    exchange = {k: results["throughput"][k] for k in ("sent_bytes_per_step", "exchange_fraction")}
    (steps,) = {event["sent_bytes"] for event in events(tmp_path / "two", "step")}
    assert exchange["sent_bytes_per_step"] == steps
    assert 0 < exchange["exchange_fraction"] < 1
    words = f"{100 * exchange['exchange_fraction']:.1f} %"
    assert f"{words} of the time waiting for gradients" in answer.stdout
    page = (tmp_path / "two" / "report.html").read_text(encoding="utf-8")
    assert f"<dt>of the time waiting for gradients</dt><dd>{words}</dd>" in page
    assert "sent_bytes_per_step" not in read_json(tmp_path / "one" / "results.json")["throughput"]
    logs = {path.name for path in (tmp_path / "two" / "logs").iterdir()}
    assert logs == {"rank-0.log", "rank-1.log"}
    assert str(odd) in read_json(tmp_path / "two" / "run.json")["data"]["source"]
    assert answer.stdout.count("accuracy") == 1, "more than one worker speaks"
    assert "Warning" not in answer.stderr
    assert answer.stderr.startswith("2 workers on this host, threads of each: 1, cores: ")


def test_four_workers_learn_what_one_learns_with_the_models_own_dropout(
    program: Program, tmp_path: Path
) -> None:
    assert CONFIG.hidden_dropout_prob == CONFIG.attention_probs_dropout_prob == 0.1
    assert program.run(tmp_path / "one", *STEPS).code == 0
    process = start(program.argv(tmp_path / "four", *STEPS, "-v", "4"), tmp_path)
    _, err = process.communicate(timeout=110)
    assert process.returncode == 0, err
    assert "4 workers on this host, threads of each: 1, cores: " in err
    one, four = losses(tmp_path / "one"), losses(tmp_path / "four")
    assert [*one] == [*four] == list(range(1, 21))
    for step in one:
        assert four[step] == pytest.approx(one[step], rel=1e-5)
    tokens = [[e["tokens"] for e in events(tmp_path / name, "step")] for name in ("one", "four")]
    assert tokens[0] == tokens[1], "other rows"


def test_a_stop_request_saves_and_any_number_of_workers_goes_on(
    program: Program, tmp_path: Path
) -> None:
    directory = tmp_path / "run"
    options = ("-i", "200", "-b", "2")
    with started(program, directory, *options) as process:
        read_until(process, "step   3/200")
        process.send_signal(signal.SIGTERM)
        output, rest = process.communicate(timeout=100)
    assert process.returncode == 75, rest
    assert "stopped by SIGTERM after step" in rest.splitlines()[-1]
    assert "goes on with: demo_bert finetuning" in rest.splitlines()[-1]
    assert "Traceback" not in rest
    results = read_json(directory / "results.json")
    assert results["status"] == "stopped"
    newest = (directory / "checkpoints" / "newest").read_text()
    assert newest == f"step-{results['steps']}\n"
    # One worker takes it up, with the global batch that two had.
    assert program.run(directory, *options).code == 0
    assert program.run(tmp_path / "alone", *options, "--global-batch-size", "4").code == 0
    assert read_json(directory / "results.json")["global_batch_size"] == 4
    both = [{e["step"]: e for e in events(run, "step")} for run in (directory, tmp_path / "alone")]
    assert [*both[0]] == [*both[1]] == list(range(1, 201))
    tokens = [[event["tokens"] for event in steps.values()] for steps in both]
    assert tokens[0] == tokens[1], "other rows"
    for step in range(1, min(results["steps"] + 10, 40)):
        assert both[0][step]["loss"] == pytest.approx(both[1][step]["loss"], rel=1e-4)


def test_a_worker_that_is_killed_ends_all_and_is_named(program: Program, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    options = ("-i", "5000", "--save-every", "2", "--max-restarts", "0")
    with started(program, directory, *options) as process:
        read_until(process, "step    4/5000")
        first, second = workers_of(process)
        os.kill(second, signal.SIGKILL)
        _, rest = process.communicate(timeout=100)
    assert process.returncode == 1
    assert "worker 1: killed by SIGKILL after step" in rest.splitlines()[-1]
    assert "another worker is gone or does not answer" in rest
    assert "Traceback" not in rest
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)
    assert weights(directory), "nothing to go on from"


def test_workers_that_are_killed_are_started_again_and_lose_no_step(
    program: Program, tmp_path: Path
) -> None:
    directory = tmp_path / "run"
    options = ("-i", "100", "--save-every", "5", "--new", "-b", "2", "--max-restarts", "1")
    with started(program, directory, *options) as process:
        read_until(process, "saved checkpoints/step-5")
        os.kill(workers_of(process)[1], signal.SIGKILL)
        _, rest = process.communicate(timeout=100)
    assert process.returncode == 0, rest
    assert "warning: starting the workers again (1 of 1)" in rest
    assert "going on after step" in rest
    assert {path.name for path in tmp_path.iterdir()} == {"run"}, "--new made a second one"
    undisturbed = tmp_path / "undisturbed"
    assert program.run(undisturbed, *options[:2], "--global-batch-size", "4", "-b", "2").code == 0
    both = losses(directory), losses(undisturbed)
    assert [*both[0]] == [*both[1]] == list(range(1, 101))
    assert both[0][20] == pytest.approx(both[1][20], rel=1e-4)


@pytest.mark.drill
def test_a_worker_that_hangs_is_named_after_the_time_limit(
    program: Program, tmp_path: Path
) -> None:
    directory = tmp_path / "run"
    with started(program, directory, "-i", "5000", "--timeout", "8s") as process:
        read_until(process, "step    4/5000")
        os.kill(workers_of(process)[1], signal.SIGSTOP)
        _, rest = process.communicate(timeout=250)
    assert process.returncode == 1, rest
    assert "worker 1: did not answer for 8 s; last step " in rest.splitlines()[-1]


def test_workers_stop_when_what_started_them_is_killed(program: Program, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    with started(program, directory, "-i", "5000") as process:
        read_until(process, "step    4/5000")
        process.kill()
        assert process.stderr is not None
        rest = process.stderr.read()  # until the workers close it too
    assert "stopped by the end of the process that started the workers" in rest
    assert read_json(directory / "results.json")["status"] == "stopped"


def test_a_mistake_that_all_workers_see_is_told_once(program: Program, tmp_path: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "demo_bert", *program.argv("run", *STEPS, "-s", "40", "-v", "2")],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert answer.returncode == 2
    said, line = answer.stderr.splitlines()
    assert said.startswith("2 workers")
    assert line == ("demo_bert: error: -s/--max-seq-length 40: the model takes at most 32 tokens")
    assert answer.stdout == ""
    assert list(tmp_path.iterdir()) == []


def end(code: int) -> SimpleNamespace:
    return SimpleNamespace(exitcode=code)


def test_workers_are_told_when_the_attempt_began(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[float] = []

    class Agent:
        def run(self) -> SimpleNamespace:
            found.append(clock.command_start())
            return SimpleNamespace(failures={} if len(found) > 1 else {0: end(-9)})

    monkeypatch.setattr(local, "_agent", lambda *args, **options: Agent())
    monkeypatch.setattr(local.heartbeat, "told_run", lambda path: None)
    monkeypatch.setattr(clock, "process_start", lambda: 1000.0)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("TORCHELASTIC_SIGNALS_TO_HANDLE", "")
    before = time.time()
    duration = SimpleNamespace(seconds=1.0)
    local.run_workers([], num_workers=1, timeout=duration, max_restarts=1)  # type: ignore[arg-type]
    assert found[0] == 1000.0, "with the command, not with the worker"
    assert before <= found[1] <= time.time(), "where the attempt before it ended"
    assert clock.VARIABLE not in os.environ


@pytest.mark.parametrize(
    ("ends", "code", "told"),
    [
        ({}, 0, None),
        ({0: 75}, 75, None),
        ({0: 75, 1: -15}, 75, None),
        ({0: 2, 1: 2}, 2, None),
        ({0: 130, 1: 130}, 130, None),
        ({0: 1, 1: -15}, 1, None),
        ({0: -15, 1: 2}, 2, "worker 1: ended with 2\n  the last words"),
        ({0: 1, 1: 2}, 2, "worker 1: ended with 2\n  the last words"),
        ({0: 1, 1: -9}, 1, "worker 1: killed by SIGKILL\n  the last words"),
        ({0: -15, 1: -11}, 1, "worker 1: killed by SIGSEGV\n  the last words"),
        ({0: -9, 1: -15}, 1, "worker 0: killed by SIGKILL"),
    ],
)
def test_the_worker_that_was_the_cause_gives_the_exit_code(
    ends: dict[int, int],
    code: int,
    told: str | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Agent:
        def __init__(self, directory: str) -> None:
            log = Path(directory, "x", "attempt_0", "1", "stderr.log")
            log.parent.mkdir(parents=True)
            log.write_text("the last words\n")

        def run(self) -> SimpleNamespace:
            return SimpleNamespace(failures={rank: end(code) for rank, code in ends.items()})

    monkeypatch.setattr(local, "_agent", lambda *args, directory, **options: Agent(directory))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("TORCHELASTIC_SIGNALS_TO_HANDLE", "")
    duration = SimpleNamespace(seconds=1.0)
    assert local.run_workers([], num_workers=2, timeout=duration) == code  # type: ignore[arg-type]
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert errors == ([told] if told else [])


def test_a_number_is_taken_as_it_is_and_auto_is_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    from demo_bert.hardware import cpu

    assert local.num_local_workers(5, device="cpu", bytes_each=1 << 60) == 5
    for cores, workers in ((1, 1), (6, 6), (64, 8)):
        monkeypatch.setattr(cpu, "usable_cores", lambda cores=cores: cores)
        assert local.num_local_workers("auto", device="cpu", bytes_each=None) == workers
        assert local.num_local_workers("auto", device="cpu", bytes_each=1) == workers


def test_auto_starts_no_more_workers_than_fit_in_memory(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from demo_bert.hardware import cpu

    caplog.set_level("INFO")
    monkeypatch.setattr(cpu, "usable_cores", lambda: 6)
    monkeypatch.setattr(cpu.CpuBackend, "free_memory_bytes", lambda self: 10 << 30)
    for bytes_each, workers in ((1 << 30, 6), (3 << 30, 3), (11 << 30, 1)):
        found = local.num_local_workers("auto", device="cpu", bytes_each=bytes_each)
        assert found == workers
    assert "3 of 6 workers fit in the 10.7 GB of free memory, at about 3.2 GB each" in caplog.text


def test_what_starts_workers_imports_none_of_what_they_need(tmp_path: Path) -> None:
    program = (
        "import json, sys\nfrom demo_bert import cli\nfrom demo_bert.launch import local\n"
        "local.run_workers = lambda *args, **options: 0\n"
        "code = cli.main(sys.argv[1:])\n"
        "heavy = ['huggingface_hub', 'pyarrow', 'rich', 'tensorboard', 'tokenizers']\n"
        "print(json.dumps([code, [name for name in heavy if name in sys.modules]]))\n"
    )
    argv = ["finetuning", "-d", "fp32", "-m", "tiny", "-t", "mrpc", "-v", "2", "-o", "run"]
    answer = subprocess.run(
        [sys.executable, "-c", program, *argv],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(answer.stdout) == [0, []]
    assert list(tmp_path.iterdir()) == []


def test_the_first_worker_does_not_wait_and_the_others_do(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(local.time, "sleep", waited.append)
    local.let_first_speak(0)
    assert waited == []
    local.let_first_speak(3)
    assert len(waited) == 1
