"""`pipeline` on a model of a few thousand weights and a few pages of drawn text."""

import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from demo_bert.commands import pipeline, pipeline_stages
from small_run import WORDS, Program, events, losses, read_json, start, tree

SIZES = ("-i", "4", "3", "-b", "4", "3", "--global-batch-size", "10", "6", "-s", "16", "24")


def save_text(path: Path) -> Path:
    """Documents of drawn words, a sentence on each line."""
    drawn = random.Random(5)
    documents = [
        "".join(f"{' '.join(drawn.choices(WORDS, k=drawn.randint(5, 9)))}\n" for _ in range(60))
        for _ in range(8)
    ]
    path.write_text("\n".join(documents), "utf-8")
    return path


class Pipeline(Program):
    """Runs `pipeline` on the small model's shape and drawn text."""

    def __post_init__(self) -> None:
        super().__post_init__()
        text = self.root / "text.txt"
        self.text = text if text.exists() else save_text(text)
        self.arguments = [
            *("pipeline", "-d", "fp32", "-m", str(self.model), "-t", "classification"),
            *("--device", "cpu", "--text", str(self.text), "--dedupe", "off", "-v", "1"),
            *("--vocab", str(self.model / "vocab.txt"), "--learning-rate", "3e-2", "3e-2"),
            *("--objectives", "mlm", "mlm"),  # of so little text one block is held out
            *("--finetuning-dataset-path", str(self.data), "--finetuning-max-seq-length", "24"),
            *("--finetuning-batch-size", "4", "--finetuning-learning-rate", "1e-3"),
        ]


@pytest.fixture
def program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Pipeline:
    return Pipeline(tmp_path, capsys)


def test_it_goes_from_raw_text_to_a_score_and_one_page(program: Pipeline, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    outcome = program.run(directory, *SIZES)
    assert outcome.code == 0, outcome.err
    assert re.search(r"accuracy .*", outcome.out)
    lines = outcome.out.splitlines()
    assert [line.split()[0] for line in lines if line.split()[0] in ("prepare", "pretraining")]
    results = read_json(directory / "results.json")
    assert (results["status"], results["command"]) == ("complete", "pipeline")
    tuned = read_json(directory / "finetuning" / "results.json")
    assert results["metrics"] == tuned["metrics"]
    assert tuned["init_checkpoint"].endswith("pretraining")
    names = ["prepare", "pretraining", "finetuning"]
    assert [stage["name"] for stage in results["stages"]] == names
    assert {stage["status"] for stage in results["stages"]} == {"complete"}
    assert results["stages"][0]["data"]["documents"] == 8
    trained = read_json(directory / "pretraining" / "results.json")
    assert (trained["steps"], trained["metrics"]["phases"][0]["global_batch_size"]) == (7, 10)
    page = (directory / "report.html").read_text("utf-8")
    assert "pretraining/report.html" in page and "finetuning/report.html" in page
    before = tree(directory)
    again = program.run(directory, *SIZES)
    assert again.code == 0 and "this pipeline is finished" in again.err
    assert tree(directory) == before


def test_options_of_fine_tuning_have_their_prefix_and_all_others_are_of_pretraining(
    program: Pipeline, tmp_path: Path
) -> None:
    outcome = program.run(tmp_path / "run", *SIZES, "--seed", "7", "--finetuning-seed", "9")
    assert outcome.code == 0, outcome.err

    def settings(stage: str) -> dict[str, object]:
        records = read_json(tmp_path / "run" / stage / "run.json")["settings"]
        return {record["name"]: record["value"] for record in records}

    first, second = settings("pretraining"), settings("finetuning")
    assert (first["seed"], second["seed"]) == (7, 9)
    assert (first["learning_rate"], second["learning_rate"]) == ([3e-2, 3e-2], [1e-3])
    assert (first["batch_size"], second["batch_size"]) == ([4, 3], [4])
    manifest = read_json(tmp_path / "run" / "store" / "manifest.json")
    assert "--dedupe off" in manifest["command"]


def test_without_steps_or_time_it_says_that_it_fits_itself_into_one_hour(
    program: Pipeline, tmp_path: Path
) -> None:
    outcome = program.run(tmp_path / "run", "-s", "16", "24", "--dry-run")
    assert outcome.code == 0, outcome.err
    assert not (tmp_path / "run").exists()
    assert "--global-batch-size=256,64" in outcome.err
    values = {"iters": None, "epochs": None, "max_time": None}
    assert pipeline._time_limit(values, has_text=True) == (3600.0, True)
    assert pipeline._time_limit(values | {"iters": (3,)}, has_text=True) == (None, False)


def test_small_batches_are_learnt_from_with_adamw_unless_something_else_is_named(
    program: Pipeline, tmp_path: Path
) -> None:
    def said(*more: str) -> str:
        outcome = program.run(tmp_path / "run", "-s", "16", "24", "--dry-run", *more)
        assert outcome.code == 0, outcome.err
        return outcome.err

    assert "--optimizer=adamw" not in said()  # rates are named
    at = program.arguments.index("--learning-rate")
    del program.arguments[at : at + 3]
    assert "--optimizer=adamw --schedule=linear --learning-rate=1e-4,5e-5" in said()
    for named in (("--optimizer", "lamb"), ("--global-batch-size", "512", "64")):
        assert "--optimizer=adamw" not in said(*named)
    assert pipeline_stages._learning_of_small_batches("tiny")[-1] == "--learning-rate=1e-3,5e-4"


def test_steps_are_fitted_to_the_time_once(
    program: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "command_start", time.time)
    directory = tmp_path / "run"
    sizes = ("-b", "32", "8", "--global-batch-size", "512", "64", "-s", "16", "24")
    outcome = program.run(directory, *sizes, "--max-time", "5s", "--finetuning-iters", "2")
    assert outcome.code == 0, outcome.err
    assert "all stages together are fitted into 0:05" in outcome.err
    assert re.search(r"sequences, about \S+ million tokens, \S+ epochs over the data", outcome.err)
    record = read_json(directory / "pretraining" / "run.json")
    (iters,) = [each for each in record["settings"] if each["name"] == "iters"]
    assert "fitted to --time-budget" in iters["source"]
    one, two = iters["value"]
    assert one >= 1 and two >= 1
    assert len(events(directory / "pretraining", "step")) == one + two
    (forecast,) = events(directory / "pretraining", "forecast")  # of the same measurement
    assert forecast["steps_s"] + forecast["evaluations_s"] == pytest.approx(
        sum(record["expected_s"].values())
    )
    # Begun anew with most of its files gone, as after a loss: the steps are those of its record.
    (directory / "results.json").unlink()
    (directory / "pretraining" / "results.json").unlink()
    again = program.run(directory, *sizes, "--max-time", "90s", "--finetuning-iters", "2")
    assert again.code == 0, again.err
    assert read_json(directory / "pretraining" / "results.json")["steps"] == one + two


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("-i", "1", "2", "3"), "one value or two"),
        (("--optimizer", "sawtooth"), "unknown optimizer"),
        (("--finetuning-schedule", "sawtooth"), "unknown schedule"),
        (("-s", "16", "64"), "phase 2.*8 to 32 tokens"),
        (("--text", "nowhere"), "no such file"),
        (("--text", "empty"), "empty: holds no text files"),
        (("--vocab", "nowhere"), "'nowhere': a size"),
        (("--finetuning-max-seq-length", "64"), "fine-tuning: -s.* 64: the model takes at most 32"),
        (("--resume", "3"), "each stage counts its own steps"),
        (("--finetuning-columns", "text=no,label=label"), "no column"),
        (("--phases", "2"), "needs --init-checkpoint"),
        (("--dataset-path", "."), "give one of them"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_mistakes_of_every_stage_are_refused_before_the_first(
    program: Pipeline,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    words: str,
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    outcome = program.run(tmp_path / "run", *SIZES, *options)
    assert outcome.code == 2, outcome.err
    assert "Traceback" not in outcome.err
    assert re.search(words, outcome.err.strip().splitlines()[-1])
    assert not (tmp_path / "run").exists()


def signalled(argv: list[str], directory: Path, *, at: str, number: int) -> tuple[int, str]:
    """Sends a signal once a line matches; the exit code, and what was written."""
    said: list[str] = []
    with start(argv, directory) as process:
        assert process.stderr is not None
        is_sent = False
        for line in process.stderr:
            said.append(line)
            if not is_sent and re.search(at, line):
                process.send_signal(number)
                is_sent = True
        return process.wait(60), "".join(said)


LONG = ("--save-every", "2", "--log-every", "1", "--finetuning-iters", "12", *SIZES)
PLACES = (
    *("stage 3 of 3", "forecast: .* in", "text: ", "chooses documents", "shards: 1 of 1"),
    *("whole_word_masking", "phase 2: learning rate"),
    *(f"{step}/7 .*loss" for step in range(1, 8)),
    *("step-4", "evaluation|accuracy", "weights: ", "seed  "),
    *(f"{step}/12 .*loss" for step in range(1, 12)),
)
"""Lines of every stage."""


def compare(program: Pipeline, directory: Path, straight: Path) -> None:
    """The last start of a disturbed pipeline, and one that nothing disturbed."""
    for path in (directory, straight):
        outcome = program.run(path, *LONG)
        assert outcome.code == 0, outcome.err
    for results in ("results.json", "pretraining/results.json", "finetuning/results.json"):
        found, wanted = (read_json(path / results) for path in (directory, straight))
        assert found["metrics"] == wanted["metrics"]
    for stage in ("pretraining", "finetuning"):
        assert losses(directory / stage) == losses(straight / stage)


def test_a_pipeline_that_is_stopped_and_killed_comes_to_the_same_score(
    program: Pipeline, tmp_path: Path
) -> None:
    directory = tmp_path / "run"
    argv = program.argv(directory, *LONG)
    code, said = signalled(argv, tmp_path, at="3/7 .*loss", number=signal.SIGTERM)
    assert code == 75, said
    (again,) = [line for line in said.splitlines() if "the whole pipeline goes on with: " in line]
    assert "pipeline" in shlex.split(again.split("goes on with: ")[-1])
    assert read_json(directory / "results.json")["status"] == "stopped"
    place = random.choice(PLACES)
    code, said = signalled(argv, tmp_path, at=place, number=signal.SIGKILL)
    assert code in (0, -signal.SIGKILL), (place, said)
    compare(program, directory, tmp_path / "straight")


def test_a_request_before_the_first_stage_is_a_stop(
    program: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "_directory", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    done = program.run(tmp_path / "run")
    assert done.code == 75
    (line,) = done.err.splitlines()[-1:]
    assert "stopped by SIGTERM before its first stage, nothing is lost" in line
    assert f"-o {tmp_path / 'run'}" in line
    assert not (tmp_path / "run").exists()


def test_torch_is_not_imported_before_requests_are_heard() -> None:
    code = "import sys, demo_bert.commands.pipeline; sys.exit('torch' in sys.modules)"
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    assert subprocess.run([sys.executable, "-c", code], env=environ).returncode == 0


@pytest.mark.drill
def test_ten_ends_at_random_moments(program: Pipeline, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    for number in random.choices((signal.SIGKILL, signal.SIGTERM), k=10):
        place = random.choice(PLACES)
        code, said = signalled(program.argv(directory, *LONG), tmp_path, at=place, number=number)
        assert code in (0, 75, -signal.SIGKILL, -signal.SIGTERM), (place, number, said)
    compare(program, directory, tmp_path / "straight")
