import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from commands import saved_models
from commands.saved_models import demo_bert
from demo_bert import cli

SOURCE = Path(cli.__file__).parents[1]


@pytest.fixture(autouse=True)
def _inside_an_empty_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("DEMO_BERT_")]:
        monkeypatch.delenv(name)
    yield
    logger = logging.getLogger("demo_bert")
    logger.handlers, logger.propagate = [], True
    logger.setLevel(logging.NOTSET)


@pytest.fixture
def model(tmp_path):
    return saved_models.save(tmp_path / "model", ["bad", "good"])


def write_run(directory, labels=("0", "1"), *, task="mrpc", data=None, status="complete", **values):
    """A finished run, as far as `predict` reads it."""
    saved_models.save(directory / "model", list(labels))
    settings = {"task": task, "dtype": "bf16", "max_seq_length": [20], **values}
    record = {
        "command": "finetuning",
        "settings": [{"name": name, "value": value} for name, value in settings.items()],
        "data": data or {},
    }
    results = {"status": status, "command": "finetuning", "task": task}
    (directory / "run.json").write_text(json.dumps(record), "utf-8")
    (directory / "results.json").write_text(json.dumps(results), "utf-8")
    return directory


def refused(capsys, *argv):
    """The one line of a user's mistake; nothing is on standard output, nothing is written."""
    before = sorted(Path().rglob("*"))
    assert demo_bert("predict", *argv) == 2
    told = capsys.readouterr()
    lines = [line for line in told.err.splitlines() if line.startswith("demo_bert: error: ")]
    assert (told.out, len(lines)) == ("", 1)
    assert "Traceback" not in told.err and sorted(Path().rglob("*")) == before
    return lines[0]


def answers_of(capsys, *argv):
    """Standard output and standard error of a call that goes well."""
    capsys.readouterr()
    assert demo_bert("predict", *argv) == 0
    told = capsys.readouterr()
    return told.out, told.err


def test_one_input_is_answered_in_one_line_with_label_and_probability(model, capsys):
    for texts in (("--text", "a1 b2"), ("--text", "a1 b2", "--text-b", "c3")):
        out, err = answers_of(capsys, model, *texts)
        label, score = out.removesuffix("\n").split("\t")
        assert label in ("bad", "good") and 0.5 <= float(score) <= 1
        assert len(score) == len("0.1234") and out.endswith("\n") and err == ""


def test_a_file_is_answered_by_the_table_of_predictions(model, tmp_path, capsys):
    file = saved_models.write_pairs(tmp_path / "pairs.tsv", 5, labels=False)
    out, _ = answers_of(capsys, model, "--input", file)
    lines = out.split("\n")
    assert lines[0] == "index\tprediction\tlabel\tscore" and lines[-1] == "" and len(lines) == 7
    rows = [line.split("\t") for line in lines[1:-1]]
    assert [row[0] for row in rows] == list("01234") and {row[2] for row in rows} == {""}
    assert {row[1] for row in rows} <= {"bad", "good"}
    pair = file.read_text("utf-8").splitlines()[3].split("\t")
    one, _ = answers_of(capsys, model, "--text", pair[0], "--text-b", pair[1])
    label, score = one.split("\t")
    assert label == rows[2][1] and float(score) == pytest.approx(float(rows[2][3]), abs=6e-5)


def test_jsonl_and_csv_are_read_too(model, tmp_path, capsys):
    rows = [{"text": saved_models.texts(row)} for row in range(3)]
    Path("in.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    Path("in.csv").write_text("\n".join(["text", *(row["text"] for row in rows)]), "utf-8")
    tables = [answers_of(capsys, model, "--input", name)[0] for name in ("in.jsonl", "in.csv")]
    assert tables[0] == tables[1] and len(tables[0].splitlines()) == 4


def test_labels_of_a_file_are_kept_as_far_as_the_model_knows_them(model, capsys):
    rows = [("a1", "good"), ("b2", "bad"), ("c3", "odd"), ("d4", "")]
    Path("in.csv").write_text("text,label\n" + "\n".join(map(",".join, rows)) + "\n", "utf-8")
    out, err = answers_of(capsys, model, "--input", "in.csv")
    assert [row.split("\t")[2] for row in out.splitlines()[1:]] == ["good", "bad", "", ""]
    assert "labels 'odd' are left out: the model's classes are bad, good" in err


def test_an_output_file_gets_the_answers_and_standard_output_nothing(model, tmp_path, capsys):
    file = saved_models.write_pairs(tmp_path / "pairs.tsv", 4)
    table, _ = answers_of(capsys, model, "--input", file)
    out, err = answers_of(capsys, model, "--input", file, "-o", "answers/all.tsv")
    assert out == "" and "4 answers written to answers/all.tsv" in err
    assert Path("answers/all.tsv").read_text("utf-8") == table
    line, _ = answers_of(capsys, model, "--text", "a1")
    assert answers_of(capsys, model, "--text", "a1", "-o", "one.tsv")[0] == ""
    assert Path("one.tsv").read_text("utf-8") == line
    before = file.read_bytes()
    assert "is the input itself" in refused(capsys, model, "--input", file, "-o", file)
    assert file.read_bytes() == before


def test_what_a_paraphrase_answer_means_is_said_in_words(tmp_path, capsys, monkeypatch):
    run = write_run(tmp_path / "run")
    pair = ["--text", "a1 b2", "--text-b", "c3"]
    out, err = answers_of(capsys, run, *pair)
    meanings = {"0": "0: the two texts do not say the same", "1": "1: the two texts say the same"}
    assert err == meanings[out[0]] + "\n"
    monkeypatch.setenv("DEMO_BERT_LOG_LEVEL", "error")
    assert answers_of(capsys, run, *pair) == (out, "")


def test_an_answer_of_a_run_on_the_stand_in_says_so(tmp_path, capsys):
    run = write_run(tmp_path / "run", data={"sample": True})
    _, err = answers_of(capsys, run, "--text", "a1", "--text-b", "c3")
    assert "trained on the embedded stand-in, which is not mrpc" in err


def test_the_newest_finished_run_here_answers_where_no_model_is_named(capsys):
    texts = ["--text", "a1", "--text-b", "b2"]
    line = refused(capsys, *texts)
    assert "no finished run under runs/" in line and "demo_bert finetuning -d bf16" in line
    started = time.time()
    for age, (name, values) in enumerate(
        {
            "stopped": {"status": "stopped"},
            "squad": {"task": "squad"},
            "seeds/seed-43": {},
            "old": {},
        }.items()
    ):
        run = write_run(Path("runs") / name, **values)
        os.utime(run / "results.json", (started - age, started - age))
    Path("runs/damaged").mkdir()
    Path("runs/damaged/results.json").write_text("{")
    Path("runs/scored").mkdir()
    Path("runs/scored/results.json").write_text('{"status": "complete", "command": "evaluate"}')
    _, err = answers_of(capsys, *texts)
    assert "model: runs/seeds/seed-43, the newest finished run here" in err


def test_a_model_of_pairs_wants_two_texts_and_one_of_texts_wants_one(tmp_path, capsys):
    pairs = write_run(tmp_path / "pairs")
    assert "give the second one with --text-b" in refused(capsys, pairs, "--text", "a1")
    Path("single.tsv").write_text("text\na1\n", "utf-8")
    assert "single.tsv: has no second text" in refused(capsys, pairs, "--input", "single.tsv")
    single = write_run(tmp_path / "single", task="classification", data={"is_pair": False})
    argv = ["--text", "a1", "--text-b", "b2"]
    assert "leave --text-b out" in refused(capsys, single, *argv)
    file = saved_models.write_pairs(tmp_path / "pairs.tsv", 3)
    assert "trained on single texts" in refused(capsys, single, "--input", file)
    unknown = write_run(tmp_path / "unknown", task="classification")
    assert answers_of(capsys, unknown, *argv)[0] and answers_of(capsys, unknown, *argv[:2])[0]


def test_texts_that_were_cut_are_told(tmp_path, model, capsys):
    long = " ".join(["a1"] * 60)
    _, err = answers_of(capsys, model, "--text", long)
    assert f"warning: the input has 62 tokens, and {model} reads 40: the rest was cut off" in err
    assert answers_of(capsys, model, "--text", " ".join(["a1"] * 38))[1] == ""
    run = write_run(tmp_path / "run", task="classification")
    Path("in.tsv").write_text(f"text\na1\n{long}\nb2\n{long}\n", "utf-8")
    _, err = answers_of(capsys, run, "--input", "in.tsv")
    assert "2 of 4 inputs longer than the 20 tokens" in err and "(index 1, 3)" in err


def test_a_file_may_have_the_columns_that_the_run_was_trained_on(tmp_path, capsys):
    columns = {"text": "review", "label": "stars"}
    run = write_run(
        tmp_path / "run", ["bad", "fair", "good"], task="classification", columns=columns
    )
    file = saved_models.write_reviews(tmp_path / "reviews.csv", 3)
    out, _ = answers_of(capsys, run, "--input", file)
    assert [row.split("\t")[2] for row in out.splitlines()[1:]] == ["bad", "fair", "good"]
    Path("usual.tsv").write_text("text\na1\n", "utf-8")
    assert answers_of(capsys, run, "--input", "usual.tsv")[0]
    Path("odd.tsv").write_text("words\na1\n", "utf-8")
    line = refused(capsys, run, "--input", "odd.tsv")
    assert "odd.tsv: no column for the text; its columns are 'words'" in line
    assert "--columns" not in line  # which this command does not have


def test_wrong_inputs_are_refused_in_one_line(model, tmp_path, capsys):
    assert "--text: empty" in refused(capsys, model, "--text", " \n")
    assert "--text-b: empty" in refused(capsys, model, "--text", "a1", "--text-b", "\t")
    assert "--text: not UTF-8 at character 1" in refused(capsys, model, "--text", "a\udcff")
    assert "needs --text" in refused(capsys, model)
    assert "exclude each other" in refused(capsys, model, "--text", "a1", "--input", model)
    assert "no such file" in refused(capsys, model, "--input", "absent.tsv")
    Path("passage.txt").write_text("a1")
    squad = ["--question", "a1", "--context-file", "passage.txt"]
    assert "without qa_outputs, which marks answers" in refused(capsys, model, *squad)
    Path("hole.tsv").write_text("text\ttext_b\na1\tb1\na2\t\n", "utf-8")
    assert "hole.tsv, line 3: no text in column 'text_b'" in refused(
        capsys, model, "--input", "hole.tsv"
    )


def test_wrong_models_are_refused_in_one_line(model, tmp_path, capsys):
    text = ["--text", "a1"]
    assert "no such directory" in refused(capsys, "./absent", *text)
    Path("empty").mkdir()
    assert "no model in it" in refused(capsys, "empty", *text)
    encoder = saved_models.save(tmp_path / "encoder", headless=True)
    assert "an encoder without classifier.weight" in refused(capsys, encoder, *text)
    assert "not yet trained to answer" in refused(capsys, "tiny", *text)
    single = saved_models.save(tmp_path / "single", type_vocab_size=1)
    assert "takes single texts" in refused(capsys, single, *text, "--text-b", "b1")
    named = saved_models.save(tmp_path / "named", ["a\tb", "c"])
    assert "a name of its own, in one line" in refused(capsys, named, *text)
    (model / "model.safetensors").write_bytes(b"\0" * 20)
    assert "truncated or damaged" in refused(capsys, model, *text)
    run = write_run(tmp_path / "run")
    (run / "run.json").write_text("{")
    assert "run.json: damaged" in refused(capsys, run, *text)


def test_a_mistake_on_the_command_line_is_said_before_torch_is_there():
    code = (
        "import sys; from demo_bert import cli\n"
        "code = cli.main(['predict', '--text', 'a1', '--text-b', ' '])\n"
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    environ = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "--text-b: empty" in done.stderr
