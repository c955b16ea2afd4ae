"""Measures how far plain methods come on the stand-in for MRPC, and stores it beside this file.

    python benchmarks/standin_baselines.py --date 2026-11-22 --minilm DIR

Logistic regression on words and word overlap, and BERT `tiny` from random weights, must stay low
(0.75 and 0.80): the set is no toy. A pre-trained `minilm` must come above 0.85. Needs the `dev`
extra; on one thread of a CPU the whole takes about 40 minutes, --only picks a part of it.
"""

import argparse
import hashlib
import importlib.metadata
import json
import platform
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
DATA = HERE.parent / "src" / "demo_bert" / "tasks" / "standin"
RESULT = HERE / "standin_baselines.json"
SEEDS = (1, 2, 3)
STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
"""Values of C of the logistic regression."""
PACKAGES = ("numpy", "scikit-learn", "torch", "transformers")

Row = tuple[int, str, str]


@dataclass(frozen=True)
class Recipe:
    """How a network is fine-tuned: AdamW, linear warm-up and decay, float32."""

    learning_rate: float
    batch_size: int
    epochs: int
    warmup_fraction: float = 0.1
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    seeds: tuple[int, ...] = SEEDS


TINY_RECIPES = tuple(Recipe(rate, batch_size=32, epochs=10) for rate in (1e-4, 3e-4, 1e-3))
MINILM_RECIPES = (Recipe(1e-4, batch_size=64, epochs=3),)


def read_rows(path: Path) -> list[Row]:
    """Label and both texts of each pair of a file."""
    lines = path.read_text(encoding="utf-8").split("\n")[1:]
    cells = [line.split("\t") for line in lines if line]
    return [(int(cell[0]), cell[3], cell[4]) for cell in cells]


def word_list(text: str) -> list[str]:
    """Lower-cased words and numbers of a text."""
    cleaned = "".join(letter if letter.isalnum() else " " for letter in text.lower())
    return cleaned.split()


def jaccard(first: set[Any], second: set[Any]) -> float:
    """Shared share of two sets, 0..1."""
    return len(first & second) / max(1, len(first | second))


def surface_features(rows: Sequence[Row]) -> np.ndarray:
    """(N, 8): word overlap in several forms, lengths, shared word pairs and letter groups."""
    table: list[list[float]] = []
    for _, text, text_b in rows:
        a, b = word_list(text), word_list(text_b)
        shared = len(set(a) & set(b))
        groups = [
            {word[i : i + 4] for word in words for i in range(len(word) - 3)} for words in (a, b)
        ]
        table.append(
            [
                shared,
                jaccard(set(a), set(b)),
                shared / min(len(set(a)), len(set(b))),
                abs(len(a) - len(b)),
                len(a) - len(b),
                len(a) + len(b),
                jaccard(set(zip(a, a[1:], strict=False)), set(zip(b, b[1:], strict=False))),
                jaccard(groups[0], groups[1]),
            ]
        )
    return np.array(table, dtype=np.float64)


def feature_sets(train: list[Row], dev: list[Row]) -> Iterator[tuple[str, Any, Any]]:
    """Name, train matrix and dev matrix of each feature set.

    The bag of words of a pair is three blocks: words of either text, of both, of one alone.
    """
    from scipy.sparse import csr_matrix, hstack
    from sklearn.feature_extraction.text import CountVectorizer

    surface, surface_dev = surface_features(train), surface_features(dev)
    mean, deviation = surface.mean(0), surface.std(0)
    surface, surface_dev = (surface - mean) / deviation, (surface_dev - mean) / deviation
    yield "overlap and length", surface[:, :4], surface_dev[:, :4]
    yield "all surface features", surface, surface_dev
    for name, longest in (("bag of words", 1), ("bag of words and word pairs", 2)):
        counts = CountVectorizer(binary=True, token_pattern=r"[a-z0-9]+", ngram_range=(1, longest))
        counts.fit([text for row in train for text in row[1:]])

        def bag(rows: list[Row], counts: Any = counts) -> Any:
            a, b = (counts.transform([row[side] for row in rows]) for side in (1, 2))
            return hstack([a + b, a.multiply(b), abs(a - b)]).tocsr()

        words, words_dev = bag(train), bag(dev)
        yield name, words, words_dev
        both = (hstack([words, csr_matrix(surface)]), hstack([words_dev, csr_matrix(surface_dev)]))
        yield f"{name}, surface features", both[0].tocsr(), both[1].tocsr()


def logistic_regression(
    train: list[Row], dev: list[Row], *, strengths: Sequence[float] = STRENGTHS
) -> list[dict[str, Any]]:
    """Dev accuracy of each feature set and strength of regularisation."""
    from sklearn.linear_model import LogisticRegression

    labels, labels_dev = [row[0] for row in train], [row[0] for row in dev]
    results: list[dict[str, Any]] = []
    for name, matrix, matrix_dev in feature_sets(train, dev):
        for strength in strengths:
            model = LogisticRegression(C=strength, max_iter=5000).fit(matrix, labels)
            accuracy = float(model.score(matrix_dev, labels_dev))
            results.append({"features": name, "C": strength, "accuracy": round(accuracy, 4)})
    return results


def encode(rows: Sequence[Row], tokenizer: Any) -> list[dict[str, Any]]:
    """Token numbers, segment numbers and label of each pair."""
    texts = [tokenizer(text, text_b) for _, text, text_b in rows]
    keys = ("input_ids", "token_type_ids", "attention_mask")
    pairs = zip(rows, texts, strict=True)
    return [{**{key: text[key] for key in keys}, "labels": row[0]} for row, text in pairs]


def collate(examples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One batch, padded to its longest example."""
    import torch

    longest = max(len(example["input_ids"]) for example in examples)
    batch: dict[str, Any] = {"labels": torch.tensor([example["labels"] for example in examples])}
    for key in ("input_ids", "token_type_ids", "attention_mask"):
        padded = [example[key] + [0] * (longest - len(example[key])) for example in examples]
        batch[key] = torch.tensor(padded)
    return batch


def accuracy_of(model: Any, examples: list[dict[str, Any]]) -> float:
    """Share of the examples that the model labels right."""
    import torch

    model.eval()
    examples = sorted(examples, key=lambda example: len(example["input_ids"]))
    right = 0
    with torch.inference_mode():
        for start in range(0, len(examples), 50):
            batch = collate(examples[start : start + 50])
            labels = batch.pop("labels")
            right += int((model(**batch).logits.argmax(-1) == labels).sum())
    return right / len(examples)


def fine_tune(
    model: Any, train: list[dict[str, Any]], *, dev: list[dict[str, Any]], recipe: Recipe, seed: int
) -> list[float]:
    """Dev accuracy after each epoch of a plain loop."""
    import torch

    decayed = [weight for weight in model.parameters() if weight.ndim > 1]
    plain = [weight for weight in model.parameters() if weight.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate)
    total = recipe.epochs * -(-len(train) // recipe.batch_size)
    warmup = max(1, int(recipe.warmup_fraction * total))

    def factor(step: int) -> float:
        return min((step + 1) / warmup, (total - step) / max(1, total - warmup))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    order = random.Random(seed)
    accuracies: list[float] = []
    for _ in range(recipe.epochs):
        model.train()
        shuffled = order.sample(train, len(train))
        for start in range(0, len(shuffled), recipe.batch_size):
            model(**collate(shuffled[start : start + recipe.batch_size])).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        accuracies.append(round(accuracy_of(model, dev), 4))
    return accuracies


def networks(
    train: list[Row], dev: list[Row], *, model_dir: Path, pretrained: bool
) -> Iterator[dict[str, Any]]:
    """One result after each recipe and seed; `tiny` takes only the vocabulary of model_dir."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    encoded, encoded_dev = encode(train, tokenizer), encode(dev, tokenizer)
    tiny = BertConfig(
        hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=512
    )
    for recipe in MINILM_RECIPES if pretrained else TINY_RECIPES:
        for seed in recipe.seeds:
            torch.manual_seed(seed)
            if pretrained:
                model = BertForSequenceClassification.from_pretrained(model_dir)
            else:
                model = BertForSequenceClassification(tiny)
            found = fine_tune(model, encoded, dev=encoded_dev, recipe=recipe, seed=seed)
            settings = {name: value for name, value in asdict(recipe).items() if name != "seeds"}
            yield {**settings, "seed": seed, "accuracy_by_epoch": found}


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def header(date: str) -> dict[str, Any]:
    """What the measurement was made of, and where."""
    return {
        "schema_version": 1,
        "date": date,
        "files": {f"{name}.tsv": sha256_of(DATA / f"{name}.tsv") for name in ("train", "dev")},
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in PACKAGES},
        },
        "machine": f"{platform.machine()} CPU, one thread, float32",
        "baselines": {},
    }


def main() -> None:
    """Runs the baselines that were asked for and stores each as soon as it is there."""
    parser = argparse.ArgumentParser(description="measure baselines on the stand-in for MRPC")
    parser.add_argument("--date", required=True, help="the day, as YYYY-MM-DD")
    parser.add_argument("--minilm", type=Path, required=True, help="directory of all-MiniLM-L6-v2")
    names = ("logistic_regression", "tiny_random", "minilm")
    parser.add_argument("--only", choices=names, nargs="+", default=list(names))
    arguments = parser.parse_args()
    train, dev = read_rows(DATA / "train.tsv"), read_rows(DATA / "dev.tsv")
    result = header(arguments.date)
    if RESULT.exists():
        stored = json.loads(RESULT.read_text(encoding="utf-8"))
        if stored["files"] == result["files"]:
            result["baselines"] = stored["baselines"]
    positive = sum(row[0] for row in dev) / len(dev)
    result["baselines"]["majority"] = {"accuracy": max(positive, 1 - positive)}

    def store(name: str, runs: list[dict[str, Any]]) -> None:
        result["baselines"][name] = {"runs": runs}
        RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")

    if "logistic_regression" in arguments.only:
        store("logistic_regression", logistic_regression(train, dev))
    for name in ("tiny_random", "minilm"):
        if name in arguments.only:
            runs: list[dict[str, Any]] = []
            for run in networks(
                train, dev, model_dir=arguments.minilm, pretrained=name == "minilm"
            ):
                runs.append(run)
                store(name, runs)


if __name__ == "__main__":
    main()
