"""`pretraining` on a model of a few thousand weights and a store of a few documents."""

import dataclasses
import random
import re
import string
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from corpus.stores import make_store
from demo_bert.commands import pretrain_worker, run_exchange
from demo_bert.commands.held_out import Unigram, verdict
from demo_bert.data.packing import Batch
from demo_bert.model.bert import Bert, initialise
from demo_bert.model.convert import save_model_directory
from demo_bert.model.vocabulary import CaseRules
from demo_bert.training import LossSum
from small_run import (
    CONFIG,
    VOCABULARY,
    Outcome,
    Program,
    events,
    losses,
    read_json,
    start,
    weights,
)

PHASES = ("-i", "4", "3", "-b", "4", "3", "--global-batch-size", "10", "6", "-s", "16", "24")


def save_store(
    directory: Path, *, num_documents: int = 33, vocabulary: list[str] = VOCABULARY
) -> Path:
    """Documents of one word each, which a model can copy from beside the mask."""
    drawn = random.Random(3)
    documents = [
        [[5 + (number * 7) % 9] * drawn.randint(3, 8) for _ in range(drawn.randint(6, 14))]
        for number in range(num_documents)
    ]
    held_out = [number % 5 == 4 for number in range(num_documents)]
    return make_store(directory, [documents], held_out=[held_out], vocabulary=vocabulary)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small")
    save_store(path / "store")
    return path


class PreTraining(Program):
    """Runs `pretraining` on the small model's shape and the small store."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.arguments = [
            *("pretraining", "-d", "fp32", "-m", str(self.model), "--device", "cpu", "-t", "text"),
            *("--dataset-path", str(self.root / "store"), "--learning-rate", "3e-2", "3e-2"),
            *PHASES,
        ]


@pytest.fixture
def program(root: Path, capsys: pytest.CaptureFixture[str]) -> PreTraining:
    return PreTraining(root, capsys)


@pytest.fixture
def straight(program: PreTraining, root: Path) -> Path:
    directory = root / "straight"
    if not directory.exists():
        outcome = program.run(directory)
        assert outcome.code == 0, outcome.err
    return directory


def test_two_phases_make_one_run_with_the_scores_of_each(straight: Path) -> None:
    steps = events(straight, "step")
    assert [(e["step"], e["phase"]) for e in steps] == [
        *((n, 1) for n in (1, 2, 3, 4)),
        *((n, 2) for n in (5, 6, 7)),
    ]
    for event in steps:
        assert event["loss"] == pytest.approx(event["mlm_loss"] + event["nsp_loss"])
        assert event["examples"] == (10 if event["phase"] == 1 else 6)
    results = read_json(straight / "results.json")
    assert (results["status"], results["command"], results["steps"]) == (
        "complete",
        "pretraining",
        7,
    )
    metrics = results["metrics"]
    assert metrics["split"] == "held_out"
    names = {"mlm_loss", "mlm_accuracy", "mlm_perplexity", "nsp_loss", "nsp_accuracy"}
    assert names <= set(metrics)
    one, two = metrics["phases"]
    assert (one["name"], one["steps"], one["max_seq_length"]) == ("phase 1", 4, 16)
    assert (two["name"], two["steps"], two["global_batch_size"]) == ("phase 2", 3, 6)
    assert two["metrics"]["mlm_loss"] == metrics["mlm_loss"]
    assert 0 < one["baseline"]["mlm_loss"] < 6
    assert results["verdict"]
    for name in ("report.html", "model/model.safetensors", "checkpoints/newest"):
        assert (straight / name).exists()


def test_the_schedule_of_the_second_phase_starts_anew(straight: Path) -> None:
    rates = [event["learning_rate"] for event in events(straight, "step")]
    assert rates[:4] == pytest.approx([3e-2, 3e-2 * 0.75**0.5, 3e-2 * 0.5**0.5, 3e-2 * 0.5])
    assert rates[4] == pytest.approx(3e-2)


def test_the_opening_lines_say_how_the_batch_is_made_and_the_passes(straight: Path) -> None:
    log = (straight / "logs" / "rank-0.log").read_text()
    assert "10 examples = 4 x 3 x 1 (batch, micro-steps accumulated, workers; the last is" in log
    assert re.search(r"phase 1: 40 sequences, about \S+ million tokens, \S+ epochs over", log)
    assert re.search(r"epochs over the data in all\n(.*\n)*.*forecast: 0:\d\d in all", log)
    assert "learning rate: as given" in log


def test_a_second_run_makes_the_same_bits(
    program: PreTraining, straight: Path, tmp_path: Path
) -> None:
    assert program.run(tmp_path / "again").code == 0
    assert losses(tmp_path / "again") == losses(straight)
    assert weights(tmp_path / "again") == weights(straight)


@pytest.mark.parametrize("step", [2, 4, 6], ids=["within 1", "between", "within 2"])
def test_it_goes_on_exactly_from_a_checkpoint_of_either_phase(
    program: PreTraining, straight: Path, tmp_path: Path, step: int
) -> None:
    directory = tmp_path / "run"
    assert program.run(directory, "--save-every", "2", "--keep", "9").code == 0
    again = program.run(directory, "--save-every", "2", "--resume", str(step))
    assert again.code == 0, again.err
    assert [e["step"] for e in events(directory, "resume")] == [step]
    assert losses(directory) == losses(straight)
    assert weights(directory) == weights(straight)
    found, wanted = (read_json(d / "results.json")["metrics"] for d in (directory, straight))
    assert found == wanted


@pytest.mark.parametrize("step", [4, 7], ids=["of phase 1", "of the run"])
def test_a_stop_at_the_last_step_leaves_its_scores_to_the_next_call(
    program: PreTraining, straight: Path, tmp_path: Path, stop_at: list[int], step: int
) -> None:
    directory = tmp_path / "run"
    stop_at.append(step - 1)
    assert program.run(directory).code == 75
    assert step not in [e["step"] for e in events(directory, "evaluation")]
    stop_at.clear()
    assert program.run(directory).code == 0
    assert losses(directory) == losses(straight)
    assert weights(directory) == weights(straight)
    scored = [
        [(e["step"], e["metrics"]) for e in events(d, "evaluation")] for d in (directory, straight)
    ]
    assert scored[0] == scored[1]


def test_only_the_last_phase_may_become_longer(program: PreTraining, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    assert program.run(directory).code == 0
    refused = program.run(directory, "-i", "5", "3")
    assert refused.code == 2
    assert "iters is 5 3, was 4 3" in refused.err
    longer = program.run(directory, "-i", "4", "5")
    assert longer.code == 0, longer.err
    assert "goes on with another setting: iters is 4 5, was 4 3" in longer.err
    assert [e["step"] for e in events(directory, "step")] == list(range(1, 10))


def test_it_learns_what_the_frequencies_do_not_say(program: PreTraining, tmp_path: Path) -> None:
    options = ("-i", "60", "--phases", "1", "-b", "16", "--global-batch-size", "16", "-w", "5")
    assert program.run(tmp_path / "run", *options).code == 0
    results = read_json(tmp_path / "run" / "results.json")
    baseline = results["metrics"]["phases"][0]["baseline"]["mlm_loss"]
    assert results["metrics"]["mlm_loss"] < baseline - 0.3


def test_the_model_is_one_that_transformers_and_a_further_run_take(
    program: PreTraining, straight: Path, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.BertForPreTraining.from_pretrained(str(straight / "model"))
    assert theirs.config.hidden_size == CONFIG.hidden_size
    options = ("--init-checkpoint", str(straight), "--phases", "2")
    outcome = program.run(tmp_path / "more", *options)
    assert outcome.code == 0, outcome.err
    assert "missing" not in outcome.err
    assert [e["phase"] for e in events(tmp_path / "more", "step")] == [2, 2, 2]


@pytest.mark.parametrize("objective", ["mlm", "nsp"])
def test_one_objective_alone_is_trained_and_scored(
    program: PreTraining, tmp_path: Path, objective: str
) -> None:
    outcome = program.run(tmp_path / "run", "--objectives", objective, "--phases", "1")
    assert outcome.code == 0, outcome.err
    metrics = read_json(tmp_path / "run" / "results.json")["metrics"]
    assert ("mlm_loss" in metrics) == (objective == "mlm")
    assert ("nsp_loss" in metrics) == (objective == "nsp")


def refused(program: PreTraining, directory: Path, *options: str) -> str:
    outcome: Outcome = program.run(directory, *options)
    assert outcome.code == 2, outcome.err
    assert not (directory / "run.json").exists()
    line = outcome.err.strip().splitlines()[-1]
    assert "Traceback" not in outcome.err
    return line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("-i", "1", "2", "3"), "one value or two"),
        (("--global-batch-size", "0"), "at least 1"),
        (("--learning-rate", "-1"), "above 0"),
        (("-s", "16", "64"), "phase 2.*8 to 32 tokens"),
        (("--schedule", "sawtooth"), "unknown schedule 'sawtooth'"),
        (("--phases", "2"), "needs --init-checkpoint"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_mistakes_are_refused_in_one_line_before_anything_starts(
    program: PreTraining, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    assert re.search(words, refused(program, tmp_path / "run", *options))


def test_a_store_of_another_vocabulary_is_refused_for_weights_that_have_one(
    program: PreTraining, root: Path, tmp_path: Path
) -> None:
    other = save_store(tmp_path / "store", vocabulary=[*VOCABULARY[:-1], "other"])
    program.arguments[program.arguments.index(str(root / "store"))] = str(other)
    line = refused(program, tmp_path / "run", "--init-checkpoint", str(program.model))
    assert "another vocabulary" in line


def test_trained_weights_are_trained_on_at_a_low_rate_with_its_reason(
    program: PreTraining, tmp_path: Path
) -> None:
    place = program.arguments.index("--learning-rate")
    del program.arguments[place : place + 3]
    outcome = program.run(tmp_path / "run", "--init-checkpoint", str(program.model))
    assert outcome.code == 0, outcome.err
    assert "base 0.0001 at batch 256 x 0.1976 (sqrt, batch 10) = 1.976e-05; weights" in outcome.err
    records = read_json(tmp_path / "run" / "run.json")["settings"]
    found = {record["name"]: record["value"] for record in records}
    assert (found["optimizer"], found["schedule"]) == ("adamw", "linear")
    assert program.run(tmp_path / "two", "--init-checkpoint", str(program.model), "--phases", "2")
    phase = read_json(tmp_path / "two" / "results.json")["metrics"]["phases"][0]
    assert phase["learning_rate"] == pytest.approx(4e-3 * (6 / 32768) ** 0.5), "as published"


def test_weights_of_another_size_are_refused_with_each_difference(
    program: PreTraining, tmp_path: Path
) -> None:
    line = refused(program, tmp_path / "run", "-m", "tiny", "--init-checkpoint", str(program.model))
    assert "not of size tiny: num_hidden_layers 1 instead of 2, hidden_size 16 instead of" in line


def test_a_store_of_a_longer_vocabulary_extends_the_weights(
    program: PreTraining, root: Path, tmp_path: Path
) -> None:
    longer = save_store(tmp_path / "store", vocabulary=[*VOCABULARY, "w1w2", "w3"[::-1]])
    program.arguments[program.arguments.index(str(root / "store"))] = str(longer)
    outcome = program.run(tmp_path / "run", "--init-checkpoint", str(program.model))
    assert outcome.code == 0, outcome.err
    assert "2 entries are new" in outcome.err
    saved = load_file(tmp_path / "run" / "model" / "model.safetensors")
    assert saved["bert.embeddings.word_embeddings.weight"].shape[0] == len(VOCABULARY) + 2
    assert (tmp_path / "run" / "model" / "vocab.txt").read_text().split()[-2:] == ["w1w2", "3w"]


def test_where_one_document_is_held_out_next_sentence_is_trained_and_not_scored(
    program: PreTraining, root: Path, tmp_path: Path
) -> None:
    small = save_store(tmp_path / "store", num_documents=9)
    program.arguments[program.arguments.index(str(root / "store"))] = str(small)
    outcome = program.run(tmp_path / "run")
    assert outcome.code == 0, outcome.err
    assert "next sentence is trained, but not scored" in outcome.err
    metrics = read_json(tmp_path / "run" / "results.json")["metrics"]
    assert "mlm_loss" in metrics and "nsp_loss" not in metrics
    assert "needs at least two" in refused(program, tmp_path / "other", "--objectives", "nsp")


def test_a_store_of_one_document_is_refused_and_trains_masked_lm_alone(
    program: PreTraining, root: Path, tmp_path: Path
) -> None:
    small = save_store(tmp_path / "store", num_documents=1)
    program.arguments[program.arguments.index(str(root / "store"))] = str(small)
    assert "--objectives mlm" in refused(program, tmp_path / "run")


def test_without_a_store_the_embedded_text_is_announced_and_the_steps_are_cut(
    program: PreTraining, tmp_path: Path
) -> None:
    model = str(program.model)
    arguments = ("-m", model, "-d", "fp32", "--device", "cpu", "-o", str(tmp_path / "run"))
    size = ("-i", "1", "1", "--global-batch-size", "2", "2", "-b", "2", "2", "-s", "16", "16")
    outcome = program.call("pretraining", *arguments, *size)
    assert outcome.code == 0, outcome.err
    assert "the embedded text stands in" in outcome.err
    assert "sample" in outcome.out.splitlines()[-1]
    assert read_json(tmp_path / "run" / "results.json")["data"]["sample"] is True


@pytest.mark.parametrize(
    ("loss", "best", "word"),
    [
        (2.0, 2.1, "learning normally"),
        (3.5, 3.6, "slow"),
        (3.95, None, "stuck at the unigram"),
        (3.0, 2.0, "diverging"),
        (float("inf"), None, "diverging"),
    ],
    ids=["normal", "slow", "stuck", "rising", "infinite"],
)
def test_the_verdict_is_plain(loss: float, best: float | None, word: str) -> None:
    found = verdict({"mlm_loss": loss}, Unigram(4.0, 0.1), best=best)
    assert found.startswith(word)
    assert "4.00" in found


LETTERS = string.ascii_lowercase + string.digits + string.punctuation
PIECES = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS),
    *(f"##{letter}" for letter in string.ascii_lowercase),
]


def overfit(program: PreTraining, directory: Path) -> float:
    """`-t overfit` with letters for pieces, shorter examples and fewer steps: in a few seconds."""
    config = dataclasses.replace(
        CONFIG,
        vocab_size=len(PIECES),
        hidden_size=64,
        num_hidden_layers=2,
        intermediate_size=256,
        initializer_range=0.02,
    )
    model = directory.parent / f"{directory.name}-model"
    encoder = Bert(config)
    initialise(encoder, initializer_range=0.02, seed=1)
    rules = CaseRules(do_lower_case=True)
    save_model_directory(model, encoder, config=config, vocabulary=PIECES, case_rules=rules)
    argv = ("pretraining", "-d", "fp32", "-m", str(model), "-t", "overfit", "--device", "cpu")
    size = ("-i", "100", "-s", "32", "--eval-every", "100", "--log-every", "100")
    outcome = program.call(*argv, *size, "-o", str(directory))
    assert outcome.code == 0, outcome.err
    results = read_json(directory / "results.json")
    assert results["metrics"]["split"] == "train"
    assert results["data"]["sample"] is False, "it is the text that was asked for"
    assert results["epochs"] == 50.0, "64 pairs"
    return results["metrics"]["mlm_accuracy"]


def test_overfit_learns_and_with_shuffled_labels_it_does_not(
    program: PreTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt = overfit(program, tmp_path / "run")
    whole = pretrain_worker.loss_of

    def shuffled(model: torch.nn.Module, batch: Batch, *, parts: tuple[str, ...]) -> torch.Tensor:
        assert batch.masked_labels is not None
        order = torch.randperm(len(batch.masked_labels))
        return whole(
            model, dataclasses.replace(batch, masked_labels=batch.masked_labels[order]), parts=parts
        )

    monkeypatch.setattr(pretrain_worker, "loss_of", shuffled)
    not_learnt = overfit(program, tmp_path / "shuffled")
    assert learnt > 0.7
    assert not_learnt < 0.5


def test_overfit_with_a_frozen_encoder_does_not_learn(
    program: PreTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = run_exchange.make_optimizer

    def of_heads(name: str, parameters: dict[str, torch.Tensor], *, weight_decay: float) -> object:
        heads = {n: p for n, p in parameters.items() if not n.startswith("bert.")}
        for tensor_name, parameter in parameters.items():
            parameter.requires_grad_(tensor_name in heads)
        return make(name, heads, weight_decay=weight_decay)

    monkeypatch.setattr(run_exchange, "make_optimizer", of_heads)
    assert overfit(program, tmp_path / "run") < 0.5


def poison(monkeypatch: pytest.MonkeyPatch, *, calls: range) -> None:
    """Makes losses of some micro-batches of the training infinite, counted from 1."""
    seen = [0]
    train = pretrain_worker.train

    def poisoned(*parts: Any, loss_sum: LossSum, **options: Any) -> str | None:
        def loss_of(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
            seen[0] += 1
            found = loss_sum(model, batch)
            return found * float("inf") if seen[0] in calls else found

        return train(*parts, loss_sum=loss_of, **options)

    monkeypatch.setattr(pretrain_worker, "train", poisoned)


LONG = ("-i", "12", "1", "--save-every", "2", "-b", "10", "6")


def test_a_loss_that_is_not_finite_is_skipped_and_recorded(
    program: PreTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, calls=range(3, 5))
    outcome = program.run(tmp_path / "run", *LONG)
    assert outcome.code == 0, outcome.err
    faults = events(tmp_path / "run", "fault")
    assert [(e["kind"], e["step"], e["tensor"]) for e in faults] == [
        ("nonfinite", 3, "loss"),
        ("nonfinite", 4, "loss"),
    ]
    assert faults[0]["first_example"] == 20
    assert [e["step"] for e in events(tmp_path / "run", "step") if e.get("skipped")] == [3, 4]


def test_three_in_a_row_go_back_to_the_last_good_checkpoint_and_other_data(
    program: PreTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, calls=range(7, 10))
    outcome = program.run(tmp_path / "run", *LONG)
    assert outcome.code == 0, outcome.err
    kinds = [(e["kind"], e["step"]) for e in events(tmp_path / "run", "fault")]
    assert kinds == [*(("nonfinite", n) for n in (7, 8, 9)), ("returned", 8)]
    (returned,) = [e for e in events(tmp_path / "run", "fault") if e["kind"] == "returned"]
    # Step 8 was saved in between: its weights are those of step 6, untouched.
    assert returned["step"] == 8 and "going back to step-8" in returned["message"]
    steps = [e["step"] for e in events(tmp_path / "run", "step")]
    assert steps == [*range(1, 9), *range(9, 14)]
    manifest = read_json(tmp_path / "run" / "checkpoints" / "step-13" / "manifest.json")
    assert manifest["state"]["faults"] == {"in_a_row": 0, "skipped": 3, "returns": 1}


def test_after_the_second_return_the_run_stops_with_a_diagnosis(
    program: PreTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, calls=range(3, 10**6))
    outcome = program.run(tmp_path / "run", *LONG)
    assert outcome.code == 1
    line = outcome.err.strip().splitlines()[-1]
    assert "went back 2 times" in line and "it is not the data" in line
    assert read_json(tmp_path / "run" / "results.json")["status"] == "failed"


def test_stop_stops_at_the_first(
    program: PreTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, calls=range(3, 4))
    outcome = program.run(tmp_path / "run", *LONG, "--on-nonfinite", "stop")
    assert outcome.code == 1
    assert "step 3: the loss is not finite" in outcome.err


SPLITS = {"whole": ("-b", "24"), "accumulated": ("-b", "3"), "workers": ("-b", "3", "-v", "2")}


def test_accumulation_and_workers_make_the_update_of_the_whole_batch(
    program: PreTraining, tmp_path: Path
) -> None:
    # One batch of 24, 8 micro-batches of 3, 2 workers with 4 of 3 each: the same but for the order
    # of sums. Plain steps of AdamW would turn the smallest gradient into a whole step: LAMB's
    # weights are compared after two of them, at the published rates.
    options = ("--dropout", "0", "--attention-dropout", "0", "--phases", "1", "-i", "2", "-w", "0")
    found = {}
    for name, split in SPLITS.items():
        more = (*options, *split, "--global-batch-size", "24", "--learning-rate", "1e-3")
        if name == "workers":
            process = start(program.argv(tmp_path / name, *more), tmp_path)
            _, err = process.communicate()
            assert process.returncode == 0, err
        else:
            assert program.run(tmp_path / name, *more).code == 0
        found[name] = load_file(tmp_path / name / "model" / "model.safetensors")
    for name in ("accumulated", "workers"):
        for step, (loss, norm) in losses(tmp_path / name).items():
            assert (loss, norm) == pytest.approx(losses(tmp_path / "whole")[step], rel=1e-5)
        for tensor, value in found["whole"].items():
            torch.testing.assert_close(found[name][tensor], value, rtol=1e-4, atol=2e-5)
