"""The profiler window: a trace of the steps that were asked for, and a table of what they did."""

import gzip
import json
from pathlib import Path

import pytest

from small_run import Program, events


@pytest.fixture
def program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Program:
    return Program(tmp_path, capsys)


def test_the_steps_of_the_window_are_traced(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEMO_BERT_PROFILE_STEPS", "3:6")
    done = program.run(tmp_path / "run", "-e", "1")
    assert done.code == 0, done.err
    (event,) = events(tmp_path / "run", "profile")
    assert (event["first_step"], event["last_step"]) == (3, 5)
    with gzip.open(tmp_path / "run" / event["path"]) as file:
        trace = json.load(file)
    names = [one["name"] for one in trace["traceEvents"] if one.get("ph") == "X"]
    assert [name for name in names if name.startswith("ProfilerStep#")] == [
        f"ProfilerStep#{step}" for step in (3, 4, 5)
    ]
    # One update of the weights for each step.
    assert sum("fused_adamw" in name for name in names) in (3, 6)
    assert all(
        {"ts", "dur", "pid", "tid"} <= one.keys()
        for one in trace["traceEvents"]
        if one.get("ph") == "X"
    )
    operations = event["operations"]
    assert len(operations) == 10
    shares = [one["share"] for one in operations]
    assert shares == sorted(shares, reverse=True)
    assert 0 < sum(shares) <= 1
    assert not [one for one in operations if "ProfilerStep" in one["name"]]
    assert "profile: steps 3 to 5" in done.err
    assert operations[0]["name"] in done.err
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "Steps 3 to 5" in page
    assert operations[0]["name"] in page


def test_a_window_beyond_the_end_is_said(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HABANA_SYNAPSE_LOGGER", "range")
    done = program.run(tmp_path / "run", "-i", "4")
    assert done.code == 0, done.err
    assert "no step of 10 to 19 was trained, so there is no trace" in done.err
    assert not (tmp_path / "run" / "trace").exists()


def test_a_run_that_ends_in_the_window_leaves_what_there_is(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEMO_BERT_PROFILE_STEPS", "0:10")
    done = program.run(tmp_path / "run", "-i", "4")
    assert done.code == 0, done.err
    (event,) = events(tmp_path / "run", "profile")
    assert (event["first_step"], event["last_step"]) == (1, 4)


def test_a_run_without_a_window_imports_no_profiler(program: Program, tmp_path: Path) -> None:
    import sys

    kept = sys.modules.pop("demo_bert.commands.profiling", None)
    done = program.run(tmp_path / "run", "-i", "2")
    assert done.code == 0, done.err
    assert "demo_bert.commands.profiling" not in sys.modules
    assert events(tmp_path / "run", "profile") == []
    if kept is not None:
        sys.modules["demo_bert.commands.profiling"] = kept
