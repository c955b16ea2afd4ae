import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from demo_bert.report.events import EventLog
from demo_bert.report.tensorboard import TensorBoardWriter
from report.runs import ENVIRONMENT


def write(directory: Path, steps: range, *, resumed: int | None = None, loss: float = 0.0) -> None:
    """Writes an attempt to events.jsonl and to TensorBoard, as training does."""
    writer = TensorBoardWriter(directory / "tensorboard")
    with EventLog.open(directory / "events.jsonl", readers=[writer.add]) as log:
        log.append("start" if resumed is None else "resume", step=resumed)
        for step in steps:
            log.append(
                "step", step=step, loss=loss + 1 / step, learning_rate=1e-4, examples_per_s=9.0
            )
            if step % 5 == 0:
                log.append(
                    "evaluation", step=step, split="validation", loss=0.5, metrics={"f1": step / 10}
                )
    writer.close()


def scalars(directory: Path, tag: str) -> list[tuple[int, float]]:
    found = EventAccumulator(str(directory / "tensorboard"))
    found.Reload()
    return [(event.step, event.value) for event in found.Scalars(tag)]


def test_the_scalars_are_those_of_the_events(tmp_path):
    write(tmp_path, range(1, 11))
    accumulator = EventAccumulator(str(tmp_path / "tensorboard"))
    accumulator.Reload()
    assert set(accumulator.Tags()["scalars"]) == {
        "train/loss",
        "train/learning_rate",
        "train/examples_per_s",
        "eval/validation/loss",
        "eval/validation/f1",
    }
    expected = [(step, float(np.float32(1 / step))) for step in range(1, 11)]
    assert scalars(tmp_path, "train/loss") == expected
    assert [step for step, _ in scalars(tmp_path, "eval/validation/f1")] == [5, 10]
    assert accumulator.FirstEventTimestamp() > 1e9


def test_a_run_that_goes_on_has_each_step_once(tmp_path):
    write(tmp_path, range(1, 9))
    # Somebody watches; the run was killed at step 8, its checkpoint is of step 6.
    watcher = EventAccumulator(str(tmp_path / "tensorboard"))
    watcher.Reload()
    write(tmp_path, range(7, 13), resumed=6, loss=2.0)
    found = scalars(tmp_path, "train/loss")
    assert [step for step, _ in found] == list(range(1, 13))
    assert [value > 2 for _, value in found] == [False] * 6 + [True] * 6
    watcher.Reload()
    assert [event.step for event in watcher.Scalars("train/loss")] == list(range(1, 13))


def test_many_attempts_leave_few_files(tmp_path):
    for attempt in range(5):
        write(tmp_path, range(attempt + 1, attempt + 3), resumed=attempt or None)
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2
    assert [step for step, _ in scalars(tmp_path, "train/loss")] == list(range(1, 7))


def test_a_run_that_starts_over_forgets_what_it_had(tmp_path):
    write(tmp_path, range(1, 6))
    write(tmp_path, range(1, 4), loss=2.0)
    assert [step for step, _ in scalars(tmp_path, "train/loss")] == [1, 2, 3]


def test_a_finished_run_that_is_opened_again_keeps_its_file(tmp_path):
    write(tmp_path, range(1, 6))
    writer = TensorBoardWriter(tmp_path / "tensorboard")
    writer.close()
    assert len(scalars(tmp_path, "train/loss")) == 5


def test_a_value_that_is_not_finite_is_shown_as_such(tmp_path):
    writer = TensorBoardWriter(tmp_path / "tensorboard")
    writer.add({"event": "step", "time": 1.0, "attempt": 0, "step": 1, "loss": "NaN"})
    writer.close()
    ((step, value),) = scalars(tmp_path, "train/loss")
    assert step == 1 and np.isnan(value)


def test_without_the_package_there_is_one_warning_and_no_failure(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "tensorboard.summary.writer.record_writer", None)
    write(tmp_path, range(1, 11))
    assert len(caplog.records) == 1 and "pip install tensorboard" in caplog.text
    assert len((tmp_path / "events.jsonl").read_text().splitlines()) == 13


def test_a_directory_that_cannot_be_written_is_one_warning(tmp_path, caplog):
    (tmp_path / "tensorboard").write_text("in the way")
    write(tmp_path, range(1, 11))
    assert len(caplog.records) == 1 and "training goes on" in caplog.text


@pytest.mark.parametrize("step", ["import", "write"])
def test_neither_tensorboard_nor_tensorflow_is_imported_before_it_is_needed(tmp_path, step):
    (tmp_path / "tensorflow.py").write_text("raise AssertionError('imported')\n")
    program = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from demo_bert.report.tensorboard import TensorBoardWriter\n"
        "assert 'tensorboard' not in sys.modules\n"
        "if sys.argv[2] == 'write':\n"
        "    writer = TensorBoardWriter(Path(sys.argv[1]) / 'tensorboard')\n"
        "    writer.add({'event': 'step', 'step': 1, 'loss': 1.0})\n"
        "    writer.close()\n"
        "    assert 'tensorboard' in sys.modules\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    command = [sys.executable, "-W", "error", "-c", program, tmp_path, step]
    subprocess.run(command, check=True, env=ENVIRONMENT)
    assert (tmp_path / "tensorboard").exists() == (step == "write")
