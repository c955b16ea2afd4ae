"""SQuAD 2.0 from its development part alone: split by article, then scored on articles unseen.

    python benchmarks/squad_v2_from_dev.py split dev-v2.0.json[.xz] OUT [--with train-v1.1.json ...]
    demo_bert finetuning -d bf16 -m MODEL -t squad_v2 --dataset-path OUT -o RUN
    python benchmarks/squad_v2_from_dev.py score RUN OUT

`split` writes train-v2.0.json (every other article, and the questions of `--with`, which all have
answers), and dev-v2.0.json (the rest). `score` chooses the threshold of no answer on the first
article of every three of the rest, and scores the other two thirds with it, beside the better of
always and never answering and beside the threshold 0.0.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from demo_bert.tasks.spans.questions import Question, read_questions
from demo_bert.tasks.spans.scores import scores_v2

_THIRDS = 3


def main() -> None:
    """Runs one of the two actions."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    actions = parser.add_subparsers(dest="action", required=True)
    split = actions.add_parser("split")
    split.add_argument("file", type=Path)
    split.add_argument("out", type=Path)
    split.add_argument("--with", dest="more", type=Path, nargs="*", default=[])
    score = actions.add_parser("score")
    score.add_argument("run", type=Path)
    score.add_argument("out", type=Path)
    options = parser.parse_args()
    if options.action == "split":
        _split(options.file, options.out, more=options.more)
    else:
        print(json.dumps(_scores(options.run, options.out), indent=1))


def _split(file: Path, out: Path, *, more: Sequence[Path]) -> None:
    questions = read_questions(file).questions
    titles = list(dict.fromkeys(one.title for one in questions))
    chosen = set(titles[::2])
    train = [one for one in questions if one.title in chosen]
    rest = [one for one in questions if one.title not in chosen]
    added = [one for path in more for one in read_questions(path).questions if one.start >= 0]
    out.mkdir(parents=True, exist_ok=True)
    for name, part in (("train-v2.0.json", train + added), ("dev-v2.0.json", rest)):
        (out / name).write_text(json.dumps(_layout(part)) + "\n", encoding="ascii")
        num_none = sum(not one.answers for one in part)
        print(f"{name}: {len(part)} questions, {num_none} without an answer")


def _layout(questions: Sequence[Question]) -> dict[str, Any]:
    """Questions in the official layout; of several answers the one that is learnt comes first."""
    articles: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for one in questions:
        texts = [one.context[one.start : one.end], *one.answers] if one.answers else []
        starts = [one.start, *(one.context.find(text) for text in one.answers)]
        answers = [
            {"text": text, "answer_start": start}
            for text, start in zip(texts, starts, strict=False)
            if start >= 0
        ]
        qa = {
            "id": one.id,
            "question": one.question,
            "answers": answers,
            "is_impossible": not answers,
        }
        articles.setdefault(one.title, {}).setdefault(one.context, []).append(qa)
    data = [
        {
            "title": title,
            "paragraphs": [{"context": text, "qas": qas} for text, qas in passages.items()],
        }
        for title, passages in articles.items()
    ]
    return {"version": "v2.0", "data": data}


def _scores(run: Path, out: Path) -> dict[str, Any]:
    questions = read_questions(out / "dev-v2.0.json").questions
    odds: dict[str, float] = json.loads((run / "null_odds.json").read_text("ascii"))
    n_best: dict[str, list[dict[str, Any]]] = json.loads((run / "nbest.json").read_text("ascii"))
    texts = {
        name: next((entry["text"] for entry in entries if entry["text"]), "")
        for name, entries in n_best.items()
    }
    titles = list(dict.fromkeys(one.title for one in questions))
    third = set(titles[::_THIRDS])
    parts = {
        "chosen on": {one.id: one.answers for one in questions if one.title in third},
        "scored on": {one.id: one.answers for one in questions if one.title not in third},
    }
    figures = scores_v2(
        parts["chosen on"], texts, null_odds={name: odds[name] for name in parts["chosen on"]}
    )
    threshold = figures["best_f1_thresh"]
    gold = parts["scored on"]
    always = scores_v2(gold, texts)["f1"]
    never = scores_v2(gold, dict.fromkeys(gold, ""))["f1"]
    reached = _at(threshold, gold, texts, odds=odds)
    return {
        "questions": {name: len(part) for name, part in parts.items()},
        "threshold": threshold,
        "f1": reached,
        "f1 at 0.0": _at(0.0, gold, texts, odds=odds),
        "f1 always answering": always,
        "f1 never answering": never,
        "points above the better": reached - max(always, never),
    }


def _at(
    threshold: float,
    gold: Mapping[str, Sequence[str]],
    texts: Mapping[str, str],
    *,
    odds: Mapping[str, float],
) -> float:
    """F1 where answers with higher odds are none."""
    chosen = {name: "" if odds[name] > threshold else texts[name] for name in gold}
    return scores_v2(gold, chosen)["f1"]


if __name__ == "__main__":
    main()
