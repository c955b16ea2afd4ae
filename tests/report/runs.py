"""Run directories for the tests of the reports, written as training writes them."""

import json
import math
import os
import random
from pathlib import Path

import demo_bert
from demo_bert.report.events import EventLog

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(demo_bert.__file__).parents[1])}
"""For programs that import demo_bert."""

LABELS = ["not_equivalent", "equivalent"]
START_S = 1795358400.0
# "The minister said that the decision is final."; "The decision is not final (v2.0 ...)."
_DECISION = "\u0627\u0644\u0642\u0631\u0627\u0631"
_FINAL = "\u0646\u0647\u0627\u0626\u064a"
_RIGHT_TO_LEFT = (
    f"\u0642\u0627\u0644 \u0627\u0644\u0648\u0632\u064a\u0631 \u0625\u0646 {_DECISION} {_FINAL}.",
    f"{_DECISION} \u0644\u064a\u0633 {_FINAL}\u0627 (v2.0 \u202eabc).",
)
# "It rains in Tokyo."; "It rains in Osaka."
_WITHOUT_SPACES = (
    "\u6771\u4eac\u306f\u96e8\u3067\u3059\u3002",
    "\u5927\u962a\u306f\u96e8\u3067\u3059\u3002",
)
PAIRS = (
    (
        'Amrozi accused his brother, whom he called "the witness", of distorting his evidence.',
        'Referring to him as only "the witness", Amrozi accused his brother of lying.',
    ),
    ("The company sold 3 % more in May.", "In May, the company sold 5 % less than a year before."),
    ("<script>alert('x')</script> & <b>bold</b>", '<img src=x onerror=alert(1)> & "quotes"'),
    _RIGHT_TO_LEFT,
    _WITHOUT_SPACES,
)


def evaluation(*, right: float = 0.86) -> dict[str, object]:
    """Fields of an evaluation on 408 pairs, with one mistake for each of `PAIRS`."""
    good = [round(129 * right), round(279 * right)]
    confusion = [[good[0], 129 - good[0]], [279 - good[1], good[1]]]
    false, missed = 129 - good[0], 279 - good[1]
    return {
        "split": "validation",
        "metrics": {
            "accuracy": sum(good) / 408,
            "f1": 2 * good[1] / (2 * good[1] + false + missed),
        },
        "loss": 1.2 - right,
        "confusion": confusion,
        "labels": LABELS,
        "seconds": 3.21,
        "mistakes": [
            {
                "index": 7 * place,
                "text": text,
                "text_b": text_b,
                "label": place % 2,
                "prediction": 1 - place % 2,
                "score": 0.998 - 0.01 * place,
            }
            for place, (text, text_b) in enumerate(PAIRS)
        ],
    }


def write_events(directory: Path, *, num_steps: int = 344, num_evaluations: int = 3) -> None:
    """Writes the events of one attempt, whole."""
    noise = random.Random(directory.name)
    ticking = iter(START_S + 0.2 * count for count in range(10 * num_steps + 10))
    with EventLog(directory / "events.jsonl", 0, clock=lambda: next(ticking)) as log:
        log.append("start", total_steps=num_steps)
        for step in range(1, num_steps + 1):
            share = step / num_steps
            log.append(
                "step",
                step=step,
                loss=0.25 + 0.45 * math.exp(-3 * share) + 0.08 * noise.gauss(0, 1),
                learning_rate=1e-4 * min(share / 0.1, (1 - share) / 0.9),
                grad_norm=2 + noise.random() * 3,
                examples_per_s=400 + 20 * noise.random(),
                real_tokens_per_s=20000 + 1000 * noise.random(),
            )
            if step * num_evaluations % num_steps < num_evaluations:
                log.append("evaluation", step=step, **evaluation(right=0.76 + 0.1 * share))
                log.append("checkpoint", step=step, path=f"checkpoints/step-{step}", seconds=0.41)
        log.append("end", status="complete", step=num_steps, seconds=72.4)


def results(**changes: object) -> dict[str, object]:
    """`results.json` of a fine-tuning run."""
    found: dict[str, object] = {
        "schema_version": 1,
        "status": "complete",
        "command": "finetuning",
        "task": "mrpc",
        "model": "minilm",
        "dtype": "bf16",
        "device": "cpu",
        "world_size": 1,
        "hosts": ["localhost"],
        "seed": 42,
        "steps": 344,
        "epochs": 3.0,
        "global_batch_size": 32,
        "learning_rate": 1e-4,
        "init_checkpoint": "published",
        "metrics": evaluation()["metrics"],
        "throughput": {
            "examples_per_s": 412.3,
            "real_tokens_per_s": 21034.0,
            "model_flops_utilisation": None,
        },
        "wall_s": 78.2,
        "data": {"name": "mrpc", "sample": False, "counts": {"train": 3668, "validation": 408}},
    }
    return found | changes


def about(**changes: object) -> dict[str, object]:
    """`run.json` of a fine-tuning run."""
    argv = "demo_bert finetuning -d bf16 -m minilm -t mrpc -o out --dataset-path MRPC".split()
    settings = [
        ("dtype", "bf16", "flag", "DEMO_BERT_DTYPE"),
        ("model", "minilm", "flag", "DEMO_BERT_MODEL"),
        ("task", "mrpc", "flag", "DEMO_BERT_TASK"),
        ("seed", 42, "environment", "DEMO_BERT_SEED"),
        ("batch_size", [32], "default", "DEMO_BERT_BATCH_SIZE"),
        ("epochs", 3.0, "recipe", "DEMO_BERT_EPOCHS"),
        ("warmup", None, "default", "DEMO_BERT_WARMUP"),
        ("compile", False, "default", "DEMO_BERT_COMPILE"),
    ]
    found: dict[str, object] = {
        "schema_version": 1,
        "command": "finetuning",
        "argv": argv,
        "settings": [
            dict(zip(("name", "value", "source", "variable"), entry, strict=True))
            for entry in settings
        ],
        "versions": {"demo_bert": "0.1.0", "python": "3.11.2", "torch": "2.13.0+cpu"},
        "hardware": {
            "device": "cpu",
            "cpu": {"name": "Some Processor", "cores": 2, "instructions": ["avx512", "bf16"]},
            "memory_bytes": 24_000_000_000,
            "peak_flops_per_s": None,
        },
        "data": {
            "name": "mrpc",
            "sample": False,
            "licence": "Microsoft Research; may not be redistributed",
            "source": "MRPC/",
            "files": [
                {
                    "path": "MRPC/msr_paraphrase_train.txt",
                    "sha256": "d" * 64,
                    "size_bytes": 943_851,
                }
            ],
            "counts": {"train": 3668, "validation": 408},
        },
        "init_checkpoint": {
            "name": "minilm",
            "source": "the hub, sentence-transformers/all-MiniLM-L6-v2",
            "sha256": "a" * 64,
            "licence": "Apache-2.0",
            "missing": ["classifier.weight", "classifier.bias"],
            "unexpected": ["embeddings.position_ids"],
        },
        "model_config": {"hidden_size": 384, "num_hidden_layers": 6},
        "labels": LABELS,
        "started": START_S,
    }
    return found | changes


def write_run(directory: Path, *, num_steps: int = 344, **changes: object) -> Path:
    """Writes a finished run; `changes` are of `results.json`."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "run.json").write_text(json.dumps(about()), encoding="utf-8")
    (directory / "results.json").write_text(json.dumps(results(**changes)), encoding="utf-8")
    write_events(directory, num_steps=num_steps)
    return directory


def write_seeds(directory: Path, *, seeds: tuple[int, ...] = (42, 43, 44)) -> Path:
    """Writes a run of several seeds, the last one collapsed."""
    for seed in seeds:
        write_run(directory / f"seed-{seed}", num_steps=120, seed=seed)
    per_seed = [
        {"seed": seed, "metrics": {"accuracy": 0.86 + 0.001 * seed, "f1": 0.9}} for seed in seeds
    ]
    found = results(
        metrics={"accuracy": 0.8603, "f1": 0.9},
        metrics_std={"accuracy": 0.0123, "f1": 0.0},
        per_seed=per_seed,
        collapsed=[seeds[-1]],
    )
    (directory / "results.json").write_text(json.dumps(found), encoding="utf-8")
    return directory
