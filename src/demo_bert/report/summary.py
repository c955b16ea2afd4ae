"""The last lines that a person sees of a run: what came out, where it lies, what to do with it."""

import shlex
from collections.abc import Mapping
from pathlib import Path

from demo_bert.report import wording
from demo_bert.report.fields import finite, items, mapping, numbers, text, whole

_PAIR_TASKS = ("mrpc", "qqp", "stsb", "mnli", "rte", "wnli", "qnli")


def final_lines(
    results: Mapping[str, object],
    directory: Path,
    *,
    program: str = "demo_bert",
    is_pair: bool | None = None,
) -> list[str]:
    """What to print on standard output when a training command ends.

    Args:
        results: The content of `results.json`.
        directory: The run directory, as the user named it.
        program: How the user calls the program.
        is_pair: Whether an example has two texts; None to go by the task's name.

    Returns:
        Lines without line ends; the last one says so where the embedded sample was trained on.
    """
    lines = [_scores(results), _work(results)]
    seeds = _seeds(results)
    lines += seeds
    lines.append(f"page    {directory / 'report.html'}")
    if not seeds and results.get("status") == "complete":
        lines.append(f"model   {directory / 'model'}")
        lines += _next(results, directory, program=program, is_pair=is_pair)
    data = mapping(results.get("data"))
    if data.get("sample") is True:
        task = text(results.get("task")) or "the real data"
        lines.append(
            f"sample data: the embedded stand-in took the place of {task};"
            f" these scores say nothing about {task} (--dataset-path PATH names the data)"
        )
    return [line for line in lines if line]


def pipeline_lines(
    results: Mapping[str, object], directory: Path, *, program: str = "demo_bert"
) -> list[str]:
    """What to print on standard output when a pipeline ends.

    Args:
        results: The content of its `results.json`.
        directory: Its directory, as the user named it.
        program: How the user calls the program.

    Returns:
        Lines without line ends: the score, a line for each stage, the page, the next command.
    """
    lines = [_scores(results)]
    for entry in map(mapping, items(results.get("stages"))):
        lines.append(f"{text(entry.get('name')):<12}{_stage(entry)}")
    lines.append(f"page        {directory / 'report.html'}")
    tuned = directory / "finetuning"
    own = final_lines(results, tuned, program=program)
    return [*filter(None, lines), *(line for line in own if line.startswith(("next", "sample")))]


def _stage(entry: Mapping[str, object]) -> str:
    """What a stage came to: its work, and its main figures."""
    status = text(entry.get("status"))
    ending = "" if status == "complete" else f"  ({status})"
    if text(entry.get("name")) != "prepare":
        metrics = numbers(entry.get("metrics"))
        words = "  ".join(
            f"{wording.metric_name(key)} {wording.score(value)}" for key, value in metrics.items()
        )
        return f"{'  '.join(filter(None, (_work(entry), words)))}{ending}"
    data, wall_s = mapping(entry.get("data")), finite(entry.get("wall_s"))
    tokens = whole(data.get("tokens"))
    made = "" if tokens is None else f"{tokens:,} tokens"
    return f"{made}{'' if wall_s is None else f' in {wording.duration(wall_s)}'}{ending}".strip()


def _scores(results: Mapping[str, object]) -> str:
    metrics, spread = numbers(results.get("metrics")), numbers(results.get("metrics_std"))
    main = wording.main_metric(metrics)
    order = sorted(metrics, key=lambda key: key != main)
    words = [
        f"{wording.metric_name(key)} {wording.score(metrics[key])}"
        + (f" +- {wording.score(spread[key])}" if key in spread else "")
        for key in order
    ]
    named = " on ".join(filter(None, (text(results.get("model")), text(results.get("task")))))
    status = text(results.get("status"))
    ending = "" if status in ("", "complete") else f"  ({status})"
    return f"{named}: {'  '.join(words) or 'no scores'}{ending}" if named or words else ""


def _work(results: Mapping[str, object]) -> str:
    throughput = mapping(results.get("throughput"))
    steps, wall_s = whole(results.get("steps")), finite(results.get("wall_s"))
    rates: list[str] = []
    for key, unit in (("examples_per_s", "examples/s"), ("real_tokens_per_s", "tokens/s")):
        value = finite(throughput.get(key))
        if value is not None:
            rates.append(f"{wording.rate(value)} {unit}")
    waiting = finite(mapping(throughput.get("shares")).get("data"))
    if waiting is not None:
        rates.append(f"{100 * waiting:.1f} % of the time waiting for data")
    sent, waited = (
        finite(throughput.get(key)) for key in ("sent_bytes_per_step", "exchange_fraction")
    )
    if sent is not None:
        rates.append(f"{sent / 1e6:,.3g} MB a step sent by each worker")
    if waited is not None:
        rates.append(f"{100 * waited:.1f} % of the time waiting for gradients")
    done = "" if steps is None else wording.count(steps, "step")
    spent = "" if wall_s is None else f" in {wording.duration(wall_s)}"
    pace = f"  ({', '.join(rates)})" if rates else ""
    return f"{done}{spent}{pace}".strip()


def _seeds(results: Mapping[str, object]) -> list[str]:
    lines: list[str] = []
    for entry in map(mapping, items(results.get("per_seed"))):
        metrics = numbers(entry.get("metrics")) or {
            key: value for key, value in numbers(entry).items() if key != "seed"
        }
        words = "  ".join(
            f"{wording.metric_name(key)} {wording.score(value)}" for key, value in metrics.items()
        )
        lines.append(f"seed {text(entry.get('seed'))}: {words}")
    collapsed = [text(seed) for seed in items(results.get("collapsed"))]
    if collapsed:
        lines.append(f"majority class only: seed {', '.join(collapsed)} (the mean includes it)")
    return lines


def _next(
    results: Mapping[str, object], directory: Path, *, program: str, is_pair: bool | None
) -> list[str]:
    """The commands that use the model."""
    task, where = text(results.get("task")), shlex.quote(str(directory))
    if text(results.get("command")) == "pretraining":
        return [f"next    {program} finetuning -d bf16 -t mrpc -m {where}"]
    pair = task in _PAIR_TASKS if is_pair is None else is_pair
    texts = '--text "..." --text-b "..."' if pair else '--text "..."'
    if task.startswith("squad"):
        texts = '--question "..." --context-file FILE'
    return [f"next    {program} predict {where} {texts}"]
