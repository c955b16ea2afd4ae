import json

from demo_bert.report.comparison import comparison_lines, labels, write_comparison
from demo_bert.report.record import read_run
from report import runs
from report.test_page import checked


def test_the_printed_table_is_aligned_and_says_once_what_all_runs_share(tmp_path):
    runs.write_run(tmp_path / "one", num_steps=9)
    metrics = {"accuracy": 0.7721}
    runs.write_run(tmp_path / "the-other", num_steps=9, model="tiny", steps=9000, metrics=metrics)
    found = [read_run(tmp_path / name) for name in ("one", "the-other")]
    assert comparison_lines(found) == [
        "all runs: task mrpc, dtype bf16, device cpu, seed 42, status complete",
        "run        model   steps  accuracy      F1  examples/s  wall time",
        "one        minilm    344    0.8603  0.8939         412       1:18",
        "the-other  tiny    9,000    0.7721       -         412       1:18",
    ]


def test_what_does_not_compare_is_said(tmp_path):
    runs.write_run(tmp_path / "a", num_steps=9, data={"name": "mrpc", "sample": True})
    runs.write_run(tmp_path / "b", num_steps=9, task="squad", metrics={"f1": 88.4})
    found = [read_run(tmp_path / name) for name in ("a", "b")]
    assert comparison_lines(found)[-2:] == [
        "note: different tasks (mrpc, squad): their scores do not compare",
        "note: embedded sample data, not the real task: a",
    ]


def test_the_page_shows_results_differing_settings_and_curves(tmp_path):
    runs.write_run(tmp_path / "one", num_steps=40)
    runs.write_run(tmp_path / "two", num_steps=40)
    about = runs.about()
    about["settings"][4]["value"] = [64]
    (tmp_path / "two" / "run.json").write_text(json.dumps(about))
    runs.write_seeds(tmp_path / "three")
    found = [read_run(tmp_path / name) for name in ("one", "two", "three")]
    path = write_comparison(found, tmp_path)
    assert path == tmp_path / "comparison.html"
    checker, words = checked(path)
    assert list(checker.ids) == ["results", "settings-that-differ", "curves", "runs"]
    assert "batch_size [32] [64] [32]" in words and "warmup" not in words
    assert checker.tags["figure"] == 3


def test_runs_of_the_same_name_are_told_apart(tmp_path):
    for name in ("a/out", "b/out"):
        runs.write_run(tmp_path / name, num_steps=3)
    found = [read_run(tmp_path / name) for name in ("a/out", "b/out")]
    assert labels(found) == ["a/out", "b/out"]
    assert labels([found[0], found[0]]) == ["out", "out"]


def test_runs_with_nothing_but_events_compare(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "events.jsonl").write_text("")
    found = [read_run(tmp_path / name) for name in ("a", "b")]
    assert comparison_lines(found)[-1].split() == ["b", "0", "-", "-"]
    checked(write_comparison(found, tmp_path / "page.html"))
