"""History: starts, saves, stops and faults, attempt by attempt."""

from demo_bert.report.events import Event
from demo_bert.report.fields import finite, text, whole
from demo_bert.report.heading import moment
from demo_bert.report.markup import Section, cell, escape, table
from demo_bert.report.record import Run

_MOST_ROWS = 60
_KNOWN = ("event", "time", "attempt", "step", "phase")


def section(run: Run) -> Section | None:
    """The table of events that are neither steps nor evaluations.

    Args:
        run: Any run.

    Returns:
        The section; None for a run without such events.
    """
    if not run.history:
        return None
    important = [event for event in run.history if event["event"] != "checkpoint"]
    saves = [event for event in run.history if event["event"] == "checkpoint"]
    shown = [*important[-_MOST_ROWS:], *saves[-_MOST_ROWS // 2 :]]
    shown.sort(key=lambda event: finite(event.get("time")) or 0.0)
    rows = [_row(event) for event in shown]
    strong = [place for place, event in enumerate(shown) if event["event"] == "fault"]
    head = ["Time", "Attempt", "Step", "Event", ""]
    body = table(head, rows, caption="History of the run", numeric={1, 2}, strong_rows=strong)
    left_out = len(run.history) - len(shown)
    if left_out:
        body += f'<p class="small">{left_out:,} more in events.jsonl.</p>'
    return Section("History", body)


def _row(event: Event) -> list[str]:
    step = whole(event.get("step"))
    facts = {name: text(value) for name, value in event.items() if name not in _KNOWN}
    first = facts.pop("message", "") or facts.pop("path", "")
    seconds = finite(event.get("seconds"))
    if seconds is not None:
        facts["seconds"] = f"{seconds:.2f}"
    others = [f"{name.replace('_', ' ')}: {value}" for name, value in facts.items() if value]
    return [
        escape(moment(finite(event.get("time")))),
        str(whole(event.get("attempt")) or 0),
        "" if step is None else f"{step:,}",
        escape(text(event["event"])),
        cell("; ".join([first, *others] if first else others)),
    ]
