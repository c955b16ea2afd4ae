"""`bench`: the same examples on both sides, figures that follow from what was timed."""

import itertools
import json
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import Tensor, nn

from demo_bert.commands import bench
from demo_bert.commands.measuring import huggingface, peak
from demo_bert.commands.measuring.course import course_of
from demo_bert.commands.measuring.own import OwnSide, Work
from demo_bert.data.packing import Batch
from demo_bert.hardware.cpu import CpuBackend
from demo_bert.model.flops import TRAINING_FACTOR, classifier_flops
from demo_bert.tasks.classification import ClassificationTask
from small_run import CONFIG, Program, read_json

SMALL = ("-s", "24", "-b", "4", "--steps", "2", "--repeats", "2", "--device", "cpu")


@pytest.fixture
def program(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Program:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(peak, "SQUARES", ((64, 64, 64),))
    return Program(tmp_path, capsys)


def record(directory: Path) -> dict[str, Any]:
    (path,) = directory.glob("*.json")
    return read_json(path)


def test_every_task_is_measured_without_data_or_network(program: Program, tmp_path: Path) -> None:
    done = program.call("bench", "-m", str(program.model), "-d", "fp32", *SMALL)
    assert done.code == 0, done.err
    found = record(tmp_path / "runs" / "bench")
    assert [row["task"] for row in found["rows"]] == ["mrpc", "squad", "phase1", "phase2"]
    for row in found["rows"]:
        assert len(row["blocks"]) == 2
        assert row["examples_per_s"] > 0
        assert 0 < row["model_flops_utilisation"] < 1.5
        assert set(row["parts_s"]) >= {"data", "forward", "backward", "optimizer", "communication"}
        assert row["peak_memory_bytes"] > 1e8
        assert row["dropout"] == 0.1
    assert [row["optimizer"] for row in found["rows"]] == ["adamw", "adamw", "lamb", "lamb"]
    when = {one["when"] for one in found["peak"]["measured"]}
    assert when == {"before", "after mrpc", "after squad", "after phase1", "after phase2"}
    for row in found["rows"]:
        assert row["task"] in done.out
    assert "rule: the first 3 steps are left out" in done.out
    assert "drawn examples" in done.out
    assert max(len(line) for line in done.out.splitlines() if "rule" not in line) <= 120


def test_the_figures_follow_from_the_blocks(program: Program, tmp_path: Path) -> None:
    done = program.call(
        *("bench", "-m", str(program.model), "-d", "fp32", "-t", "mrpc", *SMALL),
        *("-o", str(tmp_path / "out")),
    )
    assert done.code == 0, done.err
    (row,) = record(tmp_path / "out")["rows"]
    rates = sorted(block["examples"] / block["seconds"] for block in row["blocks"])
    assert row["examples_per_s"] == pytest.approx(sum(rates) / 2)
    assert [block["examples"] for block in row["blocks"]] == [8, 8]
    # Each example of 19 to 24 tokens: those that are drawn longer are cut.
    least, most = (TRAINING_FACTOR * classifier_flops(CONFIG, [n] * 8, 2) for n in (19, 24))
    assert all(least <= block["flops"] <= most for block in row["blocks"])
    assert 19 * 8 <= row["blocks"][0]["tokens"] <= 24 * 8


@pytest.mark.parametrize("task", ["mrpc", "squad", "phase1", "phase2"])
def test_both_sides_train_the_same_examples(
    program: Program, tmp_path: Path, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int, int]] = []
    step = huggingface.HuggingFaceSide._step

    def watched(side: Any, batch: Any) -> None:
        seen.append((side.form, batch.num_tokens, batch.max_seqlen))
        step(side, batch)

    monkeypatch.setattr(huggingface.HuggingFaceSide, "_step", watched)
    done = program.call(
        *("bench", "-m", str(program.model), "-d", "fp32", "-t", task, *SMALL),
        *("--against", "huggingface", "-o", str(tmp_path / "out")),
    )
    assert done.code == 0, done.err
    found = record(tmp_path / "out")
    (row,) = found["rows"]
    assert [one["form"] for one in row["against"]] == ["padded", "best"]
    for one in row["against"]:
        assert len(one["ratios"]) == 2
        assert one["ratio_min"] <= one["ratio"] <= one["ratio_max"]
        for ratio, (ours, theirs) in zip(one["ratios"], one["seconds"], strict=True):
            assert ratio == pytest.approx(theirs / ours)
    assert row["optimizer"] == "adamw"
    # One step each to warm up, then blocks of two.
    forms = [form for form, _ in itertools.groupby(form for form, _, _ in seen[2:])]
    assert forms == ["padded", "best"] * 2
    padded_tokens = [tokens for form, tokens, _ in seen[2:] if form == "padded"]
    ours = [block["tokens"] for block in row["blocks"]]
    assert [sum(padded_tokens[:2]), sum(padded_tokens[2:])] == ours
    assert "as people run it" in done.out
    assert "at its best" in done.out
    assert found["peer"]["package"] == "transformers"


def test_a_missing_peer_is_one_line_that_says_how_to_install_it(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> str:
        raise huggingface.PackageNotFoundError(name)

    monkeypatch.setattr(huggingface, "version", missing)
    done = program.call("bench", "-m", "tiny", "--against", "huggingface")
    assert (done.code, done.out) == (2, "")
    assert "pip install transformers" in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-m", "tinny"), "tiny"),
        (("-m", "tiny", "-t", "mrcp"), "mrpc"),
        (("-m", "tiny", "--repeats", "0"), "--repeats"),
        (("-m", "tiny", "--against", "keras"), "huggingface"),
        (("-m", "tiny", "-s", "1000"), "512"),
        (("-m", "tiny", "-s", "7"), "at least 8"),
        (("-m", "tiny", "-v", "2", "--against", "huggingface"), "-v"),
    ],
)
def test_what_is_wrong_is_one_line(
    program: Program, arguments: tuple[str, ...], words: str
) -> None:
    done = program.call("bench", "--device", "cpu", *arguments)
    assert (done.code, done.out) == (2, "")
    assert words in done.err
    assert len([line for line in done.err.splitlines() if "error" in line]) == 1


def work(program: Program) -> Work:
    return Work(
        task="mrpc",
        model=str(program.model),
        dtype="fp32",
        batch_size=4,
        max_seq_length=24,
        dropout=0.1,
        attention_dropout=0.1,
        seed=1,
        device="cpu",
    )


def test_nothing_of_a_work_is_left_in_the_memory_of_the_next(
    program: Program, tmp_path: Path
) -> None:
    side = OwnSide(work(program), tmp_path / "events.jsonl", announce=print)
    side.follow(course_of(side.lengths, batch_size=4, sorted_blocks=[False], steps=2, seed=1))
    side.run(2)
    held = [weakref.ref(parameter) for parameter in side.worker.model.parameters()]
    held += [weakref.ref(tensor) for tensor in side.worker.optimizer.state.values()]
    side.released()
    assert {ref() for ref in held} == {None}
    assert side.micro_batch_size == 4


def test_the_table_says_what_was_measured_otherwise_than_asked_for(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss, calls = ClassificationTask.loss_sum, itertools.count()

    def short(self: ClassificationTask, model: nn.Module, batch: Batch) -> Tensor:
        if batch.num_examples > 2 and next(calls) == 1:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: no memory")
        return loss(self, model, batch)

    monkeypatch.setattr(ClassificationTask, "loss_sum", short)
    monkeypatch.setattr(CpuBackend, "product_mode", lambda self, dtype: "rounded")
    done = program.call(
        *("bench", "-m", str(program.model), "-d", "bf16", "-t", "mrpc", *SMALL),
        *("-o", str(tmp_path / "out"), "--checkpoint-activations"),
    )
    assert done.code == 0, done.err
    (row,) = record(tmp_path / "out")["rows"]
    assert (row["batch_size"], row["micro_batch_size"]) == (4, 2)
    assert row["flags"] == ["--checkpoint-activations"]
    assert "4 did not fit in memory: in micro-steps of 2" in done.out
    assert "2 steps a block, --checkpoint-activations" in done.out
    assert "no bfloat16 units here" in done.out


def test_the_record_is_json_that_others_read(program: Program, tmp_path: Path) -> None:
    program.call(
        *("bench", "-m", str(program.model), "-d", "fp32", "-t", "phase2", *SMALL),
        *("-o", str(tmp_path / "out"), "--dropout", "0", "--attention-dropout", "0"),
    )
    (path,) = (tmp_path / "out").glob("*.json")
    found = json.loads(path.read_text("utf-8"))
    assert found["schema_version"] == 1
    assert found["rows"][0]["dropout"] == 0
    assert found["rows"][0]["examples"]["kind"] == "drawn"


def test_two_that_began_in_the_same_second_keep_both_records(tmp_path: Path) -> None:
    settings: Any = SimpleNamespace(
        output_dir=str(tmp_path), model="a/tiny", dtype="fp32", task="all"
    )
    found: list[str] = []
    for _ in range(3):
        path = bench._path(settings, 0.0)
        path.write_text("{}")
        found.append(path.stem.removeprefix("tiny-fp32-all-")[len("19700101-000000") :])
    assert found == ["", "-1", "-2"]
