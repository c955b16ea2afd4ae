"""Speed: throughput, where a step's time went, and the forecast held against the fact."""

import statistics

from demo_bert.report import wording
from demo_bert.report.fields import finite, mapping, numbers, text
from demo_bert.report.markup import Section, escape, note, table
from demo_bert.report.record import Run
from demo_bert.report.step_parts import PASSES, step_parts

_PARTS = ("data", "forward", "backward", "communication", PASSES, "optimizer")
_RATES = (("examples_per_s", "Examples per second"), ("real_tokens_per_s", "Tokens per second"))


def section(run: Run) -> Section | None:
    """Up to three tables.

    Args:
        run: Any run.

    Returns:
        The section; None where nothing of it is known.
    """
    tables = [made for made in (_throughput(run), _parts(run), _forecast(run)) if made]
    return Section("Speed", "".join(tables)) if tables else None


def _throughput(run: Run) -> str:
    throughput = mapping(run.results.get("throughput"))
    rows: list[list[str]] = []
    for key, name in _RATES:
        value = finite(throughput.get(key))
        if value is not None:
            rows.append([name, wording.rate(value)])
    if not rows:
        return ""
    used = finite(throughput.get("model_flops_utilisation"))
    rows.append(["Share of the peak FLOP/s", "unknown" if used is None else f"{100 * used:.1f} %"])
    made = table(["Throughput", ""], rows, caption="Throughput", numeric=(1,))
    if used is None:
        made += note(
            "The peak of this device is not known; <code>demo_bert bench</code> measures it."
        )
    return made


def _parts(run: Run) -> str:
    """Medians over steps of what each part took, on the worker that wrote the events."""
    hardware = mapping(run.about.get("hardware"))
    runs_ahead = {run.setting("device"), text(hardware.get("device"))} & {"cuda", "hpu"} != set()
    steps = [
        step_parts(numbers(step.get("parts_s")), runs_ahead=runs_ahead)
        for step in run.steps
        if step.get("parts_s")
    ]
    known = [part for part in _PARTS if any(part in step for step in steps)]
    if not known:
        return ""
    medians = {part: statistics.median(step.get(part, 0.0) for step in steps) for part in known}
    whole = sum(medians.values()) or 1.0
    rows = [
        [escape(part), f"{1000 * value:,.2f} ms", f"{100 * value / whole:.1f} %"]
        for part, value in medians.items()
    ]
    return table(
        ["Part of a step", "Median", "Share"],
        rows,
        caption="Where the time of a step goes",
        numeric=(1, 2),
    )


def _forecast(run: Run) -> str:
    forecast = mapping(run.results.get("forecast"))
    rows: list[list[str]] = []
    for name, key, fact, words in (
        ("Time", "seconds", finite(forecast.get("took_s")), wording.duration),
        ("Memory", "memory_bytes", finite(run.results.get("peak_memory_bytes")), wording.size),
    ):
        expected = finite(forecast.get(key))
        if expected is None or not fact:
            continue
        off = f"{100 * (expected - fact) / fact:+.0f} %"
        rows.append([name, words(expected), words(fact), off])
    if not rows:
        return ""
    return table(
        ["Forecast", "Expected", "It took", "Off by"],
        rows,
        caption="The forecast and the fact",
        numeric=(1, 2, 3),
    )
