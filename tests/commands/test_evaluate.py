import json
import logging
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from commands import saved_models
from commands.saved_models import demo_bert
from demo_bert.hardware import CpuBackend


@pytest.fixture(autouse=True)
def _inside_an_empty_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("DEMO_BERT_")]:
        monkeypatch.delenv(name)
    yield
    logger = logging.getLogger("demo_bert")
    logger.handlers, logger.propagate = [], True
    logger.setLevel(logging.NOTSET)


@pytest.fixture(scope="module")
def pair_run(tmp_path_factory):
    """A run on pairs in bf16, with a validation file."""
    place = tmp_path_factory.mktemp("pairs")
    start = saved_models.save(place / "start")
    saved_models.write_pairs(place / "data" / "train.tsv", 24)
    saved_models.write_pairs(place / "data" / "dev.tsv", 21, seed=1)
    data = place / "data"
    argv = ["finetuning", "-d", "bf16", "-m", start, "-t", "mrpc", "-b", 8, "-i", 3, "-s", 20]
    assert demo_bert(*argv, "-o", place / "run", "--dataset-path", data) == 0
    return place / "run"


@pytest.fixture(scope="module")
def review_run(tmp_path_factory):
    """A run in fp32 on one file with columns and classes of its own."""
    place = tmp_path_factory.mktemp("reviews")
    start = saved_models.save(place / "start")
    data = saved_models.write_reviews(place / "reviews.csv", 60)
    argv = ["finetuning", "-d", "fp32", "-m", start, "-b", 8, "-i", 3, "-s", 16]
    columns = ["--columns", "text=review,label=stars", "--dataset-path", data]
    assert demo_bert(*argv, "-o", place / "run", *columns) == 0
    return place / "run"


@pytest.fixture
def model(tmp_path):
    return saved_models.save(tmp_path / "model")


@pytest.fixture
def pairs(tmp_path):
    return saved_models.write_pairs(tmp_path / "pairs.tsv", 20)


def results(directory):
    return json.loads((Path(directory) / "results.json").read_text("utf-8"))


def refused(capsys, *argv):
    """The one line of a user's mistake; nothing is on standard output, nothing is written."""
    before = sorted(Path().rglob("*"))
    assert demo_bert(*argv) == 2
    told = capsys.readouterr()
    lines = [line for line in told.err.splitlines() if line.startswith("demo_bert: error: ")]
    assert (told.out, len(lines)) == ("", 1)
    assert "Traceback" not in told.err and sorted(Path().rglob("*")) == before
    return lines[0]


@pytest.mark.parametrize("name", ["pair_run", "review_run"])
def test_a_run_is_scored_exactly_as_when_it_was_trained(name, request, capsys):
    run = request.getfixturevalue(name)
    capsys.readouterr()
    assert demo_bert("evaluate", run, "-o", "scored") == 0
    there, here = results(run), results("scored")
    assert here["metrics"] == there["metrics"] != {}
    assert (here["dtype"], here["task"]) == (there["dtype"], there["task"])
    assert here["data"]["files"] == there["data"]["files"]
    predictions = (run / "predictions.tsv").read_bytes()
    assert Path("scored/predictions.tsv").read_bytes() == predictions
    assert "warning" not in capsys.readouterr().err
    for change in (("-d", "fp32" if here["dtype"] == "bf16" else "bf16"), ("-s", "6")):
        assert demo_bert("evaluate", run, *change, "-o", "scored") == 0
        assert Path("scored/predictions.tsv").read_bytes() != predictions


def test_the_score_is_on_standard_output_and_nothing_is_written_without_an_output(pair_run, capsys):
    assert demo_bert("evaluate", pair_run, "-t", "mrpc") == 0
    lines = capsys.readouterr().out.splitlines()
    metrics = results(pair_run)["metrics"]
    assert lines[0] == (
        f"{pair_run} on mrpc: accuracy {metrics['accuracy']:.4f}  F1 {metrics['f1']:.4f}"
    )
    assert lines[1].startswith("21 examples (validation of ") and lines[1].endswith("(bf16 on cpu)")
    assert not list(Path().iterdir())


def test_results_have_the_fields_of_the_contract(pair_run):
    assert demo_bert("evaluate", pair_run, "-o", "scored") == 0
    found = results("scored")
    assert found["schema_version"] == 1 and found["command"] == "evaluate"
    assert found["status"] == "complete" and found["split"] == "validation"
    assert found["model"] == str(pair_run) and found["max_seq_length"] == 20
    assert found["data"]["sample"] is False and found["data"]["counts"] == {"validation": 21}
    assert sum(map(sum, found["confusion"])) == 21 and found["loss"] > 0
    assert found["throughput"]["examples_per_s"] > 0 and found["wall_s"] > 0


def test_a_single_file_is_scored_as_a_whole_and_training_on_it_is_told(review_run, capsys):
    data = review_run.parent / "reviews.csv"
    assert demo_bert("evaluate", review_run, "--dataset-path", data, "-o", "scored") == 0
    assert results("scored")["data"]["counts"] == {"validation": 60}
    assert "was trained on this file" in capsys.readouterr().err
    rows = data.read_text("utf-8").splitlines()
    Path("other.csv").write_text("\n".join([*rows[:4], "a1 b2,good"]) + "\n", "utf-8")
    assert demo_bert("evaluate", review_run, "--dataset-path", "other.csv") == 0
    told = capsys.readouterr()
    assert told.out.splitlines()[1].startswith("4 examples") and "warning" not in told.err


def test_the_validation_file_by_itself_is_no_training_file(pair_run, capsys):
    file = pair_run.parent / "data" / "dev.tsv"
    assert demo_bert("evaluate", pair_run, "--dataset-path", file, "-o", "scored") == 0
    assert results("scored")["metrics"] == results(pair_run)["metrics"]
    assert "warning" not in capsys.readouterr().err


def test_data_that_is_gone_or_changed_is_told(pair_run, tmp_path, capsys):
    place = tmp_path / "copy"
    shutil.copytree(pair_run.parent, place)
    record = json.loads((place / "run" / "run.json").read_text("utf-8"))
    for setting in record["settings"]:
        if setting["name"] == "dataset_path":
            setting["value"] = [str(place / "data")]
    (place / "run" / "run.json").write_text(json.dumps(record), "utf-8")
    saved_models.write_pairs(place / "data" / "dev.tsv", 9, seed=7)
    assert demo_bert("evaluate", place / "run") == 0
    assert "the data has changed since" in capsys.readouterr().err
    shutil.rmtree(place / "data")
    line = refused(capsys, "evaluate", place / "run", "-o", "scored")
    assert f"{place / 'data'}: " in line and "--dataset-path" in line


@pytest.mark.parametrize("labels", ["missing", "hidden"])
def test_a_file_without_labels_has_predictions_and_no_score(labels, model, tmp_path, capsys):
    file = saved_models.write_pairs(tmp_path / "test.tsv", 6, labels=labels == "hidden")
    if labels == "hidden":
        rows = [line.rpartition("\t")[0] for line in file.read_text("utf-8").splitlines()]
        file.write_text("\n".join([f"{rows[0]}\tlabel", *(f"{r}\t-1" for r in rows[1:])]), "utf-8")
    argv = ["evaluate", model, "-t", "mrpc", "--dataset-path", file]
    assert "no score; give -o DIR" in refused(capsys, *argv)
    assert demo_bert(*argv, "-o", "scored") == 0
    assert "no score, no labels" in capsys.readouterr().out
    assert results("scored")["metrics"] == {} and results("scored")["split"] == "test"
    lines = Path("scored/predictions.tsv").read_text("utf-8").splitlines()
    assert lines[0] == "index\tprediction\tlabel\tscore" and len(lines) == 7
    assert all(line.split("\t")[2] == "" for line in lines[1:])


def test_a_directory_with_a_test_split_alone_is_scored_on_it(model, tmp_path):
    data = saved_models.write_pairs(tmp_path / "data" / "test.tsv", 6).parent
    assert demo_bert("evaluate", model, "-t", "mrpc", "--dataset-path", data, "-o", "scored") == 0
    assert results("scored")["split"] == "test" and "f1" in results("scored")["metrics"]


def test_the_compute_type_is_that_of_the_run_else_fp32_unless_it_is_given(model, pair_run, pairs):
    for argv, dtype in (
        ([model, "-t", "mrpc"], "fp32"),
        ([model, "-t", "mrpc", "-d", "bf16"], "bf16"),
        ([pair_run], "bf16"),
        ([pair_run, "-d", "fp32"], "fp32"),
    ):
        assert demo_bert("evaluate", *argv, "--dataset-path", pairs, "-o", "scored") == 0
        assert results("scored")["dtype"] == dtype


def test_the_batch_size_does_not_change_the_answers(model, pairs):
    tables = []
    for batch in ((), ("-b", 3)):
        argv = ["evaluate", model, "-t", "mrpc", "--dataset-path", pairs, *batch, "-o", "scored"]
        assert demo_bert(*argv) == 0
        rows = Path("scored/predictions.tsv").read_text("utf-8").splitlines()[1:]
        tables.append([row.split("\t") for row in rows])
    for one, other in zip(*tables, strict=True):
        assert one[:3] == other[:3] and float(one[3]) == pytest.approx(float(other[3]), abs=2e-6)


def test_classes_are_matched_by_their_names(tmp_path, pairs, capsys):
    found = {}
    for name, labels in (
        ("ours", ["0", "1"]),
        ("nameless", None),
        ("turned", ["1", "0"]),
        ("named", ["not_equivalent", "equivalent"]),
    ):
        saved = saved_models.save(tmp_path / name, labels)
        argv = ["evaluate", saved, "-t", "mrpc", "--dataset-path", pairs, "-o", tmp_path / "scored"]
        assert demo_bert(*argv) == 0
        found[name] = results(tmp_path / "scored")["confusion"], capsys.readouterr().err
    straight = found["ours"][0]
    assert straight[0][0] + straight[1][0] > 0 and straight[0][1] + straight[1][1] > 0
    assert found["nameless"][0] == found["named"][0] == straight
    assert found["turned"][0] == [row[::-1] for row in straight]
    assert "they are taken as 0, 1, in this order" in found["named"][1]
    assert all("warning" not in found[name][1] for name in ("ours", "nameless", "turned"))


def test_a_model_of_other_classes_is_refused(tmp_path, pairs, review_run, capsys):
    three = saved_models.save(tmp_path / "three", ["a", "b", "c"])
    argv = ["-t", "mrpc", "--dataset-path", pairs, "-o", "scored"]
    assert "knows 3 classes (a, b, c); mrpc has 2 classes (0, 1)" in refused(
        capsys, "evaluate", three, *argv
    )
    assert "trained on classification, knows 3 classes (bad, fair, good)" in refused(
        capsys, "evaluate", review_run, *argv, "--columns", "text=sentence1"
    )


def test_a_run_on_classes_of_as_many_names_is_refused(pair_run, tmp_path, pairs, capsys):
    run = shutil.copytree(pair_run, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    config = json.loads((run / "model" / "config.json").read_text("utf-8"))
    config["id2label"] = {"0": "no", "1": "yes"}
    (run / "model" / "config.json").write_text(json.dumps(config), "utf-8")
    line = refused(capsys, "evaluate", run, "--dataset-path", pairs)
    assert "knows 2 classes (no, yes); mrpc has 2 classes (0, 1)" in line


def test_what_is_no_classifier_of_texts_is_refused(tmp_path, pairs, capsys):
    encoder = saved_models.save(tmp_path / "encoder", headless=True)
    number = saved_models.save(tmp_path / "number", None, num_labels=1)
    tagger = saved_models.save(tmp_path / "tagger")
    many = saved_models.save(tmp_path / "many")
    single = saved_models.save(tmp_path / "single", type_vocab_size=1)
    poolerless = saved_models.save(tmp_path / "poolerless")
    for saved, change in (
        (number, {"problem_type": None}),
        (tagger, {"architectures": ["BertForTokenClassification"]}),
        (many, {"problem_type": "multi_label_classification"}),
    ):
        config = json.loads((saved / "config.json").read_text("utf-8"))
        (saved / "config.json").write_text(json.dumps({**config, **change}), "utf-8")
    weights = load_file(poolerless / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "pooler" not in name}
    save_file(kept, poolerless / "model.safetensors")
    for saved, words in (
        (encoder, "an encoder without classifier.weight and classifier.bias"),
        (number, "gives a number"),
        (tagger, "another kind (BertForTokenClassification)"),
        (many, "another kind (multi_label_classification)"),
        (single, "takes single texts"),
        (poolerless, "bert.pooler.dense.weight, bert.pooler.dense.bias missing"),
        ("tiny", "a published encoder, not yet trained"),
    ):
        argv = ["evaluate", saved, "-t", "mrpc", "--dataset-path", pairs, "-o", tmp_path / "scored"]
        assert words in refused(capsys, *argv)


def test_models_that_are_missing_or_damaged_are_refused(model, pairs, tmp_path, capsys):
    argv = ["-t", "mrpc", "--dataset-path", pairs, "-o", "scored"]
    assert "no such directory" in refused(capsys, "evaluate", "./absent", *argv)
    Path("empty").mkdir()
    assert "no model in it" in refused(capsys, "evaluate", "empty", *argv)
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-40])
    assert "truncated or damaged" in refused(capsys, "evaluate", model, *argv)
    weights.unlink()
    assert "no weights there" in refused(capsys, "evaluate", model, *argv)


def test_wrong_tasks_columns_labels_and_lengths_are_refused(model, pairs, tmp_path, capsys):
    assert "unknown task 'mrcp'" in refused(capsys, "evaluate", model, "-t", "mrcp")
    assert "-t/--task is required" in refused(capsys, "evaluate", model)
    argv = ["evaluate", model, "-t", "mrpc", "-o", "scored", "--dataset-path"]
    assert "no such file" in refused(capsys, *argv, "absent.tsv")
    columns = ["--columns", "text=absent"]
    assert "no column 'absent'" in refused(capsys, *argv, pairs, *columns)
    Path("odd.tsv").write_text("text\ttext_b\tlabel\na1\tb1\t7\n", "utf-8")
    assert "label '7'" in refused(capsys, *argv, "odd.tsv")
    assert "the model takes at most 40 tokens" in refused(capsys, *argv, pairs, "-s", 41)
    assert "exclude each other" in refused(capsys, *argv, pairs, "--sample")


def test_only_an_earlier_evaluation_is_written_over(pair_run, model, pairs, capsys):
    argv = ["evaluate", model, "-t", "mrpc", "--dataset-path", pairs, "-o"]
    line = refused(capsys, *argv, pair_run)
    assert "run.json, results.json, predictions.tsv of something else" in line
    assert results(pair_run)["command"] == "finetuning"
    Path("mine").mkdir()
    Path("mine/predictions.tsv").write_text("mine")
    assert "mine: has predictions.tsv" in refused(capsys, *argv, "mine")
    Path("mine/predictions.tsv").unlink()
    Path("mine/notes.txt").write_text("kept")
    assert demo_bert(*argv, "mine") == 0 == demo_bert(*argv, "mine", "-d", "bf16")
    assert results("mine")["dtype"] == "bf16" and Path("mine/notes.txt").read_text() == "kept"


def test_a_run_on_the_stand_in_is_scored_on_it_and_says_so(pair_run, tmp_path, capsys):
    run = shutil.copytree(pair_run, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    record = json.loads((run / "run.json").read_text("utf-8"))
    record["data"]["sample"] = True
    for setting in record["settings"]:
        if setting["name"] == "dataset_path":
            setting["value"] = None
    (run / "run.json").write_text(json.dumps(record), "utf-8")
    assert demo_bert("evaluate", run, "-o", tmp_path / "scored") == 0
    assert results(tmp_path / "scored")["data"]["sample"] is True
    assert "says nothing about mrpc" in capsys.readouterr().out.splitlines()[-1]


def test_texts_that_were_cut_and_a_single_class_are_told(tmp_path, pairs, capsys):
    model = saved_models.save(tmp_path / "model")
    weights = load_file(model / "model.safetensors")
    weights["classifier.bias"] = torch.tensor([-100.0, 100.0])
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    assert demo_bert("evaluate", model, "-t", "mrpc", "--dataset-path", pairs, "-s", 8) == 0
    told = capsys.readouterr()
    assert "longer than 8 tokens: the rest was not read" in told.err
    assert "one class only: every answer is 1" in told.out


def test_a_device_of_fixed_shapes_gives_the_same_answers(model, pairs, monkeypatch):
    argv = ["evaluate", model, "-t", "mrpc", "--dataset-path", pairs, "-b", 4, "-o", "scored"]
    tables = []
    for fixed in (False, True):
        monkeypatch.setattr(CpuBackend, "wants_fixed_shapes", fixed)
        assert demo_bert(*argv) == 0
        rows = Path("scored/predictions.tsv").read_text("utf-8").splitlines()[1:]
        tables.append([row.split("\t") for row in rows])
    for one, other in zip(*tables, strict=True):
        assert one[:3] == other[:3] and float(one[3]) == pytest.approx(float(other[3]), abs=2e-6)
