"""The runs of the drills: each stage takes a while, all of it some seconds."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from corpus.recipes import VOCABULARY, write_books
from demo_bert.model.bert import Bert, BertConfig, initialise
from demo_bert.model.convert import save_model_directory
from demo_bert.model.vocabulary import CaseRules
from small_run import ENVIRONMENT, contents, losses, read_json, weights

MARKED = Path(__file__).with_name("marked.py")
SAVE_EVERY = 3
KINDS = ("finetuning", "pretraining", "prepare")
_CONFIG = BertConfig(
    vocab_size=len(VOCABULARY),
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=128,
)


@dataclass(frozen=True)
class Kind:
    """What is run: MRPC on the stand-in, `-t overfit`, or the making of a store.

    Attributes:
        argv: The program's arguments, without `-o`.
    """

    name: str
    argv: tuple[str, ...]

    def start(
        self, directory: Path, *more: str, is_marked: bool = True, in_background: bool = False
    ) -> subprocess.Popen[str]:
        """Starts it in a directory; `-o` says which."""
        script = [str(MARKED)] if is_marked else ["-m", "demo_bert"]
        if in_background:
            script.append("--in-background")
        return subprocess.Popen(
            [sys.executable, *script, *self.argv, *more, "-o", str(directory)],
            env=ENVIRONMENT | {"DEMO_BERT_CACHE": str(directory.parent / "cache")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, directory: Path, *more: str) -> str:
        """Runs it to its end; gives what it said."""
        with self.start(directory, *more, is_marked=False) as process:
            _, err = process.communicate(timeout=200)
        assert process.returncode == 0, err
        return err

    def is_finished(self, directory: Path) -> bool:
        """Whether there is nothing left to do in it."""
        if self.name == "prepare":
            return (directory / "manifest.json").exists()
        path = directory / "results.json"
        return path.exists() and read_json(path)["status"] == "complete"

    def assert_same(self, directory: Path, straight: Path) -> None:
        """Every bit of the result is that of the run that nothing disturbed."""
        if self.name == "prepare":
            assert contents(directory) == contents(straight)
            return
        assert weights(directory) == weights(straight)
        assert losses(directory) == losses(straight)
        found, expected = (read_json(path / "results.json") for path in (directory, straight))
        assert found["metrics"] == expected["metrics"]


def make_kind(name: str, root: Path) -> Kind:
    """The arguments of a kind, and the files that they name."""
    if name == "prepare":
        books = write_books(root / "books", 8, num_sentences=250)
        (root / "vocab.txt").write_text("".join(f"{entry}\n" for entry in VOCABULARY), "utf-8")
        vocabulary = ("--vocab", str(root / "vocab.txt"))
        return Kind(name, (name, "--books", str(books), *vocabulary, "-v", "1"))
    model = Bert(_CONFIG)
    initialise(model, initializer_range=0.1, seed=1)
    save_model_directory(
        root / "model",
        model,
        config=_CONFIG,
        vocabulary=VOCABULARY,
        case_rules=CaseRules(do_lower_case=True),
    )
    shared = ("-d", "fp32", "--device", "cpu", "-m", str(root / "model"), "--log-every", "1")
    saving = ("--save-every", str(SAVE_EVERY), "--keep", "3", "--eval-every", "7")
    if name == "finetuning":
        length = ("-t", "mrpc", "--sample", "-s", "64", "-i", "40", "-b", "4")
        return Kind(name, (name, *shared, *saving, *length, "--global-batch-size", "10"))
    length = ("-t", "overfit", "-s", "64", "-i", "40", "-b", "4", "--global-batch-size", "10")
    return Kind(name, (name, *shared, *saving, *length))


def seed_of_the_drill() -> int:
    """Another one each time; said, so that a failure can be had again."""
    seed = int(os.environ.get("DRILL_SEED") or int.from_bytes(os.urandom(4), "big"))
    print(f"DRILL_SEED={seed}")
    return seed
