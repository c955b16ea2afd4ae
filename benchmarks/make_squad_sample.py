"""Makes the embedded sample of SQuAD: a few hundred questions of each version.

    python benchmarks/make_squad_sample.py DIR OUT

DIR has train-v1.1.first12articles.json.xz, dev-v1.1.json.xz and dev-v2.0.reconstructed.json.xz; OUT
is src/demo_bert/tasks/spans/sample. Whole passages with all their questions are taken, the first
ones of every article in turn, so that the sample is a function of the files alone. Training and
development articles are disjoint: for 1.1 they come from SQuAD's own two parts, for 2.0 the
articles of its development part are dealt in turn.
"""

import json
import lzma
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Article = dict[str, Any]
NUM_TRAIN, NUM_DEV = 400, 200
MOST_GOLD = 3  # answers kept of each question; the official files have up to six, mostly equal


def read(path: Path) -> list[Article]:
    """The articles of a packed file in the official layout."""
    return json.loads(lzma.decompress(path.read_bytes()))["data"]


def taken(articles: Sequence[Article], count: int) -> list[Article]:
    """Passages of all articles in turn until they have so many questions.

    Args:
        articles: In the official layout.
        count: Questions, at least.

    Returns:
        The articles with fewer passages, and at most three different answers to a question.
    """
    kept: list[list[Any]] = [[] for _ in articles]
    num_questions = turn = 0
    while num_questions < count:
        for place, article in enumerate(articles):
            if turn < len(article["paragraphs"]) and num_questions < count:
                paragraph = article["paragraphs"][turn]
                kept[place].append(paragraph)
                num_questions += len(paragraph["qas"])
        turn += 1
    return [
        {
            "title": article["title"],
            "paragraphs": [
                {"context": one["context"], "qas": [short(qa) for qa in one["qas"]]}
                for one in paragraphs
            ],
        }
        for article, paragraphs in zip(articles, kept, strict=True)
        if paragraphs
    ]


def short(qa: dict[str, Any]) -> dict[str, Any]:
    """A question with at most three different answers."""
    different = {(a["text"], a["answer_start"]): a for a in qa["answers"]}
    return {**qa, "answers": list(different.values())[:MOST_GOLD]}


def main(directory: Path, out: Path) -> None:
    """Writes the four files."""
    v2 = read(directory / "dev-v2.0.reconstructed.json.xz")
    v2 = [article for article in v2 if article["paragraphs"]]
    train = read(directory / "train-v1.1.first12articles.json.xz")
    files = {
        "train-v1.1.json": ("1.1", taken(train, NUM_TRAIN)),
        "dev-v1.1.json": ("1.1", taken(read(directory / "dev-v1.1.json.xz"), NUM_DEV)),
        "train-v2.0.json": ("v2.0", taken(v2[::2], NUM_TRAIN)),
        "dev-v2.0.json": ("v2.0", taken(v2[1::2], NUM_DEV)),
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, (version, articles) in files.items():
        text = json.dumps({"version": version, "data": articles}, ensure_ascii=True, indent=0)
        (out / name).write_text(text + "\n", encoding="ascii")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
