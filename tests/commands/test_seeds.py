"""`finetuning --seeds N`: a run for each seed, and their mean."""

import statistics
from pathlib import Path

import pytest

from small_run import Program, contents, events, going_on, read_json, tree, weights

SHORT = ("-i", "4")


def test_seeds_make_a_run_each_and_the_mean_above_them(program: Program, tmp_path: Path) -> None:
    outcome = program.run(tmp_path / "run", *SHORT, "--seeds", "2", "--seed", "5")
    assert outcome.code == 0
    seeds = [read_json(tmp_path / "run" / f"seed-{s}" / "results.json") for s in (5, 6)]
    results = read_json(tmp_path / "run" / "results.json")
    for name in ("accuracy", "f1"):
        values = [seed["metrics"][name] for seed in seeds]
        assert results["metrics"][name] == pytest.approx(statistics.fmean(values))
        assert results["metrics_std"][name] == pytest.approx(statistics.stdev(values))
    assert [entry["seed"] for entry in results["per_seed"]] == [5, 6]
    assert [entry["metrics"] for entry in results["per_seed"]] == [s["metrics"] for s in seeds]
    assert results["collapsed"] == [s["seed"] for s in seeds if s["is_collapsed"]]
    assert set(seeds[0]) <= set(results)
    assert {"run.json", "report.html"} <= tree(tmp_path / "run")
    first, second = (events(tmp_path / "run" / f"seed-{s}") for s in (5, 6))
    began = second[-1]["time"] - seeds[1]["wall_s"]
    assert first[-1]["time"] - 0.5 <= began <= second[0]["time"], "no time is counted twice"
    assert results["wall_s"] == pytest.approx(sum(seed["wall_s"] for seed in seeds))
    alone = program.run(tmp_path / "alone", *SHORT, "--seed", "6")
    assert alone.code == 0
    assert weights(tmp_path / "alone") == weights(tmp_path / "run" / "seed-6")
    assert [line for line in outcome.out.splitlines() if line.startswith("seed 6: accuracy")]


def test_seeds_go_on_wherever_they_were_stopped(
    program: Program, tmp_path: Path, stop_at: list[int]
) -> None:
    options = (*SHORT, "--seeds", "2")
    assert program.run(tmp_path / "straight", *options).code == 0
    stop_at.append(1)
    directory = tmp_path / "run"
    stopped = program.run(directory, *options)
    assert stopped.code == 75
    assert tree(directory / "seed-43") == set()
    refused = program.run(directory, *options, "--weight-decay", "0.5")
    assert refused.code == 2
    assert "weight_decay is 0.5, was 0.01" in refused.err
    assert program.call(*going_on(stopped.err)).code == 75, "the second seed stops as well"
    stop_at.clear()
    before = contents(directory / "seed-42")
    assert program.call("finetuning", "-o", str(directory), "--device", "cpu").code == 0
    assert contents(directory / "seed-42") == before
    for seed in ("seed-42", "seed-43"):
        assert weights(directory / seed) == weights(tmp_path / "straight" / seed)
    assert "this run is finished" in program.run(directory, *options).err


def test_new_with_seeds_makes_another_directory_above_them(
    program: Program, tmp_path: Path
) -> None:
    options = ("-i", "2", "--seeds", "2")
    assert program.run(tmp_path / "run", *options).code == 0
    before = contents(tmp_path / "run")
    assert program.run(tmp_path / "run", *options, "--new").code == 0
    assert contents(tmp_path / "run") == before
    assert len(read_json(tmp_path / "run-2" / "results.json")["per_seed"]) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"run", "run-2"}
