"""The forecast: what it is made of, what it leaves alone, and micro-batches that do not fit."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from demo_bert.choices import Duration
from demo_bert.commands import forecast as module
from demo_bert.commands.forecast import Load
from demo_bert.distributed import World
from demo_bert.hardware.cpu import CpuBackend
from demo_bert.report import wording
from small_run import NUM_TRAIN, Outcome, Program, events, losses, read_json, weights


@pytest.fixture
def program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Program:
    return Program(tmp_path, capsys)


def load(**changes: Any) -> Load:
    facts: dict[str, Any] = {
        "name": "",
        "num_steps": 10,
        "examples_per_step": 32,
        "micro_batch_size": 8,
        "max_seq_length": 24,
        "tokens": 100.0,
        "most_activations": 120.0,
        "example_activations": 24.0,
        "flops": 1e6,
        "evaluation_flops": 0.0,
        "num_saves": 1,
    }
    return Load(**(facts | changes))


def test_micro_steps_are_dealt_to_the_workers() -> None:
    assert [load().micro_steps(n) for n in (1, 2, 3, 4, 8)] == [4, 2, 2, 1, 1]
    assert load(examples_per_step=33).micro_steps(1) == 5
    assert load().tokens_per_step == 400


def test_a_run_opens_with_its_forecast_and_closes_with_the_fact(
    program: Program, tmp_path: Path
) -> None:
    done = program.run(tmp_path / "run", "-e", "1")
    assert done.code == 0, done.err
    lines = done.err.splitlines()
    said = [place for place, line in enumerate(lines) if line.startswith("forecast:")]
    first_step = next(place for place, line in enumerate(lines) if line.startswith("step "))
    assert said and max(said) < first_step
    assert any(line.startswith("against the forecast: time ") for line in lines[first_step:])
    (event,) = events(tmp_path / "run", "forecast")
    results = read_json(tmp_path / "run" / "results.json")
    assert results["forecast"]["seconds"] == event["seconds"] > 0
    assert results["peak_memory_bytes"] > 1e8
    assert event["memory_bytes"] > 1e8
    assert event["step"] == 0


def test_a_run_that_goes_on_holds_its_forecast_against_its_last_attempt_alone(
    program: Program, tmp_path: Path, stop_at: list[int]
) -> None:
    stop_at.append(2)
    stopped = program.run(tmp_path / "run", "-e", "1")
    assert stopped.code == 75
    assert "took_s" not in read_json(tmp_path / "run" / "results.json")["forecast"]
    path = tmp_path / "run" / "events.jsonl"
    (begun,) = [event["begun"] for event in events(tmp_path / "run", "start")]
    first = events(tmp_path / "run")[0]["time"]
    assert begun < first, "the start counts"
    path.write_text(path.read_text().replace(repr(begun), repr(begun - 1000.0)))
    stop_at.clear()
    done = program.run(tmp_path / "run", "-e", "1")
    assert done.code == 0, done.err
    results = read_json(tmp_path / "run" / "results.json")
    assert results["wall_s"] > 1000.0
    took_s = results["forecast"]["took_s"]
    assert 0.0 < took_s < results["wall_s"] - 1000.0
    (line,) = [x for x in done.err.splitlines() if x.startswith("against the forecast: ")]
    assert line.startswith(f"against the forecast: time {wording.duration(took_s)}, ")


def test_the_forecast_counts_every_checkpoint_that_is_saved_by_steps(
    program: Program, tmp_path: Path
) -> None:
    counts, seconds = [], []
    for name, every in (("few", ()), ("many", ("--save-every", "3", "--keep-every", "5"))):
        assert program.run(tmp_path / name, "-e", "2", *every).code == 0
        counts.append(len(events(tmp_path / name, "checkpoint")))
        seconds.append(events(tmp_path / name, "forecast")[0]["saves_s"])
    assert counts[1] > 2 * counts[0]
    assert seconds[1] / seconds[0] == pytest.approx(counts[1] / counts[0])


def test_what_does_not_fit_however_small_is_said(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_memory(monkeypatch, most_tokens=5)
    done = halved(program, tmp_path / "run")
    (line,) = [line for line in done.err.splitlines() if "may be killed" in line]
    assert line.startswith("warning: with 1 example a micro-step it still takes about ")


def test_the_forecast_counts_the_runs_own_examples(program: Program, tmp_path: Path) -> None:
    done = program.run(tmp_path / "run", "-e", "1")
    steps = events(tmp_path / "run", "step")
    tokens = sum(step["tokens"] for step in steps)
    (line,) = [x for x in done.err.splitlines() if x.startswith("forecast: ") and " tokens" in x]
    assert f"{len(steps)} steps" in line
    assert f"{tokens / len(steps):,.0f} tokens each" in line
    assert len(steps) == -(-NUM_TRAIN // 4)


def test_a_probe_leaves_no_trace_in_the_run(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program.run(tmp_path / "probed", "-e", "1")
    monkeypatch.setattr(CpuBackend, "wants_fixed_shapes", False)
    monkeypatch.setattr(
        module, "_probe", lambda worker, load: [module.Reading(1, 1, 1, 1, 1, None)]
    )
    program.run(tmp_path / "not", "-e", "1")
    assert losses(tmp_path / "probed") == losses(tmp_path / "not")
    assert weights(tmp_path / "probed") == weights(tmp_path / "not")


def probed(monkeypatch: pytest.MonkeyPatch, seconds: float) -> tuple[list[int], Any]:
    """Sizes of the passes of a probe whose examples take so long, and its readings."""
    sizes: list[int] = []

    def one_pass(worker: Any, load: Load, size: int) -> module.Reading:
        sizes.append(size)
        noise = 1.0 if len(sizes) % 2 else 5.0
        return module.Reading(
            size, 10 * size, size, size, size * seconds * noise, size + len(sizes)
        )

    monkeypatch.setattr(module, "_pass", one_pass)
    return sizes, module._probe(None, load(micro_batch_size=64))  # type: ignore[bad-argument-type]


def test_a_probe_takes_the_fastest_of_its_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, (few, more) = probed(monkeypatch, seconds=0.001)
    assert (sizes[0], sizes[-1]) == (2, 64)
    assert (few.seconds, more.seconds) == (pytest.approx(0.002), pytest.approx(0.064))
    assert more.peak_bytes == 64 + len(sizes), "not the most of the passes"


def test_where_passes_take_long_there_are_few_of_them_and_their_sizes_lie_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes, _ = probed(monkeypatch, seconds=10.0)
    assert sizes == [2, 2, 6, 6]


def test_memory_follows_what_examples_keep_and_has_what_scoring_takes() -> None:
    settings = SimpleNamespace(save_every=Duration(seconds=600.0))
    worker: Any = SimpleNamespace(world=World(), backend=CpuBackend(), settings=settings)
    readings = [
        module.Reading(4, kept, 1.0, 1.0, 1.0, 500_000_000 + 2 * int(kept)) for kept in (1e6, 5e6)
    ]

    def memory(**changes: Any) -> int:
        scale, found = module._memory(worker, load(**changes), readings, weights=1000)
        assert scale == pytest.approx(2.0)
        assert found is not None
        return found

    base = memory(most_activations=10e6)
    assert base > 520_000_000
    assert memory(most_activations=30e6) - base == 40_000_000
    assert memory(most_activations=10e6, scoring_bytes=7_000_000) - base == 7_000_000
    assert memory(most_activations=10e6, max_seq_length=384) > base
    # Half of a copy made after the last step lies where activations were.
    short, saved, long = (
        memory(most_activations=10e6, flops=1.0, num_steps=steps, num_saves=saves)
        for steps, saves in ((10, 1), (10, 2), (10_000, 1))
    )
    assert saved - short == long - short == 6 * 1000


def test_evaluations_are_forecast_from_passes_without_dropout_and_gradients() -> None:
    asked: list[tuple[bool, bool]] = []
    model = nn.Linear(2, 2)
    batch = SimpleNamespace(num_tokens=3, to=lambda device: batch)

    def probe_loss(load: Load, batch: Any) -> Tensor:
        asked.append((model.training, torch.is_inference_mode_enabled()))
        return torch.zeros(())

    worker: Any = SimpleNamespace(
        world=World(),
        backend=CpuBackend(),
        dtype="fp32",
        model=model,
        probe_loss=probe_loss,
        probe_batch=lambda load, size: (batch, 2.0),
    )
    few, many = (
        module._evaluations_s(worker, load(evaluation_flops=flops), 4) for flops in (1e3, 1e9)
    )
    assert set(asked) == {(False, True)} and model.training
    assert 0.0 < few < many
    assert module._evaluations_s(worker, load(evaluation_flops=0.0), 4) == 0.0


def with_memory(monkeypatch: pytest.MonkeyPatch, most_tokens: int) -> None:
    """A machine in which a micro-step of so many tokens has room, and no more."""

    def probe(worker: Any, load: Load) -> list[module.Reading]:
        return [module.Reading(4, 12, 1e3, 1e-4, 1e-3, 1_012_000)]

    def memory(worker: Any, load: Load, readings: Any, *, weights: int) -> tuple[float, int]:
        scale = 1000 * load.tokens / load.most_activations
        return scale, int(1_000_000 + 1000 * load.tokens)

    monkeypatch.setattr(module, "_probe", probe)
    monkeypatch.setattr(module, "_memory", memory)
    monkeypatch.setattr(module, "_USABLE_FRACTION", 1.0)
    monkeypatch.setattr(CpuBackend, "peak_memory_bytes", lambda self: 0)
    free = 1_000_000 + 1000 * most_tokens
    monkeypatch.setattr(CpuBackend, "free_memory_bytes", lambda self: free)


def halved(program: Program, directory: Path, *more: str) -> Outcome:
    done = program.run(directory, "-e", "1", "-b", "16", *more)
    assert done.code == 0, done.err
    return done


def test_a_batch_that_does_not_fit_is_halved_and_the_step_stays(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = losses_of(program, tmp_path / "whole", "-b", "16")
    with_memory(monkeypatch, most_tokens=100)
    done = halved(program, tmp_path / "halved")
    assert "16 examples a micro-step would take" in done.err
    assert ": 4 are taken" in done.err
    assert "the global batch of 16 stays" in done.err
    found = losses(tmp_path / "halved")
    assert found.keys() == whole.keys()
    steps = events(tmp_path / "halved", "step")
    assert steps[0]["examples"] == 16
    # The same as asking for the smaller micro-batch with the same global batch.
    monkeypatch.undo()
    asked = losses_of(program, tmp_path / "asked", "-b", "4", "--global-batch-size", "16")
    assert found == asked


def losses_of(program: Program, directory: Path, *more: str) -> dict[int, tuple[float, float]]:
    done = program.run(directory, "-e", "1", *more)
    assert done.code == 0, done.err
    return losses(directory)


def test_a_run_that_goes_on_keeps_the_micro_batches_that_it_began_with(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        with_memory(patch, most_tokens=100)
        halved(program, tmp_path / "whole", "--save-every", "2", "--keep", "9")
    # On a machine with room for all, from the second step on.
    done = program.run(
        tmp_path / "whole",
        "-e",
        "1",
        "-b",
        "16",
        "--save-every",
        "2",
        "--keep",
        "9",
        "--resume",
        "2",
    )
    assert done.code == 0, done.err
    first = events(tmp_path / "whole", "step")
    by_attempt = {e["step"]: e["loss"] for e in first if e["attempt"] == 0}
    again = {e["step"]: e["loss"] for e in first if e["attempt"] == 1}
    assert again
    assert all(by_attempt[step] == loss for step, loss in again.items())


def test_memory_that_runs_out_in_a_step_halves_it_too(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from demo_bert.tasks.classification import ClassificationTask

    loss_sum, seen = ClassificationTask.loss_sum, list[int]()

    def hungry(self: Any, model: Any, batch: Any) -> Any:
        seen.append(batch.num_examples)
        if model.training and batch.num_examples > 8 and len(seen) > 8:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: no memory")
        return loss_sum(self, model, batch)

    monkeypatch.setattr(ClassificationTask, "loss_sum", hungry)
    done = program.run(tmp_path / "run", "-e", "5", "-b", "16")
    assert done.code == 0, done.err
    assert "out of memory with 16 examples a micro-step: going on with 8" in done.err
    steps = events(tmp_path / "run", "step")
    assert [step["step"] for step in steps] == list(range(1, len(steps) + 1))
    assert {step["examples"] for step in steps} == {16}


def test_an_example_that_does_not_fit_alone_is_one_line(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from demo_bert import training

    def full(*arguments: Any, **names: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("demo_bert.commands.worker.train", full)
    assert training.train is not full
    done = program.run(tmp_path / "run", "-e", "1")
    assert done.code == 1
    (line,) = [line for line in done.err.splitlines() if "error:" in line]
    assert "out of memory with 1 example a micro-step" in line
