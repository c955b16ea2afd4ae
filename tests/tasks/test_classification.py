"""Texts and pairs: features, scores, metrics, the user's own files."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from demo_bert.data.tables import TextExample
from demo_bert.errors import DataError, UsageError
from demo_bert.losses import IGNORED
from demo_bert.model.heads import SequenceClassifier
from demo_bert.model.vocabulary import build_tokenizer
from demo_bert.tasks.classification import TASK, metrics_of
from demo_bert.tasks.task import DataRequest
from small_run import CONFIG, VOCABULARY, save_data

TOKENIZER = build_tokenizer(VOCABULARY, do_lower_case=True)
IDS = {entry: number for number, entry in enumerate(VOCABULARY)}


def say(line: str) -> None:
    raise AssertionError(f"nothing is fetched: {line}")


def example(text: str, text_b: str | None = None, label: str | None = "0") -> TextExample:
    return TextExample(index=7, text=text, text_b=text_b, label=label)


def pieces(one: TextExample, *, length: int = 32, labels: Sequence[str] = ("0", "1")) -> list[str]:
    (row,) = TASK.features([one], labels=labels, tokenizer=TOKENIZER, max_seq_length=length)
    return [VOCABULARY[number] for number in row.input_ids]


def test_a_text_stands_between_its_marks() -> None:
    assert pieces(example("w1 w2")) == ["[CLS]", "w1", "w2", "[SEP]"]
    assert pieces(example("w1", "W2 nowhere")) == ["[CLS]", "w1", "[SEP]", "w2", "[UNK]", "[SEP]"]


@pytest.mark.parametrize(("text_b", "first"), [(None, 4), ("w3", 4), ("", 4)])
def test_the_first_segment_ends_with_its_mark(text_b: str | None, first: int) -> None:
    (row,) = TASK.features(
        [example("w1 w2", text_b)], labels=("0",), tokenizer=TOKENIZER, max_seq_length=32
    )
    assert row.first_segment == first
    assert len(row.input_ids) == {None: 4, "w3": 6, "": 5}[text_b]


@given(st.integers(1, 40), st.integers(0, 40), st.integers(3, 32))
@settings(max_examples=40)
def test_the_longer_text_is_cut_first(first: int, second: int, length: int) -> None:
    found = pieces(example("w1 " * first, "w2 " * second), length=length)
    kept = (found.count("w1"), found.count("w2"))
    assert len(found) <= length
    assert (found[0], found[-1], found.count("[SEP]")) == ("[CLS]", "[SEP]", 2)
    if first + second + 3 <= length:
        assert kept == (first, second)
    else:
        assert sum(kept) == length - 3
        whole = (first, second)
        shorter = min((0, 1), key=lambda part: whole[part])
        # The shorter one loses only when both are down to the same length.
        assert (
            kept[shorter] == min(whole[shorter], (length - 3) // 2) or abs(kept[0] - kept[1]) <= 1
        )


def test_a_single_text_is_cut_at_its_end() -> None:
    assert pieces(example("w1 w2 w3 w4"), length=4) == ["[CLS]", "w1", "w2", "[SEP]"]


def test_a_text_of_a_megabyte_is_cut_like_any_other() -> None:
    assert len(pieces(example("w1 " * 350_000), length=16)) == 16


def test_the_class_is_the_place_of_the_label_and_none_is_ignored() -> None:
    examples = [example("w1", label=label) for label in ("b", "a", None, "c")]
    rows = TASK.features(examples, labels=("a", "b", "c"), tokenizer=TOKENIZER, max_seq_length=8)
    assert [row.label for row in rows] == [1, 0, IGNORED, 2]


def test_many_examples_keep_their_order() -> None:
    examples = [example(f"w{number % 60}") for number in range(2500)]
    rows = TASK.features(examples, labels=("0",), tokenizer=TOKENIZER, max_seq_length=8)
    assert [int(row.input_ids[1]) for row in rows] == [IDS[f"w{n % 60}"] for n in range(2500)]


def test_a_length_that_was_used_before_does_not_stay() -> None:
    assert len(pieces(example("w1 " * 20), length=5)) == 5
    assert len(pieces(example("w1 " * 20), length=30)) == 22


def test_the_model_has_one_output_for_each_class() -> None:
    model = TASK.make_model(CONFIG, ("a", "b", "c"))
    assert isinstance(model, SequenceClassifier)
    assert model.classifier.weight.shape == (3, CONFIG.hidden_size)


LABELLED = st.lists(
    st.tuples(st.integers(0, 2), st.lists(st.floats(-30, 30), min_size=3, max_size=3)),
    min_size=1,
    max_size=30,
)


@given(LABELLED)
@settings(max_examples=40)
def test_scores_are_those_of_the_textbook(rows: list[tuple[int, list[float]]]) -> None:
    labels = ("a", "b", "c")
    examples = [
        TextExample(index=10 + n, text=f"t{n}", text_b=None, label=labels[gold])
        for n, (gold, _) in enumerate(rows)
    ]
    logits = np.array([values for _, values in rows], dtype=np.float32)
    scores = TASK.score(examples, rows=[], labels=labels, logits=logits)
    gold = [g for g, _ in rows]
    chosen = logits.argmax(1).tolist()
    assert scores.metrics["accuracy"] == pytest.approx(accuracy_score(gold, chosen))
    macro = f1_score(gold, chosen, average="macro", labels=[0, 1, 2], zero_division=0)
    assert scores.metrics["f1_macro"] == pytest.approx(macro)
    wide = logits.astype(np.float64)
    wide -= wide.max(1, keepdims=True)
    probabilities = np.exp(wide) / np.exp(wide).sum(1, keepdims=True)
    loss = -np.log(probabilities[range(len(gold)), gold]).mean()
    assert scores.loss == pytest.approx(loss, rel=1e-6, abs=1e-9)
    confusion = np.array(scores.event["confusion"])
    assert confusion.sum() == len(rows)
    assert confusion.sum(1).tolist() == [gold.count(c) for c in range(3)]
    assert confusion.sum(0).tolist() == [chosen.count(c) for c in range(3)]
    mistakes = scores.event["mistakes"]
    assert isinstance(mistakes, list)
    assert len(mistakes) == min(20, sum(g != c for g, c in zip(gold, chosen, strict=True)))
    assert [m["score"] for m in mistakes] == sorted((m["score"] for m in mistakes), reverse=True)
    for mistake in mistakes:
        row = mistake["index"] - 10
        assert mistake["label"] == labels[gold[row]] != mistake["prediction"]
        assert mistake["prediction"] == labels[chosen[row]]
        assert mistake["score"] == pytest.approx(probabilities[row, chosen[row]], abs=1e-6)
    header, *lines = scores.files["predictions.tsv"].splitlines()
    assert header == "index\tprediction\tlabel\tscore"
    assert [line.split("\t")[:3] for line in lines] == [
        [str(10 + n), labels[chosen[n]], labels[gold[n]]] for n in range(len(rows))
    ]


def test_without_labels_there_are_predictions_and_no_scores() -> None:
    examples = [example("a", label=None), example("b", label="1")]
    logits = np.array([[1.0, 2.0], [3.0, -1.0]])
    scores = TASK.score(examples, rows=[], labels=("0", "1"), logits=logits)
    assert (dict(scores.metrics), scores.loss, dict(scores.event)) == ({}, 0.0, {})
    assert [line.split("\t")[1:3] for line in scores.files["predictions.tsv"].splitlines()[1:]] == [
        ["1", ""],
        ["0", "1"],
    ]


def test_huge_outputs_have_a_finite_loss() -> None:
    logits = np.array([[1e4, -1e4]], dtype=np.float32)
    scores = TASK.score([example("a", label="1")], rows=[], labels=("0", "1"), logits=logits)
    assert scores.loss == pytest.approx(2e4)
    assert math.isfinite(scores.loss)


@given(st.lists(st.lists(st.integers(0, 20), min_size=2, max_size=2), min_size=2, max_size=2))
@settings(max_examples=40)
def test_f1_is_that_of_class_1(confusion: list[list[int]]) -> None:
    gold = [g for g in (0, 1) for p in (0, 1) for _ in range(confusion[g][p])]
    chosen = [p for g in (0, 1) for p in (0, 1) for _ in range(confusion[g][p])]
    if not gold:
        return
    found = metrics_of(confusion, ("0", "1"))
    assert found["accuracy"] == pytest.approx(accuracy_score(gold, chosen))
    assert found["f1"] == pytest.approx(f1_score(gold, chosen, pos_label=1, zero_division=0))


def test_other_classes_have_a_macro_f1() -> None:
    assert set(metrics_of([[1, 0], [0, 1]], ("no", "yes"))) == {"accuracy", "f1_macro"}
    assert set(metrics_of([[1, 0], [0, 1]], ("1", "0"))) == {"accuracy", "f1_macro"}


def test_the_headline_has_each_metric_with_four_digits() -> None:
    words = TASK.headline({"accuracy": 0.84314, "f1": 0.5, "f1_macro": 1.0})
    assert words == "accuracy 0.8431, F1 0.5000, macro F1 1.0000"


def test_the_users_files_are_read_with_their_facts(tmp_path: Path) -> None:
    directory = save_data(tmp_path)
    data = TASK.load(DataRequest(paths=(directory,)), say)
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 50,
        "validation": 14,
    }
    assert data.labels == ("0", "1")
    assert not data.is_sample
    assert [Path(str(file["path"])).name for file in data.files] == ["train.tsv", "dev.tsv"]
    assert all(len(str(file["sha256"])) == 64 for file in data.files)


def test_without_paths_the_command_that_mends_it_is_named() -> None:
    with pytest.raises(UsageError, match="--dataset-path FILE"):
        TASK.load(DataRequest(), say)


def test_one_class_only_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.tsv"
    path.write_text("text\tlabel\n" + "a b\t1\n" * 30)
    with pytest.raises(DataError, match="one class only"):
        TASK.load(DataRequest(paths=(path,)), say)


def test_labels_of_the_validation_split_must_be_known_in_training(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("text\tlabel\na\t0\nb\t1\n")
    (tmp_path / "dev.tsv").write_text("text\tlabel\na\t2\n")
    with pytest.raises(DataError, match="dev.tsv.*2"):
        TASK.load(DataRequest(paths=(tmp_path,)), say)


def test_a_trained_models_classes_are_kept_in_their_order(tmp_path: Path) -> None:
    directory = save_data(tmp_path)
    data = TASK.load(DataRequest(paths=(directory,), labels=("1", "0")), say)
    assert data.labels == ("1", "0")
