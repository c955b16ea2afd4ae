"""A run of `tiny` -> what the package carries; made up here, of drawn weights."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

from demo_bert import hub
from demo_bert.commands.starting_weights import find_starting_weights
from demo_bert.errors import UnreachableError
from demo_bert.model import published
from demo_bert.model.bert import BertConfig, initialise
from demo_bert.model.convert import save_model_directory
from demo_bert.model.heads import PreTrainer
from demo_bert.model.sizes import SIZES
from demo_bert.model.vocabulary import STANDARD_VOCABULARY, CaseRules, read_vocabulary

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "make_embedded_tiny.py"


def run_of_tiny(directory: Path) -> PreTrainer:
    """A finished run, as far as the script reads it."""
    config = BertConfig(**SIZES["tiny"].config)
    model = PreTrainer(config)
    initialise(model, initializer_range=config.initializer_range, seed=3)
    save_model_directory(
        directory / "model",
        model,
        config=config,
        vocabulary=read_vocabulary(STANDARD_VOCABULARY),
        case_rules=CaseRules(do_lower_case=True),
    )
    metrics = {"mlm_loss": 4.5, "mlm_accuracy": 0.25, "nsp_loss": 0.4, "nsp_accuracy": 0.8}
    phase = {"name": "phase 1", "steps": 20, "max_seq_length": 128, "global_batch_size": 64}
    phase |= {"learning_rate": 1e-3, "metrics": metrics, "baseline": {"mlm_loss": 7.1}}
    hardware = {"model": "a CPU", "host": {"cores": 2}}
    files = {
        "run.json": {
            "argv": ["pretraining", "-m", "tiny", "--dataset-path", "/a/b", "-o", "/a/run"],
            "versions": {"torch": "2.13.0"},
            "hardware": hardware,
        },
        "results.json": {
            "status": "complete",
            "command": "pretraining",
            "init_checkpoint": "random",
            "seed": 42,
            "steps": 20,
            "epochs": 0.5,
            "wall_s": 60.0,
            "verdict": "learning normally: ...",
            "metrics": {"phases": [phase]},
            "data": {"counts": {"tokens": 1000, "held_out_documents": 3}},
        },
    }
    for name, content in files.items():
        (directory / name).write_text(json.dumps(content), "utf-8")
    events = [
        {
            "event": "evaluation",
            "time": 1.0,
            "attempt": 0,
            "phase": 1,
            "step": s,
            "metrics": metrics,
        }
        for s in (10, 20)
    ]
    (directory / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events), "utf-8")
    return model


def pack(run: Path, place: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> None:
    """Runs the script."""
    spec = importlib.util.spec_from_file_location("make_embedded_tiny", SCRIPT)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    options = ["--data", "drawn numbers", "--licence", "Apache-2.0", "--output", str(place), *more]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(run), *options])
    script.main()


def test_the_card_has_the_run_before_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("first", "second"):
        run_of_tiny(tmp_path / name)
    results = tmp_path / "second" / "results.json"
    went_on = json.loads(results.read_text("utf-8")) | {"init_checkpoint": "/a/first", "steps": 40}
    results.write_text(json.dumps(went_on), "utf-8")
    place = tmp_path / "tiny"
    with pytest.raises(AssertionError, match="--before"):
        pack(tmp_path / "second", place, monkeypatch)
    assert not place.exists()
    pack(tmp_path / "second", place, monkeypatch, "--before", str(tmp_path / "first"))
    lines = (place / "README.md").read_text("utf-8").splitlines()
    first, second = (line for line in lines if line.startswith("- Command:"))
    assert "20 steps" in first and "40 steps" in second and "/a/" not in first + second


def test_a_run_of_tiny_is_packed_and_found_where_nobody_can_be_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = run_of_tiny(tmp_path / "run")
    place = tmp_path / "package" / "tiny"
    pack(tmp_path / "run", place, monkeypatch)
    assert sum(path.stat().st_size for path in place.iterdir()) < 10_000_000
    card = (place / "README.md").read_text("utf-8")
    assert "demo_bert pretraining -m tiny --dataset-path STORE`" in card
    assert "/a/" not in card and "drawn numbers" in card and "4.500" in card

    def nobody(*args: object, **options: object) -> Path:
        raise UnreachableError("nobody there")

    monkeypatch.setenv("DEMO_BERT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub, "fetch", nobody)
    monkeypatch.setattr(published, "_packaged", lambda name: place.parent / name)
    said: list[str] = []
    start = find_starting_weights("tiny", "published", announce=said.append)
    assert start.record["name"] == "tiny (embedded in the package)"
    assert start.record["licence"] == "Apache-2.0"
    assert "not the published ones" in said[-1]
    assert start.weights is not None
    own = model.bert.embeddings.word.weight.detach()
    read = start.weights.tensors["embeddings.word.weight"]
    assert read.dtype == torch.float32
    torch.testing.assert_close(read, own, rtol=2**-11, atol=1e-7)
