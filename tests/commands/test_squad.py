"""SQuAD through all commands, on a model of a few thousand weights and a few dozen questions."""

import json
import os
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from demo_bert.checkpoint import newest
from demo_bert.hardware.cpu import CpuBackend
from demo_bert.tasks.spans.scores import scores_v1, scores_v2
from small_run import CONFIG, WORDS, Program, events, read_json, start, tree, weights
from squad_files import layout, paragraph, qa, write


def questions(seed: int, count: int, *, is_v2: bool = False) -> dict[str, Any]:
    """Passages of 12 to 40 words; the answer follows the word that the question names."""
    drawn = random.Random(seed)
    paragraphs = []
    for number in range(count):
        words = drawn.sample(WORDS, drawn.randint(12, 40))
        context = " ".join(words)
        qas = []
        for part in range(2):
            place = drawn.randrange(len(words) - 2)
            is_none = is_v2 and part == 1
            answer = " ".join(words[place + 1 : place + 3])
            start = context.index(f"{words[place]} {answer}") + len(words[place]) + 1
            absent = next(word for word in WORDS if word not in words)
            one = qa(f"{seed}-{number}-{part}", absent if is_none else words[place], context)
            if not is_none:
                one["answers"] = [{"text": answer, "answer_start": start}] * (1 + part)
            if is_v2:
                one["is_impossible"] = is_none
            qas.append(one)
        paragraphs.append(paragraph(context, *qas))
    return layout(paragraphs, version="v2.0" if is_v2 else "1.1")


class Squad(Program):
    """Runs the program on questions."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for task, is_v2 in (("squad", False), ("squad_v2", True)):
            write(self.root / task / "train.json", questions(1, 20, is_v2=is_v2))
            write(self.root / task / "dev.json", questions(2, 8, is_v2=is_v2))

    def finetune(self, task: str, directory: Path, *more: str) -> int:
        return self.call(*self.arguments_of(task, directory, *more)).code

    def arguments_of(self, task: str, directory: Path, *more: str) -> list[str]:
        return [
            *("finetuning", "-d", "fp32", "-m", str(self.model), "--device", "cpu", "-t", task),
            *("--dataset-path", str(self.root / task), "-b", "4", "-s", "24"),
            *("--learning-rate", "1e-3", "-o", str(directory), *more),
        ]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("squad")


@pytest.fixture(autouse=True)
def cache(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEMO_BERT_CACHE", str(root / "cache"))
    return root / "cache" / "windows"


@pytest.fixture
def program(root: Path, capsys: pytest.CaptureFixture[str]) -> Squad:
    return Squad(root, capsys)


@pytest.fixture(params=["squad", "squad_v2"])
def finished(request: pytest.FixtureRequest, program: Squad, root: Path) -> Path:
    """A run of half an epoch for each version, made once."""
    directory = root / f"finished-{request.param}"
    if not directory.exists():
        assert program.finetune(request.param, directory, "-e", "0.5") == 0
    return directory


def dev_gold(root: Path, task: str) -> dict[str, list[str]]:
    data = read_json(root / task / "dev.json")["data"]
    return {
        one["id"]: [answer["text"] for answer in one["answers"]]
        for article in data
        for part in article["paragraphs"]
        for one in part["qas"]
    }


def test_a_run_leaves_official_files_that_score_as_the_results_say(
    finished: Path, root: Path
) -> None:
    results = read_json(finished / "results.json")
    task = results["task"]
    found = {name for name in tree(finished) if name.startswith(("pred", "nbest", "null"))}
    assert found == {"predictions.json", "nbest.json"} | (
        {"null_odds.json"} if task == "squad_v2" else set()
    )
    gold = dev_gold(root, task)
    predictions = read_json(finished / "predictions.json")
    n_best = read_json(finished / "nbest.json")
    assert set(predictions) == set(n_best) == set(gold)
    for name, entries in n_best.items():
        assert 1 <= len(entries) <= 21
        assert set(entries[0]) == {"text", "probability", "start_logit", "end_logit"}
        assert sum(entry["probability"] for entry in entries) == pytest.approx(1.0)
        texts = [entry["text"] for entry in entries]
        assert len(set(texts)) == len(texts)
        assert predictions[name] in texts
    if task == "squad":
        assert results["metrics"] == scores_v1(gold, predictions)
        return
    metrics = dict(results["metrics"])
    best = {name: metrics.pop(name) for name in list(metrics) if name.startswith("best_")}
    assert metrics == scores_v2(gold, predictions)
    odds = read_json(finished / "null_odds.json")
    texts = {name: next(e["text"] for e in n_best[name] if e["text"]) for name in gold}
    expected = scores_v2(gold, texts, null_odds=odds)
    assert best == {name: expected[name] for name in best}
    assert set(best) == {"best_exact", "best_exact_thresh", "best_f1", "best_f1_thresh"}
    assert all((predictions[name] == "") == (odds[name] > 0.0) for name in gold)


def test_steps_are_counted_in_windows(finished: Path, cache: Path) -> None:
    results = read_json(finished / "results.json")
    assert results["data"]["counts"] == {"train": 40, "validation": 16}
    (record,) = [e for e in read_json(finished / "run.json")["settings"] if e["name"] == "epochs"]
    assert record["value"] == 0.5
    windows = [np.load(path, mmap_mode="r") for path in cache.glob("*/rows.npy")]
    num_windows = max(len(rows) for rows in windows)
    assert num_windows > 60
    shares = {-(-len(rows) // 8) for rows in windows}
    assert results["steps"] in shares


def test_evaluate_gives_the_runs_own_score_and_files(
    finished: Path, program: Squad, tmp_path: Path
) -> None:
    outcome = program.call("evaluate", str(finished), "-o", str(tmp_path / "scored"))
    assert outcome.code == 0, outcome.err
    ours = read_json(tmp_path / "scored" / "results.json")
    results = read_json(finished / "results.json")
    assert ours["metrics"] == results["metrics"]
    for name in ("predictions.json", "nbest.json"):
        assert (tmp_path / "scored" / name).read_bytes() == (finished / name).read_bytes()
    again = program.call("evaluate", str(finished), "-t", results["task"], "--dataset-path",
                         str(program.root / results["task"] / "dev.json"))  # fmt: skip
    assert again.out.splitlines()[0] == outcome.out.splitlines()[0]


def test_transformers_answers_alike(finished: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model = transformers.BertForQuestionAnswering.from_pretrained(
        finished / "model", attn_implementation="eager"
    ).eval()
    assert read_json(finished / "model" / "config.json")["architectures"] == [
        "BertForQuestionAnswering"
    ]
    from demo_bert.model.convert import fill, read_model_directory
    from demo_bert.model.heads import SpanPredictor

    ids = torch.arange(5, 17)
    types = torch.tensor([0] * 4 + [1] * 8)
    with torch.no_grad():
        theirs = model(input_ids=ids[None], token_type_ids=types[None])
        ours_model = SpanPredictor(CONFIG).eval()
        assert fill(ours_model, read_model_directory(finished / "model")).missing == ()
        ours = ours_model(ids, torch.arange(12), types, torch.tensor([0, 12]).int(), 12)
    expected = torch.stack([theirs.start_logits[0], theirs.end_logits[0]], 1)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_a_question_is_answered_from_a_passage_of_any_length(
    finished: Path, program: Squad, tmp_path: Path
) -> None:
    drawn = random.Random(5)
    text = "\n".join(" ".join(drawn.choices(WORDS, k=10)) for _ in range(300))
    passage = tmp_path / "passage.txt"
    passage.write_text(text, encoding="utf-8")
    argv = ("predict", str(finished), "--question", "w3", "--context-file", str(passage))
    outcome = program.call(*argv)
    assert outcome.code == 0, outcome.err
    answer, score, place = outcome.out.removesuffix("\n").split("\t")
    assert 0.0 <= float(score) <= 1.0
    if answer:
        start, end = map(int, place.split("-"))
        assert text[start:end].replace("\n", " ") == answer
    else:
        assert place == "" and "no answer in this passage" in outcome.err
    target = tmp_path / "answer.txt"
    assert program.call(*argv, "-o", str(target)).code == 0
    assert target.read_text() == outcome.out


def test_predict_answers_a_file_in_the_official_layout(finished: Path, program: Squad) -> None:
    task = read_json(finished / "results.json")["task"]
    path = program.root / task / "dev.json"
    outcome = program.call("predict", str(finished), "--input", str(path))
    assert json.loads(outcome.out) == read_json(finished / "predictions.json")
    content = read_json(path)
    for part in content["data"][0]["paragraphs"]:
        for one in part["qas"]:
            one["answers"] = []
    asked = write(program.root / "asked.json", content)
    for name in (finished, finished / "model"):  # the directory alone: as a model of others
        again = program.call("predict", str(name), "--input", str(asked), "-d", "fp32")
        assert again.code == 0, again.err
        assert set(json.loads(again.out)) == set(json.loads(outcome.out))


def test_an_answer_is_one_line_of_the_passages_own_characters(
    finished: Path, program: Squad, tmp_path: Path
) -> None:
    passage = tmp_path / "passage.txt"
    text = "w1  w2\r\nw3\tw4\x1b[31mw5\u2028w6"
    passage.write_bytes(text.encode())
    outcome = program.call("predict", str(finished), "--question", "w3", "--context-file",
                           str(passage))  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert len(outcome.out.splitlines()) == 1
    answer, _, place = outcome.out.removesuffix("\n").split("\t")
    if answer:
        start, end = map(int, place.split("-"))
        assert answer == re.sub("[\r\n\t\x1b\u2028]", " ", text[start:end])


def test_what_a_setting_would_not_change_is_refused(program: Squad, tmp_path: Path) -> None:
    argv = program.arguments_of("squad", tmp_path / "run", "--columns", "text=context")
    outcome = program.call(*argv)
    assert outcome.code == 2 and "--columns: squad reads id, question" in outcome.err
    assert tree(tmp_path) == set()


def test_the_page_has_questions_with_both_answers(finished: Path) -> None:
    page = (finished / "report.html").read_text("utf-8")
    assert "Questions and answers" in page
    assert page.count('<li class="') == 16
    (last,) = events(finished, "evaluation")[-1:]
    assert {one["is_answerable"] for one in last["questions"]} <= {True, False}


def test_wrong_uses_are_refused_in_one_line(finished: Path, program: Squad, tmp_path: Path) -> None:
    blank = tmp_path / "blank.txt"
    blank.write_text(" \n")
    asked = ("predict", str(finished), "--question", "w3", "--context-file")
    for argv, told in (
        ((*asked, str(blank)), "empty; the passage is needed"),
        (("predict", str(finished), "--text", "w3"), "give --question and --context-file"),
        (("predict", str(finished), "--question", " ", "--context-file", str(blank)), "--question"),
        (("predict", str(finished), "--input", str(blank)), "empty; JSON in the SQuAD"),
        (("evaluate", str(finished), "-t", "mrpc", "--sample"), "a classifier is needed"),
        (("evaluate", str(program.model), "-t", "squad", "--sample"), "without qa_outputs"),
    ):
        outcome = program.call(*argv)
        assert (outcome.code, outcome.out) == (2, "")
        errors = [line for line in outcome.err.splitlines() if line.startswith("demo_bert: error")]
        assert len(errors) == 1 and told in errors[0]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        pytest.param(("-s", "4"), "leaves no room for the passage", id="length"),
        pytest.param(("-s", "64"), "the model takes at most 32 tokens", id="positions"),
    ],
)
def test_a_run_that_cannot_be_is_refused_before_anything_is_written(
    program: Squad, tmp_path: Path, more: tuple[str, ...], told: str
) -> None:
    argv = ("finetuning", "-d", "fp32", "-m", str(program.model), "-t", "squad")
    data = ("--dataset-path", str(program.root / "squad"))
    outcome = program.call(*argv, *data, "-o", str(tmp_path / "run"), *more)
    assert outcome.code == 2
    assert told in outcome.err.splitlines()[-1]
    assert tree(tmp_path) == set()


def test_a_second_run_reads_the_windows_and_an_edit_makes_new_ones(
    program: Squad, cache: Path, tmp_path: Path
) -> None:
    assert program.finetune("squad", tmp_path / "first", "-i", "1") == 0
    before = {path.name: path.stat().st_ino for path in cache.iterdir()}
    assert program.finetune("squad", tmp_path / "second", "-i", "1") == 0
    assert {path.name: path.stat().st_ino for path in cache.iterdir()} == before
    assert program.finetune("squad", tmp_path / "third", "-i", "1", "-s", "30") == 0
    longer = {path.name for path in cache.iterdir()}
    assert len(longer) == len(before) + 2
    original = (program.root / "squad" / "dev.json").read_text()
    try:
        write(program.root / "squad" / "dev.json", questions(3, 8))
        assert program.finetune("squad", tmp_path / "fourth", "-i", "1") == 0
        assert len({path.name for path in cache.iterdir()} - longer) == 1
    finally:
        (program.root / "squad" / "dev.json").write_text(original)
    assert program.finetune("squad", tmp_path / "fifth", "-i", "1", "--feature-cache", "0") == 0
    assert list(cache.iterdir()) == []


def test_a_run_that_goes_on_ends_with_the_same_bits(program: Squad, tmp_path: Path) -> None:
    more = ("-i", "6", "--save-every", "2", "--keep", "9")
    assert program.finetune("squad", tmp_path / "whole", *more) == 0
    assert program.finetune("squad", tmp_path / "parts", *more) == 0
    outcome = program.call("finetuning", "-o", str(tmp_path / "parts"), "--resume", "2")
    assert outcome.code == 0, outcome.err
    assert events(tmp_path / "parts", "resume")
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")
    assert newest(tmp_path / "parts" / "checkpoints")[0] is not None


def test_seeds_are_runs_with_a_mean(program: Squad, tmp_path: Path) -> None:
    assert program.finetune("squad", tmp_path / "run", "-i", "2", "--seeds", "2") == 0
    results = read_json(tmp_path / "run" / "results.json")
    each = [entry["metrics"]["f1"] for entry in results["per_seed"]]
    assert results["metrics"]["f1"] == pytest.approx(sum(each) / 2)
    assert (tmp_path / "run" / "seed-43" / "nbest.json").is_file()


def test_fixed_shapes_give_the_same_losses(
    program: Squad, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ("-i", "3", "--dropout", "0", "--attention-dropout", "0")
    assert program.finetune("squad", tmp_path / "free", *more) == 0
    monkeypatch.setattr(CpuBackend, "wants_fixed_shapes", True)
    assert program.finetune("squad", tmp_path / "fixed", *more) == 0
    losses = [
        [event["loss"] for event in events(tmp_path / name, "step")] for name in ("free", "fixed")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    predictions = [(tmp_path / n / "predictions.json").read_text() for n in ("free", "fixed")]
    assert predictions[0] == predictions[1]


def test_two_workers_end_as_one_does(program: Squad, tmp_path: Path) -> None:
    more = ("-i", "3", "--global-batch-size", "8")
    assert program.finetune("squad", tmp_path / "one", *more) == 0
    kept = {"DEMO_BERT_CACHE": os.environ["DEMO_BERT_CACHE"]}
    process = start(
        program.arguments_of("squad", tmp_path / "two", *more, "-v", "2"),
        tmp_path,
        environment=kept,
    )
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    one, two = (read_json(tmp_path / n / "results.json") for n in ("one", "two"))
    assert two["world_size"] == 2
    losses = [[e["loss"] for e in events(tmp_path / n, "step")] for n in ("one", "two")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert two["metrics"] == pytest.approx(one["metrics"])


def test_without_network_the_sample_is_announced(
    program: Squad, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    argv = ("finetuning", "-d", "fp32", "-m", str(program.model), "-t", "squad_v2", "-i", "1")
    outcome = program.call(*argv, "-s", "32", "-b", "2", "-o", str(tmp_path / "run"))
    assert outcome.code == 0, outcome.err
    assert "the embedded SAMPLE" in outcome.err
    assert "sample data" in outcome.out.splitlines()[-1]
    data = read_json(tmp_path / "run" / "results.json")["data"]
    assert (data["sample"], data["licence"]) == (True, "CC BY-SA 4.0")
    refused = program.call(*argv, "--no-sample", "-o", str(tmp_path / "other"))
    assert refused.code != 0
    assert "--no-sample was given" in refused.err
    assert not os.path.exists(tmp_path / "other")


def test_a_few_questions_are_learnt_by_heart(program: Squad, tmp_path: Path) -> None:
    data = questions(7, 3)
    for name in ("train", "dev"):
        write(tmp_path / "data" / f"{name}.json", data)
    argv = program.arguments_of("squad", tmp_path / "run", "-i", "320", "--dropout", "0")
    argv[argv.index("--dataset-path") + 1] = str(tmp_path / "data")
    argv[argv.index("--learning-rate") + 1] = "1e-2"
    argv[argv.index("-s") + 1] = "32"
    assert program.call(*argv).code == 0
    losses = [event["loss"] for event in events(tmp_path / "run", "step")]
    assert losses[-1] < 0.2 * losses[0]
    assert read_json(tmp_path / "run" / "results.json")["metrics"]["f1"] > 90.0
