"""Runs whose micro-steps are replayed end as those whose are not; what fails is one warning."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from commands.test_pretraining import PreTraining, save_store
from commands.test_squad import Squad
from demo_bert.commands.graphs import FixedShapes, Graphs
from demo_bert.data.capacity import capacities
from demo_bert.data.packing import Batch
from demo_bert.hardware.backend import Work
from demo_bert.hardware.cpu import CpuBackend
from demo_bert.model.bert import initialise
from demo_bert.model.heads import SequenceClassifier
from demo_bert.tasks import load_task
from demo_bert.tasks.classification import ClassificationTask
from recorded_graphs import Recording, as_on_a_gpu, capture
from small_run import CONFIG, Outcome, Program, events, losses, weights

NO_DROPOUT = ("--dropout", "0", "--attention-dropout", "0")
STEPS = ("-i", "6", "--global-batch-size", "10")
UNREPLAYED = "graphs: micro-steps are not replayed: "


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("small")


@pytest.fixture
def recordings(monkeypatch: pytest.MonkeyPatch) -> list[Recording]:
    """What was recorded on a CPU that can, and computes as a GPU does."""
    found: list[Recording] = []
    as_on_a_gpu(monkeypatch)
    monkeypatch.setattr(CpuBackend, "capture", lambda self, works: capture(works, found))
    return found


def run(program: Program, directory: Path, compile: str, *more: str) -> Outcome:
    outcome = program.run(directory, *STEPS, "--compile", compile, *more)
    assert outcome.code == 0, outcome.err
    return outcome


def same_losses(ours: Path, plain: Path) -> None:
    (one, other) = (losses(path) for path in (ours, plain))
    assert list(one) == list(other)
    for step, (loss, norm) in other.items():
        assert one[step][0] == pytest.approx(loss, rel=1e-5)
        assert one[step][1] == pytest.approx(norm, rel=1e-4)


def test_a_replayed_run_has_the_losses_of_a_plain_one(
    program: Program, tmp_path: Path, recordings: list[Recording]
) -> None:
    run(program, tmp_path / "plain", "off", *NO_DROPOUT)
    assert not recordings
    outcome = run(program, tmp_path / "graphs", "graphs", *NO_DROPOUT)
    same_losses(tmp_path / "graphs", tmp_path / "plain")
    (event,) = events(tmp_path / "graphs", "graphs")
    assert event["shapes"] == len(recordings) > 2 and event["seconds"] > 0
    assert f"micro-steps of {len(recordings)} shapes are replayed" in outcome.err
    assert "not replayed" not in outcome.err
    parts = events(tmp_path / "graphs", "step")[-1]["parts_s"]
    assert {"forward", "backward"} <= set(parts)


def test_a_replayed_run_goes_on_exactly(
    program: Program, tmp_path: Path, recordings: list[Recording]
) -> None:
    more = ("--save-every", "2", "--keep", "9")
    run(program, tmp_path / "whole", "graphs", *more)
    run(program, tmp_path / "parts", "graphs", *more)
    run(program, tmp_path / "parts", "graphs", *more, "--resume", "2")
    assert len(events(tmp_path / "parts", "graphs")) == 2
    assert recordings
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")


def test_without_being_asked_for_short_runs_and_other_devices_have_none(
    program: Program, tmp_path: Path, recordings: list[Recording]
) -> None:
    run(program, tmp_path / "run", "auto")
    assert not recordings and not events(tmp_path / "run", "graphs")


def test_a_device_without_graphs_refuses_to_be_asked_for_them(
    program: Program, tmp_path: Path
) -> None:
    outcome = program.run(tmp_path / "run", *STEPS, "--compile", "graphs")
    assert outcome.code == 2
    assert "--compile graphs: the device has none; leave it out" in outcome.err


def warnings(outcome: Outcome) -> list[str]:
    return [line for line in outcome.err.splitlines() if UNREPLAYED in line]


def test_a_recording_that_fails_is_one_warning_and_a_plain_run(
    program: Program, tmp_path: Path, recordings: list[Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: CpuBackend, works: Sequence[Work]) -> list[Work]:
        works[0]()
        try:
            raise RuntimeError("operation not permitted\nwhen stream is capturing")
        finally:
            raise ValueError("invalidated")

    monkeypatch.setattr(CpuBackend, "capture", broken)
    run(program, tmp_path / "plain", "off")
    outcome = run(program, tmp_path / "graphs", "graphs")
    (line,) = warnings(outcome)
    assert "RuntimeError: operation not permitted when stream is capturing" in line
    (event,) = events(tmp_path / "graphs", "graphs")
    assert event["shapes"] == 0 and "when stream is capturing" in event["message"]
    assert losses(tmp_path / "graphs") == losses(tmp_path / "plain")
    assert weights(tmp_path / "graphs") == weights(tmp_path / "plain")


def test_a_loss_that_hangs_on_the_host_is_one_warning_and_a_plain_run(
    program: Program, tmp_path: Path, recordings: list[Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    loss_sum = ClassificationTask.loss_sum

    def on_the_host(self: Any, model: Any, batch: Any) -> Any:
        return loss_sum(self, model, batch) * (1 + int((batch.labels == 1).sum().item()))

    monkeypatch.setattr(ClassificationTask, "loss_sum", on_the_host)
    run(program, tmp_path / "plain", "off")
    outcome = run(program, tmp_path / "graphs", "graphs")
    (line,) = warnings(outcome)
    assert "tokens: the losses are" in line
    assert recordings
    assert losses(tmp_path / "graphs") == losses(tmp_path / "plain")


def test_shapes_follow_micro_batches_that_are_halved(
    program: Program, tmp_path: Path, recordings: list[Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    loss_sum, record = ClassificationTask.loss_sum, CpuBackend.capture
    full = RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: no memory")
    sizes: list[int] = []

    def capturing(self: CpuBackend, works: Sequence[Work]) -> list[Work]:
        sizes.append(len(works))
        if len(sizes) == 1:
            raise full
        return record(self, works)

    def hungry(self: Any, model: Any, batch: Any) -> Any:
        if model.training and batch.num_examples > 2 and sizes:
            raise full
        return loss_sum(self, model, batch)

    run(program, tmp_path / "plain", "off", *NO_DROPOUT)
    monkeypatch.setattr(CpuBackend, "capture", capturing)
    monkeypatch.setattr(ClassificationTask, "loss_sum", hungry)
    outcome = run(program, tmp_path / "graphs", "graphs", *NO_DROPOUT)
    assert len(warnings(outcome)) == 1
    assert "going on with 2" in outcome.err
    failed, made = events(tmp_path / "graphs", "graphs")
    assert failed["shapes"] == 0 and made["shapes"] == len(recordings) > 0
    same_losses(tmp_path / "graphs", tmp_path / "plain")


def test_squad_is_replayed(
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    recordings: list[Recording],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DEMO_BERT_CACHE", str(root / "cache"))
    program = Squad(root, capsys)
    for kind in ("off", "graphs"):
        more = ("-i", "4", *NO_DROPOUT, "--compile", kind)
        assert program.finetune("squad", tmp_path / kind, *more) == 0
    assert events(tmp_path / "graphs", "graphs")[0]["shapes"] == len(recordings) > 0
    same_losses(tmp_path / "graphs", tmp_path / "off")


@pytest.mark.parametrize("objectives", ["mlm+nsp", "nsp"])
def test_both_phases_of_pretraining_are_replayed(
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    recordings: list[Recording],
    objectives: str,
) -> None:
    program = PreTraining(root, capsys)
    if not (root / "store").exists():
        save_store(root / "store")
    for kind in ("off", "graphs"):
        more = (*NO_DROPOUT, "--objectives", objectives, "--compile", kind)
        outcome = program.run(tmp_path / kind, *more)
        assert outcome.code == 0, outcome.err
    found = events(tmp_path / "graphs", "graphs")
    assert [event["phase"] for event in found] == [1, 2]
    assert sum(event["shapes"] for event in found) == len(recordings) > 2
    assert not warnings(outcome)
    same_losses(tmp_path / "graphs", tmp_path / "off")


def test_graphs_are_made_once_for_the_same_shapes(caplog: pytest.LogCaptureFixture) -> None:
    made: list[int] = []

    class Backend(CpuBackend):
        def capture(self, works: Sequence[Work]) -> list[Work]:
            made.append(len(works))
            return list(works)

    model = SequenceClassifier(CONFIG, 2)
    initialise(model, initializer_range=0.1, seed=1)
    graphs = Graphs(model, is_wanted=True, dtype="fp32", backend=Backend())

    def ask(size: int) -> Any:
        shapes = FixedShapes(
            capacities(size, 16, count=2),
            max_seq_length=16,
            micro_batch_size=size,
            lengths=(),
            pack=_none,
        )
        losses_of = partial(_losses, model)
        return graphs.micro_step(shapes, losses_of, emit=lambda event, **fields: None, step=0)

    with caplog.at_level(logging.INFO):
        first = ask(4)
    assert first is not None and ask(4) is first and made == [2]
    assert "micro-steps of 2 shapes are replayed, of 32, 64 tokens" in caplog.text
    other = ask(2)
    assert other is not first and other is not None and made == [2, 2]
    graphs.drop()
    assert ask(2) is not other


def _none(rows: list[int]) -> Any:
    raise AssertionError(f"no examples were given: {rows}")


def _losses(model: nn.Module, batch: Batch, counts: Tensor) -> Tensor:
    return load_task("classification").loss_sum(model, batch).reshape(-1) / counts
