"""The top of a run's page: what was trained on what, what came out, what to be careful about."""

from datetime import UTC, datetime

from demo_bert.report import wording
from demo_bert.report.baseline import Majority, interval, majority
from demo_bert.report.fields import finite, mapping, numbers, text, whole
from demo_bert.report.markup import escape, note
from demo_bert.report.record import Evaluation, Run

_VERBS = {
    "pretraining": "Pre-trained",
    "finetuning": "Fine-tuned",
    "pipeline": "Pre-trained and fine-tuned",
}


def title(run: Run) -> str:
    """What a run is called.

    Args:
        run: Any run.

    Returns:
        Model and task as plain text; the directory's name where they are unknown.
    """
    model, task = run.setting("model"), run.setting("task")
    return f"{model} on {task}" if model and task else model or task or run.directory.name


def heading(run: Run) -> str:
    """The header of a run's page.

    Args:
        run: Any run.

    Returns:
        HTML.
    """
    status = run.status()
    kind = {"complete": "good", "failed": "bad"}.get(status, "careful")
    command = run.setting("command")
    return (
        f'<p class="eyebrow">demo_bert {escape(command)} '
        f'<span class="status {kind}">{escape(status)}</span></p>'
        f'<h1>{escape(title(run))}</h1>\n<p class="lede">{_lede(run)}</p>\n'
        f"{_warnings(run, status)}{_verdict(run)}{_tiles(run)}"
    )


def moment(seconds: object) -> str:
    """A point in time as people write it.

    Args:
        seconds: Unix time; text is taken to say it already.

    Returns:
        Day and time in UTC; "" where it is unknown.

    Example:
        >>> moment(0)
        '1970-01-01 00:00:00 UTC'
    """
    if isinstance(seconds, str):
        return seconds
    value = finite(seconds)
    if value is None or not 0 <= value < 253402300800:  # the year 10000
        return ""
    return f"{datetime.fromtimestamp(value, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _lede(run: Run) -> str:
    verb = _VERBS.get(run.setting("command"), "Run")
    dtype, device, world = (run.setting(k) for k in ("dtype", "device", "world_size"))
    where = " on ".join(filter(None, (f"in {dtype}" if dtype else "", device)))
    workers = f" with {world} workers" if world not in ("", "1") else ""
    count = whole(run.results.get("steps"))
    steps = count if count is not None else len(run.steps)
    epochs = finite(run.results.get("epochs"))
    parts = [f"{verb} {where}{workers}".strip(), wording.count(steps, "step")]
    if epochs:
        parts.append(f"{epochs:g} epoch{'' if epochs == 1 else 's'}")
    seed = run.setting("seed")
    parts.append(f"{len(run.seeds)} seeds" if run.seeds else f"seed {seed}" if seed else "")
    started = moment(run.about.get("started")) or (
        moment(run.steps[0].get("time")) if run.steps else ""
    )
    parts.append(f"started {started}" if started else "")
    return " &middot; ".join(escape(part) for part in parts if part)


def _warnings(run: Run, status: str) -> str:
    found: list[str] = []
    if run.is_sample() or any(seed.is_sample() for seed in run.seeds):
        task = escape(run.setting("task") or "the data")
        found.append(
            note(
                f"<strong>Sample data.</strong> The embedded stand-in was used in place of {task}: "
                f"these scores say nothing about {task}.",
                kind="warning",
            )
        )
    if run.results.get("fast_perf_only") is True:
        words = "<strong>For measuring only.</strong> The batch was made small to measure speed."
        found.append(note(words, kind="warning"))
    if status == "stopped":
        words = "<strong>Stopped before its end.</strong> The same command goes on from there."
        found.append(note(words, kind="warning"))
    if status == "failed":
        reason = _last_fault(run)
        words = f"<strong>Failed.</strong> {escape(reason) if reason else 'See History below.'}"
        found.append(note(words, kind="failure"))
    if status == "unfinished":
        words = "<strong>Not finished.</strong> The run is going on, or it ended without a word."
        found.append(note(words, kind="warning"))
    found += [note(escape(problem), kind="warning") for problem in run.problems]
    return "".join(found)


def _last_fault(run: Run) -> str:
    faults = [wording.fault(event) for event in run.history if event["event"] == "fault"]
    ends = [text(event.get("message")) for event in run.history if event["event"] == "end"]
    return (ends[-1] if ends else "") or (faults[-1] if faults else "")


def _verdict(run: Run) -> str:
    metrics = run.metrics()
    key = wording.main_metric(metrics)
    if key is None:
        return ""
    spread = numbers(run.results.get("metrics_std")).get(key)
    last = (run.seeds[0] if run.seeds else run).last_evaluation()
    baseline = majority(last)
    plus_minus = f'<span class="spread">&plusmn; {wording.score(spread)}</span>' if spread else ""
    rest = ", ".join(
        f"{escape(wording.metric_name(k))} {wording.score(v)}"
        for k, v in metrics.items()
        if k != key
    )
    others = f'<p class="others">{rest}</p>' if rest else ""
    return (
        '<div class="verdict"><div><p class="big">'
        f'<span class="score">{wording.score(metrics[key])}</span>{plus_minus} '
        f"<span>{escape(wording.metric_name(key))}</span></p>"
        f"{others}"
        f"<p>{_sentence(run, metrics[key], last, baseline)}</p></div>"
        f"{_bars(metrics[key], key, baseline)}</div>\n"
    )


def _sentence(run: Run, value: float, last: Evaluation | None, baseline: Majority | None) -> str:
    key = wording.main_metric(run.metrics())
    if run.seeds:
        return f"Mean over {wording.count(len(run.seeds), 'seed')}; the table below has each."
    if last is None or baseline is None or key != "accuracy" or not 0 <= value <= 1:
        return f"On {escape(last.split)}, after step {last.step:,}." if last else ""
    count = last.num_examples()
    low, high = interval(value, count)
    points = 100 * (value - baseline.accuracy)
    said = (
        f"{round(value * count):,} of {count:,} {escape(last.split)} examples right "
        f"(95 % interval {low:.3f} to {high:.3f}). "
    )
    if baseline.accuracy < low:
        return said + f"That is {points:.1f} points above always answering the majority class."
    if points > 0:
        return (
            said + "<strong>Not clearly better than always answering the majority class.</strong>"
        )
    return said + "<strong>No better than always answering the majority class.</strong>"


def _bars(value: float, key: str, baseline: Majority | None) -> str:
    reached = baseline.value(key) if baseline else None
    if baseline is None or reached is None or not 0 <= value <= 1:
        return ""
    rows = (
        ("this model", value, "model"),
        (f"always \u201c{baseline.label}\u201d (majority class)", reached, "other"),
    )
    bars = "".join(
        f"<li><span>{escape(name)}</span><b>{share:.3f}</b>"
        f'<span class="bar {kind}" style="--share:{share:.4f}"></span></li>'
        for name, share, kind in rows
    )
    return f'<ul class="bars" aria-label="{escape(wording.metric_name(key))}">{bars}</ul>'


def _tiles(run: Run) -> str:
    throughput = mapping(run.results.get("throughput"))
    tiles: list[tuple[str, str]] = []
    for key, name in (("examples_per_s", "examples/s"), ("real_tokens_per_s", "tokens/s")):
        value = finite(throughput.get(key))
        if value is not None:
            tiles.append((wording.rate(value), name))
    if "model_flops_utilisation" in throughput:
        used = finite(throughput["model_flops_utilisation"])
        tiles.append(("unknown" if used is None else f"{100 * used:.1f} %", "of peak FLOP/s"))
    sent, waited = (
        finite(throughput.get(key)) for key in ("sent_bytes_per_step", "exchange_fraction")
    )
    if sent is not None:
        tiles.append((f"{sent / 1e6:,.3g} MB", "a step sent by each worker"))
    if waited is not None:
        tiles.append((f"{100 * waited:.1f} %", "of the time waiting for gradients"))
    wall_s = finite(run.results.get("wall_s"))
    if wall_s is not None:
        tiles.append((wording.duration(wall_s), "wall time"))
    for key, name in (
        ("global_batch_size", "global batch size"),
        ("learning_rate", "learning rate"),
    ):
        value = finite(run.results.get(key))
        if value is not None:
            tiles.append((f"{value:,.4g}" if value >= 1 else f"{value:.3g}", name))
    counts = mapping(run.data().get("counts"))
    train = whole(counts.get("train"))
    if train is not None:
        tiles.append((f"{train:,}", "training examples"))
    body = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for value, name in tiles)
    return f'<dl class="tiles">{body}</dl>\n' if tiles else ""
