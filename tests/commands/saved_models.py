"""Tiny models and data for the tests of the commands that use a model."""

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from demo_bert import cli
from demo_bert.model.bert import Bert, BertConfig, initialise
from demo_bert.model.convert import save_model_directory
from demo_bert.model.heads import SequenceClassifier
from demo_bert.model.vocabulary import SPECIAL_TOKENS, CaseRules

WORDS = [f"{letter}{number}" for letter in "abcdefgh" for number in range(10)]
VOCABULARY = [*SPECIAL_TOKENS, *WORDS]


def config(**changes: int) -> BertConfig:
    numbers = {
        "vocab_size": len(VOCABULARY),
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 40,
    }
    return BertConfig(**{**numbers, **changes})


def save(
    directory: Path,
    labels: Sequence[str] | None = ("0", "1"),
    *,
    num_labels: int = 2,
    headless: bool = False,
    seed: int = 3,
    **changes: int,
) -> Path:
    """A model of random weights, large enough for sure answers."""
    shape = config(**changes)
    count = len(labels) if labels else num_labels
    model: nn.Module = Bert(shape) if headless else SequenceClassifier(shape, count)
    initialise(model, initializer_range=0.5, seed=seed)
    save_model_directory(
        directory,
        model,
        config=shape,
        vocabulary=VOCABULARY,
        case_rules=CaseRules(do_lower_case=True),
        labels=None if headless else labels,
    )
    return directory


def texts(seed: int, *, longest: int = 12) -> str:
    draw = random.Random(seed)
    return " ".join(draw.choices(WORDS, k=draw.randint(1, longest)))


def write_pairs(path: Path, count: int, *, seed: int = 0, labels: bool = True) -> Path:
    """A TSV of pairs, labelled 0 and 1 in turn."""
    header = "sentence1\tsentence2" + "\tlabel" * labels
    rows = [
        f"{texts(1000 * seed + 2 * row)}\t{texts(1000 * seed + 2 * row + 1)}"
        + f"\t{row % 2}" * labels
        for row in range(count)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def write_reviews(path: Path, count: int) -> Path:
    """A CSV of single texts with columns and classes of the user's own."""
    rows = [f"{texts(row)},{('bad', 'fair', 'good')[row % 3]}" for row in range(count)]
    path.write_text("\n".join(["review,stars", *rows]) + "\n", encoding="utf-8")
    return path


def demo_bert(*argv: object) -> int:
    """The program, on one thread."""
    torch.set_num_threads(1)
    return cli.main([str(argument) for argument in argv])
