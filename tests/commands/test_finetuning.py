"""The command `finetuning` from its arguments to the files that it leaves."""

import math
import re
import signal
from pathlib import Path

import pytest
from safetensors.torch import load_file

from demo_bert.report.tensorboard import TensorBoardWriter
from small_run import (
    NUM_TRAIN,
    NUM_VALIDATION,
    Program,
    events,
    losses,
    read_json,
    tree,
)

SHORT = ("-i", "4")

# The contract, 1.4.
RESULTS = {
    "schema_version": int,
    "status": str,
    "command": str,
    "task": str,
    "model": str,
    "dtype": str,
    "device": str,
    "world_size": int,
    "hosts": list,
    "seed": int,
    "steps": int,
    "epochs": float,
    "global_batch_size": int,
    "learning_rate": float,
    "init_checkpoint": str,
    "metrics": dict,
    "throughput": dict,
    "wall_s": float,
    "data": dict,
}
RECORD = {
    "schema_version": int,
    "command": str,
    "argv": list,
    "settings": list,
    "versions": dict,
    "hardware": dict,
    "data": dict,
    "init_checkpoint": dict,
    "model_config": dict,
    "labels": list,
    "started": str,
}
MODEL_FILES = {
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
}


def test_everything_that_the_contract_lists_is_there(finished: Path) -> None:
    found = tree(finished)
    assert {"run.json", "events.jsonl", "results.json", "report.html", "predictions.tsv"} <= found
    assert {name for name in found if name.startswith("model/")} == {
        f"model/{name}" for name in MODEL_FILES
    }
    assert "logs/rank-0.log" in found
    assert [name for name in found if name.startswith("tensorboard/")]
    newest = (finished / "checkpoints" / "newest").read_text().strip()
    assert f"checkpoints/{newest}/manifest.json" in found
    known = ("run", "events", "results", "report", "predictions", "model", "logs", "tensorboard")
    assert {name.split("/")[0].split(".")[0] for name in found} == {*known, "checkpoints"}


def test_results_have_the_contracts_fields(finished: Path) -> None:
    results = read_json(finished / "results.json")
    assert {n: kind for n, kind in RESULTS.items() if not isinstance(results.get(n), kind)} == {}
    assert (results["schema_version"], results["status"]) == (1, "complete")
    assert (results["command"], results["task"]) == ("finetuning", "classification")
    assert (results["dtype"], results["device"]) == ("fp32", "cpu")
    assert (results["world_size"], len(results["hosts"]), results["seed"]) == (1, 1, 42)
    assert (results["steps"], results["global_batch_size"]) == (8, 10)
    assert results["epochs"] == pytest.approx(8 * 10 / NUM_TRAIN)
    assert results["learning_rate"] == 1e-3
    assert set(results["metrics"]) == {"accuracy", "f1"}
    rates = results["throughput"]
    assert rates["examples_per_s"] > 0
    assert 3 * rates["examples_per_s"] < rates["real_tokens_per_s"] < 25 * rates["examples_per_s"]
    assert set(rates["shares"]) >= {"data", "optimizer"}
    assert 0.0 <= rates["shares"]["data"] < 0.5 < sum(rates["shares"].values()) < 1.001
    assert rates["model_flops_utilisation"] is None, "the peak of a CPU is unknown"
    assert results["data"]["sample"] is False
    assert results["data"]["counts"] == {"train": NUM_TRAIN, "validation": NUM_VALIDATION}


def test_throughput_leaves_the_first_steps_out_and_wall_time_nothing(finished: Path) -> None:
    results = read_json(finished / "results.json")
    steps = events(finished, "step")
    seconds = sum(event["seconds"] for event in steps[3:])
    assert results["throughput"]["examples_per_s"] == pytest.approx(50 / seconds)
    everything = [event["time"] for event in events(finished)]
    assert results["wall_s"] >= max(everything) - min(everything)


def test_the_record_has_settings_versions_hashes_and_licences(
    finished: Path, program: Program
) -> None:
    record = read_json(finished / "run.json")
    assert {n: kind for n, kind in RECORD.items() if not isinstance(record.get(n), kind)} == {}
    settings = {each["name"]: each for each in record["settings"]}
    assert all(set(each) == {"name", "value", "source", "variable"} for each in settings.values())
    assert settings["batch_size"]["value"] == [4]
    assert settings["batch_size"]["source"] == "flag -b"
    assert settings["warmup"]["value"] == [1]
    assert settings["warmup"]["source"].startswith("recipe")
    assert settings["global_batch_size"]["value"] == [10]
    assert record["argv"][0] == "finetuning"
    assert {file["path"] for file in record["data"]["files"]} == {
        str(program.data / "train.tsv"),
        str(program.data / "dev.tsv"),
    }
    assert record["data"]["licence"] == "the user's own"
    start = record["init_checkpoint"]
    assert re.fullmatch("[0-9a-f]{64}", start["sha256"]["model.safetensors"])
    assert start["missing"] == ["classifier.weight", "classifier.bias"]
    assert start["unexpected"] == []
    assert record["labels"] == ["0", "1"]
    assert record["model_config"]["hidden_size"] == 16
    assert record["versions"]["torch"]


def test_events_have_the_contracts_fields(finished: Path) -> None:
    found = events(finished)
    assert [event["event"] for event in found][:2] == ["forecast", "start"]
    assert found[1]["total_steps"] == 8
    assert all({"event", "time", "attempt"} <= set(event) for event in found)
    steps = events(finished, "step")
    assert [event["step"] for event in steps] == list(range(1, 9))
    fields = {"loss", "learning_rate", "examples_per_s", "real_tokens_per_s", "grad_norm"}
    assert all(math.isfinite(event[name]) for event in steps for name in fields)
    assert [event["examples"] for event in steps] == [10] * 8
    evaluations = events(finished, "evaluation")
    assert [event["step"] for event in evaluations] == [5, 8]
    assert evaluations[-1]["split"] == "validation"
    assert evaluations[-1]["metrics"] == read_json(finished / "results.json")["metrics"]
    saves = events(finished, "checkpoint")
    assert [event["step"] for event in saves] == [5, 8]
    assert all((finished / event["path"] / "manifest.json").exists() for event in saves)
    assert (found[-1]["event"], found[-1]["status"]) == ("end", "complete")


def test_predictions_agree_with_the_metrics(finished: Path) -> None:
    header, *lines = (finished / "predictions.tsv").read_text().splitlines()
    assert header.split("\t") == ["index", "prediction", "label", "score"]
    rows = [line.split("\t") for line in lines]
    assert [int(row[0]) for row in rows] == list(range(NUM_VALIDATION))
    assert all(0.5 <= float(row[3]) <= 1.0 for row in rows)
    hits = sum(row[1] == row[2] for row in rows)
    both = sum(row[1] == row[2] == "1" for row in rows)
    either = sum(row[1] == "1" for row in rows) + sum(row[2] == "1" for row in rows)
    metrics = read_json(finished / "results.json")["metrics"]
    assert metrics["accuracy"] == pytest.approx(hits / NUM_VALIDATION)
    assert metrics["f1"] == pytest.approx(2 * both / either if either else 0.0)
    confusion = events(finished, "evaluation")[-1]["confusion"]
    assert confusion[0][0] + confusion[1][1] == hits


def test_the_saved_model_has_the_weights_of_the_last_step(finished: Path) -> None:
    saved = load_file(finished / "model" / "model.safetensors")
    last = load_file(finished / "checkpoints" / "step-8" / "model.safetensors")
    assert (saved["classifier.weight"] == last["classifier.weight"]).all()
    assert sum(t.numel() for t in saved.values()) == sum(t.numel() for t in last.values())


def test_answers_alone_are_on_standard_output(program: Program, tmp_path: Path) -> None:
    outcome = program.run(tmp_path / "run", *SHORT)
    assert outcome.code == 0
    first, *rest = outcome.out.splitlines()
    assert re.search(r"accuracy 0\.\d{4}  F1 [01]\.\d{4}", first)
    assert any(str(tmp_path / "run") in line for line in rest)
    assert "step" in outcome.err
    assert "MISSING" not in outcome.err


def test_the_log_file_has_what_was_said(program: Program, tmp_path: Path) -> None:
    outcome = program.run(tmp_path / "run", *SHORT)
    log = (tmp_path / "run" / "logs" / "rank-0.log").read_text()
    for text in ("weights: missing: classifier.weight", "plan: 4 steps of 4 examples"):
        assert text in log
        assert text in outcome.err


def test_the_time_limit_saves_and_stops(program: Program, tmp_path: Path) -> None:
    outcome = program.run(tmp_path / "run", "-i", "100000", "--max-time", "4s")
    assert outcome.code == 75
    assert "stopped by the time limit after step" in outcome.err
    results = read_json(tmp_path / "run" / "results.json")
    assert results["status"] == "stopped"
    newest = (tmp_path / "run" / "checkpoints" / "newest").read_text()
    assert newest == f"step-{results['steps']}\n"
    assert "model" not in {path.name for path in (tmp_path / "run").iterdir()}


def test_two_signals_interrupt(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(self: TensorBoardWriter, event: dict[str, object]) -> None:
        if event["event"] == "step" and event["step"] == 2:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(TensorBoardWriter, "add", read)
    outcome = program.run(tmp_path / "run", *SHORT)
    assert outcome.code == 130
    assert outcome.err.splitlines()[-1] == "demo_bert: interrupted"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_loss_that_is_not_finite_ends_the_run_with_the_weights_before(
    program: Program, tmp_path: Path
) -> None:
    directory = tmp_path / "run"
    outcome = program.run(directory, *SHORT, "--learning-rate", "1e38", "--save-every", "1")
    assert outcome.code == 1
    assert "step 2: the loss is not finite; weights are those of step 1" in outcome.err
    assert "Traceback" not in outcome.err
    (fault,) = events(directory, "fault")
    assert (fault["kind"], fault["step"], fault["tensor"]) == ("nonfinite", 2, "loss")
    assert [event["step"] for event in events(directory, "step")] == [1]
    assert [event["step"] for event in events(directory, "checkpoint")] == [1]
    end = events(directory)[-1]
    assert (end["event"], end["status"]) == ("end", "failed")
    results = read_json(directory / "results.json")
    assert (results["status"], results["steps"], results["metrics"]) == ("failed", 1, {})
    assert (directory / "report.html").exists()
    assert not (directory / "model").exists()
    assert not (directory / "predictions.tsv").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--optimizer", "adamv"), "adamw"),
        (("--schedule", "liner"), "linear"),
        (("-s", "33"), "the model takes at most 32"),
        (("--track", "mlflow"), "--track"),
        (("-b", "0"), "-b"),
        (("-d", "fp16"), "fp32"),
    ],
)
def test_a_users_mistake_is_one_line_and_nothing_is_written(
    program: Program, tmp_path: Path, options: tuple[str, ...], told: str
) -> None:
    outcome = program.run(tmp_path / "run", *SHORT, *options)
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    assert line.startswith("demo_bert: error: ")
    assert told in line
    assert outcome.out == ""
    assert list(tmp_path.iterdir()) == []


def test_random_weights_of_a_models_shape(program: Program, tmp_path: Path) -> None:
    assert program.run(tmp_path / "run", *SHORT, "--init-checkpoint", "random").code == 0
    record = read_json(tmp_path / "run" / "run.json")
    assert record["init_checkpoint"]["name"] == "random"
    assert record["init_checkpoint"]["missing"] == []
    assert read_json(tmp_path / "run" / "results.json")["init_checkpoint"] == "random"
    assert program.run(tmp_path / "other", *SHORT).code == 0
    assert losses(tmp_path / "other") != losses(tmp_path / "run")


def test_one_of_our_runs_is_a_start(program: Program, finished: Path, tmp_path: Path) -> None:
    argv = ["finetuning", "-d", "fp32", "-m", str(finished / "model"), "-b", "4", "-s", "24"]
    argv += ["--dataset-path", str(program.data), "--device", "cpu", "--dropout", "0"]
    argv += ["--attention-dropout", "0", "--learning-rate", "1e-9", "-i", "1"]
    assert program.call(*argv, "-o", str(tmp_path / "run")).code == 0
    record = read_json(tmp_path / "run" / "run.json")
    assert record["init_checkpoint"]["missing"] == []
    scores = [read_json(path / "results.json")["metrics"] for path in (finished, tmp_path / "run")]
    assert scores[0] == scores[1]
