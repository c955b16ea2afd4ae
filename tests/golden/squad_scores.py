"""Makes squad_scores.json: what the official SQuAD scripts say of several prediction files.

    python tests/golden/squad_scores.py DIR        # DIR: dev-v1.1.json.xz and dev-v2.0.*.json.xz

The prediction files are a function of the data set alone (`prediction_files`), so only the figures
are stored. They come from `official_v1` and `official_v2` below: the published algorithm of
evaluate-v1.1.py and evaluate-v2.0.py step by step, written for this purpose from its description,
without looking at the program that it checks. evaluate-v2.0.py ends with an error when questions
are missing, after the overall figures; then only those are stored.
"""

import collections
import hashlib
import json
import lzma
import re
import string
import sys
from pathlib import Path
from typing import Any

Data = list[dict[str, Any]]
EXPECTED = Path(__file__).with_name("squad_scores.json")
FILES = {"v1": "dev-v1.1.json.xz", "v2": "dev-v2.0.reconstructed.json.xz"}


def read(path: Path) -> Data:
    """The articles of a file in the official layout."""
    return json.loads(lzma.decompress(path.read_bytes()))["data"]


def questions(data: Data) -> list[dict[str, Any]]:
    """All questions, each with its passage."""
    return [
        {**qa, "context": paragraph["context"]}
        for article in data
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    ]


def number(text: str) -> int:
    """A number that looks random and is the same everywhere."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")


def odds(qid: str) -> float:
    """Odds of no answer in [-8, 8)."""
    return number("odds " + qid) / 2**44 - 8.0


def prediction_files(data: Data) -> dict[str, dict[str, str]]:
    """Prediction files of seven kinds."""
    asked = questions(data)
    first = {qa["id"]: qa["answers"][0]["text"] if qa["answers"] else "" for qa in asked}
    order = sorted(first, key=lambda qid: number("shuffle " + qid))
    noise = ("The {}!", "a  {}.", '"{}" ,', "an {}\u00a0", "{} - the", " {}\n", "<{}>")
    words = {qa["id"]: qa["context"].split() for qa in asked}
    starts = {qid: number("start " + qid) % len(text) for qid, text in words.items()}
    return {
        "perfect": first,
        "empty": dict.fromkeys(first, ""),
        "shuffled": dict(zip(first, (first[qid] for qid in order), strict=True)),
        "noise": {
            qid: noise[number(qid) % len(noise)].format(
                text.upper() if number(qid) % 2 else text.replace(" ", "  ")
            )
            for qid, text in first.items()
        },
        "missing": {qid: text for qid, text in first.items() if number(qid) % 5},
        "half": {qid: " ".join(text.split()[: -(-len(text.split()) // 2)]) + " the"
                 for qid, text in first.items()},
        "always": {
            qid: " ".join(words[qid][starts[qid] : starts[qid] + 1 + number(qid) % 6])
            if number("wrong " + qid) % 3 or not text
            else text
            for qid, text in first.items()
        },
    }  # fmt: skip


def normalize_answer(text: str) -> str:
    """Lower case, then no punctuation, then no articles, then single spaces."""
    lower = text.lower()
    kept = ""
    for character in lower:
        if character not in string.punctuation:
            kept += character
    no_articles = re.sub(r"\b(a|an|the)\b", " ", kept)
    return " ".join(no_articles.split())


def f1_v1(prediction: str, truth: str) -> float:
    prediction_tokens = normalize_answer(prediction).split()
    truth_tokens = normalize_answer(truth).split()
    common = collections.Counter(prediction_tokens) & collections.Counter(truth_tokens)
    num_same = sum(common.values())
    if num_same == 0:
        return 0
    precision = 1.0 * num_same / len(prediction_tokens)
    recall = 1.0 * num_same / len(truth_tokens)
    return (2 * precision * recall) / (precision + recall)


def official_v1(data: Data, predictions: dict[str, str]) -> dict[str, float]:
    f1 = exact_match = total = 0.0
    for article in data:
        for paragraph in article["paragraphs"]:
            for qa in paragraph["qas"]:
                total += 1
                if qa["id"] not in predictions:
                    continue
                prediction = predictions[qa["id"]]
                truths = [answer["text"] for answer in qa["answers"]]
                exact_match += max(
                    normalize_answer(prediction) == normalize_answer(truth) for truth in truths
                )
                f1 += max(f1_v1(prediction, truth) for truth in truths)
    return {"exact_match": 100.0 * exact_match / total, "f1": 100.0 * f1 / total}


def f1_v2(truth: str, prediction: str) -> float:
    truth_tokens = normalize_answer(truth).split()
    prediction_tokens = normalize_answer(prediction).split()
    if len(truth_tokens) == 0 or len(prediction_tokens) == 0:
        return int(truth_tokens == prediction_tokens)
    return f1_v1(prediction, truth)


def official_v2(
    data: Data, predictions: dict[str, str], na_probs: dict[str, float]
) -> dict[str, float]:
    exact_raw, f1_raw, has_ans = {}, {}, {}
    for qa in questions(data):
        qid = qa["id"]
        has_ans[qid] = bool(qa["answers"])
        truths = [a["text"] for a in qa["answers"] if normalize_answer(a["text"])]
        if not truths:
            truths = [""]
        if qid not in predictions:
            continue
        exact_raw[qid] = max(
            int(normalize_answer(t) == normalize_answer(predictions[qid])) for t in truths
        )
        f1_raw[qid] = max(f1_v2(t, predictions[qid]) for t in truths)
    out: dict[str, float] = {}
    out["exact"] = 100.0 * sum(exact_raw.values()) / len(exact_raw)
    out["f1"] = 100.0 * sum(f1_raw.values()) / len(f1_raw)
    out["total"] = len(exact_raw)
    if len(exact_raw) < len(has_ans):
        return out
    for prefix, wanted in (("HasAns", True), ("NoAns", False)):
        qids = [qid for qid in has_ans if has_ans[qid] == wanted]
        out[prefix + "_exact"] = 100.0 * sum(exact_raw[k] for k in qids) / len(qids)
        out[prefix + "_f1"] = 100.0 * sum(f1_raw[k] for k in qids) / len(qids)
        out[prefix + "_total"] = len(qids)
    for name, scores in (("exact", exact_raw), ("f1", f1_raw)):
        current = sum(1 for k in has_ans if not has_ans[k])
        best_score, best_thresh = current, 0.0
        for qid in sorted(na_probs, key=lambda k: na_probs[k]):
            if qid not in scores:
                continue
            if has_ans[qid]:
                difference = scores[qid]
            elif predictions[qid]:
                difference = -1
            else:
                difference = 0
            current += difference
            if current > best_score:
                best_score, best_thresh = current, na_probs[qid]
        out["best_" + name] = 100.0 * best_score / len(scores)
        out[f"best_{name}_thresh"] = best_thresh
    return out


def main(directory: Path) -> None:
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for version, name in FILES.items():
        data = read(directory / name)
        figures[version] = {}
        for kind, predictions in prediction_files(data).items():
            if version == "v1":
                found = official_v1(data, predictions)
            else:
                na_probs = {qa["id"]: odds(qa["id"]) for qa in questions(data)}
                found = official_v2(data, predictions, na_probs)
            figures[version][kind] = found
    EXPECTED.write_text(json.dumps(figures, indent=1) + "\n", encoding="ascii")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
