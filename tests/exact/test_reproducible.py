"""`--reproducible`: the same bits for any number of workers, also across stops."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from demo_bert.commands import run_conditions
from demo_bert.distributed import World
from demo_bert.errors import RunDirectoryError, UsageError
from demo_bert.hardware.cpu import CpuBackend
from small_run import Program, events, losses, read_json, start, weights

# 10 rows in micro-batches of 3: 3, 3, 3, 1; the model has dropout.
OPTIONS = ("-i", "7", "--global-batch-size", "10", "-b", "3", "--eval-every", "3", "--reproducible")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """The number of threads of this process, put back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def alone(program: Program, root: Path) -> Path:
    """One worker's run; made once."""
    directory = root / "reproducible"
    if not directory.exists():
        assert program.run(directory, *OPTIONS).code == 0
    return directory


def by_workers(program: Program, directory: Path, count: int, *options: str) -> None:
    process = start(program.argv(directory, *OPTIONS, "-v", str(count), *options), directory.parent)
    _, err = process.communicate(timeout=110)
    assert process.returncode == 0, err


def assert_same(directory: Path, alone: Path) -> None:
    assert weights(directory) == weights(alone)
    assert losses(directory) == losses(alone)
    scores = [
        [(e["step"], e["loss"], e["metrics"]) for e in events(path, "evaluation")]
        for path in (directory, alone)
    ]
    assert dict((s[0], s) for s in scores[0]) == dict((s[0], s) for s in scores[1])
    name = "predictions.tsv"
    assert (directory / name).read_bytes() == (alone / name).read_bytes()


def test_four_workers_leave_the_bits_of_one(program: Program, alone: Path, tmp_path: Path) -> None:
    by_workers(program, tmp_path / "run", 4)
    assert read_json(tmp_path / "run" / "results.json")["world_size"] == 4
    assert_same(tmp_path / "run", alone)


def test_another_number_of_workers_goes_on_with_the_same_bits(
    program: Program, alone: Path, tmp_path: Path, stop_at: list[int]
) -> None:
    stop_at.append(3)
    assert program.run(tmp_path / "run", *OPTIONS).code == 75
    stop_at.clear()
    by_workers(program, tmp_path / "run", 2)
    assert [event["step"] for event in events(tmp_path / "run", "resume")] == [4]
    assert_same(tmp_path / "run", alone)


def test_without_it_the_bits_are_others(program: Program, alone: Path, tmp_path: Path) -> None:
    assert program.run(tmp_path / "run", *OPTIONS[:-1]).code == 0
    assert weights(tmp_path / "run") != weights(alone), "the tests above would pass without it"


def test_it_is_refused_with_what_rounds_by_the_number_of_workers(
    program: Program, tmp_path: Path
) -> None:
    for option in ("--grad-dtype bf16", "--shard-optimizer"):
        outcome = program.run(tmp_path / "run", *OPTIONS, *option.split())
        assert outcome.code == 2
        assert f"--reproducible and {option}: what is rounded" in outcome.err


def test_other_conditions_are_refused_and_the_promise_can_be_given_up(
    program: Program, tmp_path: Path, stop_at: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "run"
    stop_at.append(3)
    assert program.run(directory, *OPTIONS).code == 75
    stop_at.clear()
    recorded = read_json(directory / "run.json")["reproducible"]
    assert recorded["threads"] == 1 and recorded["torch"] == torch.__version__
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    refused = program.run(directory, *OPTIONS)
    assert refused.code == 2
    assert "variables is {'ONEDNN_MAX_CPU_ISA': 'AVX2'}, was {}" in refused.err
    assert "--no-reproducible" in refused.err.splitlines()[-1]
    given_up = program.run(directory, *OPTIONS[:-1], "--no-reproducible")
    assert given_up.code == 0
    assert "from here on the bits depend on the workers" in given_up.err


def test_the_promise_is_not_made_later(
    program: Program, tmp_path: Path, stop_at: list[int]
) -> None:
    stop_at.append(3)
    assert program.run(tmp_path / "run", *OPTIONS[:-1]).code == 75
    refused = program.run(tmp_path / "run", *OPTIONS)
    assert refused.code == 2
    assert "reproducible is" in refused.err


def test_every_condition_that_differs_is_named() -> None:
    now = run_conditions.conditions(CpuBackend(), "bf16")
    run_conditions.check_same_conditions(now, dict(now))
    for name, value in now.items():
        with pytest.raises(RunDirectoryError, match=f"{name} is other, was "):
            run_conditions.check_same_conditions({**now, name: "other"}, {**now, name: value})


def test_workers_that_do_not_compute_alike_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def summed(values: list[float], *rest: Any) -> list[float]:
        return [values[1], values[1], values[1] + 1, values[1]]

    monkeypatch.setattr(run_conditions, "sum_numbers", summed)
    with pytest.raises(UsageError, match="workers 2 have another processor or torch"):
        run_conditions.check_same_workers({"a": 1}, World(1, 1, 4), CpuBackend())


def test_an_accelerator_is_refused() -> None:
    class Other(CpuBackend):
        name = "cuda"

    with pytest.raises(UsageError, match="--reproducible on cuda"):
        run_conditions.use_one_thread(Other())
