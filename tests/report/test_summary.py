from pathlib import Path

from demo_bert.report.summary import final_lines
from report import runs


def test_the_last_lines_say_score_time_place_and_what_to_do_next():
    assert final_lines(runs.results(), Path("my runs/out")) == [
        "minilm on mrpc: accuracy 0.8603  F1 0.8939",
        "344 steps in 1:18  (412 examples/s, 21,034 tokens/s)",
        "page    my runs/out/report.html",
        "model   my runs/out/model",
        'next    demo_bert predict \'my runs/out\' --text "..." --text-b "..."',
    ]


def test_the_last_line_announces_the_sample():
    data = {"name": "mrpc", "sample": True}
    lines = final_lines(runs.results(data=data), Path("out"))
    assert lines[-1].startswith("sample data: ") and "nothing about mrpc" in lines[-1]


def test_a_stopped_run_offers_no_model():
    lines = final_lines(runs.results(status="stopped"), Path("out"))
    assert lines[0].endswith("(stopped)") and not any("predict" in line for line in lines)


def test_seeds_have_a_line_each_and_the_collapsed_are_named():
    per_seed = [{"seed": seed, "metrics": {"accuracy": 0.8 + seed / 1000}} for seed in (42, 43)]
    found = runs.results(
        metrics={"accuracy": 0.8425}, metrics_std={"accuracy": 0.0007}, per_seed=per_seed,
        collapsed=[43],
    )  # fmt: skip
    lines = final_lines(found, Path("out"))
    assert lines[0] == "minilm on mrpc: accuracy 0.8425 +- 0.0007"
    assert lines[2:5] == [
        "seed 42: accuracy 0.8420",
        "seed 43: accuracy 0.8430",
        "majority class only: seed 43 (the mean includes it)",
    ]


def test_the_next_command_fits_the_task():
    def following(**changes: object) -> str:
        return final_lines(runs.results(**changes), Path("out"), program="./demo_bert")[-1]

    assert following(task="sst2").endswith('./demo_bert predict out --text "..."')
    assert "--question" in following(task="squad_v2")
    assert "finetuning" in following(command="pretraining", task="bookswiki")


def test_results_with_little_in_them_are_no_error():
    assert final_lines({}, Path("out")) == ["page    out/report.html"]
