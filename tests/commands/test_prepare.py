"""`prepare`: what it prints, what it refuses, and how it ends."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from corpus.recipes import write_books
from demo_bert.cli import main
from demo_bert.model.vocabulary import STANDARD_VOCABULARY
from small_run import ENVIRONMENT

ENGLISH = "The rain in the valley fell on the old house. It was wet outside, and nobody came.\n"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("".join(f"{ENGLISH[:-2]} number {n}.\n" for n in range(30)), "utf-8")
    return path


def test_a_store_is_made_and_its_figures_go_to_standard_output(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prepare", "--text", str(text), "-o", str(tmp_path / "s"), "-v", "1"]) == 0
    out, err = capsys.readouterr()
    assert "1 documents, 60 sentences" in out
    assert "bytes a token" in out
    assert "forecast:" in err
    manifest = json.loads((tmp_path / "s" / "manifest.json").read_text("utf-8"))
    assert manifest["sentences"] == 60
    assert manifest["vocabulary"]["do_lower_case"] is True
    assert manifest["command"].startswith(f"demo_bert prepare --text {text}")


def test_another_vocabulary_than_the_stores_is_one_line_and_exit_code_2(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*arguments: str) -> str:
        assert main(["prepare", *arguments]) == 2
        (line,) = [one for one in capsys.readouterr().err.splitlines() if "error: " in one]
        return line

    one, two = tmp_path / "one", tmp_path / "two"
    make = ["--text", str(text), "-v", "1", "--vocab"]
    other = tmp_path / "vocab.txt"
    other.write_text(f"{STANDARD_VOCABULARY.read_text('utf-8')}zyzzyva\n", "utf-8")
    assert main(["prepare", *make, str(STANDARD_VOCABULARY), "-o", str(one)]) == 0
    assert main(["prepare", *make, str(other), "-o", str(two)]) == 0
    assert "whose vocabulary were others" in refused(*make, str(other), "-o", str(one))
    line = refused("merge", str(one), str(two), "-o", str(tmp_path / "both"))
    assert "prepare both with the same --vocab" in line
    # A file that was exchanged afterwards.
    (two / "vocab.txt").write_text(STANDARD_VOCABULARY.read_text("utf-8"), "utf-8")
    for action in ("inspect", "verify"):
        assert "two/vocab.txt: is not the vocabulary of this store" in refused(action, str(two))
    # `merge` reads the vocabulary of every store.
    three = tmp_path / "three"
    shutil.copytree(one, three)
    (three / "vocab.txt").write_text(other.read_text("utf-8"), "utf-8")
    line = refused("merge", str(one), str(three), "-o", str(tmp_path / "both"))
    assert "three/vocab.txt: is not the vocabulary of this store" in line
    assert not (tmp_path / "both").exists()
    training = ["pretraining", "-t", "text", "-m", "tiny", "-d", "fp32", "--device", "cpu"]
    training += ["--dataset-path", str(two), "-o", str(tmp_path / "run")]
    assert main(training) == 2
    assert "two/vocab.txt: is not the vocabulary of this store" in capsys.readouterr().err


def test_a_dry_run_says_what_is_to_be_expected_and_writes_nothing(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prepare", "--text", str(text), "-o", str(tmp_path / "s"), "--dry-run"]) == 0
    assert "million tokens" in capsys.readouterr().out
    assert not (tmp_path / "s").exists()


def test_verify_and_inspect_answer_for_a_store(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "s"
    main(["prepare", "--text", str(text), "-o", str(store), "-v", "1"])
    capsys.readouterr()
    assert main(["prepare", "verify", str(store)]) == 0
    assert "whole: 1 shards" in capsys.readouterr().out
    assert main(["prepare", "inspect", str(store)]) == 0
    assert "60 sentences" in capsys.readouterr().out
    shard = store / "shard-00000.bin"
    content = bytearray(shard.read_bytes())
    content[-40] ^= 8
    shard.write_bytes(content)
    assert main(["prepare", "verify", str(store)]) == 2
    assert "shard-00000.bin: differs from what was written at byte 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--text {text} --cased", "--cased: the standard uncased vocabulary has no upper case"),
        ("--text {text} --books {text}", "comes twice"),
        ("--wikipedia {text}", "is no Wikipedia dump"),
        ("--jsonl {text}", "no line is a JSON object with one of text, content"),
        ("--parquet {text}", "cannot be read as Parquet"),
    ],
    ids=["cased", "twice", "no-dump", "no-json", "no-parquet"],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    text: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    message: str,
) -> None:
    monkeypatch.setenv("DEMO_BERT_LOG_LEVEL", "warning")
    argv = [word.format(text=text) for word in words.split()]
    assert main(["prepare", *argv, "-o", str(tmp_path / "s")]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_inspect_shows_training_examples_with_what_is_to_be_predicted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, texts = tmp_path / "s", tmp_path / "texts"
    texts.mkdir()
    for name in ("harbour", "mountain", "garden", "railway", "kitchen"):
        said = (f"The {name} was seen by {count} people from the north." for count in range(60))
        (texts / f"{name}.txt").write_text(" ".join(said))
    assert main(["prepare", "--text", str(texts), "-o", str(store), "--dedupe", "off"]) == 0
    shown = []
    for options in (("--examples", "2", "-s", "32"), ("--examples", "0")):
        capsys.readouterr()
        assert main(["prepare", "inspect", str(store), *options]) == 0
        shown.append(capsys.readouterr().out)
    assert len(re.findall(r"training example \d: \d+ tokens, the second segment is", shown[0])) == 2
    examples = shown[0].split("training example")[1:]
    for example in examples:
        assert "[CLS] " in example
        assert example.count("[SEP]") in (1, 2)
        assert 1 <= len(re.findall(r"\{\S+>\S+\}", example)) <= 5, "15 % of at most 32"
    assert "training example" not in shown[1]


def test_a_trained_vocabulary_serves_a_store(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["prepare", "vocab", "--text", str(text), "--size", "120", "-o"]
    assert main([*command, str(tmp_path / "v"), "--cased"]) == 0
    vocabulary = tmp_path / "v" / "vocab.txt"
    entries = vocabulary.read_text("utf-8").splitlines()
    assert entries[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert "The" in entries
    assert f"{len(entries)} entries" in capsys.readouterr().out
    assert main([*command, str(tmp_path / "again"), "--cased"]) == 0
    assert (tmp_path / "again" / "vocab.txt").read_bytes() == vocabulary.read_bytes()
    store = ["prepare", "--text", str(text), "--vocab", str(vocabulary), "-o", str(tmp_path / "s")]
    assert main(store) == 0
    manifest = json.loads((tmp_path / "s" / "manifest.json").read_text("utf-8"))
    assert manifest["vocabulary"]["do_lower_case"] is False
    assert manifest["unknown_fraction"] == 0


def test_a_store_trains_its_own_vocabulary_and_keeps_it(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "s"
    command = ["prepare", "--text", str(text), "--vocab", "train", "--size", "120", "--cased"]
    assert main([*command, "-o", str(store), "-v", "1"]) == 0
    manifest = json.loads((store / "manifest.json").read_text("utf-8"))
    entries = (store / "vocab.txt").read_text("utf-8").splitlines()
    assert manifest["vocabulary"]["size"] == len(entries) <= 120
    assert manifest["vocabulary"]["do_lower_case"] is False
    assert "The" in entries
    assert "--vocab train --size 120 --cased" in manifest["command"]
    assert sorted(os.listdir(store)) == ["manifest.json", "shard-00000.bin", "vocab.txt"]
    capsys.readouterr()
    assert main([*command, "-o", str(store), "-v", "1"]) == 0
    out, err = capsys.readouterr()
    assert "60 sentences" in out
    assert "trains a vocabulary" not in err
    # A vocabulary of another size or case, or one that was not trained, is no answer to this.
    assert main([*command[:-2], "110", "-o", str(store)]) == 2  # without --cased
    err = capsys.readouterr().err
    assert (
        "holds a finished store whose vocabulary was not made by --vocab train --size 110;" in err
    )
    half = tmp_path / "half"
    (half / "work").mkdir(parents=True)
    (half / "work" / "plan.json").write_text("{}")
    assert main([*command, "-o", str(half)]) == 2
    assert "an unfinished store whose vocabulary was not made by --vocab" in capsys.readouterr().err
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "letter.txt").write_text("dear")
    assert main([*command, "-o", str(mine)]) == 2
    assert os.listdir(mine) == ["letter.txt"]
    assert main([*command, "-o", str(tmp_path / "dry"), "--dry-run"]) == 0
    assert not (tmp_path / "dry").exists()


def test_an_extended_vocabulary_keeps_its_ids_and_adds_the_most_useful_words(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "vocab.txt"
    letters = "abcdefghijklmnopqrstuvwxyz"
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{x}" for x in letters)]
    old.write_text("".join(f"{entry}\n" for entry in [*entries, *"0123456789.,"]), "utf-8")
    command = ["prepare", "vocab", "--text", str(text), "--extend", str(old), "-o"]
    assert main([*command, str(tmp_path / "v"), "--size", "70"]) == 2
    assert "has 69 entries already" not in capsys.readouterr().err
    assert main([*command, str(tmp_path / "v"), "--size", "110"]) == 0
    found = (tmp_path / "v" / "vocab.txt").read_text("utf-8").splitlines()
    assert found[:69] == [*entries, *"0123456789.,"]
    assert "valley" in found[69:]
    assert main([*command, str(tmp_path / "w"), "--size", "101"]) == 0


def test_a_request_to_stop_ends_with_75_and_the_same_command_goes_on(tmp_path: Path) -> None:
    books = write_books(tmp_path / "books", 12, num_sentences=2500)
    command = [sys.executable, "-m", "demo_bert", "prepare", "--books", str(books), "-v", "2"]
    store = tmp_path / "store"
    with subprocess.Popen(
        [*command, "-o", str(store)], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("forecast: ") and "of disk" in line:
                break
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
        assert process.wait(60) == 75, rest
    assert "what is finished is kept; it goes on with: demo_bert prepare" in rest
    assert not (store / "manifest.json").exists()
