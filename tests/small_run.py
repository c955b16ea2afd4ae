"""A model of a few thousand weights, a data set of a few rows, and the program run on them."""

import json
import logging
import os
import random
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import demo_bert
from demo_bert import checkpoint, cli
from demo_bert.model.bert import Bert, BertConfig, initialise
from demo_bert.model.convert import save_model_directory
from demo_bert.model.vocabulary import CaseRules

WORDS = [f"w{number}" for number in range(60)]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
CONFIG = BertConfig(
    vocab_size=len(VOCABULARY),
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=32,
    initializer_range=0.2,
)
NUM_TRAIN, NUM_VALIDATION = 50, 14
ROOT = Path(__file__).parents[1]
ENVIRONMENT = os.environ | {
    "PYTHONPATH": str(Path(demo_bert.__file__).parents[1]),
    "OMP_NUM_THREADS": "1",
    "GOMP_SPINCOUNT": "0",
}
"""For programs that import demo_bert."""


def save_model(directory: Path, seed: int = 1) -> Path:
    """A model with random weights."""
    model = Bert(CONFIG)
    initialise(model, initializer_range=CONFIG.initializer_range, seed=seed)
    save_model_directory(
        directory, model, config=CONFIG, vocabulary=VOCABULARY, case_rules=CaseRules(True)
    )
    return directory


def save_data(directory: Path, seed: int = 1) -> Path:
    """Pairs of texts of 3 to 10 words; the label says whether they begin alike."""
    directory.mkdir(parents=True, exist_ok=True)
    drawn = random.Random(seed)
    for name, count in (("train", NUM_TRAIN), ("dev", NUM_VALIDATION)):
        rows = ["text\ttext_b\tlabel"]
        for number in range(count):
            texts = [drawn.choices(WORDS, k=drawn.randint(3, 10)) for _ in range(2)]
            if number % 2:
                texts[1][0] = texts[0][0]
            rows.append(f"{' '.join(texts[0])}\t{' '.join(texts[1])}\t{number % 2}")
        (directory / f"{name}.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return directory


@dataclass(frozen=True)
class Outcome:
    """What the program did."""

    code: int
    out: str
    err: str


@dataclass
class Program:
    """Runs `finetuning` on a small model and small data, in this process.

    Attributes:
        root: Where model and data lie.
        arguments: What every call has.
    """

    root: Path
    capture: pytest.CaptureFixture[str]
    arguments: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.model = save_model(self.root / "model")
        self.data = save_data(self.root / "data")
        self.arguments = [
            *("finetuning", "-d", "fp32", "-m", str(self.model), "--device", "cpu"),
            *("--dataset-path", str(self.data), "-b", "4", "-s", "24", "--learning-rate", "1e-3"),
        ]

    def argv(self, directory: Path | str, *more: str) -> list[str]:
        """The arguments of a run in a directory."""
        return [*self.arguments, "-o", str(directory), *more]

    def run(self, directory: Path | str, *more: str) -> Outcome:
        """Fine-tunes in a directory."""
        return self.call(*self.argv(directory, *more))

    def call(self, *argv: str) -> Outcome:
        """Runs any command line."""
        self.capture.readouterr()
        try:
            code = cli.main(argv)
        finally:
            logger = logging.getLogger("demo_bert")
            logger.handlers.clear()
            logger.propagate = True
        captured = self.capture.readouterr()
        return Outcome(code, captured.out, captured.err)


def start(
    argv: list[str], directory: Path, *, environment: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    """Starts the program in a process of its own, with pipes."""
    return subprocess.Popen(
        [sys.executable, "-m", "demo_bert", *argv],
        cwd=directory,
        env=ENVIRONMENT | (environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def events(directory: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """All lines of the log, in the order in which they were written."""
    lines = (directory / "events.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    return [event for event in found if kind in (None, event["event"])]


def losses(directory: Path) -> dict[int, tuple[float, float]]:
    """Loss and gradient norm of each step; the last attempt's."""
    return {e["step"]: (e["loss"], e["grad_norm"]) for e in events(directory, "step")}


def weights(directory: Path) -> dict[str, bytes]:
    """The bits of all tensors of the finished model and of the last checkpoint."""
    newest = directory / "checkpoints" / (directory / "checkpoints" / "newest").read_text().strip()
    files = [directory / "model" / "model.safetensors", *sorted(newest.glob("*.safetensors"))]
    return {
        f"{file.name} {name}": tensor.numpy().tobytes()
        for file in files
        if file.exists()
        for name, tensor in load_file(file).items()
    }


def save_checkpoint(directory: Path, **options: Any) -> Path:
    """All of `checkpoint.saving` at once."""
    pieces = checkpoint.saving(directory, **options)
    while True:
        try:
            next(pieces)
        except StopIteration as end:
            return end.value


def tree(directory: Path) -> set[str]:
    """All files under a directory, by relative path."""
    if not directory.exists():
        return set()
    return {p.relative_to(directory).as_posix() for p in directory.rglob("*") if p.is_file()}


def going_on(err: str) -> list[str]:
    """The arguments of the command that a stopped run prints."""
    (line,) = [line for line in err.splitlines() if "goes on with: " in line]
    program, *argv = shlex.split(line.split("goes on with: ")[1])
    assert program == "demo_bert"
    return argv


def contents(directory: Path) -> dict[str, bytes]:
    """Every file below a directory."""
    return {name: (directory / name).read_bytes() for name in tree(directory)}
