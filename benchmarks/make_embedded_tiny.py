r"""A finished pre-training run -> the weights of `tiny` that the package carries, and their card.

    python benchmarks/make_embedded_tiny.py RUN --data "4,012 featured and 1,990 good articles" \
        --licence "Apache-2.0; trained on text under CC BY-SA 3.0 and in the public domain"

Weights are rounded to float16; the vocabulary is the standard one, which the package has. RUN is a
run directory of `pretraining -m tiny`; one that went on from another's (`--init-checkpoint`) needs
that one's directory too (`--before`). The card (README.md) has the data, the command without
paths, the held-out curve, the scores and the licence, all read from the run.
"""

import argparse
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from demo_bert.model.sizes import SIZES
from demo_bert.model.vocabulary import STANDARD_VOCABULARY, read_vocabulary
from demo_bert.report.events import read_events
from demo_bert.report.wording import duration

DESTINATION = Path(__file__).parents[1] / "src" / "demo_bert" / "model" / "tiny"
MOST_BYTES = 10_000_000
_PATHS = {
    "--dataset-path": "STORE",
    "--init-checkpoint": "BEFORE",
    "-o": None,
    "--output-dir": None,
}
_ROWS_OF_A_PHASE = 10


def main() -> None:
    """Writes the directory."""
    options = _options()
    record, results = _checked(options.run)
    assert (options.before is None) == (results["init_checkpoint"] == "random"), "--before?"
    history = [_line(*_checked(options.before))] if options.before else []
    tensors = _rounded(safetensors.torch.load_file(options.run / "model" / "model.safetensors"))
    options.output.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file(tensors, options.output / "model.safetensors", {"format": "pt"})
    for name in ("config.json", "tokenizer_config.json"):
        content = json.loads((options.run / "model" / name).read_text("utf-8"))
        if name == "config.json":
            content |= {"licence": options.licence}
        (options.output / name).write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    evaluations = [
        e for e in read_events(options.run / "events.jsonl") if e["event"] == "evaluation"
    ]
    history.append(_line(record, results))
    card = _card(record, results, evaluations, history, options.data, options.licence)
    (options.output / "README.md").write_text(card, "utf-8")
    total = sum(path.stat().st_size for path in options.output.iterdir())
    assert total <= MOST_BYTES, f"{total} bytes are more than {MOST_BYTES}"
    print(f"{options.output}: {total / 1e6:.2f} MB")


def _checked(run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Record and results of a finished pre-training of `tiny` with the standard vocabulary."""
    record = json.loads((run / "run.json").read_text("utf-8"))
    results = json.loads((run / "results.json").read_text("utf-8"))
    facts = (results["status"], results["command"])
    assert facts == ("complete", "pretraining"), f"{run}: {' '.join(facts)}"
    config = json.loads((run / "model" / "config.json").read_text("utf-8"))
    other = {k: config[k] for k, v in SIZES["tiny"].config.items() if config.get(k, v) != v}
    assert not other, f"{run}: not of size tiny: {other}"
    own = read_vocabulary(run / "model" / "vocab.txt")
    assert own == read_vocabulary(STANDARD_VOCABULARY), f"{run}: another vocabulary"
    return record, results


def _rounded(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All tensors as float16, each stored once."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        assert tensor.is_floating_point() and bool(torch.isfinite(tensor).all()), name
        half = tensor.to(torch.float16).contiguous()
        assert bool(torch.isfinite(half).all()), f"{name} is out of float16's range"
        found[name] = half
    return found


def _card(
    record: Mapping[str, Any],
    results: Mapping[str, Any],
    evaluations: Sequence[Mapping[str, Any]],
    history: Sequence[str],
    data: str,
    licence: str,
) -> str:
    counts = ", ".join(
        f"{count:,} {name.replace('_', ' ')}" for name, count in results["data"]["counts"].items()
    )
    lines = [
        "# The embedded `tiny`",
        "",
        "BERT with 2 layers of hidden size 128, pre-trained by demo_bert itself, weights as"
        " float16. Taken by `-m tiny` where Google's published weights of that size can be reached"
        " nowhere; the log and the results say so. It is not Google's model.",
        "",
        f"- Data: {data} ({counts}).",
        *history,
        f"- Versions: {', '.join(f'{k} {v}' for k, v in record['versions'].items())}.",
        f"- Licence: {licence}.",
        "",
        "Held-out scores after each phase of the last command:",
        "",
        *_table(_phases(results["metrics"]["phases"])),
        "",
        f"Verdict of the run: {results['verdict']}.",
        "",
        "Held-out curve (masked LM loss in nats and accuracy, accuracy of next sentence):",
        "",
        *_table(_curve(evaluations)),
        "",
    ]
    return "\n".join(lines)


def _line(record: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """A run in a line of the card."""
    return (
        f"- Command: `demo_bert {_command(record['argv'])}`{_changed(record)} Seed"
        f" {results['seed']}, {results['steps']:,} steps, {results['epochs']:.3g} epochs over the"
        f" data, {duration(results['wall_s'])} on {_hardware(record['hardware'])}, shared with"
        " other work."
    )


def _changed(record: Mapping[str, Any]) -> str:
    """What was set anew when the run went on."""
    changes = [change for one in record.get("changed", ()) for change in one["settings"]]
    return f"; when it went on: {', '.join(changes)}." if changes else "."


def _command(argv: Iterable[str]) -> str:
    """The command line without paths of the machine that it ran on."""
    words: list[str] = []
    rest = iter(argv)
    for word in rest:
        flag, _, value = word.partition("=")
        if flag in _PATHS:
            value = value or next(rest)
            words += [] if _PATHS[flag] is None else [flag, str(_PATHS[flag])]
        else:
            words.append(word)
    assert not any("/" in word for word in words), f"a path is left: {words}"
    return shlex.join(words)


def _hardware(hardware: Mapping[str, Any]) -> str:
    return f"{hardware['model']}, {hardware['host']['cores']} cores"


def _phases(phases: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    rows = [["phase", "steps", "length", "global batch", "peak rate", "unigram loss"]]
    rows[0] += ["masked LM loss", "accuracy", "next sentence accuracy"]
    for one in phases:
        metrics, baseline = one["metrics"], one["baseline"]
        rows.append(
            [
                str(one["name"]),
                f"{one['steps']:,}",
                str(one["max_seq_length"]),
                str(one["global_batch_size"]),
                f"{one['learning_rate']:g}",
                f"{baseline['mlm_loss']:.3f}",
                f"{metrics['mlm_loss']:.3f}",
                f"{metrics['mlm_accuracy']:.3f}",
                f"{metrics['nsp_accuracy']:.3f}",
            ]
        )
    return rows


def _curve(evaluations: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    rows = [["phase", "step", "masked LM loss", "accuracy", "next sentence accuracy"]]
    for phase in sorted({e["phase"] for e in evaluations}):
        last = {e["step"]: e for e in evaluations if e["phase"] == phase}
        steps = sorted(last)
        chosen = steps[:: max(1, len(steps) // _ROWS_OF_A_PHASE)]
        for step in dict.fromkeys((*chosen, steps[-1])):
            metrics = last[step]["metrics"]
            scores = (metrics[k] for k in ("mlm_loss", "mlm_accuracy", "nsp_accuracy"))
            rows.append([str(phase), f"{step:,}", *(f"{score:.3f}" for score in scores)])
    return rows


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    head, *rest = (f"| {' | '.join(row)} |" for row in rows)
    return [head, f"|{'---|' * len(rows[0])}", *rest]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", required=True, help="what was trained on, for the card")
    parser.add_argument("--licence", required=True)
    parser.add_argument("--before", type=Path, help="the run whose weights this one started from")
    parser.add_argument("--output", type=Path, default=DESTINATION)
    return parser.parse_args()


if __name__ == "__main__":
    main()
