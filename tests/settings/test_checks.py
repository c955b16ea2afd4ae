import os

import pytest

from demo_bert.errors import UsageError
from demo_bert.settings.argv import flags_of
from demo_bert.settings.checks import looks_like_path
from demo_bert.settings.resolution import resolve

MRPC = "-d bf16 -m tiny -t mrpc "


@pytest.fixture(autouse=True)
def _inside_an_empty_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def resolved(command, text):
    return resolve(command, flags_of(text.split(), command), {}, tasks=("mrpc",))[0]


def refused(command, text):
    with pytest.raises(UsageError) as caught:
        resolved(command, text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("command", "text", "told"),
    [
        ("finetuning", "-b 64 8", "-b takes one value, as finetuning has one phase; got 64 8"),
        ("finetuning", "-s 128,512", "-s takes one value, as finetuning has one phase"),
        ("pretraining", "-t overfit -b 64 8", "-b takes one value, as overfit has one phase"),
        ("pretraining", "--phases 2", "--phases 2 needs --init-checkpoint"),
        ("pretraining", "-fpo --global-batch-size 8", "-fpo sets the global batch"),
        ("pretraining", "-t bookswik", "did you mean 'bookswiki'"),
        ("finetuning", "--sample --dataset-path .", "--sample and --dataset-path exclude"),
        ("finetuning", "--new --resume 5", "--new and --resume exclude"),
        ("finetuning", "--columns text=a", "--columns needs --dataset-path"),
        ("finetuning", "--dataset-path a.tsv", "--dataset-path 'a.tsv': no such file"),
        ("finetuning", "--init-checkpoint ./a", "--init-checkpoint './a': no such file"),
        ("finetuning", "--init-checkpoint randm", "did you mean 'random'"),
        ("finetuning", "-b 0", "-b: needs a whole number of at least 1"),
        ("finetuning", "-s 0", "-s: needs a whole number of at least 1"),
        ("finetuning", "-i 0", "-i: needs a whole number of at least 1"),
        ("finetuning", "-w -1", "-w: needs a whole number of at least 0"),
        ("finetuning", "-e 0", "-e: needs a number above 0"),
        ("finetuning", "-v 0", "-v: needs a whole number of at least 1"),
        ("finetuning", "--seeds 0", "--seeds: needs a whole number of at least 1"),
        ("finetuning", "--learning-rate nan", "--learning-rate: needs a number above 0"),
        ("finetuning", "--lr-scaling square", "--lr-scaling: needs sqrt, linear, workers or none"),
        ("finetuning", "--device gpu", "--device: needs auto, cpu, cuda or hpu"),
        ("finetuning", "--config none.toml", "--config none.toml: no such file"),
    ],
)
def test_what_cannot_be_is_refused(command, text, told):
    base = "-d bf16 -m tiny " + ("-t mrpc " if command == "finetuning" else "")
    assert told in refused(command, base + text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "predict needs --text, or --question with --context-file, or --input"),
        ("--text-b x", "--text-b needs --text too"),
        ("--question x", "--question needs --context-file too"),
        ("--text x --input a.tsv", "--text and --input exclude each other"),
        ("--input a.tsv", "--input 'a.tsv': no such file or directory"),
        ("--input .", "--input '.': is a directory; a file is needed"),
        ("--text x -o .", "-o '.': is a directory; a file is needed"),
    ],
)
def test_a_question_without_its_parts_is_refused(text, told):
    assert told in refused("predict", f"base {text}")


@pytest.mark.parametrize(
    ("command", "text", "told"),
    [
        ("report", "", "report needs RUN: run directories"),
        ("report", "none", "RUN 'none': no such file or directory"),
        ("evaluate", "-t mrpc", "evaluate needs MODEL: a run directory"),
        ("evaluate", "./none -t mrpc", "MODEL './none': no such directory"),
        ("evaluate", "tin -t mrpc", "MODEL: unknown model 'tin' (did you mean 'tiny'?)"),
        ("prepare", "", "-o/--output-dir is required: the token store to write"),
        ("prepare", "verify", "prepare verify needs STORE"),
        ("prepare", "merge . -o c", "prepare merge needs at least two stores"),
        ("prepare", "verfy .", "did you mean 'verify'"),
        ("prepare", "--wikipedia . -o c", "--wikipedia '.': is a directory; a file is needed"),
        ("prepare", "--text none -o c", "--text 'none': no such file"),
        ("plan", "evaluate -d bf16 -m tiny", "COMMAND: needs pretraining or finetuning"),
        ("plan", "finetuning -d bf16 -m tiny -b 64 8", "as finetuning has one phase"),
        ("pipeline", "-d bf16 -m tiny --finetuning-batch-size 6 4", "finetuning has one phase"),
    ],
)
def test_arguments_are_checked(command, text, told):
    assert told in refused(command, text)


@pytest.mark.parametrize("model", ["tiny", "minilm", "google/bert_uncased", "bert-base-uncased"])
def test_sizes_and_hub_names_are_models(model):
    assert resolved("finetuning", f"-d bf16 -t mrpc -m {model}").model == model


def test_a_directory_is_a_model(tmp_path):
    (tmp_path / "mine").mkdir()
    assert resolved("finetuning", "-d bf16 -t mrpc -m mine").model == "mine"


@pytest.mark.parametrize("model", ["bse", "huge", "./none", "/none/at/all", "a/b/c", "a b"])
def test_what_can_be_no_model_is_refused_with_all_sizes(model):
    with pytest.raises(UsageError, match="tiny, mini, small, medium, base, large, minilm"):
        resolve(
            "finetuning",
            flags_of(["-d", "bf16", "-t", "mrpc", "-m", model], "finetuning"),
            {},
            tasks=("mrpc",),
        )


def test_a_tf_checkpoint_is_named_by_what_its_files_begin_with(tmp_path):
    (tmp_path / "bert_model.ckpt.index").touch()
    text = MRPC + "--init-checkpoint bert_model.ckpt"
    assert resolved("finetuning", text).init_checkpoint == "bert_model.ckpt"


def test_a_name_below_a_directory_that_is_there_is_a_path(tmp_path):
    (tmp_path / "runs").mkdir()
    assert looks_like_path("runs/mine")
    assert not looks_like_path("google/mine")
    assert "no such file" in refused("finetuning", MRPC + "--init-checkpoint runs/mine")


def test_an_output_directory_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    assert "-o 'file': is a file; a directory is needed" in refused("finetuning", MRPC + "-o file")
    told = refused("finetuning", MRPC + "-o file/below")
    assert f"'{tmp_path / 'file'}' is a file; a directory is needed" in told


def test_an_output_directory_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    allowed = os.access

    def access(path, mode):
        return os.path.basename(path) != "closed" and allowed(path, mode)

    monkeypatch.setattr(os, "access", access)
    told = refused("finetuning", MRPC + "-o closed/a/b")
    assert f"'{tmp_path / 'closed'}' is not writable; name another place" in told


def test_nothing_is_made_by_checking(tmp_path):
    resolved("finetuning", MRPC + "-o new/run")
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_is_too_long_is_refused_in_one_line():
    assert "no such" in refused("finetuning", MRPC + f"--dataset-path {'a' * 5000}")
