"""Profile: the operations that took most time in the steps that were traced."""

from demo_bert.report.fields import finite, items, mapping, text, whole
from demo_bert.report.markup import Section, code, escape, note, table
from demo_bert.report.record import Run


def section(run: Run) -> Section | None:
    """The table of the last trace.

    Args:
        run: Any run.

    Returns:
        The section; None for a run without a trace.
    """
    traces = [event for event in run.history if event["event"] == "profile"]
    if not traces:
        return None
    event = traces[-1]
    rows: list[list[str]] = []
    for entry in map(mapping, items(event.get("operations"))):
        seconds, share, calls = (
            finite(entry.get("self_s")),
            finite(entry.get("share")),
            whole(entry.get("calls")),
        )
        rows.append(
            [
                escape(text(entry.get("name"))),
                "" if seconds is None else f"{seconds:.3f} s",
                "" if share is None else f"{100 * share:.1f} %",
                "" if calls is None else f"{calls:,}",
            ]
        )
    steps = (
        f"Steps {whole(event.get('first_step')) or 0:,} to {whole(event.get('last_step')) or 0:,}"
    )
    words = note(
        f"{steps}, by themselves, without what they call. The trace is "
        f"{code(text(event.get('path')))}; ui.perfetto.dev opens it."
    )
    body = table(
        ["Operation", "Self", "Share", "Calls"],
        rows,
        caption="The dearest operations",
        numeric=(1, 2, 3),
    )
    return Section("Profile", words + body)
