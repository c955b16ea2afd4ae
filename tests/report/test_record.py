import json
import math

import pytest

from demo_bert.errors import RunDirectoryError
from demo_bert.report.record import read_run
from report import runs


def test_a_finished_run_is_read_whole(tmp_path):
    run = read_run(runs.write_run(tmp_path / "out"))
    assert len(run.steps) == 344 and len(run.evaluations) == 3 and run.status() == "complete"
    assert run.last_evaluation().num_examples() == 408
    assert run.metrics() == runs.results()["metrics"]
    assert run.setting("dtype") == "bf16" and run.setting("nothing") == ""
    assert run.last_evaluation().mistakes[0].label == "not_equivalent"
    assert not run.problems and not run.is_sample()


@pytest.mark.parametrize("name", ["missing", "file", "empty"])
def test_what_is_not_a_run_is_refused_in_one_line(tmp_path, name):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunDirectoryError, match=f"{name}: .*; give the directory") as caught:
        read_run(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b"[" * 100_000, b'{"a": NaN}'])
def test_a_damaged_file_is_told_and_the_rest_is_read(tmp_path, content):
    directory = runs.write_run(tmp_path / "out", num_steps=10)
    (directory / "results.json").write_bytes(content)
    run = read_run(directory)
    assert len(run.steps) == 10
    assert bool(run.problems) == (b"NaN" not in content)
    assert run.metrics() == run.last_evaluation().metrics


def test_a_run_without_results_is_known_by_its_events(tmp_path):
    directory = runs.write_run(tmp_path / "out", num_steps=30)
    (directory / "results.json").unlink()
    assert read_run(directory).status() == "complete"
    events = (directory / "events.jsonl").read_text().splitlines(keepends=True)
    (directory / "events.jsonl").write_text("".join(events[:20]))
    run = read_run(directory)
    assert run.status() == "unfinished" and run.metrics() == run.evaluations[-1].metrics


def test_a_run_that_was_taken_up_again_is_not_what_its_old_results_say(tmp_path):
    directory = runs.write_run(tmp_path / "out", num_steps=30, status="stopped")
    with (directory / "events.jsonl").open("a") as file:
        file.write(json.dumps({"event": "resume", "attempt": 1, "step": 20}) + "\n")
    assert read_run(directory).status() == "unfinished"


def test_either_file_can_tell_that_the_sample_was_used(tmp_path):
    directory = runs.write_run(tmp_path / "out", num_steps=5)
    about = runs.about(data={"name": "mrpc-sample", "sample": True})
    (directory / "run.json").write_text(json.dumps(about))
    assert read_run(directory).is_sample()


def test_values_that_are_not_finite_are_gaps_of_a_curve(tmp_path):
    events = [
        {"event": "step", "step": 1, "loss": 0.5},
        {"event": "step", "step": 2, "loss": "NaN"},
        {"event": "step", "step": 3},
    ]
    text = "".join(json.dumps(event) + "\n" for event in events)
    (tmp_path / "events.jsonl").write_text(text)
    curve = read_run(tmp_path).curve("loss")
    assert curve[0] == (1, 0.5) and math.isnan(curve[1][1]) and len(curve) == 2


def test_the_seeds_are_in_the_order_of_their_numbers(tmp_path):
    runs.write_seeds(tmp_path, seeds=(9, 10, 100))
    (tmp_path / "seed-notes").mkdir()
    run = read_run(tmp_path)
    assert [seed.directory.name for seed in run.seeds] == ["seed-9", "seed-10", "seed-100"]
    assert run.about["argv"] == runs.about()["argv"]


@pytest.mark.parametrize(
    "confusion",
    [[[1, 2]], [[1, 2], [3]], [[1, -2], [3, 4]], [["a", 1], [1, 1]], [[0, 0], [0, 0]], 7],
)
def test_what_is_no_confusion_matrix_is_left_out(tmp_path, confusion):
    event = {"event": "evaluation", "step": 1, "confusion": confusion, "labels": ["a", "b"]}
    (tmp_path / "events.jsonl").write_text(json.dumps(event) + "\n")
    assert read_run(tmp_path).last_evaluation().confusion == ()
